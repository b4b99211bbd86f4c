"""What a caller is told of a request beside its error: whether it may have been done, and whether one was accepted."""

from __future__ import annotations

import contextlib

import pytest

from kpo_multicluster.api.retry import NO_RETRY
from kpo_multicluster.errors import ApiError, ConnectError

from .cases import PODS, Certificates, Tokens, client
from .servers import FakeApi, Handler, ok, reset, status


@pytest.mark.parametrize(
    ("handlers", "in_doubt"),
    [
        ([status(403)], False),
        ([status(409)], False),
        ([reset, status(403)], True),
        ([status(500), status(409)], True),
        ([status(429), status(403)], False),
    ],
)
async def test_an_error_tells_whether_an_earlier_try_may_have_been_carried_out(
    api: FakeApi, handlers: list[Handler], in_doubt: bool
) -> None:
    api.answer(*handlers)
    async with client(api.url) as tested:
        with pytest.raises(ApiError) as raised:
            await tested.request("POST", PODS, body={})
    assert raised.value.in_doubt is in_doubt


async def test_a_request_that_never_got_there_has_not_been_carried_out(
    api: FakeApi, certificates: Certificates
) -> None:
    port = api.port
    await api.stop()
    async with client(f"http://127.0.0.1:{port}", connect_timeout_seconds=0.2) as tested:
        with pytest.raises(ConnectError) as raised:
            await tested.request("POST", PODS, body={})
    assert not raised.value.in_doubt
    server = FakeApi()
    await server.start(certificates.server_context())
    try:
        async with client(server.url, ca_pem=certificates.other_ca.cert_pem.bytes().decode()) as tested:
            with pytest.raises(ConnectError) as raised:
                await tested.request("POST", PODS, body={})
    finally:
        await server.stop()
    assert not raised.value.in_doubt


async def test_what_got_no_answer_may_have_been_carried_out(api: FakeApi) -> None:
    api.answer(reset)
    async with client(api.url, retry=NO_RETRY) as tested:
        with pytest.raises(ConnectError) as raised:
            await tested.request("POST", PODS, body={})
    assert raised.value.in_doubt


@pytest.mark.parametrize(("answer", "accepted"), [(200, True), (403, True), (404, True), (401, False), (503, False)])
async def test_a_client_is_accepted_once_its_credential_was_taken(api: FakeApi, answer: int, accepted: bool) -> None:
    api.answer(ok() if answer == 200 else status(answer))
    async with client(api.url, retry=NO_RETRY, tokens=Tokens().source) as tested:
        with contextlib.suppress(ApiError):
            await tested.request("GET", PODS)
        assert tested.accepted is accepted
