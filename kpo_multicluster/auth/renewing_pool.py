"""HTTP connections for the official `kubernetes` client, with credentials that renew.

The client's REST layer keeps a `urllib3.PoolManager` and calls its `request` and `clear`. What stands here in its place
brings what that layer cannot express: CAs and keys that are no files, several headers of one name, a client
certificate that changes, and one replay of a request that was refused with 401.
"""

from __future__ import annotations

import base64
import os
import socket
import ssl
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from importlib.util import find_spec
from typing import Any

import urllib3
from urllib3.connection import HTTPConnection

from kpo_multicluster.auth.access import ClusterAccess, Token
from kpo_multicluster.auth.proxy import Proxy, bracketed, proxy_of
from kpo_multicluster.auth.tls import client_identity, memory_file, memory_path, ssl_context
from kpo_multicluster.errors import MissingExtraError

CONNECT_TIMEOUT_SECONDS = 10.0
# As client-go does it: a load balancer that forgot an idle connection says nothing.
_KEEPALIVE_SECONDS = 30
_AUTHORIZATION = "authorization"
# A refused token is looked for among those handed out last; more renewals than this never happen within a request.
_REMEMBERED_TOKENS = 8


class RenewingPool:
    """Connections to one API server.

    Args:
        access: the cluster.
        maxsize: connections kept open at most.

    Raises:
        ConfigurationError: its TLS material or its proxy cannot work.
        CredentialError: the first credential could not be made.
    """

    def __init__(self, access: ClusterAccess, *, maxsize: int) -> None:
        self._access = access
        self._maxsize = maxsize
        self._handed_out: deque[Token] = deque(maxlen=_REMEMBERED_TOKENS)
        self.proxy = PoolProxy.of(access)
        token = self.token()
        # Bound as one value: a reader in another thread sees a certificate and its connections together, or neither.
        self._held = (_certificate(token), self._connections(token))

    @property
    def connection_pool_kw(self) -> dict[str, Any]:
        """The options of new connections, where users of the official client look for them."""
        return self._held[1].connection_pool_kw

    def token(self) -> Token | None:
        """The credential to use now; None when a client certificate alone identifies the caller.

        Raises:
            CredentialError: it could not be made.
        """
        if self._access.tokens is None:
            return None
        return self._remember(self._access.tokens.current())

    def renewed(self, authorization: str | None) -> Token | None:
        """The credential to try again with, after a request with this header was refused; None when there is none.

        A header that did not come from here, as when a caller gave one of its own, is left alone.

        Raises:
            CredentialError: a new one could not be made.
        """
        tokens = self._access.tokens
        given = reversed(tuple(self._handed_out))
        refused = next((token for token in given if _header(token) == authorization), None)
        return None if tokens is None or refused is None else self._remember(tokens.replace(refused))

    def request(
        self, method: str, url: str, *, headers: Mapping[str, str] | None = None, **options: Any
    ) -> urllib3.BaseHTTPResponse:
        """Sends a request; once more with a renewed credential when the answer is 401. Takes what urllib3 takes."""
        if options.get("timeout") is None:
            options["timeout"] = urllib3.Timeout(connect=CONNECT_TIMEOUT_SECONDS, read=None)
        sent = dict(headers or {})
        response = self._pool(self.token()).request(method, url, headers=self._headers(sent), **options)
        if response.status != 401:
            return response
        try:
            token = self.renewed(sent.get(_AUTHORIZATION))
        except BaseException:
            response.close()
            raise
        if token is None:
            return response
        response.drain_conn()
        sent.pop(_AUTHORIZATION, None)
        if token.value:
            sent[_AUTHORIZATION] = f"Bearer {token.value}"
        return self._pool(token).request(method, url, headers=self._headers(sent), **options)

    def clear(self) -> None:
        """Closes the idle connections."""
        self._held[1].clear()

    def _remember(self, token: Token) -> Token:
        # By identity: a renewal may bring the same value again, and is a renewal all the same.
        if not any(given is token for given in tuple(self._handed_out)):
            self._handed_out.append(token)
        return token

    def _headers(self, sent: Mapping[str, str]) -> urllib3.HTTPHeaderDict:
        headers = urllib3.HTTPHeaderDict(sent)
        for name, value in self._access.headers.items():
            # http.client writes Latin-1; the API server reads UTF-8.
            headers.add(name, value.encode().decode("latin-1"))
        return headers

    def _pool(self, token: Token | None) -> urllib3.PoolManager:
        certificate, pool = self._held
        if certificate == _certificate(token):
            return pool
        renewed = self._connections(token)
        self._held = (_certificate(token), renewed)
        pool.clear()
        return renewed

    def _connections(self, token: Token | None) -> urllib3.PoolManager:
        options: dict[str, Any] = {
            "maxsize": self._maxsize,
            "retries": urllib3.Retry(3, connect=0, read=1, other=0),
            "socket_options": [*HTTPConnection.default_socket_options, *_keepalive()],
            "ssl_context": ssl_context(self._access, token),
        }
        if self._access.tls_server_name is not None:
            options["server_hostname"] = self._access.tls_server_name
        return self.proxy.pool(options) if self.proxy is not None else urllib3.PoolManager(**options)


class PoolProxy:
    """The proxy between this process and an API server, as the libraries of the official clients take one.

    Args:
        proxy: what it is.
    """

    def __init__(self, proxy: Proxy) -> None:
        self.is_plain_http = proxy.scheme == "http"
        self.headers: dict[str, str] = {}
        if proxy.username is not None:
            login = f"{proxy.username}:{proxy.password or ''}".encode()
            self.headers = {"proxy-authorization": f"Basic {base64.b64encode(login).decode()}"}
        self.address = f"{proxy.scheme}://{bracketed(proxy.host)}:{proxy.port}"
        self._proxy = proxy

    @classmethod
    def of(cls, access: ClusterAccess) -> PoolProxy | None:
        """The proxy of a cluster: its own, which serves every host, else the environment's unless NO_PROXY names it.

        Raises:
            ConfigurationError: what names the proxy is not the URL of one.
        """
        found = proxy_of(access, os.environ)
        return None if found is None else cls(found)

    def pool(self, options: dict[str, Any]) -> urllib3.PoolManager:
        """Connections through this proxy.

        Raises:
            ConfigurationError: it is a SOCKS proxy and what speaks to one is not installed.
        """
        if not self._proxy.is_socks:
            return urllib3.ProxyManager(self.address, proxy_headers=self.headers, **options)
        if find_spec("socks") is None:
            raise MissingExtraError(f"The official client with the SOCKS proxy of {self._proxy.source}", "socks")
        from urllib3.contrib.socks import SOCKSProxyManager

        # In Go, and so in kubectl, socks5 leaves the server's name to the proxy.
        address = self.address.replace("socks5://", "socks5h://", 1)
        return SOCKSProxyManager(address, self._proxy.username, self._proxy.password, **options)

    def asyncio_connector(self, base: type[Any], *, limit: int) -> Any:
        """Connections of aiohttp through this SOCKS proxy.

        Args:
            base: what else they are to be.
            limit: connections at most.

        Raises:
            ConfigurationError: what speaks to one is not installed.
        """
        if find_spec("aiohttp_socks") is None:
            raise MissingExtraError(f"The asyncio client with the SOCKS proxy of {self._proxy.source}", "socks")
        from aiohttp_socks import ProxyConnector

        kind: Any = type("SocksConnector", (base, ProxyConnector), {})
        proxy = self._proxy
        # As in `pool`: the server's name is left to the proxy.
        return kind(
            host=proxy.host,
            port=proxy.port,
            username=proxy.username,
            password=proxy.password,
            rdns=True,
            limit=limit,
        )


class TLSFiles:
    """TLS material under paths that only this process can open, for the one path of the client that takes no context.

    Args:
        access: the cluster.
        token: the credential in use.

    Attributes:
        ca: path of the CAs; None where there is none.
        certificate: path of the client certificate and its key; None without one.
        descriptors: what they are open under.
    """

    def __init__(self, access: ClusterAccess, token: Token | None) -> None:
        self.descriptors: list[int] = []
        self.ca = ssl.get_default_verify_paths().cafile
        self.certificate: str | None = None
        identity = _identity(access, token)
        # Where there are no such files, plain requests are served all the same.
        with suppress(OSError):
            if access.ca_pem is not None:
                self.ca = memory_path(self._keep(access.ca_pem.encode()))
            if identity is not None:
                self.certificate = memory_path(self._keep(identity))

    def renew(self, access: ClusterAccess, token: Token | None) -> None:
        """Puts the current client certificate under the same path."""
        identity = _identity(access, token)
        if identity is None or self.certificate is None or _certificate(token) is None:
            return
        descriptor = memory_file(identity)
        try:
            os.dup2(descriptor, self.descriptors[-1], inheritable=False)
        finally:
            os.close(descriptor)

    def _keep(self, data: bytes) -> int:
        self.descriptors.append(memory_file(data))
        return self.descriptors[-1]


def close_descriptors(descriptors: list[int]) -> None:
    """Closes each once, however often it is called."""
    while descriptors:
        os.close(descriptors.pop())


def _certificate(token: Token | None) -> str | None:
    return None if token is None else token.client_certificate


def _identity(access: ClusterAccess, token: Token | None) -> bytes | None:
    certificate, key = client_identity(access, token)
    return None if certificate is None else f"{certificate}\n{key}\n".encode()


def _header(token: Token) -> str | None:
    return f"Bearer {token.value}" if token.value else None


def _keepalive() -> list[tuple[int, int, int]]:
    options = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
    for name in ("TCP_KEEPIDLE", "TCP_KEEPINTVL"):
        if hasattr(socket, name):
            options.append((socket.IPPROTO_TCP, getattr(socket, name), _KEEPALIVE_SECONDS))
    return options
