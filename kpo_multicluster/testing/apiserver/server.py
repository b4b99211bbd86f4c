"""The HTTPS server: every request is noted, may meet a fault, is authenticated, authorized and answered."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
import ssl
import uuid
import weakref
from asyncio.trsock import TransportSocket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from aiohttp import web

from kpo_multicluster.testing.apiserver.body_stream import BodyStream, StreamCutError
from kpo_multicluster.testing.apiserver.identity import Identities, User, authorize
from kpo_multicluster.testing.apiserver.request_info import RequestInfo, parse
from kpo_multicluster.testing.apiserver.status import StatusError, internal_error
from kpo_multicluster.testing.faults import Answer, BlackHole, Cut, Delay, Drop, Effect, Faults
from kpo_multicluster.testing.requests import RequestLog

_log = logging.getLogger(__name__)
# Handlers still under way at the end are given this long; streams are ended before.
_SHUTDOWN_SECONDS = 0.5
_MAX_BODY = 3 * 1024 * 1024
# An exec carries its command in the address; Go's servers take a megabyte of headers.
_MAX_HEADER = 1024 * 1024
_POLL_SECONDS, _POLLS = 0.001, 1000


@dataclass(frozen=True)
class Exchange:
    """One request on its way through the server.

    Attributes:
        request: as it came.
        info: what it asks for.
        user: who sent it; None for anonymous.
        cut: where its answer is to break off; None for nowhere.
    """

    request: web.BaseRequest
    info: RequestInfo
    user: User | None
    cut: Cut | None

    @property
    def query(self) -> Mapping[str, str]:
        """The query; of repeated keys the first."""
        return self.request.query

    async def body(self) -> bytes:
        """What was sent.

        Raises:
            StatusError: 413.
        """
        body = await self.request.content.read()
        if len(body) > _MAX_BODY:
            raise StatusError(413, "RequestEntityTooLarge", f"Request entity too large: limit is {_MAX_BODY}")
        return body

    async def stream(self, content_type: str) -> BodyStream:
        """Begins an answer that is written piece by piece."""
        response = web.StreamResponse(headers={"Content-Type": content_type, **standing_headers()})
        response.enable_chunked_encoding()
        stream = BodyStream(self.request, response, self.cut)
        await stream.start()
        return stream


Handler = Callable[[Exchange], Awaitable[web.StreamResponse]]


def standing_headers() -> dict[str, str]:
    """What real servers send with every answer."""
    return {"Audit-Id": str(uuid.uuid4()), "Cache-Control": "no-cache, private"}


def json_answer(body: Mapping[str, Any], code: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """An object as an answer."""
    text = json.dumps(body, separators=(",", ":")) + "\n"
    return web.Response(
        body=text.encode(),
        status=code,
        content_type="application/json",
        headers={**standing_headers(), **(headers or {})},
    )


class ApiServer:
    """Listens on loopback and answers.

    Args:
        handler: answers requests that were let in; raises `StatusError`.
        identities: who is let in.
        faults: to meet requests with.
        requests: notes them.
        tls: the server's certificate, and the CA of client certificates.
    """

    def __init__(
        self, handler: Handler, *, identities: Identities, faults: Faults, requests: RequestLog, tls: ssl.SSLContext
    ) -> None:
        self._handler = handler
        self._identities = identities
        self._faults = faults
        self._requests = requests
        self._tls = tls
        self._runner: web.ServerRunner | None = None
        self._address = ("127.0.0.1", 0)
        # A transport that is closed no longer tells its socket.
        self._sockets: weakref.WeakKeyDictionary[asyncio.Transport, TransportSocket] = weakref.WeakKeyDictionary()

    @property
    def host_and_port(self) -> tuple[str, int]:
        """Where it listens; port 0 before it ever did."""
        return self._address

    @property
    def address(self) -> str:
        """`host:port`."""
        return f"{self._address[0]}:{self._address[1]}"

    async def start(self) -> None:
        """Listens; at the same port as before when it did already.

        Raises:
            OSError: the port is taken.
        """
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(self._address)
            self._address = listener.getsockname()
            server = web.Server(
                self._serve,
                handler_cancellation=True,
                access_log=None,
                max_line_size=_MAX_HEADER,
                max_field_size=_MAX_HEADER,
            )
            runner = web.ServerRunner(server, shutdown_timeout=_SHUTDOWN_SECONDS)
            await runner.setup()
            await web.SockSite(runner, listener, ssl_context=self._tls).start()
        except BaseException:
            listener.close()
            raise
        self._runner = runner

    async def stop(self) -> None:
        """Stops listening and closes every connection."""
        runner, self._runner = self._runner, None
        if runner is None:
            return
        connections = dict(self._sockets)
        for transport, connection in connections.items():
            # A TLS connection that was closed in order waits half a minute for its peer to say good-bye, and cannot be
            # aborted any more: its socket is shut down under it.
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            transport.abort()
        await runner.cleanup()
        for _ in range(_POLLS):
            if all(connection.fileno() == -1 for connection in connections.values()):
                return
            await asyncio.sleep(_POLL_SECONDS)

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        transport = request.transport
        if transport is not None and transport not in self._sockets and not transport.is_closing():
            self._sockets[transport] = transport.get_extra_info("socket")
        info = parse(request.method, request.path, request.query)
        agent = request.headers.get("User-Agent", "")
        number, record = self._requests.begin(request.method, request.path_qs, info, agent)
        faults = await _meet(self._faults.take(record.line))
        if faults.answer is not None:
            self._requests.note(number, status=faults.answer.status)
            return json_answer(faults.answer.body, faults.answer.status, faults.answer.headers)
        if faults.drop is not None and not faults.drop.processed:
            return _hang_up(request)
        response = await self._answer(request, info, faults.cut, number)
        self._requests.note(number, status=response.status)
        if faults.drop is not None:
            return _hang_up(request)
        if faults.cut is not None and isinstance(response, web.Response):
            return await _send_cut(request, response, faults.cut)
        return response

    async def _answer(
        self, request: web.BaseRequest, info: RequestInfo, cut: Cut | None, number: int
    ) -> web.StreamResponse:
        try:
            user = await self._sender(request)
            if user is not None:
                self._requests.note(number, user=user.name)
            authorize(user, info)
            return await self._handler(Exchange(request, info, user, cut))
        except StatusError as error:
            return json_answer(error.body, error.code, error.headers)
        except StreamCutError:
            # Closed already, and what was written before must still go out.
            return web.Response()
        except ConnectionError:
            return _hang_up(request)
        except Exception as error:  # noqa: BLE001 - a bug here is told to the client as a real server tells its own
            _log.exception("The embedded cluster failed at %s %s", request.method, request.path_qs)
            if request.writer.output_size:
                return _hang_up(request)
            failure = internal_error(f"{type(error).__name__}: {error}")
            return json_answer(failure.body, failure.code)

    async def _sender(self, request: web.BaseRequest) -> User | None:
        shown = request.headers.get("Authorization", ""), _certificate_name(request)
        if self._identities.asks_others:
            return await asyncio.to_thread(self._identities.authenticate, *shown)
        return self._identities.authenticate(*shown)


@dataclass(frozen=True)
class _Met:
    """The faults that one request met and that are still to take effect."""

    answer: Answer | None = None
    drop: Drop | None = None
    cut: Cut | None = None


async def _meet(effects: Sequence[Effect]) -> _Met:
    met = _Met()
    for effect in effects:
        if isinstance(effect, BlackHole):
            await asyncio.Event().wait()
        elif isinstance(effect, Delay):
            await asyncio.sleep(effect.seconds)
        elif isinstance(effect, Cut):
            met = replace(met, cut=effect)
        elif isinstance(effect, Drop):
            met = replace(met, drop=effect)
        else:
            met = replace(met, answer=effect)
    return met


def _certificate_name(request: web.BaseRequest) -> str:
    certificate = request.get_extra_info("peercert")
    for part in (certificate or {}).get("subject", ()):
        for key, value in part:
            if key == "commonName":
                return str(value)
    return ""


def _hang_up(request: web.BaseRequest) -> web.StreamResponse:
    """Closes the connection; the response only satisfies the HTTP library."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


async def _send_cut(request: web.BaseRequest, response: web.Response, cut: Cut) -> web.StreamResponse:
    body = response.body if isinstance(response.body, bytes) else b""
    partial = web.StreamResponse(status=response.status, headers=response.headers)
    partial.content_length = len(body)
    stream = BodyStream(request, partial, cut)
    try:
        await stream.start()
        await stream.write(body)
    except (StreamCutError, ConnectionError):
        return partial
    return partial
