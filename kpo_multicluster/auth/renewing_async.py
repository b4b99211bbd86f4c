"""The official asyncio client, made to renew its credentials. Imported when the first client is made.

Its REST layer keeps an `aiohttp.ClientSession` and calls its `request` and `ws_connect`. What stands here in its place
decides on each request's credential, TLS and proxy, and replays once what was refused with 401.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Coroutine, Generator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, cast
from weakref import WeakKeyDictionary

import aiohttp
from kubernetes_asyncio.client import ApiClient, Configuration  # noqa: TID253
from kubernetes_asyncio.client.exceptions import ApiException  # noqa: TID253
from kubernetes_asyncio.stream import WsApiClient  # noqa: TID253
from multidict import CIMultiDict

from kpo_multicluster.auth.access import ClusterAccess, Token
from kpo_multicluster.auth.renewing_pool import CONNECT_TIMEOUT_SECONDS, PoolProxy
from kpo_multicluster.auth.tls import client_identity, ssl_context
from kpo_multicluster.errors import ConfigurationError

T = TypeVar("T")

_AUTHORIZATION = "Authorization"
# An object of the largest size that etcd takes arrives in one line of a watch.
_READ_BUFFER_BYTES = 2 * 1024 * 1024
_GOODBYE_SECONDS = 0.5


async def make_client(access: ClusterAccess, *, websockets: bool) -> ApiClient:
    """A client for one cluster, with a configuration of its own, on the running loop.

    Raises:
        ConfigurationError: the TLS material or the proxy cannot work.
        CredentialError: the first credential could not be made.
    """
    configuration = Configuration()
    configuration.host = access.server
    configuration.verify_ssl = access.verify_tls
    configuration.tls_server_name = access.tls_server_name
    # Each release of the client reads the environment's proxy by rules of its own; `RenewingSession` decides instead.
    configuration.proxy = None
    session = RenewingSession(access, maxsize=configuration.connection_pool_maxsize)
    try:
        await session.prepare()
        client = (WsApiClient if websockets else ApiClient)(configuration)
    except BaseException:
        await session.close()
        raise
    await client.rest_client.pool_manager.close()
    client.rest_client.pool_manager = cast(Any, session)
    return client


class RenewingSession:
    """Connections to one API server, from one event loop.

    Args:
        access: the cluster.
        maxsize: connections at most.

    Raises:
        ConfigurationError: its proxy cannot work.
    """

    def __init__(self, access: ClusterAccess, *, maxsize: int) -> None:
        self._access = access
        self._proxy = _proxy(access)
        self._contexts: tuple[tuple[str | None, str | None], ssl.SSLContext] | None = None
        self._connector = _connector(self._proxy, maxsize)
        self._session = aiohttp.ClientSession(
            connector=self._connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            read_bufsize=_READ_BUFFER_BYTES,
        )

    async def prepare(self) -> None:
        """Makes the first credential.

        Raises:
            ConfigurationError: the TLS material cannot work.
            CredentialError: it could not be made.
        """
        await self._context(await self._current())

    async def request(
        self, *, method: str, url: str, headers: Mapping[str, str], timeout: aiohttp.ClientTimeout, **options: Any
    ) -> aiohttp.ClientResponse:
        """Sends a request; once more with a renewed credential when the answer is 401. Takes what aiohttp takes."""
        within = _connecting(timeout)

        async def send(**more: Any) -> aiohttp.ClientResponse:
            return await self._session.request(method, url, timeout=within, allow_redirects=False, **options, **more)

        response, token = await self._sent(send, headers)
        # A form is used up by being sent.
        if response.status != 401 or token is None or isinstance(options.get("data"), aiohttp.FormData):
            return response
        response.close()
        response, _ = await self._sent(send, headers, refused=token)
        return response

    def ws_connect(self, url: str, *, headers: Mapping[str, str], **options: Any) -> WebSocketOpening:
        """Opens a WebSocket, likewise."""
        if self._access.tls_server_name is not None:
            options["server_hostname"] = self._access.tls_server_name

        async def send(**more: Any) -> Any:
            try:
                return await self._session.ws_connect(url, **options, **more)
            except aiohttp.WSServerHandshakeError as error:
                # The library's error holds the request's headers.
                return _Refusal(error.status, error.message)

        async def opened() -> Any:
            answer, token = await self._sent(send, headers)
            if isinstance(answer, _Refusal) and answer.status == 401 and token is not None:
                answer, _ = await self._sent(send, headers, refused=token)
            if isinstance(answer, _Refusal):
                error = ApiException(status=answer.status, reason=f"Handshake status {answer.status} {answer.message}")
                # The client decodes the body of every failure, and stumbles over None, which would hide the cause.
                error.body = b""
                raise error
            return answer

        return WebSocketOpening(opened)

    async def close(self) -> None:
        """Closes the connections; returns when they are closed."""
        await self._session.close()
        await self._connector.all_closed()

    async def _sent(
        self, send: Callable[..., Awaitable[T]], headers: Mapping[str, str], *, refused: Token | None = None
    ) -> tuple[T, Token | None]:
        """What came of a request, and the credential it went out with, if that is one of ours."""
        sent = CIMultiDict(headers)
        own = _AUTHORIZATION in sent
        token = await (self._current() if refused is None else self._replaced(refused))
        if token is not None and token.value and not own:
            sent[_AUTHORIZATION] = f"Bearer {token.value}"
        sent.extend(self._access.headers)
        options: dict[str, Any] = {"headers": sent, "ssl": await self._context(token)}
        if self._proxy is not None and self._proxy.is_plain_http:
            options.update(proxy=self._proxy.address, proxy_headers=self._proxy.headers or None)
        return await send(**options), None if own else token

    async def _current(self) -> Token | None:
        tokens = self._access.tokens
        if tokens is None:
            return None
        token = tokens.fresh()
        return token if token is not None else await asyncio.to_thread(tokens.current)

    async def _replaced(self, refused: Token) -> Token | None:
        tokens = self._access.tokens
        return None if tokens is None else await asyncio.to_thread(tokens.replace, refused)

    async def _context(self, token: Token | None) -> ssl.SSLContext:
        # Connections are pooled by context: a new certificate gets new connections.
        identity = client_identity(self._access, token)
        if self._contexts is None or self._contexts[0] != identity:
            self._contexts = identity, await asyncio.to_thread(ssl_context, self._access, token)
        return self._contexts[1]


@dataclass(frozen=True)
class _Refusal:
    status: int
    message: str


class WebSocketOpening:
    """A WebSocket that is opened when it is awaited, or entered as a context, which closes it.

    Args:
        connect: opens it.
    """

    def __init__(self, connect: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        self._connect = connect
        self._opened: Any = None

    def __await__(self) -> Generator[Any, None, Any]:
        return self._connect().__await__()

    async def __aenter__(self) -> Any:
        self._opened = await self._connect()
        return self._opened

    async def __aexit__(self, *_: object) -> None:
        if self._opened is not None:
            await self._opened.close()


def _proxy(access: ClusterAccess) -> PoolProxy | None:
    proxy = PoolProxy.of(access)
    if proxy is not None and proxy.address.startswith("https:"):
        raise ConfigurationError(
            f"The asyncio client knows http and SOCKS proxies, and {access.source} is reached through {proxy.address}. "
            "Use an http:// proxy, or api_client()."
        )
    return proxy


class _Connector(aiohttp.TCPConnector):
    """Opens connections, and can wait for the end of each.

    The library waits for those it keeps for further requests, not for one whose stream was ended in its middle: that
    one still has to say goodbye to its peer.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._opened: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()

    async def all_closed(self) -> None:
        """Waits until every connection is closed; call it after `close`."""
        closing = {protocol.closed: transport for protocol, transport in self._opened.items()}
        waited_for = {closed for closed in closing if closed is not None}
        if not waited_for:
            return
        _, late = await asyncio.wait(waited_for, timeout=_GOODBYE_SECONDS)
        for closed in late:
            closing[closed].abort()
        # Taken note of, or the loop would report each connection that its peer reset as an error nobody saw.
        await asyncio.gather(*waited_for, return_exceptions=True)

    async def _wrap_create_connection(self, *args: Any, **options: Any) -> Any:
        transport, protocol = await super()._wrap_create_connection(*args, **options)
        self._opened[protocol] = transport
        return transport, protocol

    async def _start_tls_connection(self, underlying_transport: Any, *args: Any, **options: Any) -> Any:
        transport, protocol = await super()._start_tls_connection(underlying_transport, *args, **options)
        # What spoke to the proxy hears no more of the connection.
        for spoken in [kept for kept, carried in self._opened.items() if carried is underlying_transport]:
            del self._opened[spoken]
        self._opened[protocol] = transport
        return transport, protocol


def _connector(proxy: PoolProxy | None, maxsize: int) -> _Connector:
    if proxy is None or proxy.is_plain_http:
        return _Connector(limit=maxsize)
    connector: _Connector = proxy.asyncio_connector(_Connector, limit=maxsize)
    return connector


def _connecting(timeout: aiohttp.ClientTimeout) -> aiohttp.ClientTimeout:
    """The caller's timeout, with one to connect where it has none."""
    if timeout.total is not None or timeout.connect is not None or timeout.sock_connect is not None:
        return timeout
    return aiohttp.ClientTimeout(sock_connect=CONNECT_TIMEOUT_SECONDS, sock_read=timeout.sock_read)
