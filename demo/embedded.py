"""Two embedded clusters, `alpha` and `beta`, and the images of the examples."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from demo.clusters import Placement, environment_for, placement_of
from demo.run import say
from demo.task_log import TaskLog
from kpo_multicluster.testing import EmbeddedCluster, ImageSource, NodeSpec, merged_kubeconfig
from kpo_multicluster.testing.kubeconfig import write

_NAMES = ("alpha", "beta")


class EmbeddedClusters:
    """The demo's own clusters, running while in the `with` block. The witness is each cluster's record of events.

    Args:
        directory: where their kubeconfig is written.
        examples: the directory of the examples, whose images they know.
    """

    def __init__(self, directory: Path, examples: Path) -> None:
        self._kubeconfig = directory / "kubeconfig"
        images = _images(examples)
        self._clusters = [EmbeddedCluster(name, images=images, nodes=(NodeSpec(f"{name}-node"),)) for name in _NAMES]
        self._stack = ExitStack()

    def __enter__(self) -> EmbeddedClusters:
        with ExitStack() as stack:
            for cluster in self._clusters:
                began = time.monotonic()
                stack.enter_context(cluster)
                took = time.monotonic() - began
                say(f"Cluster {cluster.name}: embedded, at {cluster.server}; started in {took:.1f} s")
            write(self._kubeconfig, merged_kubeconfig(*self._clusters))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def environment(self, environ: Mapping[str, str]) -> dict[str, str]:
        """An environment from which DAGs reach these clusters and no others, made from the demo's own."""
        return environment_for(environ, self._kubeconfig, ["127.0.0.1"])

    def placement(self, dag_id: str, task_id: str, log: TaskLog) -> Placement:
        """Where the latest pod of a task ran: the cluster that has events of it."""
        if not log.pod:
            return Placement()
        namespace, _, name = log.pod.partition("/")
        seen = {cluster.name: cluster.server for cluster in self._clusters if _knows(cluster, namespace, name)}
        return placement_of(log, seen)

    def pods_left(self) -> list[str]:
        """Pods that are still there though their tasks have ended, as `CLUSTER: NAMESPACE/NAME`."""
        return [
            f"{cluster.name}: {pod['metadata']['namespace']}/{pod['metadata']['name']}"
            for cluster in self._clusters
            for pod in cluster.pods()
        ]


def _knows(cluster: EmbeddedCluster, namespace: str, name: str) -> bool:
    return any(event["involvedObject"].get("name") == name for event in cluster.events(namespace))


def _images(examples: Path) -> dict[str, ImageSource]:
    images = {"multiply-by-23": ImageSource.from_directory(examples / "multiply")}
    runghc = shutil.which("runghc")
    if runghc is not None:
        # Copied into it: a container has a /tmp of its own, and the examples may lie in this machine's.
        program = "/opt/haskell/Main.hs"
        source = str(examples / "haskell" / "Main.hs")
        images["haskell-hello"] = ImageSource(entrypoint=(runghc, program), copies=((source, program),))
    return images
