"""From this host to the API server: its name, its port, its certificate."""

from __future__ import annotations

import os
import socket
import ssl
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

from kpo_multicluster.api.client import NO_RETRY, ApiClient
from kpo_multicluster.api.faults import system_text, tls_fault
from kpo_multicluster.auth.access import ClusterAccess
from kpo_multicluster.auth.diagnose import explain_refusal
from kpo_multicluster.auth.proxy import Proxy, bracketed, proxy_of
from kpo_multicluster.auth.tls import ssl_context
from kpo_multicluster.cluster import ClusterRef
from kpo_multicluster.doctor.report import Outcome, Step
from kpo_multicluster.errors import ApiError, ConnectError, TLSError

_CONNECT_SECONDS = 4.0
# A certificate that ends sooner is worth a warning.
_SOON_SECONDS = 7 * 86_400.0


@dataclass(frozen=True)
class Target:
    """What is to be connected to: the API server, or the proxy before it.

    Attributes:
        host: name or address.
        port: TCP port.
        proxy: None for the server itself.
    """

    host: str
    port: int
    proxy: Proxy | None = None

    @classmethod
    def of(cls, access: ClusterAccess) -> Target:
        """What leads to a cluster.

        Raises:
            ConfigurationError: what names the proxy is no proxy.
        """
        parts = urlsplit(access.server)
        proxy = proxy_of(access, os.environ)
        if proxy is not None:
            return cls(proxy.host, proxy.port, proxy)
        return cls(parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80))

    @property
    def address(self) -> str:
        """Host and port."""
        return f"{bracketed(self.host)}:{self.port}"

    def __str__(self) -> str:
        return self.address if self.proxy is None else str(self.proxy)


def endpoint(ref: ClusterRef, access: ClusterAccess, target: Target) -> Step:
    """Whether the name is known and the port is open."""
    try:
        found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    except OSError as error:
        fault = f"The name {target.host} of {target} cannot be resolved ({system_text(error)})."
        check = (
            f"Check the address in {access.source}, and whether this host needs a VPN or another DNS to know the name."
        )
        return _unreached(ref, access, fault, check)
    addresses = list(dict.fromkeys(str(info[4][0]) for info in found))
    refusals: list[str] = []
    for address in addresses:
        began = time.monotonic()
        try:
            socket.create_connection((address, target.port), _CONNECT_SECONDS).close()
        except OSError as error:
            said = "no answer" if isinstance(error, socket.timeout) else system_text(error)
            refusals.append(f"{address}: {said}")
            continue
        milliseconds = (time.monotonic() - began) * 1000
        resolved = "" if address == target.host else f" ({address})"
        behind = f", through which {access.server} is reached" if target.proxy is not None else ""
        return Step("endpoint", Outcome.OK, f"{target}{resolved} takes connections{behind}: {milliseconds:.0f} ms.")
    fault = f"No connection to {target} ({'; '.join(refusals)})."
    check = f"Check the address in {access.source}, and that a firewall, VPN or proxy setting lets this host reach it."
    return _unreached(ref, access, fault, check)


def _unreached(ref: ClusterRef, access: ClusterAccess, fault: str, check: str) -> Step:
    known = explain_refusal(ref, access, ConnectError(fault))
    return Step("endpoint", Outcome.FAILED, fault, "\n".join(known) or check)


def tls(ref: ClusterRef, access: ClusterAccess, target: Target) -> Step:
    """Whether the server's certificate is one that is trusted; there is no proxy in between."""
    if access.server.startswith("http:"):
        return Step("tls", Outcome.OK, "None: plain http, which stays on this host.")
    context = ssl_context(access, access.tokens.fresh() if access.tokens is not None else None)
    name = access.tls_server_name or target.host
    try:
        with (
            socket.create_connection((target.host, target.port), _CONNECT_SECONDS) as connection,
            context.wrap_socket(connection, server_hostname=name) as wrapped,
        ):
            version, certificate = wrapped.version(), wrapped.getpeercert() or {}
    except ssl.SSLError as error:
        fault = tls_fault(error, target.address)
        text = f"{fault.what[:1].upper()}{fault.what[1:]}."
        known = explain_refusal(ref, access, TLSError(text))
        return Step(
            "tls", Outcome.FAILED, text, "\n".join([f"{fault.next_step.format(source=access.source)}.", *known])
        )
    except OSError as error:
        silent = isinstance(error, socket.timeout)
        ends = "says nothing in the handshake" if silent else f"ends them in the handshake ({system_text(error)})"
        text = f"{target.address} takes connections, but {ends}."
        step = "Look at what stands between this host and the server: a load balancer, a proxy, or a firewall."
        return Step("tls", Outcome.FAILED, text, step)
    return _trusted(access, version or "TLS", certificate)


def _trusted(access: ClusterAccess, version: str, certificate: object) -> Step:
    if not access.verify_tls:
        return Step(
            "tls",
            Outcome.WARNING,
            f"{version}; the server's certificate is not verified, as {access.source} says.",
            "Anyone in between can read the credentials: give the cluster's CA, and verify again.",
        )
    fields = certificate if isinstance(certificate, dict) else {}
    subject, issuer = _name(fields.get("subject", ())), _name(fields.get("issuer", ()))
    ends = ssl.cert_time_to_seconds(fields["notAfter"]) if "notAfter" in fields else None
    until = f", until {fields['notAfter']}" if ends is not None else ""
    found = f"{version}; the certificate of {subject or 'no name'}, issued by {issuer or 'no name'}, is trusted{until}."
    if ends is not None and ends - time.time() < _SOON_SECONDS:
        return Step("tls", Outcome.WARNING, found, "It ends within a week: renew it.")
    return Step("tls", Outcome.OK, found)


async def through_proxy(ref: ClusterRef, access: ClusterAccess, reached: Step) -> tuple[Step, Step]:
    """The steps `endpoint` and `tls` of a server behind a proxy, which has to be asked for a tunnel.

    Args:
        ref: of the cluster.
        access: to it.
        reached: the step `endpoint`, of the proxy itself.
    """
    try:
        async with ApiClient(access, retry=NO_RETRY, connect_timeout_seconds=_CONNECT_SECONDS) as api:
            await api.request("GET", "/version")
    except TLSError as error:
        known = explain_refusal(ref, access, error)
        return reached, Step("tls", Outcome.FAILED, str(error), "\n".join(known))
    except ConnectError as error:
        known = explain_refusal(ref, access, error)
        return Step("endpoint", Outcome.FAILED, str(error), "\n".join(known)), Step("tls", Outcome.NOT_REACHED)
    except ApiError:
        pass  # an answer is an answer
    if not access.verify_tls:
        return reached, _trusted(access, "TLS", {})
    return reached, Step("tls", Outcome.OK, "The server's certificate is trusted, through the proxy.")


def _name(parts: object) -> str | None:
    pairs = [pair for part in parts for pair in part] if isinstance(parts, tuple) else []
    return next((str(value) for key, value in pairs if key == "commonName"), None)
