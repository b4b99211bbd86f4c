"""Servers that cannot be reached or trusted: one error in time, that says why; and nothing left behind."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import gc
import os
import socket
import ssl
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from kpo_multicluster.api.retry import NO_RETRY, RetryPolicy
from kpo_multicluster.errors import ConfigurationError, ConnectError, TLSError

from .cases import EXEC, LOG, PODS, SOURCE, Certificates, FakeClock, client
from .servers import SUCCESS, Exec, FakeApi, FakeProxy, chunks, event, hangs_after, ok, running


def _listen(backlog: int = 8) -> socket.socket:
    return socket.create_server(("127.0.0.1", 0), backlog=backlog)


@contextlib.contextmanager
def _black_hole() -> Iterator[int]:
    """A port whose backlog is full: the kernel drops what else knocks."""
    with _listen(0) as listener, contextlib.ExitStack() as clients:
        for _ in range(4):
            knock = clients.enter_context(socket.socket())
            knock.setblocking(False)
            knock.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


async def test_refused(unused_tcp_port: int) -> None:
    clock = FakeClock()
    url = f"https://127.0.0.1:{unused_tcp_port}"
    async with client(url, retry=RetryPolicy(), clock=clock.clock()) as tested:
        with pytest.raises(ConnectError) as caught:
            await tested.request("GET", PODS)
    assert type(caught.value) is ConnectError
    assert sum(clock.slept) < 10.0
    assert str(caught.value) == (
        f"GET {url}{PODS} ({SOURCE}): 127.0.0.1:{unused_tcp_port} cannot be connected to: connection refused "
        f"(try 6 in 6.2 s). Check the server's address in {SOURCE}, and that a firewall, VPN or proxy setting lets "
        "this host reach it."
    )


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_black_hole_is_one_error_within_the_connect_timeout(scheme: str) -> None:
    with _black_hole() as port:
        began = time.monotonic()
        async with client(f"{scheme}://127.0.0.1:{port}", connect_timeout_seconds=0.5) as tested:
            with pytest.raises(ConnectError, match=r"127\.0\.0\.1:\d+ could not be connected to within 0\.[45] s"):
                await tested.request("GET", PODS)
        assert 0.4 < time.monotonic() - began < 20


async def test_every_call_ends_within_the_connect_timeout() -> None:
    with _black_hole() as port:
        async with client(f"https://127.0.0.1:{port}", connect_timeout_seconds=0.4) as tested:
            began = time.monotonic()
            calls = [
                tested.request("GET", PODS),
                tested.watch(PODS, resource_version="1").__anext__(),
                tested.stream(LOG).__anext__(),
                tested.exec(EXEC, ["true"], container="base"),
            ]
            found = await asyncio.gather(*calls, return_exceptions=True)
        assert time.monotonic() - began < 20
    assert [type(error) for error in found] == [ConnectError] * 4


async def test_a_server_that_accepts_and_stays_silent() -> None:
    with _listen() as listener:
        began = time.monotonic()
        async with client(f"https://127.0.0.1:{listener.getsockname()[1]}", connect_timeout_seconds=0.5) as tested:
            with pytest.raises(ConnectError, match="could not be connected to within"):
                await tested.request("GET", PODS)
        assert 0.4 < time.monotonic() - began < 20


async def test_a_name_that_does_not_exist() -> None:
    # Too long for a DNS query, so none is sent.
    name = ".".join(["a" * 60] * 5)
    async with client(f"https://{name}:6443") as tested:
        with pytest.raises(ConnectError, match=f"the name {name} cannot be resolved .*whether this host needs a VPN"):
            await tested.request("GET", PODS, retry=NO_RETRY)


async def test_a_certificate_of_another_name(certificates: Certificates) -> None:
    api = FakeApi()
    await api.start(certificates.server_context("other.test"))
    try:
        async with client(api.url, ca_pem=certificates.ca_pem) as tested:
            with pytest.raises(TLSError, match=r"IP address mismatch.*'127\.0\.0\.1'\. Use an address in context"):
                await tested.request("GET", PODS)
        async with client(api.url, verify_tls=False) as tested:
            api.answer(ok())
            assert await tested.request("GET", PODS) == {"ok": True}
    finally:
        await api.stop()


async def test_a_certificate_that_has_expired(certificates: Certificates) -> None:
    past = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(days=1)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificates.ca.issue_cert(
        "127.0.0.1", not_before=past - datetime.timedelta(days=9), not_after=past
    ).configure_cert(context)
    api = FakeApi()
    await api.start(context)
    clock = FakeClock()
    try:
        async with client(api.url, ca_pem=certificates.ca_pem, clock=clock.clock()) as tested:
            with pytest.raises(TLSError, match=r"certificate has expired\. Renew the server's certificate, and check"):
                await tested.request("GET", PODS)
    finally:
        await api.stop()
    assert clock.slept == []


async def test_https_to_a_port_that_speaks_http(api: FakeApi) -> None:
    api.answer(ok())
    async with client(api.url.replace("http:", "https:")) as tested:
        with pytest.raises(TLSError, match=r"failed \(wrong version number\)\. Check the scheme and port"):
            await tested.request("GET", PODS)


async def test_http_to_a_port_that_speaks_https(tls_api: FakeApi) -> None:
    async with client(tls_api.url.replace("https:", "http:")) as tested:
        with pytest.raises(ConnectError):
            await tested.request("GET", PODS, retry=NO_RETRY)


# asyncio of Python 3.10 takes a TLS transport that failed for one that was forgotten.
@pytest.mark.filterwarnings("ignore:.*_SSLProtocolTransport.__del__" if sys.version_info < (3, 11) else "error")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_server_that_demands_a_client_certificate(certificates: Certificates, version: ssl.TLSVersion) -> None:
    context = certificates.server_context(ask_client=True)
    context.maximum_version = version

    # On a failed handshake wrap_socket closes what it wrapped, so the connection is kept by a duplicate.
    def serve(listener: socket.socket) -> None:
        listener.settimeout(10.0)
        accepted, _ = listener.accept()
        with accepted, contextlib.suppress(OSError):
            copy = accepted.dup()
            with contextlib.suppress(ssl.SSLError):
                context.wrap_socket(copy, server_side=True).close()
            accepted.shutdown(socket.SHUT_WR)
            while accepted.recv(4096):
                pass

    with _listen() as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"
        try:
            async with client(url, ca_pem=certificates.ca_pem, connect_timeout_seconds=5.0) as tested:
                with pytest.raises(TLSError, match="check the client certificate and key in context 'test'"):
                    await tested.request("POST", PODS)
        finally:
            await asyncio.to_thread(thread.join)
    gc.collect()


async def test_a_handshake_cut_short_may_pass(certificates: Certificates) -> None:
    cut = []

    async def accept(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        cut.append(1)
        writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    clock = FakeClock()
    async with server, client(url, ca_pem=certificates.ca_pem, retry=RetryPolicy(), clock=clock.clock()) as tested:
        with pytest.raises(ConnectError) as caught:
            await tested.request("GET", PODS)
    assert not isinstance(caught.value, TLSError)
    assert len(cut) == 6


async def test_a_client_certificate_that_cannot_be_used(api: FakeApi) -> None:
    async with client("https://127.0.0.1:1", client_certificate="nonsense", client_key="nonsense") as tested:
        with pytest.raises(ConfigurationError, match=SOURCE):
            await tested.request("GET", PODS)


def _open_sockets(port: int) -> int:
    """How many sockets of this process lead to a port, those of relays included."""
    count = 0
    for descriptor in map(int, os.listdir("/proc/self/fd")):
        with contextlib.suppress(OSError):
            opened = socket.socket(fileno=descriptor)
            try:
                if opened.family == socket.AF_UNIX:
                    count += opened.type == socket.SOCK_STREAM
                else:
                    count += opened.getpeername()[1] == port
            finally:
                opened.detach()
    return count


@pytest.mark.parametrize("kind", ["direct", "http", "https", "socks5"])
async def test_close_leaves_no_socket_and_no_task(certificates: Certificates, kind: str) -> None:
    api = FakeApi()
    await api.start(certificates.server_context())
    proxy = FakeProxy(kind, certificates.server_context() if kind == "https" else None)
    api.answer(ok(), chunks(event("ADDED", "2")), Exec([SUCCESS]), hangs_after(b"line"))
    try:
        async with running(proxy):
            port, proxy_url = (api.port, None) if kind == "direct" else (proxy.port, proxy.url())
            before = _open_sockets(port)
            tested = client(api.url, ca_pem=certificates.ca_pem, proxy_url=proxy_url)
            await tested.request("GET", PODS)
            assert [seen.type async for seen in tested.watch(PODS, resource_version="1", reconnect=False)] == ["ADDED"]
            await tested.exec(EXEC, ["true"], container="base")
            parts = tested.stream(LOG)
            assert await parts.__anext__() == b"line"
            assert _open_sockets(port) > before
            await tested.close()
            assert _open_sockets(port) <= before
            with pytest.raises(ConnectError, match="the client was closed"):
                await parts.__anext__()
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                code = task.get_coro().cr_code  # type: ignore[union-attr]
                assert code.co_filename.endswith(("servers.py", "web_protocol.py")), task
    finally:
        await api.stop()


@pytest.mark.parametrize("kind", ["direct", "http", "https", "socks5"])
async def test_close_does_not_wait_for_a_peer_that_says_no_goodbye(certificates: Certificates, kind: str) -> None:
    api = FakeApi()
    await api.start(certificates.server_context())
    api.answer(hangs_after(b"line"))
    proxy = FakeProxy(kind, certificates.server_context() if kind == "https" else None)
    try:
        async with running(proxy):
            port, proxy_url = (api.port, None) if kind == "direct" else (proxy.port, proxy.url())
            before = _open_sockets(port)
            tested = client(api.url, ca_pem=certificates.ca_pem, proxy_url=proxy_url)
            for _ in range(3):
                async with contextlib.aclosing(tested.stream(LOG)) as parts:
                    assert await parts.__anext__() == b"line"
            began = time.monotonic()
            await tested.close()
            assert time.monotonic() - began < 20
            assert _open_sockets(port) <= before
    finally:
        await api.stop()


def test_one_loop_after_another(certificates: Certificates) -> None:
    async def once() -> None:
        api = FakeApi()
        await api.start(certificates.server_context())
        try:
            api.answer(ok())
            async with client(api.url, ca_pem=certificates.ca_pem) as tested:
                await tested.request("GET", PODS)
        finally:
            await api.stop()

    for _ in range(3):
        asyncio.run(once())
    gc.collect()
