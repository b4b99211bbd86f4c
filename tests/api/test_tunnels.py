"""Every way to the server against everything TLS can ask of it, and what a proxy may do wrong."""

from __future__ import annotations

import asyncio
import ssl
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kpo_multicluster.api.retry import NO_RETRY, RetryPolicy
from kpo_multicluster.errors import ConnectError, MissingExtraError, ProxyError, TLSError

from .cases import EXEC, LOG, PODS, Certificates, FakeClock, Tokens, client, error_chain, payload
from .servers import SUCCESS, Exec, FakeApi, FakeProxy, chunks, event, ok, running

HOST = "cluster.test"


@dataclass
class Way:
    """A way to a server: the proxy, if any, and the address under which the server is known behind it."""

    kind: str
    proxy: FakeProxy | None
    certificates: Certificates

    def cluster(self, api: FakeApi, **more: Any) -> dict[str, Any]:
        """Arguments of `client`."""
        server = api.url if self.proxy is None else api.url.replace("127.0.0.1", HOST)
        proxy_url = None if self.proxy is None else self.proxy.url("ann:p%40ss" if self.proxy.login else "")
        return {"url": server, "proxy_url": proxy_url, "ca_pem": self.certificates.ca_pem, **more}

    @property
    def name(self) -> str:
        return HOST if self.proxy is not None else "127.0.0.1"

    def check(self, api: FakeApi) -> None:
        if self.proxy is not None:
            # The proxy was given the name: nothing here could have resolved it.
            assert set(self.proxy.targets) == {f"{HOST}:{api.port}"}
            assert all(certificate is None for certificate in self.proxy.client_certificates)


@pytest.fixture(params=["direct", "http", "https", "socks5", "socks5h"])
async def way(request: pytest.FixtureRequest, certificates: Certificates) -> AsyncIterator[Way]:
    kind: str = request.param
    if kind == "direct":
        yield Way(kind, None, certificates)
        return
    context = None
    if kind == "https":
        context = certificates.server_context()
        context.verify_mode = ssl.CERT_OPTIONAL
        certificates.ca.configure_trust(context)
    async with running(FakeProxy(kind, context, {HOST: "127.0.0.1"}, login="ann:p@ss")) as proxy:
        yield Way(kind, proxy, certificates)


async def _serve(certificates: Certificates, name: str, *, ask_client: bool = False) -> FakeApi:
    api = FakeApi()
    await api.start(certificates.server_context(name, ask_client=ask_client))
    return api


async def test_tls(way: Way, certificates: Certificates) -> None:
    api = await _serve(certificates, way.name)
    try:
        api.answer(ok())
        async with client(**way.cluster(api, tokens=Tokens().source)) as tested:
            assert await tested.request("GET", PODS) == {"ok": True}
            assert await tested.request("POST", PODS, body={}) == {"ok": True}
            api.answer(chunks(event("ADDED", "2")))
            events = tested.watch(PODS, resource_version="1", reconnect=False)
            assert [seen.type async for seen in events] == ["ADDED"]
            text = payload(3 * 2**20)
            api.answer(chunks(*(text[start : start + 65_536] for start in range(0, len(text), 65_536))))
            assert b"".join([part async for part in tested.stream(LOG)]) == text
        assert {seen.connection for seen in api.seen} == {api.seen[0].connection}
        assert {seen.token for seen in api.seen} == {"token-1"}
        assert all("Proxy-Authorization" not in seen.headers for seen in api.seen)
    finally:
        await api.stop()
    way.check(api)


async def test_tls_server_name(way: Way, certificates: Certificates) -> None:
    api = await _serve(certificates, "kubernetes.internal")
    try:
        api.answer(ok())
        async with client(**way.cluster(api, tls_server_name="kubernetes.internal")) as tested:
            assert await tested.request("GET", PODS) == {"ok": True}
        assert api.server_names == ["kubernetes.internal"]
        async with client(**way.cluster(api)) as tested:
            with pytest.raises(TLSError, match=r"certificate of .* is refused: .*mismatch.* set tls-server-name there"):
                await tested.request("GET", PODS)
    finally:
        await api.stop()
    way.check(api)


async def test_client_certificate(way: Way, certificates: Certificates) -> None:
    api = await _serve(certificates, way.name, ask_client=True)
    try:
        api.answer(ok())
        certificate, key = certificates.client()
        async with client(**way.cluster(api, client_certificate=certificate, client_key=key)) as tested:
            assert await tested.request("GET", PODS) == {"ok": True}
        assert "client.test" in str(api.seen[0].client_certificate)
    finally:
        await api.stop()
    way.check(api)


async def test_exec(way: Way, certificates: Certificates) -> None:
    api = await _serve(certificates, "kubernetes.internal", ask_client=True)
    try:
        text = payload(3 * 2**20)
        served = Exec([b"\x01" + text, b"\x02err", SUCCESS], await_stdin=True)
        api.answer(served)
        certificate, key = certificates.client()
        identity = {"client_certificate": certificate, "client_key": key, "tls_server_name": "kubernetes.internal"}
        async with client(**way.cluster(api, **identity)) as tested:
            result = await tested.exec(EXEC, ["cat"], container="base", stdin=b"in" * 50_000)
        assert (result.stdout, result.stderr, result.exit_code) == (text, b"err", 0)
        assert bytes(served.stdin) == b"in" * 50_000
        assert "client.test" in str(api.seen[0].client_certificate)
    finally:
        await api.stop()
    way.check(api)


async def test_wrong_ca(way: Way, certificates: Certificates) -> None:
    # The proxy's certificate is good; the server inside is another's.
    api = await _serve(Certificates(), way.name)
    try:
        async with client(**way.cluster(api)) as tested:
            with pytest.raises(
                TLSError, match=r"is refused: .*(issuer|self.signed).*\. Check the CA of context 'test'"
            ):
                await tested.request("GET", PODS)
    finally:
        await api.stop()
    way.check(api)
    assert api.seen == []


async def test_plain_http_goes_through_proxies_too(way: Way, api: FakeApi) -> None:
    api.answer(ok())
    async with client(**way.cluster(api)) as tested:
        assert await tested.request("GET", PODS) == {"ok": True}
    way.check(api)


async def test_a_server_that_speaks_no_tls(way: Way, api: FakeApi) -> None:
    api.answer(ok())
    server = way.cluster(api)
    server["url"] = server["url"].replace("http:", "https:")
    async with client(**server) as tested:
        with pytest.raises(TLSError, match=r"handshake with .* failed \(wrong version number\)"):
            await tested.request("GET", PODS)
    way.check(api)


async def test_a_server_that_cuts_the_handshake(way: Way) -> None:
    async def accept(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        cut.append(1)
        writer.close()

    cut: list[int] = []
    listener = await asyncio.start_server(accept, "127.0.0.1", 0)
    api = FakeApi()
    api.port = listener.sockets[0].getsockname()[1]
    api.url = f"https://127.0.0.1:{api.port}"
    clock = FakeClock()
    async with listener, client(**way.cluster(api), retry=RetryPolicy(), clock=clock.clock()) as tested:
        with pytest.raises(ConnectError, match="cannot be connected to") as caught:
            await tested.request("GET", PODS)
    assert type(caught.value) is ConnectError
    assert len(cut) == 6
    way.check(api)


@pytest.mark.parametrize("kind", ["direct", "http", "https", "socks5"])
async def test_an_ipv6_server(certificates: Certificates, kind: str) -> None:
    api = FakeApi()
    try:
        await api.start(certificates.server_context("::1"), host="::1")
    except OSError:
        pytest.skip("no IPv6 on loopback")
    api.answer(ok())
    context = certificates.server_context() if kind == "https" else None
    try:
        async with running(FakeProxy(kind, context)) as proxy:
            url = f"https://[::1]:{api.port}"
            proxy_url = None if kind == "direct" else proxy.url()
            async with client(url, proxy_url=proxy_url, ca_pem=certificates.ca_pem) as tested:
                assert await tested.request("GET", PODS) == {"ok": True}
            if kind != "direct":
                assert proxy.targets == [f"::1:{api.port}" if kind == "socks5" else f"[::1]:{api.port}"]
    finally:
        await api.stop()


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
async def test_the_environments_proxy_is_used(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    api = await _serve(certificates, HOST)
    api.answer(ok())
    try:
        async with running(FakeProxy("http", names={HOST: "127.0.0.1"})) as proxy:
            monkeypatch.setenv(variable, proxy.url())
            async with client(f"https://{HOST}:{api.port}", ca_pem=certificates.ca_pem) as tested:
                await tested.request("GET", PODS)
            monkeypatch.setenv("NO_PROXY", ".test")
            async with client(f"https://{HOST}:{api.port}", ca_pem=certificates.ca_pem) as tested:
                with pytest.raises(ConnectError) as caught:
                    await tested.request("GET", PODS, retry=NO_RETRY)
            assert "proxy http" not in str(caught.value)
            assert proxy.targets == [f"{HOST}:{api.port}"]
    finally:
        await api.stop()


@pytest.mark.parametrize("kind", ["http", "https", "socks5"])
@pytest.mark.parametrize("login", ["", "ann:wrong"])
async def test_a_proxy_that_asks_for_other_credentials(certificates: Certificates, kind: str, login: str) -> None:
    context = certificates.server_context() if kind == "https" else None
    async with running(FakeProxy(kind, context, login="ann:right")) as proxy:
        async with client(
            f"https://{HOST}", ca_pem=certificates.ca_pem, proxy_url=proxy.url(login), tokens=Tokens().source
        ) as tested:
            with pytest.raises(ProxyError) as caught:
                await tested.request("GET", PODS)
        assert len(proxy.client_certificates) == 1, "must not be tried again"
    text = str(caught.value)
    assert f"the proxy {kind}://127.0.0.1:{proxy.port} (from proxy-url of context 'test'" in text
    assert "user name and password" in text
    for link in error_chain(caught.value):
        for secret in ("wrong", "YW5uOndyb25n", "token-1"):
            assert secret not in f"{link!s} {link!r} {vars(link)!r}"


@pytest.mark.parametrize(
    ("kind", "refusal", "text", "repeated"),
    [
        ("http", "HTTP/1.1 403 Forbidden", "refused to connect to cluster.test:443: 403 Forbidden", False),
        ("http", "HTTP/1.1 503 Service Unavailable", "cluster.test:443: 503 Service Unavailable", True),
        ("http", "HTTP/1.0 502", "cluster.test:443: 502", True),
        ("http", "SSH-2.0-OpenSSH_9.2", "does not answer as an HTTP proxy", False),
        ("socks5", 2, "refused to connect to cluster.test:443: Connection not allowed by ruleset", False),
        ("socks5", 4, "refused to connect to cluster.test:443: Host unreachable", True),
        ("socks5", 5, "refused to connect to cluster.test:443: Connection refused", True),
    ],
)
async def test_a_proxy_that_refuses(kind: str, refusal: str | int, text: str, repeated: bool) -> None:
    clock = FakeClock()
    async with running(FakeProxy(kind, refusal=refusal)) as proxy:
        async with client(
            f"https://{HOST}", proxy_url=proxy.url(), retry=RetryPolicy(), clock=clock.clock(), verify_tls=False
        ) as tested:
            with pytest.raises(ProxyError, match=text):
                await tested.request("GET", PODS)
        assert len(proxy.targets) == (6 if repeated else 1)


@pytest.mark.parametrize(
    ("kind", "answer", "text", "repeated"),
    [
        ("http", b"", r"closed the connection without an answer", True),
        ("http", b"HTTP/1.1 200 OK\r\nX: ", "closed the connection without an answer", True),
        ("http", b"x" * 70_000, "does not answer as an HTTP proxy", False),
        ("socks5", b"", "refused to connect to cluster.test:443: Connection closed", True),
        ("socks5", b"HTTP/1.1 400 Bad Request\r\n\r\n", "Unexpected SOCKS version number", False),
    ],
)
async def test_a_proxy_that_hangs_up(kind: str, answer: bytes, text: str, repeated: bool) -> None:
    clock = FakeClock()
    async with running(FakeProxy(kind, hang_up=answer)) as proxy:
        async with client(
            f"https://{HOST}", proxy_url=proxy.url(), retry=RetryPolicy(), clock=clock.clock(), verify_tls=False
        ) as tested:
            with pytest.raises(ProxyError, match=text):
                await tested.request("GET", PODS)
        assert len(proxy.targets) == (6 if repeated else 1)


@pytest.mark.parametrize("kind", ["http", "https", "socks5"])
async def test_a_proxy_that_is_not_there(kind: str, unused_tcp_port: int) -> None:
    proxy_url = f"{kind}://ann:secret@127.0.0.1:{unused_tcp_port}"
    async with client(f"https://{HOST}", proxy_url=proxy_url) as tested:
        with pytest.raises(
            ProxyError, match=f"the proxy {kind}://127.0.0.1:{unused_tcp_port} .* cannot be connec"
        ) as caught:
            await tested.request("GET", PODS, retry=NO_RETRY)
    assert "secret" not in str(caught.value)
    assert "connection refused" in str(caught.value)


@pytest.mark.parametrize("kind", ["http", "https", "socks5"])
async def test_a_proxy_that_never_answers(certificates: Certificates, kind: str) -> None:
    context = certificates.server_context() if kind == "https" else None
    async with (
        running(FakeProxy(kind, context, mute=True)) as proxy,
        client(
            f"https://{HOST}", proxy_url=proxy.url(), ca_pem=certificates.ca_pem, connect_timeout_seconds=0.3
        ) as tested,
    ):
        with pytest.raises(ConnectError, match=rf"connected to within 0\.\d+ s, through the proxy {kind}:"):
            await tested.request("GET", PODS)


async def test_an_https_proxy_with_a_certificate_of_a_stranger(certificates: Certificates) -> None:
    async with running(FakeProxy("https", Certificates().server_context())) as proxy:
        async with client(f"https://{HOST}", proxy_url=proxy.url(), ca_pem=certificates.ca_pem) as tested:
            with pytest.raises(
                ProxyError, match=r"certificate of the proxy https://.* is refused: .*Add the proxy's CA"
            ):
                await tested.request("GET", PODS)
        assert proxy.heads == []


async def test_an_https_proxy_may_be_signed_by_a_ca_of_this_machine(
    certificates: Certificates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = Certificates()
    (tmp_path / "ca.pem").write_text(others.ca_pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    api = await _serve(certificates, HOST)
    api.answer(ok())
    try:
        async with (
            running(FakeProxy("https", others.server_context(), {HOST: "127.0.0.1"})) as proxy,
            client(f"https://{HOST}:{api.port}", proxy_url=proxy.url(), ca_pem=certificates.ca_pem) as tested,
        ):
            assert await tested.request("GET", PODS) == {"ok": True}
    finally:
        await api.stop()


async def test_an_https_proxy_that_speaks_plain_http(certificates: Certificates) -> None:
    async with running(FakeProxy("http")) as proxy:
        url = proxy.url().replace("http:", "https:")
        async with client(f"https://{HOST}", proxy_url=url, ca_pem=certificates.ca_pem) as tested:
            with pytest.raises(ProxyError, match="proxy https://"):
                await tested.request("GET", PODS, retry=NO_RETRY)


async def test_a_socks_proxy_without_its_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "python_socks", None)
    async with client(f"https://{HOST}", proxy_url="socks5://127.0.0.1:1") as tested:
        with pytest.raises(MissingExtraError, match=r"pip install 'kpo-multicluster\[socks\]'"):
            await tested.request("GET", PODS)
