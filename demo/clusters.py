"""Where the demo's pods run: on embedded clusters of its own, or on the user's."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from demo.task_log import TaskLog

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass(frozen=True)
class Placement:
    """Where a task's pod ran.

    Attributes:
        cluster: its name; empty if the task ran no pod.
        pod: the pod's name.
        node: that it was given; empty where no one tells.
        fault: what does not agree with the task's own account; empty if all does.
    """

    cluster: str = ""
    pod: str = ""
    node: str = ""
    fault: str = ""


@dataclass(frozen=True)
class Sight:
    """What a cluster knows of a pod.

    Attributes:
        server: URL of its API server.
        node: that the pod was given; empty if it was given none.
    """

    server: str
    node: str = ""


class Clusters(Protocol):
    """What DAGs are run against."""

    def environment(self, environ: Mapping[str, str]) -> dict[str, str]:
        """An environment from which DAGs reach these clusters and no others, made from the demo's own."""
        ...

    def placement(self, dag_id: str, task_id: str, log: TaskLog) -> Placement:
        """Where the latest pod of a task ran."""
        ...

    def seen(self, namespace: str, pod: str) -> Mapping[str, Sight]:
        """The clusters that know of a pod, by name."""
        ...

    def left(self) -> list[str]:
        """What is still there though the tasks have ended that made it, as `CLUSTER: pod NAMESPACE/NAME`."""
        ...


def environment_for(environ: Mapping[str, str], kubeconfig: Path, hosts: Sequence[str]) -> dict[str, str]:
    """An environment from which DAGs reach the clusters of a kubeconfig and no others.

    Args:
        environ: the demo's own.
        kubeconfig: has the contexts `alpha` and `beta`.
        hosts: the servers' addresses, which no proxy leads to.
    """
    # In a pod, a task that names no cluster would run where the demo itself does.
    kept = {name: value for name, value in environ.items() if name != "KUBERNETES_SERVICE_HOST"}
    bypassed = ",".join(filter(None, (kept.get("no_proxy") or kept.get("NO_PROXY"), *hosts)))
    fields = {"kube_config_path": str(kubeconfig), "cluster_context": "beta"}
    return {
        **kept,
        "KUBECONFIG": str(kubeconfig),
        "AIRFLOW_CONN_BETA_CLUSTER": json.dumps({"conn_type": "kubernetes", "extra": fields}),
        "NO_PROXY": bypassed,
        "no_proxy": bypassed,
    }


class StartedClusters(ABC):
    """Clusters that the demo starts, and that run while in the `with` block."""

    def __init__(self) -> None:
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._start(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @abstractmethod
    def _start(self, stack: ExitStack) -> None:
        """Starts them; what ends them is put on the stack."""

    @abstractmethod
    def environment(self, environ: Mapping[str, str]) -> dict[str, str]:
        """An environment from which DAGs reach these clusters and no others, made from the demo's own."""

    @abstractmethod
    def seen(self, namespace: str, pod: str) -> Mapping[str, Sight]:
        """The clusters that know of a pod, by name."""

    @abstractmethod
    def left(self) -> list[str]:
        """What is still there though the tasks have ended that made it, as `CLUSTER: pod NAMESPACE/NAME`."""

    def placement(self, dag_id: str, task_id: str, log: TaskLog) -> Placement:
        """Where the latest pod of a task ran, by what the clusters know and not by what the task says."""
        if not log.pod:
            return Placement()
        namespace, _, pod = log.pod.partition("/")
        seen = self.seen(namespace, pod)
        if len(seen) != 1:
            return Placement(pod=pod, fault=f"{' and '.join(seen) or 'no cluster'} knows of pod {log.pod}")
        ((cluster, sight),) = seen.items()
        fault = "" if log.server in ("", sight.server) else f"its task says that it ran at {log.server}"
        return Placement(cluster, pod, sight.node, fault)


def pod_left(cluster: str, pod: Mapping[str, Any]) -> str:
    """A pod that is still there."""
    return f"{cluster}: pod {pod['metadata']['namespace']}/{pod['metadata']['name']}"


class UserClusters:
    """The clusters of a kubeconfig that the user gave. The task's log tells which server created its pod.

    Args:
        kubeconfig: paths of kubeconfigs, joined by `:`.
    """

    def __init__(self, kubeconfig: str) -> None:
        self._kubeconfig = kubeconfig

    def environment(self, environ: Mapping[str, str]) -> dict[str, str]:
        """The user's environment as it is."""
        return {**environ, "KUBECONFIG": self._kubeconfig}

    def placement(self, dag_id: str, task_id: str, log: TaskLog) -> Placement:
        """Where the latest pod of a task ran; the cluster is named by its server's address."""
        return Placement(urlsplit(log.server).netloc, log.pod.partition("/")[2])

    def seen(self, namespace: str, pod: str) -> Mapping[str, Sight]:
        """None that are known."""
        return {}

    def left(self) -> list[str]:
        """Nothing that is known: the user may have meant to keep some pods, and others use these clusters too."""
        return []
