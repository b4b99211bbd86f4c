"""Real servers on loopback that answer as told: an API server, and proxies of three kinds."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ipaddress
import json
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from multidict import MultiMapping

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Seen:
    """One request as it arrived."""

    method: str
    path: str
    query: MultiMapping[str]
    headers: MultiMapping[str]
    body: bytes
    client_certificate: Mapping[str, Any] | None
    connection: int

    @property
    def token(self) -> str:
        return self.headers.get("Authorization", "").removeprefix("Bearer ")


class FakeApi:
    """Answers every request with the next of its handlers; the last one stays."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.handlers: list[Handler] = []
        self.url = ""
        self.port = 0
        self.server_names: list[str | None] = []
        self._runner: web.AppRunner | None = None

    def answer(self, *handlers: Handler) -> None:
        self.handlers = list(handlers)

    async def start(self, context: ssl.SSLContext | None = None, *, host: str = "127.0.0.1", port: int = 0) -> None:
        application = web.Application(client_max_size=64 * 2**20)
        application.router.add_route("*", "/{path:.*}", self._handle)
        # A reset connection is part of many tests, so handlers are cancelled with it rather than awaited.
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        if context is not None:
            context.sni_callback = self._note_name
        site = web.TCPSite(self._runner, host, port, ssl_context=context)
        await site.start()
        self.port = self._runner.addresses[0][1]
        scheme = "http" if context is None else "https"
        self.url = f"{scheme}://{host}:{self.port}"

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    def _note_name(self, _socket: ssl.SSLObject, name: str | None, _context: ssl.SSLContext) -> None:
        self.server_names.append(name)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        transport = request.transport
        assert transport is not None
        self.seen.append(
            Seen(
                request.method,
                request.path,
                request.query,
                request.headers,
                await request.read(),
                transport.get_extra_info("peercert"),
                transport.get_extra_info("peername")[1],
            )
        )
        handler = self.handlers.pop(0) if len(self.handlers) > 1 else self.handlers[0]
        return await handler(request)


def ok(body: object = None) -> Handler:
    async def handler(_request: web.Request) -> web.StreamResponse:
        return web.json_response({"ok": True} if body is None else body)

    return handler


def status(
    code: int,
    reason: str = "",
    message: str = "",
    *,
    details: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Handler:
    async def handler(_request: web.Request) -> web.StreamResponse:
        return web.json_response(status_object(code, reason, message, details), status=code, headers=headers)

    return handler


def status_object(code: int, reason: str, message: str, details: Mapping[str, Any] | None = None) -> dict[str, Any]:
    obj = {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": code,
    }
    return {**obj, "details": details} if details is not None else obj


async def reset(request: web.Request) -> web.StreamResponse:
    """Cuts the connection in place of an answer."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def silent(_request: web.Request) -> web.StreamResponse:
    await asyncio.Event().wait()
    raise AssertionError("unreachable")


def chunks(*parts: bytes | Exception | float, headers: Mapping[str, str] | None = None) -> Handler:
    """A chunked answer: bytes are sent, a number is a pause in seconds, an exception cuts the connection there."""

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers=headers)
        response.enable_chunked_encoding()
        await response.prepare(request)
        for part in parts:
            if isinstance(part, Exception):
                assert request.transport is not None
                request.transport.abort()
                break
            if isinstance(part, bytes):
                await response.write(part)
            else:
                await asyncio.sleep(part)
        return response

    return handler


def hangs_after(*parts: bytes) -> Handler:
    """A chunked answer that goes silent."""

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        await response.prepare(request)
        for part in parts:
            await response.write(part)
        return await silent(request)

    return handler


def event(kind: str, version: str, **more: Any) -> bytes:
    return json.dumps({"type": kind, "object": {"metadata": {"resourceVersion": version}, **more}}).encode() + b"\n"


def error_event(code: int, reason: str, message: str) -> bytes:
    return json.dumps({"type": "ERROR", "object": status_object(code, reason, message)}).encode() + b"\n"


@dataclass
class Exec:
    """The server's side of an exec: what it was sent, and what it answers."""

    frames: Sequence[bytes] = ()
    protocols: tuple[str, ...] = ("v5.channel.k8s.io", "v4.channel.k8s.io")
    await_stdin: bool = False
    cut: bool = False
    hang: bool = False
    stdin: bytearray = field(default_factory=bytearray)
    stdin_closed: bool = False
    commands: list[list[str]] = field(default_factory=list)

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(protocols=self.protocols, max_msg_size=0)
        await socket.prepare(request)
        self.commands.append(request.query.getall("command"))
        while self.await_stdin and not self.stdin_closed:
            message = (await socket.receive()).data
            self.stdin_closed = message == b"\xff\x00"
            self.stdin += b"" if self.stdin_closed else message[1:]
        for frame in self.frames:
            await socket.send_bytes(frame)
        if self.hang:
            await asyncio.Event().wait()
        if self.cut:
            assert request.transport is not None
            request.transport.abort()
        else:
            await socket.close()
        return socket


SUCCESS = b"\x03" + json.dumps({"metadata": {}, "status": "Success"}).encode()


def exit_status(code: int) -> bytes:
    causes = {"causes": [{"reason": "ExitCode", "message": str(code)}]}
    text = f"command terminated with non-zero exit code: {code}"
    return (
        b"\x03"
        + json.dumps({"status": "Failure", "reason": "NonZeroExitCode", "message": text, "details": causes}).encode()
    )


@dataclass
class FakeProxy:
    """A proxy: HTTP CONNECT with `context` None or not, or SOCKS5.

    Attributes:
        names: what it resolves; a name that is not here it does not know.
        login: `user:password` it asks for.
        refusal: the status line, or the SOCKS reply code, it answers with in place of connecting.
        mute: it never answers.
        hang_up: what it sends in place of an answer, before it closes.
    """

    kind: str
    context: ssl.SSLContext | None = None
    names: dict[str, str] = field(default_factory=dict)
    login: str | None = None
    refusal: str | int | None = None
    mute: bool = False
    hang_up: bytes | None = None
    targets: list[str] = field(default_factory=list)
    heads: list[str] = field(default_factory=list)
    client_certificates: list[Any] = field(default_factory=list)
    port: int = 0
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _server: asyncio.Server | None = None

    def url(self, login: str = "", host: str = "127.0.0.1") -> str:
        return f"{self.kind}://{login + '@' if login else ''}{host}:{self.port}"

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=self.context)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self.client_certificates.append(writer.get_extra_info("peercert"))
        try:
            if self.mute:
                await asyncio.Event().wait()
            if self.hang_up is not None:
                self.targets.append("")
                await reader.read(1)
                writer.write(self.hang_up)
                await writer.drain()
                writer.write_eof()
                await reader.read()
                return
            target = await (
                self._socks(reader, writer) if self.kind.startswith("socks") else self._http(reader, writer)
            )
            if target is not None:
                await self._pump(reader, writer, *target)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # not re-raised: the streams' own callback would log it
        finally:
            writer.transport.abort()

    async def _http(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> tuple[str, int] | None:
        first = await reader.readexactly(1)
        if not first.isalpha():
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            await writer.drain()
            return None
        head = (first + await reader.readuntil(b"\r\n\r\n")).decode()
        self.heads.append(head)
        target = head.split(" ", 2)[1]
        self.targets.append(target)
        wanted = self.login and f"Proxy-Authorization: Basic {base64.b64encode(self.login.encode()).decode()}"
        if wanted and wanted not in head:
            writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
        elif self.refusal is not None:
            writer.write(f"{self.refusal}\r\n\r\n".encode())
        else:
            writer.write(b"HTTP/1.1 200 Connection established\r\nVia: test\r\n\r\n")
            host, _, port = target.rpartition(":")
            return host.strip("[]"), int(port)
        await writer.drain()
        return None

    async def _socks(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> tuple[str, int] | None:
        _version, count = await reader.readexactly(2)
        methods = await reader.readexactly(count)
        if self.login:
            if 2 not in methods:
                writer.write(b"\x05\xff")
                await writer.drain()
                return None
            writer.write(b"\x05\x02")
            _version, size = await reader.readexactly(2)
            user = (await reader.readexactly(size)).decode()
            password = (await reader.readexactly((await reader.readexactly(1))[0])).decode()
            good = f"{user}:{password}" == self.login
            writer.write(b"\x01\x00" if good else b"\x01\x01")
            if not good:
                await writer.drain()
                return None
        else:
            writer.write(b"\x05\x00")
        _version, _command, _reserved, kind = await reader.readexactly(4)
        if kind == 3:
            host = (await reader.readexactly((await reader.readexactly(1))[0])).decode()
        else:
            host = str(ipaddress.ip_address(await reader.readexactly(4 if kind == 1 else 16)))
        (port,) = struct.unpack("!H", await reader.readexactly(2))
        self.targets.append(f"{host}:{port}")
        reply = self.refusal if isinstance(self.refusal, int) else 0
        writer.write(bytes([5, reply, 0, 1, 0, 0, 0, 0, 0, 0]))
        await writer.drain()
        return None if reply else (host, port)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, port: int) -> None:
        up_reader, up_writer = await asyncio.open_connection(self.names.get(host, host), port)
        try:
            ways = [asyncio.ensure_future(_copy(reader, up_writer)), asyncio.ensure_future(_copy(up_reader, writer))]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
        finally:
            up_writer.transport.abort()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()


@contextlib.asynccontextmanager
async def running(proxy: FakeProxy) -> AsyncIterator[FakeProxy]:
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.stop()
