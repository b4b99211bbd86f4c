"""Where the demo's pods run: on embedded clusters of its own, or on the user's."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from demo.task_log import TaskLog


@dataclass(frozen=True)
class Placement:
    """Where a task's pod ran.

    Attributes:
        cluster: its name; empty if the task ran no pod.
        pod: the pod's name.
        fault: what does not agree with the task's own account; empty if all does.
    """

    cluster: str = ""
    pod: str = ""
    fault: str = ""


class Clusters(Protocol):
    """What DAGs are run against."""

    def environment(self, environ: Mapping[str, str]) -> dict[str, str]:
        """An environment from which DAGs reach these clusters and no others, made from the demo's own."""
        ...

    def placement(self, dag_id: str, task_id: str, log: TaskLog) -> Placement:
        """Where the latest pod of a task ran."""
        ...

    def pods_left(self) -> list[str]:
        """Pods that are still there though their tasks have ended, as `CLUSTER: NAMESPACE/NAME`."""
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


def placement_of(log: TaskLog, seen: Mapping[str, str]) -> Placement:
    """Where a task's pod ran, by what the clusters know and not by what the task says.

    Args:
        log: of the task.
        seen: the clusters that know of its pod, and their servers.
    """
    name = log.pod.partition("/")[2]
    if len(seen) != 1:
        return Placement("", name, f"{' and '.join(seen) or 'no cluster'} knows of pod {log.pod}")
    ((cluster, server),) = seen.items()
    if log.server and log.server != server:
        return Placement(cluster, name, f"its task says that it ran at {log.server}")
    return Placement(cluster, name)


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

    def pods_left(self) -> list[str]:
        """None that are known: the user may have meant to keep some, and others use these clusters too."""
        return []
