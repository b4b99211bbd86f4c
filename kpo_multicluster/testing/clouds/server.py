"""HTTP servers on loopback for emulated clouds, with a record of what was asked and faults to inject.

Faults are aimed as those of an embedded cluster: by a regular expression that is searched in `METHOD PATH`, such as
`POST /token`, or of AWS in `METHOD PATH ACTION`, such as `POST / AssumeRole`.
"""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from kpo_multicluster.errors import ConfigurationError
from kpo_multicluster.testing.faults import Answer, BlackHole, Delay, Drop, Effect, Fault, Faults

# A client that says nothing must not hold a thread for ever.
_IDLE_SECONDS = 60.0
_TICK_SECONDS = 0.05
_BACKLOG = 128

Clock = Callable[[], float]


@dataclass(frozen=True)
class Request:
    """A request as it arrived.

    Attributes:
        method: of HTTP.
        target: path and query, as sent.
        headers: by lower-case name.
        body: as sent.
        action: what clouds with a single path for all ask for there; empty elsewhere.
    """

    method: str
    target: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    action: str = ""

    @cached_property
    def path(self) -> str:
        """The path alone, decoded."""
        return unquote(urlsplit(self.target).path)

    @cached_property
    def query(self) -> Mapping[str, str]:
        """The parameters of the query, decoded."""
        return dict(parse_qsl(urlsplit(self.target).query, keep_blank_values=True))

    @cached_property
    def form(self) -> Mapping[str, str]:
        """The fields of a body that is a form."""
        return dict(parse_qsl(self.body.decode(errors="replace"), keep_blank_values=True))

    @cached_property
    def json(self) -> Mapping[str, Any]:
        """The body as a JSON object; empty when it is none."""
        try:
            found = json.loads(self.body)
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    @property
    def bearer(self) -> str:
        """The bearer token; empty without one."""
        kind, _, token = self.headers.get("authorization", "").partition(" ")
        return token.strip() if kind.lower() == "bearer" else ""

    @property
    def line(self) -> str:
        """What faults are aimed at."""
        return f"{self.method} {self.path} {self.action}".rstrip()


@dataclass(frozen=True)
class Response:
    """An answer: of JSON, unless its body is bytes with a type among the headers."""

    status: int
    body: Mapping[str, Any] | bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def content(self) -> bytes:
        """The body as sent."""
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


@dataclass(frozen=True)
class Refusal(Answer):
    """Answer with a failure, with a code of the cloud's own."""

    code: str = ""


class CloudFaults(Faults):
    """The faults of one emulated cloud. Safe to use from any thread."""

    def refuse(
        self, where: str, status: int, code: str, message: str = "refused", *, times: int | None = None
    ) -> Fault:
        """Answers requests with an error in the form that the cloud gives its errors.

        Args:
            where: which requests.
            status: HTTP status code.
            code: such as `AccessDenied`, `PERMISSION_DENIED` or `AuthorizationFailed`; of a token endpoint the `error`.
            message: in words.
            times: how many of them; None for all while the fault is in place.
        """
        return self._add(Refusal(status, message, code=code), where, times)


class Record:
    """What was asked of an emulated cloud, in order of arrival. Safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: list[Request] = []

    def add(self, request: Request) -> None:
        """Notes a request."""
        with self._lock:
            self._requests.append(request)

    def all(self) -> tuple[Request, ...]:
        """All requests since the last `clear`."""
        with self._lock:
            return tuple(self._requests)

    def paths(self) -> list[str]:
        """The path of each; where a cloud has a single one for all, what was asked for there."""
        return [request.action or request.path for request in self.all()]

    def clear(self) -> None:
        """Forgets them."""
        with self._lock:
            self._requests.clear()


@dataclass(frozen=True)
class Service:
    """What a server serves.

    Attributes:
        handle: answers a request.
        refuse: puts an injected failure into the form of the cloud: request, status, code, message.
        now: the cloud's time, as its answers tell it; Unix time in seconds.
        name_action: what a request asks for, where the path does not say.
        tick: called now and then, for what happens by itself.
    """

    handle: Callable[[Request], Response]
    refuse: Callable[[Request, int, str, str], Response]
    now: Clock = time.time
    name_action: Callable[[Request], str] = lambda _: ""
    tick: Callable[[], None] = lambda: None


class LoopbackServer:
    """Serves requests, each in a thread of its own, from `start` to `stop`.

    Args:
        service: what to serve.
        faults: to inject.
        record: where requests are noted.
        tls: serve https.
    """

    def __init__(
        self, service: Service, faults: CloudFaults, record: Record, tls: ssl.SSLContext | None = None
    ) -> None:
        self._service, self._faults, self._record, self._tls = service, faults, record, tls
        self._stopping = threading.Event()
        self._server: ThreadingHTTPServer | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """Base URL.

        Raises:
            ConfigurationError: it is not running.
        """
        if self._server is None:
            raise ConfigurationError("The emulated cloud is not running: use it in a with block, or call start().")
        scheme, host = ("https", "localhost") if self._tls is not None else ("http", "127.0.0.1")
        return f"{scheme}://{host}:{self._server.server_port}"

    def start(self) -> None:
        """Starts to serve. Harmless when it does already."""
        if self._server is not None:
            return
        self._stopping.clear()
        server = _Server(self)
        if self._tls is not None:
            # The handshake belongs to the connection's own thread: one that is slow must not hold up the others.
            server.socket = self._tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        self._server = server
        self._thread = threading.Thread(target=server.serve_forever, args=(_TICK_SECONDS,), name="emulated cloud")
        self._thread.start()

    def stop(self) -> None:
        """Ends all requests and threads. Harmless when it is not running."""
        server, thread = self._server, self._thread
        if server is None or thread is None:
            return
        self._stopping.set()
        server.shutdown()
        thread.join()
        server.server_close()
        self._server = self._thread = None

    def tick(self) -> None:
        """Lets happen what is due."""
        self._service.tick()

    def date(self) -> str:
        """The cloud's time, as the header `Date` has it."""
        return formatdate(self._service.now(), usegmt=True)

    def answer(self, request: Request) -> Response | None:
        """What a request is answered with; None for nothing at all."""
        request = Request(
            request.method, request.target, request.headers, request.body, self._service.name_action(request)
        )
        self._record.add(request)
        for effect in self._faults.take(request.line):
            if isinstance(effect, Answer):
                return self._refusal(request, effect)
            if not self._passes(effect, request):
                return None
        return self._service.handle(request)

    def _passes(self, effect: Effect, request: Request) -> bool:
        if isinstance(effect, Delay):
            return not self._stopping.wait(effect.seconds)
        if isinstance(effect, BlackHole):
            self._stopping.wait()
            return False
        if isinstance(effect, Drop):
            if effect.processed:
                self._service.handle(request)
            return False
        return True

    def _refusal(self, request: Request, effect: Answer) -> Response:
        code = effect.code if isinstance(effect, Refusal) else ""
        response = self._service.refuse(request, effect.status, code, effect.message or "injected")
        return Response(response.status, response.body, {**response.headers, **effect.headers})


class _Server(ThreadingHTTPServer):
    daemon_threads = False
    request_queue_size = _BACKLOG

    def __init__(self, owner: LoopbackServer) -> None:
        self.owner = owner
        super().__init__(("127.0.0.1", 0), _Handler)

    def service_actions(self) -> None:
        self.owner.tick()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that left, or whose handshake failed, is its own trouble."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = _IDLE_SECONDS
    server: _Server

    def _serve(self) -> None:
        # A connection that stays open would hold its thread when the server stops.
        self.close_connection = True
        size = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(size) if size else b""
        headers = {name.lower(): value for name, value in self.headers.items()}
        try:
            response = self.server.owner.answer(Request(self.command, self.path, headers, body))
        except Exception as error:  # noqa: BLE001 - whoever asked is to see it, as no one else looks
            response = Response(500, {"error": {"code": "EmulatorFailed", "message": repr(error)}})
        if response is None:
            return
        content = response.content
        self.send_response(response.status)
        given = {"Content-Type": "application/json", **response.headers}
        for name, value in {**given, "Content-Length": str(len(content)), "Connection": "close"}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = _serve  # noqa: N815 - names that the base looks for

    def date_time_string(self, timestamp: float | None = None) -> str:
        return self.server.owner.date() if timestamp is None else super().date_time_string(timestamp)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: what was asked is in the record."""
