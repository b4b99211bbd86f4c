"""Where the demo's pods run: on embedded clusters of its own, or on the user's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
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
