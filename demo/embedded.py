"""Two embedded clusters, `alpha` and `beta`, and the images of the examples."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from demo.clusters import Sight, StartedClusters, environment_for, pod_left
from demo.run import say
from kpo_multicluster.testing import EmbeddedCluster, ImageSource, NodeSpec, merged_kubeconfig
from kpo_multicluster.testing.kubeconfig import write

_NAMES = ("alpha", "beta")


class EmbeddedClusters(StartedClusters):
    """The demo's own clusters. The witness is each cluster's record of events.

    Args:
        directory: where their kubeconfig is written.
        examples: the directory of the examples, whose images they know.
    """

    def __init__(self, directory: Path, examples: Path) -> None:
        super().__init__()
        self._kubeconfig = directory / "kubeconfig"
        images = _images(examples)
        self._clusters = [EmbeddedCluster(name, images=images, nodes=(NodeSpec(f"{name}-node"),)) for name in _NAMES]

    def _start(self, stack: ExitStack) -> None:
        for cluster in self._clusters:
            began = time.monotonic()
            stack.enter_context(cluster)
            took = time.monotonic() - began
            say(f"Cluster {cluster.name}: embedded, at {cluster.server}; started in {took:.1f} s")
        write(self._kubeconfig, merged_kubeconfig(*self._clusters))

    def environment(self, environ: Mapping[str, str]) -> dict[str, str]:
        """An environment from which DAGs reach these clusters and no others, made from the demo's own."""
        return environment_for(environ, self._kubeconfig, ["127.0.0.1"])

    def left(self) -> list[str]:
        """What is still there though the tasks have ended that made it, as `CLUSTER: pod NAMESPACE/NAME`."""
        return [name for cluster in self._clusters for name in left_in(cluster)]

    def seen(self, namespace: str, pod: str) -> Mapping[str, Sight]:
        """The clusters that know of a pod, by name."""
        return seen_by(self._clusters, namespace, pod)


def seen_by(clusters: Iterable[EmbeddedCluster], namespace: str, pod: str) -> Mapping[str, Sight]:
    """The clusters that have events of a pod, by name."""
    found = {}
    for cluster in clusters:
        told = [event for event in cluster.events(namespace) if event["involvedObject"].get("name") == pod]
        if told:
            found[cluster.name] = Sight(cluster.server, _node(told))
    return found


def left_in(cluster: EmbeddedCluster) -> list[str]:
    """The pods of a cluster, as `CLUSTER: pod NAMESPACE/NAME`."""
    return [pod_left(cluster.name, pod) for pod in cluster.pods()]


def _node(events: Iterable[Mapping[str, Any]]) -> str:
    """Of the last node that said something of a pod."""
    return next((event["source"]["host"] for event in reversed([*events]) if event.get("source", {}).get("host")), "")


def _images(examples: Path) -> dict[str, ImageSource]:
    images = {"multiply-by-23": ImageSource.from_directory(examples / "multiply")}
    runghc = shutil.which("runghc")
    if runghc is not None:
        # Copied into it: a container has a /tmp of its own, and the examples may lie in this machine's.
        program = "/opt/haskell/Main.hs"
        source = str(examples / "haskell" / "Main.hs")
        images["haskell-hello"] = ImageSource(entrypoint=(runghc, program), copies=((source, program),))
    return images
