"""Where pods must ask to be put to run on the nodes of a group; known before there is one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kpo_multicluster.node_groups.aks_rules import SPOT_TAINT
from kpo_multicluster.node_groups.gke_rules import GPU_TAINT
from kpo_multicluster.node_groups.spec import NodeGroupSpec
from kpo_multicluster.node_groups.taints import Taint

NODE_LABELS: Mapping[str, str] = {
    "eks": "eks.amazonaws.com/nodegroup",
    "gke": "cloud.google.com/gke-nodepool",
    "aks": "kubernetes.azure.com/agentpool",
}
"""The label that each cloud gives nodes, whose value is the name of their group."""


@dataclass(frozen=True)
class Placement:
    """What a pod's spec needs.

    Attributes:
        node_selector: that chooses the nodes.
        tolerations: of their taints.
        limits: of the container's resources: the GPUs of one node.
    """

    node_selector: Mapping[str, str]
    tolerations: tuple[Mapping[str, str], ...] = ()
    limits: Mapping[str, str] = field(default_factory=dict)

    def arguments(self) -> dict[str, Any]:
        """It as arguments of `KubernetesPodOperator`."""
        given: dict[str, Any] = {"node_selector": dict(self.node_selector)}
        given["tolerations"] = [dict(toleration) for toleration in self.tolerations]
        if self.limits:
            given["container_resources"] = {"limits": dict(self.limits)}
        return given


def placement_of(spec: NodeGroupSpec) -> Placement:
    """What a pod needs to run on a node of a group, with all of the node's GPUs."""
    taints = dict.fromkeys([*spec.taints, *implied_taints(spec)])
    return Placement(
        {NODE_LABELS[spec.cloud]: spec.name},
        tuple(taint.toleration() for taint in taints if taint.effect != "PreferNoSchedule"),
        {spec.gpu.resource: str(spec.gpu.count)} if spec.gpu is not None else {},
    )


def implied_taints(spec: NodeGroupSpec) -> tuple[Taint, ...]:
    """The taints that a cloud adds by itself."""
    if spec.cloud == "gke" and spec.gpu is not None:
        return (GPU_TAINT,)
    return (SPOT_TAINT,) if spec.cloud == "aks" and spec.spot else ()
