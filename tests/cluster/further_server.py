"""One more API server for a cluster that is up: the same objects, nodes and keys, but flags, port and audit log apart.

What a test asks of it, such as whom it lets in, does not concern those who use the cluster at the same time.
"""

from __future__ import annotations

import contextlib
import socket
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from . import bed, control_plane
from .api import Administrator
from .audit import AuditLog
from .errors import ClusterError
from .layout import ClusterLayout
from .processes import wait_for

_START_TIMEOUT_SECONDS = 90.0


@dataclass(frozen=True)
class FurtherServer:
    """An API server beside the cluster's first.

    Attributes:
        url: of it.
        authority: the CA of its certificate, PEM.
        administrator: who may do anything through it.
        audit: what it was asked.
    """

    url: str
    authority: str = field(repr=False)
    administrator: Administrator = field(repr=False)
    audit: AuditLog = field(repr=False)


@contextlib.contextmanager
def further_api_server(cluster: str, extra_flags: Sequence[str] = ()) -> Iterator[FurtherServer]:
    """One more API server of a cluster, from when it is ready until the end of the `with` block.

    Args:
        cluster: `alpha` or `beta`.
        extra_flags: added to its command line, such as `--authentication-token-webhook-config-file=...`.

    Raises:
        ClusterError: there is no such cluster up, or the server ended or is not ready in time.
    """
    layout = bed.clusters().get(cluster)
    if layout is None:
        raise ClusterError(f"Cluster {cluster} is not up; `make cluster-up` brings it up.")
    name, port = f"{control_plane.API_SERVER}-{uuid.uuid4().hex[:8]}", _free_port(layout)
    audit_log = layout.logs / f"{name}.audit"
    flags = [f"--secure-port={port}", f"--audit-log-path={audit_log}", *extra_flags]
    process = control_plane.start_api_server(layout, flags, name=name)
    try:
        administrator = Administrator(layout, port)
        wait_for(
            lambda: administrator.find("/readyz"),
            what=f"{name} of {cluster}",
            needs=[process],
            log=layout.log(name),
            timeout_seconds=_START_TIMEOUT_SECONDS,
        )
        authority = (layout.pki / "ca.crt").read_text()
        url = f"https://{layout.host_address}:{port}"
        yield FurtherServer(url, authority, administrator, AuditLog(audit_log))
    finally:
        process.end()
        layout.record(name).unlink()


def webhook_flags(config: Path) -> list[str]:
    """The flags by which an API server asks a webhook whose a token is.

    Args:
        config: a kubeconfig that leads to the webhook.
    """
    return [
        f"--authentication-token-webhook-config-file={config}",
        "--authentication-token-webhook-version=v1",
        "--authentication-token-webhook-cache-ttl=1s",
    ]


def _free_port(layout: ClusterLayout) -> int:
    with socket.create_server((layout.host_address, 0)) as listener:
        return int(listener.getsockname()[1])
