"""The official client, made to renew its credentials. Imported when the first client is made: it is slow to import."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterable
from types import MethodType
from typing import Any, cast

from kubernetes.client import ApiClient, Configuration  # noqa: TID253
from kubernetes.client.exceptions import ApiException  # noqa: TID253

from kpo_multicluster.auth.access import ClusterAccess
from kpo_multicluster.auth.renewing_pool import RenewingPool, TLSFiles, close_descriptors
from kpo_multicluster.errors import ConfigurationError

_SCHEME = "BearerToken"
_AUTHORIZATION = "authorization"
# An empty list would be filled from the environment by the WebSocket library; this name cannot exist (RFC 2606).
_BYPASSED_BY_NO_HOST = "no-host.invalid"


class _Swappable:
    """A method that `kubernetes.stream` replaces on the client for the length of one call.

    As an ordinary attribute the replacement would take the requests of other threads down its WebSocket as well; here
    it is seen only by the thread that made it.
    """

    def __init__(self, method: Callable[..., Any]) -> None:
        self._method = method

    def __get__(self, client: RenewingApiClient | None, owner: type | None = None) -> Any:
        if client is None:
            return self._method
        replacement = getattr(client.swapped, "call", None)
        return MethodType(self._method, client) if replacement is None else replacement

    def __set__(self, client: RenewingApiClient, call: Callable[..., Any]) -> None:
        restored = getattr(call, "__func__", None) is self._method
        client.swapped.call = None if restored else client.websocket_call(call)


class RenewingApiClient(ApiClient):
    """An `ApiClient` for one cluster, with a configuration of its own.

    Closing it releases its connections and the memory its TLS material is kept in.

    Args:
        access: the cluster.

    Raises:
        ConfigurationError: the TLS material or the proxy cannot work.
        CredentialError: the first credential could not be made.
    """

    if hasattr(ApiClient, "request"):  # kubernetes 36
        request = _Swappable(ApiClient.request)
    else:
        call_api = _Swappable(ApiClient.call_api)

    def __init__(self, access: ClusterAccess) -> None:
        self.swapped = threading.local()
        self._access = access
        configuration = Configuration()
        # Each release of the client reads the environment's proxy by rules of its own; `RenewingPool` decides instead.
        configuration.proxy = None
        configuration.host = access.server
        configuration.verify_ssl = access.verify_tls
        configuration.tls_server_name = access.tls_server_name
        super().__init__(configuration)
        self.connections = RenewingPool(access, maxsize=configuration.connection_pool_maxsize)
        self.rest_client.pool_manager = cast(Any, self.connections)
        self._renew_by_hook()
        self._prepare_websockets()

    def close(self) -> None:
        """Closes the connections and releases the memory files. The client cannot be used afterwards."""
        cast(Any, super()).close()
        self.connections.clear()
        # The numbers of closed descriptors are given to other files.
        self.configuration.ssl_ca_cert = self.configuration.cert_file = self.configuration.key_file = None
        self._release()

    def websocket_call(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """What `kubernetes.stream` puts in the place of a request, with one replay of a handshake refused with 401.

        Raises:
            ConfigurationError: its WebSocket would lose the impersonation headers, or cannot use the proxy.
        """
        if self._access.headers:
            raise ConfigurationError(
                f"kubernetes.stream sends no impersonation headers, so the command would run as another user than "
                f"{self._access.source} says. Use a user without as: for exec, attach and port-forward."
            )
        proxy = self.connections.proxy
        if proxy is not None and not proxy.is_plain_http:
            raise ConfigurationError(
                f"kubernetes.stream knows http proxies alone, and {self._access.source} is reached through "
                f"{proxy.address}. Use an http:// proxy for exec, attach and port-forward."
            )
        self._files.renew(self._access, self.connections.token())

        def replayed(*args: Any, **kwargs: Any) -> Any:
            again = False
            while True:
                try:
                    return call(*args, **kwargs)
                except ApiException as error:
                    # Release 36 decodes the body of every failure, and stumbles over None, which would hide the cause.
                    error.body = error.body or cast(Any, b"")
                    if again or not self._authorized_anew(error, (*args, *kwargs.values())):
                        raise
                    again = True

        return replayed

    def _authorized_anew(self, error: ApiException, arguments: Iterable[Any]) -> bool:
        """Renews the credential in a handshake's arguments, if that is why it failed."""
        if not str(error.reason).startswith("Handshake status 401 "):
            return False
        headers = next((value for value in arguments if isinstance(value, dict) and _AUTHORIZATION in value), {})
        token = self.connections.renewed(headers.get(_AUTHORIZATION))
        if token is not None:
            headers[_AUTHORIZATION] = f"Bearer {token.value}"
        return token is not None

    def _renew_by_hook(self) -> None:
        connections = self.connections

        def renew(configuration: Configuration) -> None:
            token = connections.token()
            if token is not None and token.value:
                # Release 36 reads either, and one that is not written would serve its first token for ever.
                configuration.api_key[_SCHEME] = configuration.api_key[_AUTHORIZATION] = token.value

        # The hook is called only for a configuration that already has a key.
        renew(self.configuration)
        self.configuration.api_key_prefix = {_SCHEME: "Bearer", _AUTHORIZATION: "Bearer"}
        self.configuration.refresh_api_key_hook = renew

    def _prepare_websockets(self) -> None:
        self._files = TLSFiles(self._access, self.connections.token())
        self._release = weakref.finalize(self, close_descriptors, self._files.descriptors)
        self.configuration.ssl_ca_cert = self._files.ca
        self.configuration.cert_file = self.configuration.key_file = self._files.certificate
        proxy = self.connections.proxy
        if proxy is not None:
            self.configuration.proxy = proxy.address
            self.configuration.proxy_headers = proxy.headers or None
            self.configuration.no_proxy = _BYPASSED_BY_NO_HOST
