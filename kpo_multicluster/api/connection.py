"""One API server as the calls see it: credentials, TLS, the proxy, and what is tried again.

All that a request, a watch, a log stream and an exec have in common is here: the token asked for before each try, the
one renewal and replay after a 401, the retries within their budget, and the reading of errors.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, TypeVar

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from kpo_multicluster import __version__
from kpo_multicluster.api.address import refuse_clear_text, server_url
from kpo_multicluster.api.faults import LIBRARY_ERRORS, Fault, FaultError, fault_of
from kpo_multicluster.api.retry import Backoff, Clock, RetryPolicy
from kpo_multicluster.api.status import error_of_answer
from kpo_multicluster.api.tunnel import ClusterConnector
from kpo_multicluster.auth.access import ClusterAccess, Token
from kpo_multicluster.auth.proxy import bracketed, proxy_of
from kpo_multicluster.auth.tls import client_identity, ssl_context
from kpo_multicluster.errors import (
    ApiError,
    ConnectError,
    CredentialError,
    KpoMulticlusterError,
    ThrottledError,
    UnauthorizedError,
)

Params = Mapping[str, str | int | bool]
Result = TypeVar("Result")

_RETRIED_STATUSES = (429, 500, 502, 503, 504)
# Below the idle limits of common load balancers, so that they rarely cut a connection that is about to be used.
_KEEPALIVE_SECONDS = 30.0
_ERROR_BODY_SECONDS = 10.0
_SHORTEST_CONNECT_SECONDS = 0.1
# The library rounds timeouts above this up to whole seconds.
_NO_ROUNDING_SECONDS = 86_400.0


@dataclass(frozen=True)
class Call:
    """One call, whatever the number of its tries.

    Attributes:
        method: HTTP method.
        path: from the server's base URL on.
        request: phrase that names the request and the cluster.
        policy: of its retries.
        answer_seconds: how long an answer, or a pause in one, may take; None for no limit. For messages.
        repeatable: whether a try whose outcome is unknown may be followed by another.
    """

    method: str
    path: str
    request: str
    policy: RetryPolicy
    answer_seconds: float | None = None
    repeatable: bool = True


@dataclass(frozen=True)
class Try:
    """What one try of a call is made with.

    Attributes:
        session: the HTTP library's.
        url: the whole of it, without a query.
        connect_seconds: the time there is to connect.
        options: of the library: TLS, and headers that hold the credential.
    """

    session: aiohttp.ClientSession
    url: URL
    connect_seconds: float
    options: Mapping[str, Any] = field(repr=False)

    def timeout(self, *, total: float | None = None, idle: float | None = None) -> aiohttp.ClientTimeout:
        """The library's timeouts, in seconds: of the whole exchange, and of a pause in it."""
        return aiohttp.ClientTimeout(
            total=total, connect=self.connect_seconds, sock_read=idle, ceil_threshold=_NO_ROUNDING_SECONDS
        )


@dataclass(frozen=True)
class _Failure:
    error: KpoMulticlusterError
    transient: bool
    maybe_done: bool
    retry_after_seconds: float = 0.0
    limit_seconds: float | None = None


@dataclass
class _Tries:
    """Those of one call so far; one of them may have been carried out although it got no answer."""

    pauses: Backoff
    maybe_done: bool = False


class Connection:
    """Makes the calls to one API server, on one event loop.

    Args:
        access: the cluster.
        retry: of calls that give no policy of their own.
        connect_timeout_seconds: to open a connection; and, until the server has answered once, for all tries of a call.
        clock: of the retries.

    Raises:
        ConfigurationError: the server's or the proxy's address cannot be used.
    """

    def __init__(
        self, access: ClusterAccess, *, retry: RetryPolicy, connect_timeout_seconds: float, clock: Clock
    ) -> None:
        self.access = access
        self.clock = clock
        self.retry = retry
        self._connect_seconds = connect_timeout_seconds
        self._base = server_url(access)
        self._proxy = proxy_of(access, os.environ)
        refuse_clear_text(access, self._base, self._proxy)
        self._host = f"{bracketed(self._base.host or '')}:{self._base.port}"
        self._opening = asyncio.Lock()
        self._opened: tuple[aiohttp.ClientSession, ClusterConnector] | None = None
        self._tls: tuple[tuple[str | None, str | None], ssl.SSLContext] | None = None
        self._answered = False
        self._acceptances = 0
        self._closed = False

    @property
    def acceptances(self) -> int:
        """How often the server has taken this client's credential."""
        return self._acceptances

    def call(
        self,
        method: str,
        path: str,
        *,
        policy: RetryPolicy | None = None,
        answer_seconds: float | None = None,
        repeatable: bool = True,
    ) -> Call:
        """A call of this server; `Call` says what the arguments mean."""
        return Call(method, path, self._phrase(method, path), policy or self.retry, answer_seconds, repeatable)

    async def run(self, call: Call, attempt: Callable[[Try], Awaitable[Result]]) -> Result:
        """Makes a call: tries until it succeeds, fails for good, or its budget is used up.

        Args:
            call: what is called.
            attempt: makes one try.

        Raises:
            ApiError: the server refused it.
            ConnectError: the server could not be reached or did not answer.
            CredentialError: there is no credential to call it with.
        """
        tries = _Tries(Backoff(call.policy, self.clock))
        try:
            return await self._run(call, attempt, tries)
        except KpoMulticlusterError as error:
            error.in_doubt = tries.maybe_done
            raise

    async def _run(self, call: Call, attempt: Callable[[Try], Awaitable[Result]], tries: _Tries) -> Result:
        pauses, replayed = tries.pauses, False
        while True:
            token = await self._current_token()
            session = await self._open_session()
            tried = Try(session, self._url(call.path), self._connect_limit(pauses), await self._options(token))
            try:
                return await attempt(tried)
            except (ApiError, FaultError, *LIBRARY_ERRORS) as error:
                failure = self._read(error, call, tried, pauses)
            tries.maybe_done = tries.maybe_done or failure.maybe_done
            # Raised out here, the library's error, which holds the request's headers, is not chained to ours.
            if isinstance(failure.error, UnauthorizedError) and token is not None and not replayed:
                await self._replace(token)
                replayed = True
            elif not failure.transient or not await pauses.pause(
                at_least_seconds=failure.retry_after_seconds, limit_seconds=failure.limit_seconds
            ):
                raise failure.error

    async def open(self, call: Call, *, params: Params | None, idle_seconds: float | None) -> aiohttp.ClientResponse:
        """An answer whose body is to be read as it comes; the caller closes it.

        Args:
            call: what is called.
            params: of the query.
            idle_seconds: the longest pause there may be, before the answer and in it; None for no limit.

        Raises:
            KpoMulticlusterError: as `run` does.
        """

        async def attempt(tried: Try) -> aiohttp.ClientResponse:
            # A compressing proxy would hold lines back until a block is full.
            headers = with_headers(tried.options["headers"], {"Accept-Encoding": "identity"})
            return await tried.session.request(
                call.method,
                tried.url,
                params=query(params),
                allow_redirects=False,
                timeout=tried.timeout(idle=idle_seconds),
                **{**tried.options, "headers": headers},
            )

        return await self.run(call, attempt)

    def lost(self, error: BaseException, call: Call, *, tries: str = "") -> ConnectError:
        """What to raise for an error of the library in the middle of an answer."""
        fault = fault_of(
            error, host=self._host, connect_seconds=self._connect_seconds, answer_seconds=call.answer_seconds
        )
        return fault.error(request=call.request, source=self.access.source, via=self._via, tries=tries)

    async def close(self) -> None:
        """Closes every connection; calls under way fail."""
        self._closed = True
        async with self._opening:
            opened, self._opened = self._opened, None
        if opened is not None:
            session, connector = opened
            await session.close()
            await connector.all_closed()

    @property
    def _via(self) -> str:
        return "" if self._proxy is None else str(self._proxy)

    def _phrase(self, method: str, path: str) -> str:
        # Without the query: that of an exec holds the command.
        return f"{method} {self._url(path)} ({self.access.source})"

    def _url(self, path: str) -> URL:
        return URL(f"{str(self._base).rstrip('/')}/{path.lstrip('/')}")

    async def _current_token(self) -> Token | None:
        tokens = self.access.tokens
        if tokens is None:
            return None
        token = tokens.fresh()
        return token if token is not None else await asyncio.to_thread(tokens.current)

    async def _replace(self, refused: Token) -> None:
        if self.access.tokens is not None:
            await asyncio.to_thread(self.access.tokens.replace, refused)

    async def _open_session(self) -> aiohttp.ClientSession:
        async with self._opening:
            if self._closed:
                raise ConnectError(f"The client of {self._base} ({self.access.source}) is closed: make a new one.")
            if self._opened is None:
                self._opened = await self._open()
            return self._opened[0]

    async def _open(self) -> tuple[aiohttp.ClientSession, ClusterConnector]:
        proxy, context = self._proxy, None
        if proxy is not None and proxy.scheme == "https":
            context = await asyncio.to_thread(_proxy_context, self.access.ca_pem)
        connector = ClusterConnector(proxy=proxy, proxy_context=context, keepalive_seconds=_KEEPALIVE_SECONDS)
        # The timeout is what a WebSocket is opened with; other calls bring their own.
        timeout = aiohttp.ClientTimeout(total=None, connect=self._connect_seconds, ceil_threshold=_NO_ROUNDING_SECONDS)
        session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            raise_for_status=self._check,
            trace_configs=[_upgrade_once()],
            timeout=timeout,
            trust_env=False,
        )
        return session, connector

    async def _options(self, token: Token | None) -> dict[str, Any]:
        headers = CIMultiDict(self.access.headers)
        headers.setdefault("Accept", "application/json")
        headers.setdefault("User-Agent", f"kpo-multicluster/{__version__}")
        if token is not None and token.value:
            if not token.value.isprintable() or not token.value.isascii():
                raise CredentialError(
                    f"The token of {self.access.source} holds characters that no HTTP header can carry, such as a "
                    "line break: correct it where it is kept.",
                    final=True,
                )
            headers["Authorization"] = f"Bearer {token.value}"
        if self._base.scheme != "https":
            return {"headers": headers}
        context = await self._context(token)
        return {"headers": headers, "ssl": context, "server_hostname": self.access.tls_server_name}

    async def _context(self, token: Token | None) -> ssl.SSLContext:
        # Connections are pooled by context: a new certificate gets new connections.
        identity = client_identity(self.access, token)
        async with self._opening:
            if self._tls is None or self._tls[0] != identity:
                self._tls = identity, await asyncio.to_thread(ssl_context, self.access, token)
            return self._tls[1]

    def _connect_limit(self, pauses: Backoff) -> float:
        if self._answered:
            return self._connect_seconds
        return max(_SHORTEST_CONNECT_SECONDS, self._connect_seconds - pauses.elapsed_seconds)

    def _read(self, error: BaseException, call: Call, tried: Try, pauses: Backoff) -> _Failure:
        if isinstance(error, ApiError):
            retried = error.status in _RETRIED_STATUSES if call.repeatable else isinstance(error, ThrottledError)
            return _Failure(error, retried, error.status >= 500, error.retry_after_seconds or 0.0)
        fault = fault_of(
            error, host=self._host, connect_seconds=tried.connect_seconds, answer_seconds=call.answer_seconds
        )
        tries = f" (try {pauses.tries} in {pauses.elapsed_seconds:.3g} s)" if pauses.tries > 1 else ""
        return _Failure(
            fault.error(request=call.request, source=self.access.source, via=self._via, tries=tries),
            transient=not self._closed and fault.transient and (call.repeatable or fault.unsent),
            maybe_done=not fault.unsent,
            limit_seconds=None if self._answered else self._connect_seconds,
        )

    async def _check(self, response: aiohttp.ClientResponse) -> None:
        # The library calls this for every answer, those to a WebSocket's upgrade included.
        self._answered = True
        # What is wrong with a server, or stands before it, says nothing of who asks.
        self._acceptances += response.status != 401 and response.status < 500
        if response.status < 300:
            return
        try:
            body = await asyncio.wait_for(response.read(), _ERROR_BODY_SECONDS)
        except LIBRARY_ERRORS:
            response.close()
            body = b""
        credential = response.request_info.headers.get("Authorization", "").rpartition(" ")[2]
        if credential:
            body = body.replace(credential.encode(), b"***")
        if 300 <= response.status < 400 and not body:
            body = b"the server redirects to another address: check that the one given is an API server's"
        raise error_of_answer(
            response.status,
            body,
            request=self._phrase(response.method, response.url.path.removeprefix(self._base.path.rstrip("/"))),
            retry_after=response.headers.get("Retry-After"),
        )


def query(params: Params | None, *more: tuple[str, str]) -> Sequence[tuple[str, str]]:
    """Parameters as a query takes them: booleans as the API server reads them, and `more`, whose names may repeat."""
    given = (params or {}).items()
    return [(name, str(value).lower() if isinstance(value, bool) else str(value)) for name, value in given] + list(more)


def _upgrade_once() -> aiohttp.TraceConfig:
    """Keeps the library from repeating, as it does every GET that was cut off, one that may have started a command."""
    trace = aiohttp.TraceConfig()

    async def begin(_session: object, context: SimpleNamespace, params: aiohttp.TraceRequestStartParams) -> None:
        context.upgrade, context.connected = "Upgrade" in params.headers, False

    async def connect(_session: object, context: SimpleNamespace, _params: object) -> None:
        if context.upgrade and context.connected:
            raise FaultError(Fault("the connection was cut before it was upgraded"))
        context.connected = True

    trace.on_request_start.append(begin)
    trace.on_connection_create_start.append(connect)
    trace.on_connection_reuseconn.append(connect)
    return trace


def _proxy_context(ca_pem: str | None) -> ssl.SSLContext:
    # A proxy's certificate is signed by a CA of this host's or, as kubectl has it, by the cluster's.
    context = ssl.create_default_context()
    if ca_pem is not None:
        context.load_verify_locations(cadata=ca_pem)
    return context


def with_headers(headers: Mapping[str, str], more: Mapping[str, str]) -> CIMultiDict[str]:
    """Headers and more of them; a name may stand there several times, as the groups of an impersonation do."""
    joined = CIMultiDict(headers)
    joined.extend(more)
    return joined
