"""TLS for one API server, built from PEM that never leaves memory.

`ssl` reads a client key only from a path, so the key is put into an anonymous file (`memfd_create`) and named by its
descriptor. Where the kernel has none, a file readable by this user alone stands in for it and is removed before the
call returns.
"""

from __future__ import annotations

import base64
import os
import re
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from kpo_multicluster.auth.access import ClusterAccess, Token
from kpo_multicluster.errors import ConfigurationError

_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----")
_PRIVATE_KEY = re.compile(r"-----BEGIN ((?:[A-Z]+ )?PRIVATE KEY)-----.+?-----END \1-----", re.DOTALL)


def ssl_context(access: ClusterAccess, token: Token | None = None) -> ssl.SSLContext:
    """A context for connections to the cluster's API server.

    The name to verify is not part of a context: pass `access.tls_server_name`, where it is set, as `server_hostname`
    when the socket is wrapped. With `access.verify_tls` False any certificate of any name is accepted.

    Unlike `ssl.create_default_context` on Python 3.13 and later it does not demand RFC 5280 to the letter: the private
    CAs of clusters often lack a key identifier. Any certificate of `access.ca_pem` is an anchor, as it is for kubectl.

    Args:
        access: the cluster.
        token: the credential in use; the client certificate of one, where it has one, goes before that of `access`.

    Raises:
        ConfigurationError: a certificate or key cannot be read, or the two do not belong together.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_alpn_protocols(["http/1.1"])
    context.hostname_checks_common_name = False
    if not access.verify_tls:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif access.ca_pem is None:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    else:
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        check_ca(access.ca_pem, access.source, context)
    certificate, key = client_identity(access, token)
    if certificate is not None or key is not None:
        load_client_certificate(context, certificate or "", key or "", source=access.source)
    return context


def client_identity(access: ClusterAccess, token: Token | None = None) -> tuple[str | None, str | None]:
    """The client certificate and key to present, PEM; those of the token before those of the cluster."""
    if token is not None and token.client_certificate is not None:
        return token.client_certificate, token.client_key
    return access.client_certificate, access.client_key


def load_client_certificate(context: ssl.SSLContext, certificate: str, key: str, *, source: str) -> None:
    """Makes `context` present a client certificate.

    Args:
        context: to change.
        certificate: PEM; those of intermediate CAs may follow.
        key: PEM, not encrypted.
        source: where they came from, for messages.

    Raises:
        ConfigurationError: one of them cannot be read, the key is encrypted, or they do not belong together.
    """
    certificates = certificates_of(certificate)
    if not certificates:
        raise ConfigurationError(f"The client certificate of {source} is not a PEM certificate: correct it there.")
    private_key = _PRIVATE_KEY.search(key)
    if private_key is None:
        raise ConfigurationError(f"The client key of {source} is not a PEM private key: correct it there.")
    pem = f"{certificates}\n{private_key[0]}\n".encode()
    refusal = ""
    try:
        with _readable_path(pem) as path:
            # Without a password given here, OpenSSL would ask for one on the terminal.
            context.load_cert_chain(path, password=_no_password)
    except _EncryptedKeyError:
        refusal = f"The client key of {source} is encrypted: store it decrypted, or use another credential."
    except (ssl.SSLError, ValueError) as error:
        if getattr(error, "reason", None) == "KEY_VALUES_MISMATCH":
            refusal = f"The client certificate and the client key of {source} do not belong together: replace one."
        else:
            _load_certificates(
                ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), certificates, f"The client certificate of {source}"
            )
            refusal = f"The client key of {source} cannot be read by OpenSSL: correct it there."
    if refusal:
        raise ConfigurationError(refusal)


def check_ca(pem: str, source: str, context: ssl.SSLContext | None = None) -> None:
    """Reads CAs, into `context` where one is given.

    Raises:
        ConfigurationError: they cannot be read.
    """
    _load_certificates(context or _scratch(), pem, f"The CA of {source}")


def check_client_certificate(certificate: str, key: str, source: str) -> None:
    """Reads a client certificate and its key and drops them.

    Raises:
        ConfigurationError: as `load_client_certificate` does.
    """
    load_client_certificate(_scratch(), certificate, key, source=source)


def pem_from_base64(data: str) -> str | None:
    """The text that `data` holds in base64, as the `-data` fields of a kubeconfig do; None when it does not."""
    try:
        return base64.b64decode("".join(data.split()), validate=True).decode()
    except ValueError:
        return None


def memory_file(data: bytes) -> int:
    """The descriptor of an anonymous file that holds `data`; the caller closes it.

    Raises:
        OSError: the kernel offers none.
    """
    if not hasattr(os, "memfd_create"):
        raise OSError("this system has no memfd_create")
    descriptor = os.memfd_create("pem")
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(data)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def memory_path(descriptor: int) -> str:
    """The path under which this process can open an anonymous file again."""
    return f"/proc/self/fd/{descriptor}"


def _scratch() -> ssl.SSLContext:
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


class _EncryptedKeyError(Exception):
    pass


def _no_password() -> str:
    raise _EncryptedKeyError


def certificates_of(pem: str) -> str:
    """The certificates in a text: what stands around them may be anything, while `cadata` has to be ASCII."""
    return "\n".join(_CERTIFICATE.findall(pem))


def _load_certificates(context: ssl.SSLContext, pem: str, subject: str) -> None:
    blocks = certificates_of(pem)
    readable = bool(blocks)
    try:
        if readable:
            context.load_verify_locations(cadata=blocks)
    except (ssl.SSLError, ValueError):
        readable = False
    if not readable:
        raise ConfigurationError(f"{subject} cannot be read as PEM certificates: correct it there.")


@contextmanager
def _readable_path(data: bytes) -> Iterator[str]:
    try:
        descriptor = memory_file(data)
    except OSError:
        descriptor = -1
    if descriptor >= 0 and os.path.exists(memory_path(descriptor)):
        try:
            yield memory_path(descriptor)
        finally:
            os.close(descriptor)
        return
    if descriptor >= 0:
        os.close(descriptor)
    descriptor, path = tempfile.mkstemp()
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
        yield path
    finally:
        os.unlink(path)
