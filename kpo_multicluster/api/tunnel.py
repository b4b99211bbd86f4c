"""Connections to the API server: keep-alive on each, and a tunnel through the proxy where there is one.

The HTTP library tunnels through http proxies itself, but greets an https proxy with the cluster's own CA and client
certificate, and its SOCKS companion ignores `tls-server-name`. So one place opens all tunnels: CONNECT (RFC 9110,
9.3.6) or SOCKS5 (RFC 1928), then TLS to the server inside.
"""

from __future__ import annotations

import asyncio
import base64
import socket
import ssl
import weakref
from collections.abc import Callable
from typing import Any, cast

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_proto import ResponseHandler

from kpo_multicluster.api.faults import FaultError, fault_of, proxy_fault, system_text
from kpo_multicluster.api.relay import relay_socket
from kpo_multicluster.auth.proxy import Proxy, bracketed
from kpo_multicluster.errors import MissingExtraError

_HEAD_LIMIT = 64 * 1024
# Before the next address of a name is tried beside the last (RFC 8305); as the library does it for servers.
_HAPPY_EYEBALLS_SECONDS = 0.25
# A peer that vanished is noticed after about a minute, however silent the stream is.
_KEEP_ALIVE_OPTIONS = (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3))
# A peer that does not take the end of a connection is left after this.
_GOODBYE_SECONDS = 0.5
# SOCKS replies that another try cannot change: forbidden by rule, command or address type not supported.
_FINAL_SOCKS_REPLIES = (2, 7, 8)

Opened = tuple[asyncio.Transport, ResponseHandler]
Factory = Callable[[], ResponseHandler]


class ClusterConnector(aiohttp.TCPConnector):
    """Opens the connections of one client.

    Args:
        proxy: to go through; None for direct connections.
        proxy_context: TLS for the connection to an https proxy.
        keepalive_seconds: how long an idle connection is kept for the next request.
    """

    def __init__(self, *, proxy: Proxy | None, proxy_context: ssl.SSLContext | None, keepalive_seconds: float) -> None:
        # Logs and watches hold a connection each: a limit would make requests wait for a stream to end.
        super().__init__(
            limit=0,
            keepalive_timeout=keepalive_seconds,
            resolver=_Unresolved() if proxy is not None else aiohttp.ThreadedResolver(),
        )
        self._proxy = proxy
        self._proxy_context = proxy_context
        self._relays: set[asyncio.Future[None]] = set()
        self._connections: weakref.WeakKeyDictionary[ResponseHandler, asyncio.Transport] = weakref.WeakKeyDictionary()

    async def all_closed(self) -> None:
        """Waits until every connection is closed, and what carried it; call it after `close`.

        The library waits for those it keeps for further requests, not for one whose stream was ended in its middle: it
        still has to say goodbye to its peer, and one that does not answer is not waited for.
        """
        closing = {protocol.closed: transport for protocol, transport in self._connections.items()}
        waited_for = {closed for closed in closing if closed is not None}
        if waited_for:
            _, late = await asyncio.wait(waited_for, timeout=_GOODBYE_SECONDS)
            for closed in late:
                closing[closed].abort()
            # Taken note of, or the loop would report each connection that its peer reset as an error nobody saw.
            await asyncio.gather(*waited_for, return_exceptions=True)
        if self._relays:
            await asyncio.wait(self._relays)

    async def _wrap_create_connection(self, *args: Any, **options: Any) -> Opened:
        # The library's one step between a resolved address and an open connection, TLS included.
        if self._proxy is None:
            transport, protocol = await super()._wrap_create_connection(*args, **options)
            _keep_alive(transport.get_extra_info("socket"))
        else:
            transport, protocol = await self._tunnelled(self._proxy, args[0], **options)
        self._connections[protocol] = transport
        return transport, protocol

    async def _tunnelled(self, proxy: Proxy, factory: Factory, *, req: aiohttp.ClientRequest, **options: Any) -> Opened:
        host, port = options["addr_infos"][0][4][:2]
        context, name = options.get("ssl"), options.get("server_hostname")
        try:
            if proxy.is_socks:
                sock = await _socks_socket(proxy, host, port)
                return await _over_socket(sock, factory, context, name)
            transport = await _connect_through(proxy, self._proxy_context, host, port)
            if proxy.scheme == "https" and context is not None:
                sock = await relay_socket(transport, self._relays)
                return await _over_socket(sock, factory, context, name)
            return await _over_transport(transport, factory, context, name)
        # The library tries again by itself what it does not know for a failure to connect.
        except ssl.SSLCertVerificationError as error:
            raise aiohttp.ClientConnectorCertificateError(req.connection_key, error) from error
        except ssl.SSLError as error:
            raise aiohttp.ClientConnectorSSLError(req.connection_key, error) from error
        except OSError as error:
            raise aiohttp.ClientConnectorError(req.connection_key, error) from error


class _Unresolved(AbstractResolver):
    """Leaves names to the proxy: this host may know none of the cluster's."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [ResolveResult(hostname=host, host=host, port=port, family=family, proto=0, flags=0)]

    async def close(self) -> None:
        pass


class _ProxyAnswer(asyncio.Protocol):
    """Collects the head of the answer to CONNECT."""

    def __init__(self) -> None:
        self.head: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._received = bytearray()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        end = self._received.find(b"\r\n\r\n")
        if end < 0 and len(self._received) < _HEAD_LIMIT:
            return
        if self._transport is not None:
            self._transport.pause_reading()
        if not self.head.done():
            self.head.set_result(bytes(self._received[: max(end, 0)]))

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.head.done():
            self.head.set_exception(exc if isinstance(exc, OSError) else ConnectionResetError("closed"))


async def _connect_through(proxy: Proxy, context: ssl.SSLContext | None, host: str, port: int) -> asyncio.Transport:
    """A transport to the server through an HTTP proxy; nothing of the server's has been read from it."""
    transport, answer = await _reach_proxy(proxy, context)
    try:
        target = f"{bracketed(host)}:{port}"
        lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}"]
        if proxy.username is not None:
            login = f"{proxy.username}:{proxy.password or ''}".encode()
            lines.append(f"Proxy-Authorization: Basic {base64.b64encode(login).decode()}")
        transport.write("\r\n".join([*lines, "", ""]).encode())
        try:
            head = await answer.head
        except OSError as error:
            raise _lost(proxy, error) from None
        _check_answer(head, proxy, target)
    except BaseException:
        transport.abort()
        raise
    return transport


async def _reach_proxy(proxy: Proxy, context: ssl.SSLContext | None) -> tuple[asyncio.Transport, _ProxyAnswer]:
    loop = asyncio.get_running_loop()
    try:
        transport, answer = await loop.create_connection(
            _ProxyAnswer,
            proxy.host,
            proxy.port,
            ssl=context if proxy.scheme == "https" else None,
            happy_eyeballs_delay=_HAPPY_EYEBALLS_SECONDS,
        )
    except ssl.SSLCertVerificationError as error:
        raise proxy_fault(
            f"the certificate of {proxy} is refused: {error.verify_message.rstrip('.')}",
            "Add the proxy's CA to this host's certificates (SSL_CERT_FILE names another file of them)",
            transient=False,
        ) from None
    except OSError as error:
        raise _unreachable(proxy, error) from None
    _keep_alive(transport.get_extra_info("socket"))
    return transport, answer


def _check_answer(head: bytes, proxy: Proxy, target: str) -> None:
    version, _, rest = head.partition(b"\r\n")[0].decode("latin-1").partition(" ")
    status, _, phrase = rest.partition(" ")
    if not version.startswith("HTTP/") or not status.isdigit():
        raise proxy_fault(
            f"{proxy} does not answer as an HTTP proxy", "Check the proxy's scheme, host and port", transient=False
        )
    if status == "407":
        given = "refuses the credentials it was given" if proxy.username is not None else "asks for credentials"
        raise proxy_fault(
            f"{proxy} {given} (407)",
            "Put a user name and password that it accepts into the proxy's URL",
            transient=False,
        )
    if not status.startswith("2"):
        raise proxy_fault(
            f"{proxy} refused to connect to {target}: {status} {phrase.strip()[:100]}".rstrip(),
            "See the proxy's rules and log, or name the server in NO_PROXY to reach it directly",
            transient=status.startswith("5"),
        )


async def _socks_socket(proxy: Proxy, host: str, port: int) -> socket.socket:
    try:
        import python_socks
        from python_socks.async_.asyncio import Proxy as SocksProxy
    except ImportError:
        raise MissingExtraError(f"A {proxy.scheme} proxy (from {proxy.source})", "socks") from None
    connector = SocksProxy(
        python_socks.ProxyType.SOCKS5, proxy.host, proxy.port, proxy.username, proxy.password, rdns=True
    )
    try:
        # The connector's caller bounds the time.
        sock = await connector.connect(host, port, timeout=float("inf"))
    except python_socks.ProxyConnectionError as error:
        raise _unreachable(proxy, error) from None
    except python_socks.ProxyError as error:
        raise proxy_fault(
            f"{proxy} refused to connect to {bracketed(host)}:{port}: {error}",
            "See the proxy's rules and log, and check the user name and password in its URL",
            transient=_may_pass(error.error_code, str(error)),
        ) from None
    except OSError as error:
        raise _lost(proxy, error) from None
    _keep_alive(sock)
    return sock


def _may_pass(reply: int | None, text: str) -> bool:
    # Without a reply code the login was refused, or it is no SOCKS proxy, unless it was cut off.
    return "closed" in text if reply is None else reply not in _FINAL_SOCKS_REPLIES


async def _over_socket(
    sock: socket.socket, factory: Factory, context: ssl.SSLContext | None, name: str | None
) -> Opened:
    loop = asyncio.get_running_loop()
    try:
        return await loop.create_connection(factory, sock=sock, ssl=context, server_hostname=name)
    except BaseException:
        sock.close()
        raise


async def _over_transport(
    transport: asyncio.Transport, factory: Factory, context: ssl.SSLContext | None, name: str | None
) -> Opened:
    protocol = factory()
    if context is None:
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        transport.resume_reading()
        return transport, protocol
    try:
        secured = await asyncio.get_running_loop().start_tls(transport, protocol, context, server_hostname=name)
    except BaseException:
        transport.abort()
        raise
    if secured is None:
        raise ConnectionResetError("closed")
    protocol.connection_made(secured)
    return secured, protocol


def _unreachable(proxy: Proxy, error: OSError) -> FaultError:
    if isinstance(error, ssl.SSLError):
        fault = fault_of(error, host=f"{proxy}", connect_seconds=0.0, answer_seconds=None)
        return proxy_fault(fault.what, "Check the proxy's scheme and port", transient=fault.transient)
    return proxy_fault(
        f"{proxy} cannot be connected to: {system_text(error)}", "Check the proxy's host and port", transient=True
    )


def _lost(proxy: Proxy, error: OSError) -> FaultError:
    return proxy_fault(
        f"{proxy} closed the connection without an answer ({system_text(error)})",
        "Check that a proxy of this scheme listens there",
        transient=True,
    )


def _keep_alive(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _KEEP_ALIVE_OPTIONS:
        if hasattr(socket, option):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
