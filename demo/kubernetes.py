"""The two real clusters that the tests use, `alpha` and `beta`: docs/testing-on-kubernetes.md."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from demo import images
from demo.clusters import Sight, StartedClusters, environment_for, pod_left
from demo.run import say
from tests.cluster import bed, machine
from tests.cluster.api import Administrator
from tests.cluster.audit import AuditLog
from tests.cluster.errors import ClusterError
from tests.cluster.layout import ClusterLayout

_NAMESPACE_SECONDS = 60.0


class KubernetesClusters(StartedClusters):
    """The real clusters. The witness is each API server's audit log.

    Those that were not up before are taken down again.

    Args:
        directory: for what is made on the way.
        examples: the directory of the examples, whose images are made.
        install_ghc: install the Haskell compiler if it is not there.
    """

    def __init__(self, directory: Path, examples: Path, *, install_ghc: bool = False) -> None:
        super().__init__()
        self._directory = directory
        self._examples = examples
        self._install_ghc = install_ghc
        self._namespace = f"kpo-demo-{uuid.uuid4().hex[:10]}"
        self._images: Mapping[str, str] = {}
        self._layouts: Mapping[str, ClusterLayout] = {}
        self._audits: Mapping[str, AuditLog] = {}

    def _start(self, stack: ExitStack) -> None:
        machine.check_root()
        if bed.up(_say):
            stack.callback(bed.down, _say)
        self._layouts = bed.clusters()
        for layout in self._layouts.values():
            say(f"Cluster {layout.name}: Kubernetes, at {layout.server}")
        self._audits = {name: AuditLog(layout.audit_log) for name, layout in self._layouts.items()}
        if self._install_ghc:
            images.install_ghc(_say)
        self._images = images.make(self._examples, self._directory)
        for layout in self._layouts.values():
            _make_namespace(Administrator(layout), self._namespace)
            stack.callback(Administrator(layout).request, "DELETE", f"/api/v1/namespaces/{self._namespace}")

    def environment(self, environ: Mapping[str, str]) -> dict[str, str]:
        """An environment from which DAGs reach these clusters and no others, made from the demo's own."""
        hosts = ["127.0.0.1", *(layout.host_address for layout in self._layouts.values())]
        return {
            **environment_for(environ, bed.KUBECONFIG, hosts),
            "POD_NAMESPACE": self._namespace,
            **self._images,
        }

    def left(self) -> list[str]:
        """What is still there though the tasks have ended that made it, as `CLUSTER: pod NAMESPACE/NAME`."""
        path = f"/api/v1/namespaces/{self._namespace}/pods"
        return [
            pod_left(name, pod)
            for name, layout in self._layouts.items()
            for pod in Administrator(layout).request("GET", path)["items"]
            # One that was deleted stays for its grace period.
            if "deletionTimestamp" not in pod["metadata"]
        ]

    def seen(self, namespace: str, pod: str) -> Mapping[str, Sight]:
        """The clusters whose API server was asked to create a pod, and did."""
        return {
            name: Sight(self._layouts[name].server, audit.node(namespace, pod) or "")
            for name, audit in self._audits.items()
            if created(audit, namespace, pod)
        }


def created(audit: AuditLog, namespace: str, pod: str) -> bool:
    """Whether an API server created a pod of that name."""
    requests = audit.requests(namespace=namespace, pod=pod)
    return any(str(request) == "create pods" and request.status == 201 for request in requests)


def _make_namespace(administrator: Administrator, name: str) -> None:
    administrator.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    deadline = time.monotonic() + _NAMESPACE_SECONDS
    # No pod is admitted to it before this is there.
    while administrator.find(f"/api/v1/namespaces/{name}/serviceaccounts/default") is None:
        if time.monotonic() > deadline:
            raise ClusterError(f"Namespace {name} has no service account after {_NAMESPACE_SECONDS:.0f} s.")
        time.sleep(0.05)


def _say(text: str) -> None:
    say(f"    {text}")
