"""Real TLS servers on loopback, and what the tests of `auth/` write kubeconfigs with."""

from __future__ import annotations

import asyncio
import base64
import os
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pytest
import trustme
import yaml
from aiohttp import WSMsgType, web

from ..clock import Clock
from .numbered import NumberedTokens

T = TypeVar("T")


class LoopThread:
    """An event loop in a thread of its own, for servers that blocking clients talk to."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="test-servers")
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)
        self._loop.close()


@dataclass(frozen=True)
class Seen:
    """A request as the server saw it."""

    method: str
    path: str
    headers: tuple[tuple[str, str], ...]
    certificate: str | None

    def header(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name.lower()]

    @property
    def bearer(self) -> str | None:
        values = self.header("Authorization")
        return values[0].removeprefix("Bearer ") if values else None


@dataclass
class ApiServer:
    """An API server that knows `/version`, pods and exec, and whom it lets in."""

    ca: trustme.CA
    loop: LoopThread
    names: tuple[str, ...] = ("127.0.0.1", "localhost")
    accepted: set[str] = field(default_factory=set)
    accepted_certificates: set[str] = field(default_factory=set)
    seen: list[Seen] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    asked_names: list[str | None] = field(default_factory=list)
    name: str = "cluster"
    port: int = 0

    def __post_init__(self) -> None:
        self.loop.run(self._start())

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def ca_pem(self) -> str:
        return self.ca.cert_pem.bytes().decode()

    def close(self) -> None:
        self.loop.run(self._runner.cleanup())

    def wait_until_idle(self) -> None:
        """Returns once the connections that clients have closed are closed here as well."""

        async def idle() -> None:
            while self._runner.server is not None and self._runner.server.connections:
                await asyncio.sleep(0.005)

        self.loop.run(idle())

    async def _start(self) -> None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.ca.issue_cert(*self.names).configure_cert(context)
        self.ca.configure_trust(context)
        context.verify_mode = ssl.CERT_OPTIONAL
        context.sni_callback = lambda _socket, name, _context: self.asked_names.append(name)
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=context)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        certificate = request.transport.get_extra_info("peercert") if request.transport else None
        names = dict(item[0] for item in certificate["subject"]) if certificate else {}
        seen = Seen(request.method, request.path_qs, tuple(request.headers.items()), names.get("commonName"))
        self.bodies.append(await request.read())
        self.seen.append(seen)
        if seen.bearer not in self.accepted and seen.certificate not in self.accepted_certificates:
            status = {"kind": "Status", "status": "Failure", "reason": "Unauthorized", "code": 401}
            return web.json_response(status, status=401)
        if request.path.endswith("/exec"):
            return await self._exec(request)
        if request.path.rstrip("/") == "/version":
            version = dict.fromkeys(
                ("buildDate", "compiler", "gitCommit", "gitTreeState", "gitVersion", "goVersion", "platform"), "x"
            )
            return web.json_response({**version, "major": "1", "minor": self.name})
        return web.json_response({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": []})

    async def _exec(self, request: web.Request) -> web.WebSocketResponse:
        socket_ = web.WebSocketResponse(protocols=("v4.channel.k8s.io",))
        await socket_.prepare(request)
        await socket_.send_bytes(b"\x01hello from " + self.name.encode())
        await socket_.send_bytes(b'\x03{"metadata":{},"status":"Success"}')
        await socket_.close()
        async for message in socket_:
            if message.type is WSMsgType.CLOSE:
                break
        return socket_


class Proxy:
    """An HTTP proxy that tunnels, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept)]
        self._sockets: list[socket.socket] = []
        self._threads[0].start()

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        for open_ in self._sockets:
            with suppress(OSError):
                open_.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(30)
        for open_ in (self._listener, *self._sockets):
            open_.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                inner, _ = self._listener.accept()
                self._sockets.append(inner)
                self._start(self._serve, inner)

    def _start(self, target: Callable[..., None], *args: socket.socket) -> None:
        self._threads.append(threading.Thread(target=target, args=args))
        self._threads[-1].start()

    def _serve(self, inner: socket.socket) -> None:
        with suppress(OSError):  # a client that leaves in the middle
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                received = inner.recv(1)
                if not received:
                    return
                head += received
            self.asked.append(head.decode())
            host, _, port = head.split()[1].decode().rpartition(":")
            try:
                outer = socket.create_connection((host, int(port)))
            except OSError:
                inner.sendall(b"HTTP/1.1 502 Bad Gateway\r\n\r\n")
                inner.shutdown(socket.SHUT_RDWR)
                return
            self._sockets.append(outer)
            inner.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            self._start(_copy, outer, inner)
            _copy(inner, outer)


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


class MakeServer(Protocol):
    def __call__(self, **options: Any) -> ApiServer: ...


@pytest.fixture(scope="session")
def loop_thread() -> Iterator[LoopThread]:
    thread = LoopThread()
    yield thread
    thread.close()


@pytest.fixture(scope="session")
def ca() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="session")
def other_ca() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def make_server(ca: trustme.CA, loop_thread: LoopThread) -> Iterator[MakeServer]:
    made: list[ApiServer] = []

    def make(**options: Any) -> ApiServer:
        made.append(ApiServer(**{"ca": ca, "loop": loop_thread, **options}))
        return made[-1]

    yield make
    for server in made:
        server.close()


@pytest.fixture
def server(make_server: MakeServer) -> ApiServer:
    return make_server(accepted={"good"})


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    made = Proxy()
    yield made
    made.close()


@dataclass(frozen=True)
class Identity:
    """A client certificate and its key, PEM."""

    certificate: str
    key: str
    name: str


@pytest.fixture(scope="session")
def identity(ca: trustme.CA) -> Identity:
    return _identity(ca, "alice")


@pytest.fixture(scope="session")
def second_identity(ca: trustme.CA) -> Identity:
    return _identity(ca, "bob")


def _identity(ca: trustme.CA, name: str) -> Identity:
    issued = ca.issue_cert(f"{name}@example.org", common_name=name)
    certificates = "".join(blob.bytes().decode() for blob in issued.cert_chain_pems)
    return Identity(certificates, issued.private_key_pem.bytes().decode(), name)


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


class WriteKubeconfig(Protocol):
    def __call__(self, *, user: Any, cluster: Any = None, context: Any = None, name: str = ...) -> Path: ...


@pytest.fixture
def document() -> Callable[..., dict[str, Any]]:
    def make(
        user: dict[str, Any] | None,
        cluster: dict[str, Any] | None = None,
        context: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "main",
            "contexts": [{"name": "main", "context": {"cluster": "c", "user": "u", **(context or {})}}],
            "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:6443", **(cluster or {})}}],
            "users": [{"name": "u", "user": user}],
        }

    return make


@pytest.fixture
def write_kubeconfig(tmp_path: Path, document: Callable[..., dict[str, Any]]) -> WriteKubeconfig:
    def write(*, user: Any, cluster: Any = None, context: Any = None, name: str = "kubeconfig") -> Path:
        path = tmp_path / name
        path.write_text(yaml.safe_dump(document(user, cluster, context)))
        return path

    return write


@pytest.fixture
def as_base64() -> Callable[[str], str]:
    return encoded


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tokens(server: Any, clock: Clock) -> NumberedTokens:
    return NumberedTokens(server, clock)


@pytest.fixture
def hasty_threads() -> Iterator[None]:
    """Threads take turns after each step, nearly."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.fixture
def script(tmp_path: Path) -> Callable[[str, str], Path]:
    """Writes an executable shell script."""

    def write(name: str, body: str) -> Path:
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)
        return path

    return write


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture
def descriptors() -> Callable[[], int]:
    return open_descriptors
