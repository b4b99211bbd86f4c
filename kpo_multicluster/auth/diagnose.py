"""Why a cluster refused: findings for a 401, a 403, a certificate, or no answer at all.

A finding is a sentence or more that names who one was, what refused them, and what to change. Finding out may ask the
cloud and the API server, so it blocks, for seconds; it raises nothing, and says nothing where it knows nothing.
"""

from __future__ import annotations

import logging
import os
import re
import socket
import ssl
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from kpo_multicluster.auth.access import ClusterAccess
from kpo_multicluster.auth.proxy import proxy_of
from kpo_multicluster.auth.tls import certificates_of
from kpo_multicluster.cluster import ClusterRef
from kpo_multicluster.errors import (
    ConnectError,
    ForbiddenError,
    KpoMulticlusterError,
    TLSError,
    UnauthorizedError,
)

_FORBIDDEN = re.compile(
    r'User "(?P<user>[^"]*)" cannot (?P<verb>\S+) resource "(?P<resource>[^"]*)" in API group "(?P<group>[^"]*)"'
    r'(?: in the namespace "(?P<namespace>[^"]*)")?'
)
_ANONYMOUS = ("", "system:anonymous")
_EXPLAINED = (UnauthorizedError, ForbiddenError, ConnectError)
FINDINGS_SECONDS = 5.0
_log = logging.getLogger(__name__)
_HANDSHAKE_SECONDS = 5.0


def explain_refusal(ref: ClusterRef, access: ClusterAccess, error: KpoMulticlusterError) -> list[str]:
    """Findings for a request that was refused, or not answered; empty when there are none.

    Args:
        ref: of the cluster.
        access: that the request was made with.
        error: that it ended with.
    """
    return list(_findings(ref, access, error))


def attach_findings(
    error: KpoMulticlusterError, ref: ClusterRef, access: ClusterAccess, *, within_seconds: float = FINDINGS_SECONDS
) -> None:
    """Adds to an error, and to its message, why a request was refused or not answered; changes no other error.

    The cloud is asked on a thread of its own. What is not known in time is left out; the error is never replaced.

    Args:
        error: to add to, if it, or what caused it, is a 401, a 403 or no answer. One with findings is left alone, also
            where they are set to none.
        ref: of the cluster.
        access: that the request was made with.
        within_seconds: how long this may block.
    """
    refusal = next((cause for cause in (error, error.__cause__) if isinstance(cause, _EXPLAINED)), None)
    if refusal is None or "findings" in vars(error):
        return
    found: list[str] = []

    def ask() -> None:
        try:
            found.extend(_findings(ref, access, refusal))
        except Exception:  # noqa: BLE001 - a fault in finding out says nothing of the refusal
            _log.debug("The refusal could not be explained.", exc_info=True)

    asking = threading.Thread(target=ask, name="explain refusal", daemon=True)
    try:
        asking.start()
        asking.join(within_seconds)
    except BaseException:  # noqa: BLE001 - a time limit or an interrupt ends the wait; the task fails all the same
        _log.debug("The explanation was not waited for.", exc_info=True)
    if "findings" in vars(error):  # by another who was given the same error
        return
    error.findings = tuple(found)
    if error.findings:
        error.args = ("\n".join([str(error), *error.findings]), *error.args[1:])


def _findings(ref: ClusterRef, access: ClusterAccess, error: KpoMulticlusterError) -> Iterator[str]:
    silent = True
    local = forbidden(error) if isinstance(error, ForbiddenError) else []
    if isinstance(error, TLSError):
        local = certificate(access)
    for finding in local:
        silent = False
        yield finding
    if access.explain is not None:
        try:
            asked = access.explain(error)
        except KpoMulticlusterError as other:
            asked = [f"Asking the cloud why failed as well: {other}"]
        except Exception:  # noqa: BLE001 - a fault in finding out says nothing of the refusal
            _log.debug("The cloud could not be asked why.", exc_info=True)
            asked = []
        for finding in asked:
            silent = False
            yield finding
    if silent and isinstance(error, UnauthorizedError):
        yield unauthorized(ref, access)


def unauthorized(ref: ClusterRef, access: ClusterAccess) -> str:
    """The finding for a 401 of which no cloud knows more."""
    if access.tokens is not None:
        token = access.tokens.fresh()
        kind = "token" if token is None or token.value else "client certificate"
        whose = f"the {kind} from {access.tokens.source}"
    elif access.client_certificate is not None:
        whose = f"the client certificate from {access.source}"
    else:
        whose = "no credential at all"
    return (
        f"{access.server} ({access.source}) was sent {whose}, and knows no one by it. Check that it was made for this "
        f"cluster, that it has not expired or been revoked, and that {ref.source} names the cluster that is meant."
    )


def forbidden(error: ForbiddenError) -> list[str]:
    """Findings for a 403, from what the server itself says: whom it took the caller for, and what they may not do."""
    match = _FORBIDDEN.search(error.detail)
    if match is None:
        return []
    user, verb, resource, group, namespace = match.group("user", "verb", "resource", "group", "namespace")
    if user in _ANONYMOUS:
        return [
            "The server took the request for an anonymous one: it arrived without a credential, or a proxy in between "
            "took it away. Check the credential as for a 401, not the permissions."
        ]
    where = f"in the namespace {namespace!r}" if namespace else "cluster-wide"
    kind = "Role" if namespace else "ClusterRole"
    return [
        f"The server knows this caller as {user!r}, who may not {verb} {resource} {where}: bind a {kind} with the verb "
        f"{verb!r} on {resource!r} (apiGroups: [{group!r}]) to that user, or to one of its groups."
    ]


def certificate(access: ClusterAccess) -> list[str]:
    """Findings for a certificate that was refused: which CA was expected, and who issued what the server shows."""
    expected = _trusted(access)
    presented = _presented(access)
    if presented is None:
        return []
    subject, issuer = presented
    return [
        f"The server shows a certificate of {subject}, issued by {issuer}; trusted for {access.source} is {expected}. "
        "If that issuer is a proxy that opens TLS connections, go round it with NO_PROXY or trust its CA; if it is the "
        "cluster's new CA, update the CA where the cluster is described."
    ]


def certificate_end(pem: str) -> float | None:
    """When the first certificate of a PEM text ends, Unix time in seconds; None where it cannot be read."""
    try:
        from cryptography import x509
    except ModuleNotFoundError:  # as in `_names_of`
        return None
    try:
        return x509.load_pem_x509_certificate(certificates_of(pem).encode()).not_valid_after_utc.timestamp()
    except ValueError:
        return None


def _trusted(access: ClusterAccess) -> str:
    if access.ca_pem is None:
        return "what this system trusts"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(cadata=certificates_of(access.ca_pem))
    except (ssl.SSLError, ValueError):
        return "a CA that cannot be read"
    names = [_name(ca.get("subject", ())) for ca in context.get_ca_certs()]
    return f"the CA {', '.join(names)}" if names else "a CA without a name"


def _presented(access: ClusterAccess) -> tuple[str, str] | None:
    """Subject and issuer of the server's certificate; None where it cannot be had, such as behind a proxy."""
    parts = urlsplit(access.server)
    if parts.scheme != "https" or parts.hostname is None or proxy_of(access, os.environ) is not None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    name = access.tls_server_name or parts.hostname
    try:
        with (
            socket.create_connection((parts.hostname, parts.port or 443), _HANDSHAKE_SECONDS) as connection,
            context.wrap_socket(connection, server_hostname=name) as tls,
        ):
            der = tls.getpeercert(binary_form=True)
    except OSError:
        return None
    return None if der is None else _names_of(der)


def _names_of(der: bytes) -> tuple[str, str] | None:
    try:
        from cryptography import x509
    except ModuleNotFoundError:  # Airflow brings it, but nothing here depends on it
        return None
    try:
        read = x509.load_der_x509_certificate(der)
    except ValueError:
        return None
    return read.subject.rfc4514_string() or "no name", read.issuer.rfc4514_string()


def _name(subject: Any) -> str:
    pairs = [pair for part in subject for pair in part]
    return next((value for key, value in pairs if key == "commonName"), None) or ", ".join(value for _, value in pairs)
