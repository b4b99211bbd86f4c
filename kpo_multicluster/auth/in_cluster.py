"""The cluster this process runs in, through the service account that Kubernetes mounts into every pod."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from kpo_multicluster.auth.access import ClusterAccess
from kpo_multicluster.auth.bearer import file_tokens
from kpo_multicluster.auth.server import server_fault
from kpo_multicluster.auth.tls import check_ca
from kpo_multicluster.cluster import ClusterRef
from kpo_multicluster.errors import ConfigurationError

SERVICE_ACCOUNT_DIRECTORY = Path("/var/run/secrets/kubernetes.io/serviceaccount")


class InClusterResolver:
    """Reads the mounted service account.

    Args:
        directory: where it is mounted.
        environ: that names the API server; default this process's.
        clock: Unix time in seconds; decides when the token file is read again.
    """

    def __init__(
        self,
        directory: Path = SERVICE_ACCOUNT_DIRECTORY,
        *,
        environ: Mapping[str, str] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._directory = directory
        self._environ = os.environ if environ is None else environ
        self._clock = clock

    def resolve(self, ref: ClusterRef) -> ClusterAccess:
        """Access as this pod's service account.

        Raises:
            ConfigurationError: this process does not run in a pod, or its pod mounts no service account.
            CredentialError: the token cannot be read.
        """
        source = f"the service account of this pod ({self._directory})"
        tokens = file_tokens(self._directory / "token", source=source, clock=self._clock)
        access = ClusterAccess(
            server=self._server(ref),
            source=source,
            ca_pem=self._ca(ref),
            tokens=tokens,
            namespace=ref.namespace or self._namespace(),
        )
        tokens.current()
        return access

    def _server(self, ref: ClusterRef) -> str:
        host = self._environ.get("KUBERNETES_SERVICE_HOST", "")
        port = self._environ.get("KUBERNETES_SERVICE_PORT", "")
        if not host or not port:
            raise ConfigurationError(
                f"The cluster from {ref.source} is the one this process runs in, but KUBERNETES_SERVICE_HOST and "
                "KUBERNETES_SERVICE_PORT are not set, so it runs in no pod. Name a cluster, such as "
                "kubeconfig(context=...)."
            )
        server = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
        fault = server_fault(server)
        if fault is not None:
            raise ConfigurationError(
                f"KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT give {server!r}, which {fault}."
            )
        return server

    def _ca(self, ref: ClusterRef) -> str:
        path = self._directory / "ca.crt"
        try:
            pem = path.read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            raise ConfigurationError(
                f"The cluster from {ref.source} is the one this process runs in, but {path} cannot be read: "
                f"{error.strerror}. Does its pod set automountServiceAccountToken: false?"
            ) from error
        check_ca(pem, str(path))
        return pem

    def _namespace(self) -> str | None:
        try:
            return (self._directory / "namespace").read_text(encoding="utf-8").strip() or None
        except OSError:
            return None
