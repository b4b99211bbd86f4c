"""What went wrong between this process and the API server, in words.

The HTTP library's errors carry request headers and connection keys; none of them leaves this package. Each is read
here into a `Fault`: what happened, whether it may pass, and what to do about it.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass

import aiohttp

from kpo_multicluster.errors import ConnectError, ProxyError, TLSError

# OpenSSL's codes of X509_verify_cert.
_EXPIRED_CODES = (9, 10)
_WRONG_NAME_CODES = (62, 64)
# Alerts of a server that misses, or does not believe, a client certificate; in the names that OpenSSL gives them.
_CLIENT_ALERTS = ("CERTIFICATE", "UNKNOWN_CA", "ACCESS_DENIED", "HANDSHAKE_FAILURE")

_CHECK_ADDRESS = (
    "Check the server's address in {source}, and that a firewall, VPN or proxy setting lets this host reach it"
)
_COMES_BACK = "If it does not pass, look for what closes the connection: the server, a load balancer, or a proxy"

LIBRARY_ERRORS = (aiohttp.ClientError, asyncio.TimeoutError, OSError)
"""All that the HTTP library raises when a connection fails."""


@dataclass(frozen=True)
class Fault:
    """One failure of the transport.

    Attributes:
        what: happened, without a full stop.
        next_step: for the reader; `{source}` stands for where the cluster comes from.
        kind: of error to raise.
        transient: whether the same try may succeed later.
        unsent: whether the server cannot have seen the request.
    """

    what: str
    next_step: str = _COMES_BACK
    kind: type[ConnectError] = ConnectError
    transient: bool = True
    unsent: bool = False

    def error(self, *, request: str, source: str, via: str = "", tries: str = "") -> ConnectError:
        """The error to raise.

        Args:
            request: phrase that names the request and the cluster.
            source: where the cluster comes from.
            via: the proxy in between, if there is one.
            tries: how often it was tried, if more than once.
        """
        through = f", through {via}" if via else ""
        return self.kind(f"{request}: {self.what}{through}{tries}. {self.next_step.format(source=source)}.")


class FaultError(Exception):
    """Carries a fault that was understood where it happened up through the HTTP library."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.what)
        self.fault = fault


async def next_part(response: aiohttp.ClientResponse) -> bytes:
    """The next part of an answer as it arrives, empty at its end.

    Raises:
        FaultError: the client was closed meanwhile.
        Exception: one of `LIBRARY_ERRORS`.
    """
    try:
        return await response.content.readany()
    except RuntimeError:
        raise FaultError(Fault("the client was closed in the middle of the answer")) from None


def fault_of(error: BaseException, *, host: str, connect_seconds: float, answer_seconds: float | None) -> Fault:
    """Reads an error.

    Args:
        error: as caught; one of `FaultError` and `LIBRARY_ERRORS`.
        host: of the server, with its port.
        connect_seconds: the time there was to connect.
        answer_seconds: the time there was to answer, or between two parts of an answer.
    """
    if isinstance(error, FaultError):
        return error.fault
    tls = next((cause for cause in _causes(error) if isinstance(cause, ssl.SSLError)), None)
    # A handshake that is cut short says nothing about certificates: the server, or what stands before it, restarts.
    if tls is not None and not isinstance(tls, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return tls_fault(tls, host)
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return Fault(
            f"{host} could not be connected to within {round(connect_seconds, 1):g} s", _CHECK_ADDRESS, unsent=True
        )
    if isinstance(error, asyncio.TimeoutError) and getattr(error, "errno", None) is None:
        waited = "" if answer_seconds is None else f" within {answer_seconds:.3g} s"
        return Fault(f"{host} did not answer{waited}", "If it does not pass, see whether the API server is overloaded")
    if isinstance(error, aiohttp.ClientPayloadError):
        return Fault(f"the connection to {host} was cut in the middle of the answer")
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return Fault(f"{host} closed the connection without an answer")
    if isinstance(error, aiohttp.ClientResponseError):
        return Fault(
            f"{host} does not speak HTTP as it should ({error.message})",
            "Check that the server's address in {source} is that of an API server",
            transient=False,
        )
    return _system_fault(error, host)


def tls_fault(error: ssl.SSLError, host: str) -> Fault:
    """Why the server and this process could not agree on TLS."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return Fault(
            f"the certificate of {host} is refused: {error.verify_message.rstrip('.')}",
            _certificate_step(error.verify_code),
            TLSError,
            transient=False,
            unsent=True,
        )
    reason, refused = (error.reason or "").upper() or str(error).upper(), True
    words = (error.reason or "failure").lower().replace("_", " ")
    if "WRONG_VERSION_NUMBER" in reason or "RECORD_LAYER" in reason or "HTTP_REQUEST" in reason:
        step = "Check the scheme and port of the server in {source}: what listens there seems not to speak TLS"
    elif any(alert in reason for alert in _CLIENT_ALERTS):
        step = (
            "The server refused this client: check the client certificate and key in {source}, whether they have "
            "expired, and that the server trusts their CA"
        )
    else:
        step, refused = "Check the server's address and certificates in {source}", False
    return Fault(f"the TLS handshake with {host} failed ({words})", step, TLSError, transient=False, unsent=refused)


def proxy_fault(what: str, next_step: str, *, transient: bool) -> FaultError:
    """A fault of the proxy in between."""
    return FaultError(Fault(what, next_step, ProxyError, transient=transient, unsent=True))


def system_text(error: OSError) -> str:
    """What the operating system says, without the library's decoration."""
    if isinstance(error, socket.gaierror):
        return str(error.strerror or error)
    if error.errno and error.errno > 0:
        return os.strerror(error.errno).lower()
    return str(error.strerror or error) or type(error).__name__


def _system_fault(error: BaseException, host: str) -> Fault:
    resolving = next((cause for cause in _causes(error) if isinstance(cause, socket.gaierror)), None)
    if resolving is not None or isinstance(error, aiohttp.ClientConnectorDNSError):
        text = system_text(resolving) if resolving is not None else "name resolution failed"
        return Fault(
            f"the name {host.rpartition(':')[0]} cannot be resolved ({text})",
            "Check the server's address in {source}, and whether this host needs a VPN or another DNS to know the name",
            unsent=True,
        )
    cause = next((cause for cause in _causes(error) if isinstance(cause, OSError) and cause.errno), None)
    text = system_text(cause) if cause is not None else "closed without a reason"
    if isinstance(error, aiohttp.ClientConnectorError):
        return Fault(f"{host} cannot be connected to: {text}", _CHECK_ADDRESS, unsent=True)
    return Fault(f"the connection to {host} was lost: {text}")


def _certificate_step(code: int) -> str:
    if code in _EXPIRED_CODES:
        return "Renew the server's certificate, and check this host's clock"
    if code in _WRONG_NAME_CODES:
        return (
            "Use an address in {source} that the certificate names, or set tls-server-name there to a name that it has"
        )
    return (
        "Check the CA of {source}: it is not the one that signed this certificate. A proxy that opens TLS connections "
        "looks the same"
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    found: BaseException | None = error
    while found is not None and id(found) not in seen:
        seen.add(id(found))
        # The library's wrappers pose as what they wrap, without its attributes.
        if not isinstance(found, aiohttp.ClientConnectorError):
            yield found
        inner = getattr(found, "os_error", None)
        found = inner if isinstance(inner, BaseException) else found.__cause__ or found.__context__
