"""Lets nodes of emulated clouds' node groups join `alpha` or `beta`: each is a containerd and a kubelet of its own.

google.nodes_join(gpu, RealNodes("beta"))
"""

from __future__ import annotations

from typing import Any

from kpo_multicluster.testing import NodeSpec

from . import bed
from .api import Administrator
from .errors import ClusterError, RefusedError
from .processes import wait_for

_GONE_OR_HELD = (404, 429)


class RealNodes:
    """A cluster that nodes can join, as `kpo_multicluster.testing.clouds.joined_nodes.NodeHost` has it.

    Args:
        cluster: `alpha` or `beta`.
    """

    def __init__(self, cluster: str) -> None:
        self._cluster = cluster

    def add_node(self, spec: NodeSpec) -> None:
        """Starts a node, and returns once it is Ready and its GPUs can be asked for.

        Raises:
            ClusterError: it could not be started; nothing of it is left.
        """
        bed.add_node(self._cluster, spec.name, labels=spec.labels, taints=spec.taints, capacity=spec.capacity)

    def drain_node(self, name: str, *, timeout_seconds: float) -> None:
        """Cordons a node and evicts its pods; returns once they are gone.

        Raises:
            KeyError: there is no such node.
            TimeoutError: some of them were still there when the time was over.
        """
        self._check(name)
        layout = bed.clusters()[self._cluster]
        administrator = Administrator(layout)
        merge = "application/merge-patch+json"
        administrator.request("PATCH", f"/api/v1/nodes/{name}", {"spec": {"unschedulable": True}}, content_type=merge)
        try:
            wait_for(
                lambda: True if not _evicted(administrator, name) else None,
                what=f"the pods of node {name}",
                needs=[],
                log=layout.log("kube-controller-manager"),
                timeout_seconds=timeout_seconds,
            )
        except ClusterError as error:
            raise TimeoutError(str(error)) from error

    def remove_node(self, name: str) -> None:
        """Ends a node with all that runs there, and deletes its Node object.

        Raises:
            KeyError: there is no such node.
        """
        self._check(name)
        bed.remove_node(self._cluster, name)

    def _check(self, name: str) -> None:
        if self._cluster not in bed.clusters() or all(node.name != name for node in bed.nodes(self._cluster)):
            raise KeyError(name)


def _evicted(administrator: Administrator, node: str) -> list[Any]:
    """The pods of a node, each of them told to go."""
    there: list[Any] = administrator.request("GET", f"/api/v1/pods?fieldSelector=spec.nodeName%3D{node}")["items"]
    for pod in there:
        metadata = pod["metadata"]
        if "deletionTimestamp" not in metadata:
            _evict(administrator, metadata["namespace"], metadata["name"])
    return there


def _evict(administrator: Administrator, namespace: str, pod: str) -> None:
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": namespace}}
    try:
        administrator.request("POST", f"/api/v1/namespaces/{namespace}/pods/{pod}/eviction", eviction)
    except RefusedError as error:
        if error.status not in _GONE_OR_HELD:
            raise
