"""A cluster by its API server's address and a bearer token."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from kpo_multicluster.auth import options
from kpo_multicluster.auth.access import ClusterAccess, TokenSource, static_token
from kpo_multicluster.auth.bearer import checked_bearer, environment_tokens, file_tokens
from kpo_multicluster.auth.server import server_fault
from kpo_multicluster.auth.tls import check_ca, pem_from_base64
from kpo_multicluster.cluster import ClusterRef
from kpo_multicluster.errors import ConfigurationError

_OPTIONS = ("server", "token", "token_file", "ca_data", "ca_file", "insecure_skip_tls_verify")
_ENVIRONMENT = "env:"


class TokenResolver:
    """Makes access from what the ref itself names.

    Args:
        clock: Unix time in seconds; decides when a token file is read again.
    """

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock

    def resolve(self, ref: ClusterRef) -> ClusterAccess:
        """Access by the token.

        Raises:
            ConfigurationError: the address, the CA or the choice of token cannot work.
            CredentialError: the token cannot be read.
        """
        options.check_known(ref, _OPTIONS)
        server = options.text(ref, "server")
        if server is None:
            raise ConfigurationError(f"The cluster from {ref.source} names no server: give the API server's https URL.")
        fault = server_fault(server)
        if fault is not None:
            raise ConfigurationError(f"The server of the cluster from {ref.source} {fault}.")
        tokens = self._tokens(ref)
        access = ClusterAccess(
            server=server.rstrip("/"),
            source=f"{server} with the token from {ref.source}",
            ca_pem=_ca(ref),
            tokens=tokens,
            verify_tls=not options.flag(ref, "insecure_skip_tls_verify"),
            namespace=ref.namespace,
        )
        tokens.current()
        return access

    def _tokens(self, ref: ClusterRef) -> TokenSource:
        value, path = options.text(ref, "token"), options.text(ref, "token_file")
        if path is not None and value is None:
            return file_tokens(Path(path).expanduser(), source=f"token_file of {ref.source}", clock=self._clock)
        if value is None or path is not None:
            raise ConfigurationError(f"The cluster from {ref.source} needs exactly one of token and token_file.")
        if value.startswith(_ENVIRONMENT):
            return environment_tokens(value.removeprefix(_ENVIRONMENT), source=f"token of {ref.source}")
        return static_token(checked_bearer(value, source=ref.source), source=ref.source)


def _ca(ref: ClusterRef) -> str | None:
    data, path = options.text(ref, "ca_data"), options.text(ref, "ca_file")
    if data is not None and path is not None:
        raise ConfigurationError(f"The cluster from {ref.source} takes ca_data or ca_file, not both: drop one.")
    if path is not None:
        try:
            data = Path(path).expanduser().read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            raise ConfigurationError(
                f"The ca_file {path} of the cluster from {ref.source} cannot be read: {error.strerror}."
            ) from error
        check_ca(data, path)
        return data
    if data is None:
        return None
    pem: str | None = data if "-----BEGIN" in data else pem_from_base64(data)
    if pem is None:
        raise ConfigurationError(f"The ca_data of the cluster from {ref.source} is neither PEM nor base64 of it.")
    check_ca(pem, ref.source)
    return pem
