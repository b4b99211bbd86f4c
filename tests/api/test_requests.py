"""Requests: what is sent, what is read, how failures are worded."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from aiohttp import web

from kpo_multicluster.api.retry import NO_RETRY
from kpo_multicluster.errors import (
    ApiError,
    BadRequestError,
    ConfigurationError,
    ConflictError,
    ConnectError,
    CredentialError,
    ForbiddenError,
    GoneError,
    InvalidError,
    NotFoundError,
    ServerError,
    ThrottledError,
    UnauthorizedError,
)

from .cases import EXEC, PODS, SOURCE, Tokens, client, error_chain
from .servers import FakeApi, chunks, ok, silent, status


async def test_sends_what_it_is_given(api: FakeApi) -> None:
    api.answer(ok({"kind": "Pod"}))
    async with client(api.url, headers={"Impersonate-User": "ann"}, tokens=Tokens().source) as tested:
        answer = await tested.request(
            "PATCH",
            f"{PODS}/x",
            params={"dryRun": "All", "force": True, "limit": 5, "since": "2026-01-01T00:00:00+00:00"},
            body={"metadata": {"labels": {"a": "ä"}}},
            content_type="application/merge-patch+json",
        )
    (seen,) = api.seen
    assert answer == {"kind": "Pod"}
    assert (seen.method, seen.path) == ("PATCH", f"{PODS}/x")
    assert dict(seen.query) == {"dryRun": "All", "force": "true", "limit": "5", "since": "2026-01-01T00:00:00+00:00"}
    assert json.loads(seen.body) == {"metadata": {"labels": {"a": "ä"}}}
    assert seen.headers["Content-Type"] == "application/merge-patch+json"
    assert seen.headers["Impersonate-User"] == "ann"
    assert seen.headers["Authorization"] == "Bearer token-1"
    assert seen.headers["User-Agent"].startswith("kpo-multicluster/")


async def test_keeps_the_path_of_the_server(api: FakeApi) -> None:
    api.answer(status(404, "NotFound"))
    async with client(f"{api.url}/k8s/clusters/c-1") as tested:
        with pytest.raises(NotFoundError) as caught:
            await tested.request("GET", PODS)
    assert api.seen[0].path == f"/k8s/clusters/c-1{PODS}"
    assert str(caught.value).startswith(f"GET {api.url}/k8s/clusters/c-1{PODS} ({SOURCE}): 404 NotFound")


async def test_reuses_its_connection(tls_api: FakeApi, certificates: object) -> None:
    tls_api.answer(ok())
    async with client(tls_api.url, verify_tls=False) as tested:
        for _ in range(5):
            await tested.request("GET", PODS)
        await asyncio.gather(*(tested.request("GET", PODS) for _ in range(3)))
    assert len({seen.connection for seen in tls_api.seen[:5]}) == 1
    assert len({seen.connection for seen in tls_api.seen}) <= 3


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (400, BadRequestError),
        (401, UnauthorizedError),
        (403, ForbiddenError),
        (404, NotFoundError),
        (405, ApiError),
        (409, ConflictError),
        (410, GoneError),
        (422, InvalidError),
        (429, ThrottledError),
        (500, ServerError),
        (503, ServerError),
        (507, ServerError),
    ],
)
async def test_maps_the_status_object(api: FakeApi, code: int, kind: type[ApiError]) -> None:
    api.answer(status(code, "SomeReason", "what the server says", headers={"Retry-After": "7"}))
    async with client(api.url, retry=NO_RETRY) as tested:
        with pytest.raises(kind) as caught:
            await tested.request("POST", PODS, body={})
    assert type(caught.value) is kind
    assert (caught.value.status, caught.value.reason, caught.value.retry_after_seconds) == (code, "SomeReason", 7.0)
    assert caught.value.body["code"] == code
    assert str(caught.value) == f"POST {api.url}{PODS} ({SOURCE}): {code} SomeReason: what the server says"
    assert len(api.seen) == 1


async def test_field_errors_are_in_the_text_once(api: FakeApi) -> None:
    causes = [
        {"reason": "FieldValueRequired", "field": "spec.containers", "message": "Required value"},
        {"reason": "FieldValueInvalid", "field": "metadata.name", "message": "Invalid value: 'X'"},
    ]
    message = "Pod 'X' is invalid: spec.containers: Required value"
    api.answer(status(422, "Invalid", message, details={"causes": causes}))
    async with client(api.url) as tested:
        with pytest.raises(InvalidError) as caught:
            await tested.request("POST", PODS, body={})
    assert caught.value.detail == f"{message}; metadata.name: Invalid value: 'X'"


async def test_an_answer_of_something_else_is_cut_short(api: FakeApi) -> None:
    async def gateway(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=502, text="<html>\n <h1>Bad   Gateway</h1>" + "x" * 5000, content_type="text/html")

    api.answer(gateway)
    async with client(api.url, retry=NO_RETRY) as tested:
        with pytest.raises(ServerError, match=r"<html> <h1>Bad Gateway</h1>x+\.\.\.$") as caught:
            await tested.request("GET", PODS)
    assert len(str(caught.value)) < 500


async def test_an_error_whose_body_is_cut_keeps_its_status(api: FakeApi) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=403, headers={"Content-Length": "100"})
        await response.prepare(request)
        await response.write(b'{"kind":')
        assert request.transport is not None
        request.transport.abort()
        return response

    api.answer(handler)
    async with client(api.url) as tested:
        with pytest.raises(ForbiddenError, match=r"\): 403$"):
            await tested.request("GET", PODS)
    assert len(api.seen) == 1


@pytest.mark.parametrize("text", ["ok", "[1]", "", '{"cut'])
async def test_accepts_only_json_objects(api: FakeApi, text: str) -> None:
    async def handler(_request: web.Request) -> web.StreamResponse:
        return web.Response(text=text)

    api.answer(handler)
    async with client(api.url) as tested:
        with pytest.raises(ApiError, match="no JSON object: check that the server's address"):
            await tested.request("GET", PODS)


async def test_a_redirect_is_not_followed(api: FakeApi) -> None:
    async def handler(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=302, headers={"Location": "https://console.example/login"})

    api.answer(handler)
    async with client(api.url) as tested:
        with pytest.raises(ApiError, match="302: the server redirects to another address"):
            await tested.request("GET", PODS)
    assert len(api.seen) == 1


async def test_a_large_answer(api: FakeApi) -> None:
    items = [{"metadata": {"name": f"pod-{number}"}} for number in range(100_000)]
    api.answer(ok({"items": items}))
    async with client(api.url) as tested:
        assert (await tested.request("GET", PODS))["items"] == items


async def test_a_slow_answer_is_a_timeout(api: FakeApi) -> None:
    api.answer(silent)
    async with client(api.url, request_timeout_seconds=0.2, retry=NO_RETRY) as tested:
        with pytest.raises(ConnectError, match=r"127\.0\.0\.1:\d+ did not answer within 0\.2 s\. If"):
            await tested.request("GET", PODS)


async def test_an_answer_cut_in_its_middle_is_no_answer(api: FakeApi) -> None:
    api.answer(chunks(b'{"kind"', OSError()), ok())
    async with client(api.url) as tested:
        assert await tested.request("GET", PODS) == {"ok": True}
    assert len(api.seen) == 2


async def test_no_error_carries_the_token(api: FakeApi) -> None:
    async def echo(request: web.Request) -> web.StreamResponse:
        return web.json_response({"message": f"I got {dict(request.headers)}", "code": 403}, status=403)

    api.answer(echo)
    async with client(api.url, tokens=Tokens().source) as tested:
        with pytest.raises(ForbiddenError, match="Bearer \\*\\*\\*") as refused:
            await tested.request("GET", PODS)
        api.answer(chunks(b"{", OSError()))
        with pytest.raises(ConnectError) as cut:
            await tested.request("GET", PODS, retry=NO_RETRY)
        api.answer(ok())
        with pytest.raises(ConnectError, match="does not speak HTTP as it should") as upgrade:
            await tested.exec(EXEC, ["true"], container="base")
    for error in (refused.value, cut.value, upgrade.value):
        for link in error_chain(error):
            assert "token-1" not in f"{link!s} {link!r} {vars(link)!r}"


async def test_netrc_is_never_read(api: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = tmp_path / ".netrc"
    netrc.write_text("default login eve password secret\nmachine 127.0.0.1 login eve password secret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(netrc))
    api.answer(ok())
    async with client(api.url) as tested:
        await tested.request("GET", PODS)
    assert "Authorization" not in api.seen[0].headers


@pytest.mark.parametrize("token", ["two\nlines", "tab\there", "\u00fcmlaut"])
async def test_a_token_that_no_header_can_carry(api: FakeApi, token: str) -> None:
    from kpo_multicluster.auth.access import static_token

    async with client(api.url, tokens=static_token(token, source="a file")) as tested:
        with pytest.raises(CredentialError, match="holds characters that no HTTP header can carry") as caught:
            await tested.request("GET", PODS)
    assert token not in str(caught.value)


@pytest.mark.parametrize(
    ("server", "text"),
    [
        ("ftp://10.0.0.1", "not an https URL"),
        ("10.0.0.1:6443", "not an https URL"),
        ("", "not an https URL"),
        ("https://10.0.0.1:port", "not an https URL"),
        ("https://foo..bar", "not an https URL"),
        (f"https://{'a' * 70}.example", "not an https URL"),
        ("https://10.0.0.1/?a=b", "not an https URL"),
        ("https://ann:secret@10.0.0.1", "holds a user name or password"),
        ("http://10.0.0.1", "sent in the clear"),
        ("http://api.example:8080", "sent in the clear"),
    ],
)
def test_refuses_addresses_it_must_not_use(server: str, text: str) -> None:
    with pytest.raises(ConfigurationError, match=text) as caught:
        client(server, tokens=Tokens().source)
    assert SOURCE in str(caught.value)
    assert "secret" not in str(caught.value)


def test_plain_http_is_for_loopback_or_for_no_one() -> None:
    for server in ("http://127.0.0.1:1", "http://127.8.9.1:1", "http://[::1]:1", "http://localhost:1"):
        client(server, tokens=Tokens().source)
    client("http://10.0.0.1")
    with pytest.raises(ConfigurationError, match="sent in the clear"):
        client("http://10.0.0.1", headers={"authorization": "Basic xxx"})
    with pytest.raises(ConfigurationError, match="sent in the clear"):
        client("http://127.0.0.1:1", tokens=Tokens().source, proxy_url="http://10.0.0.1:3128")


async def test_a_closed_client_says_so(api: FakeApi) -> None:
    tested = client(api.url)
    await tested.close()
    await tested.close()
    with pytest.raises(ConnectError, match="is closed: make a new one"):
        await tested.request("GET", PODS)
