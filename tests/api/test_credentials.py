"""Credentials: asked for before every try, renewed once after a 401, on each of the four calls."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable

import pytest
from aiohttp import web
from multidict import CIMultiDict

from kpo_multicluster.api.client import ApiClient
from kpo_multicluster.auth.access import Token, TokenSource, static_token
from kpo_multicluster.errors import CredentialError, UnauthorizedError

from .cases import EXEC, LOG, PODS, Certificates, Tokens, client
from .servers import SUCCESS, Exec, FakeApi, Handler, chunks, event, ok, status


async def _request(tested: ApiClient) -> object:
    return await tested.request("POST", PODS, body={})


async def _watch(tested: ApiClient) -> object:
    return [seen.type async for seen in tested.watch(PODS, resource_version="1", reconnect=False)]


async def _stream(tested: ApiClient) -> object:
    return b"".join([part async for part in tested.stream(LOG)])


async def _exec(tested: ApiClient) -> object:
    return (await tested.exec(EXEC, ["true"], container="base")).exit_code


Do = Callable[[ApiClient], Awaitable[object]]
CALLS = [
    pytest.param(_request, ok(), {"ok": True}, id="request"),
    pytest.param(_watch, chunks(event("ADDED", "2")), ["ADDED"], id="watch"),
    pytest.param(_stream, chunks(b"line\n"), b"line\n", id="stream"),
    pytest.param(_exec, Exec([SUCCESS]), 0, id="exec"),
]


@pytest.mark.parametrize(("do", "good", "result"), CALLS)
async def test_a_refused_token_is_renewed_and_the_call_replayed(
    api: FakeApi, do: Do, good: Handler, result: object
) -> None:
    api.answer(status(401, "Unauthorized"), good)
    tokens = Tokens()
    async with client(api.url, tokens=tokens.source) as tested:
        assert await do(tested) == result
        assert await do(tested) == result
    assert [seen.token for seen in api.seen] == ["token-1", "token-2", "token-2"]
    assert tokens.made == 2


@pytest.mark.parametrize(("do", "good", "result"), CALLS)
async def test_a_second_refusal_is_final(api: FakeApi, do: Do, good: Handler, result: object) -> None:
    api.answer(status(401, "Unauthorized", "who are you?"))
    tokens = Tokens()
    async with client(api.url, tokens=tokens.source) as tested:
        with pytest.raises(UnauthorizedError, match="401 Unauthorized: who are you"):
            await do(tested)
    assert [seen.token for seen in api.seen] == ["token-1", "token-2"]
    assert tokens.made == 2


@pytest.mark.parametrize(("do", "good", "result"), CALLS)
async def test_a_fixed_token_that_is_refused_says_where_it_is_from(
    api: FakeApi, do: Do, good: Handler, result: object
) -> None:
    api.answer(status(401, "Unauthorized"))
    async with client(api.url, tokens=static_token("fixed", source="$TOKEN")) as tested:
        with pytest.raises(CredentialError, match=r"from \$TOKEN, and a fixed token cannot be renewed"):
            await do(tested)
    assert len(api.seen) == 1


@pytest.mark.parametrize(("do", "good", "result"), CALLS)
async def test_without_a_token_a_401_is_final(api: FakeApi, do: Do, good: Handler, result: object) -> None:
    api.answer(status(401, "Unauthorized"))
    async with client(api.url) as tested:
        with pytest.raises(UnauthorizedError):
            await do(tested)
    assert len(api.seen) == 1
    assert "Authorization" not in api.seen[0].headers


async def test_retries_do_not_give_a_second_replay(api: FakeApi) -> None:
    api.answer(status(401), status(503), status(503), status(401))
    tokens = Tokens()
    async with client(api.url, tokens=tokens.source) as tested:
        with pytest.raises(UnauthorizedError):
            await tested.request("GET", PODS)
    assert [seen.token for seen in api.seen] == ["token-1", "token-2", "token-2", "token-2"]


async def test_calls_refused_together_share_one_renewal(api: FakeApi) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        good = request.headers["Authorization"] == "Bearer token-2"
        await asyncio.sleep(0.05)
        return web.json_response({}, status=200 if good else 401)

    api.answer(handler)
    tokens = Tokens()
    async with client(api.url, tokens=tokens.source) as tested:
        await asyncio.gather(*(tested.request("GET", PODS) for _ in range(8)))
    assert tokens.made == 2
    assert len(api.seen) == 16


async def test_each_reconnection_of_a_watch_may_renew(api: FakeApi) -> None:
    api.answer(
        chunks(event("ADDED", "2")),
        status(401),
        chunks(event("MODIFIED", "3")),
        status(401),
        chunks(event("DELETED", "4")),
    )
    tokens = Tokens()
    found = []
    async with client(api.url, tokens=tokens.source) as tested:
        async for seen in tested.watch(PODS, resource_version="1"):
            found.append(seen.type)
            if seen.type == "DELETED":
                break
    assert found == ["ADDED", "MODIFIED", "DELETED"]
    assert tokens.made == 3


async def test_a_token_near_its_end_is_renewed_between_tries(api: FakeApi) -> None:
    now = [1000.0]
    made: list[str] = []

    def fetch() -> Token:
        made.append(f"token-{len(made) + 1}")
        return Token(made[-1], expires_at=now[0] + 900)

    async def expire(request: web.Request) -> web.StreamResponse:
        now[0] += 1000
        return web.Response(status=503)

    api.answer(expire, ok())
    source = TokenSource(fetch, source="a test", clock=lambda: now[0])
    async with client(api.url, tokens=source) as tested:
        await tested.request("GET", PODS)
    assert [seen.token for seen in api.seen] == ["token-1", "token-2"]


async def test_a_slow_credential_does_not_block_the_loop(api: FakeApi) -> None:
    loop_thread = threading.get_ident()
    threads = []

    def fetch() -> Token:
        threads.append(threading.get_ident())
        time.sleep(0.2)
        return Token(f"token-{len(threads)}")

    api.answer(status(401), ok())
    longest, last = 0.0, time.monotonic()
    async with client(api.url, tokens=TokenSource(fetch, source="a test")) as tested:
        call = asyncio.create_task(tested.request("GET", PODS))
        while not call.done():
            await asyncio.sleep(0.005)
            longest, last = max(longest, time.monotonic() - last), time.monotonic()
        await call
    assert len(threads) == 2
    assert loop_thread not in threads
    assert longest < 0.15


async def test_a_credential_that_cannot_be_made_is_its_own_error(api: FakeApi) -> None:
    def fetch() -> Token:
        raise CredentialError("the plugin of a test failed")

    async with client(api.url, tokens=TokenSource(fetch, source="a test")) as tested:
        with pytest.raises(CredentialError, match="the plugin of a test failed"):
            await tested.request("GET", PODS)
    assert api.seen == []


async def test_a_new_client_certificate_gets_new_connections(certificates: Certificates) -> None:
    names = iter(["first.test", "second.test"])
    api = FakeApi()
    await api.start(certificates.server_context(ask_client=True))
    api.answer(ok(), status(401), ok())
    source = TokenSource(lambda: Token("", None, *certificates.client(next(names))), source="a test")
    try:
        async with client(api.url, ca_pem=certificates.ca_pem, tokens=source) as tested:
            await tested.request("GET", PODS)
            await tested.request("GET", PODS)
    finally:
        await api.stop()
    assert [_common_name(seen.client_certificate) for seen in api.seen] == ["first.test", "first.test", "second.test"]
    assert api.seen[1].connection == api.seen[0].connection != api.seen[2].connection
    assert all("Authorization" not in seen.headers for seen in api.seen)


def _common_name(certificate: object) -> str:
    assert isinstance(certificate, dict)
    return str(next(value for part in certificate["subject"] for key, value in part if key == "commonName"))


@pytest.mark.parametrize(("do", "good", "result"), CALLS)
async def test_every_group_of_an_impersonation_is_sent(api: FakeApi, do: Do, good: Handler, result: object) -> None:
    """A group that is lost on the way is a right that someone was to have, or was not."""
    api.answer(good)
    headers = CIMultiDict([("Impersonate-User", "jane"), ("Impersonate-Group", "one"), ("Impersonate-Group", "two")])
    async with client(api.url, tokens=Tokens().source, headers=headers) as tested:
        assert await do(tested) == result
    (seen,) = api.seen
    assert seen.headers.getall("Impersonate-Group") == ["one", "two"]
    assert seen.headers.getall("Impersonate-User") == ["jane"]
