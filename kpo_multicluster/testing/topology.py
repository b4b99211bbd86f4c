"""The nodes a cluster is declared to have."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kpo_multicluster.testing.apiserver.timestamps import to_seconds

DEFAULT_CAPACITY: Mapping[str, str] = {"cpu": "64", "memory": "256Gi", "ephemeral-storage": "100Gi", "pods": "250"}
KUBELET_VERSION = "v1.34.4+embedded"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True)
class NodeSpec:
    """A node as the scheduler sees it. Its containers run on this machine whatever it claims to have.

    Attributes:
        name: of the node.
        labels: besides those a kubelet sets.
        taints: each with `key`, `effect` and perhaps `value`.
        capacity: resources that pods may request, over `DEFAULT_CAPACITY`; `{"nvidia.com/gpu": "1"}` makes a GPU node.
        unschedulable: as after `kubectl cordon`.
        ready: a node that is not is tainted, as a real one is.
    """

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Mapping[str, str], ...] = ()
    capacity: Mapping[str, str] = field(default_factory=dict)
    unschedulable: bool = False
    ready: bool = True


def node_object(spec: NodeSpec, *, uid: str, now: float) -> dict[str, Any]:
    """The node object a kubelet would register."""
    architecture = _ARCHITECTURES.get(platform.machine(), platform.machine())
    labels = {
        "kubernetes.io/arch": architecture,
        "kubernetes.io/hostname": spec.name,
        "kubernetes.io/os": "linux",
        **spec.labels,
    }
    node_spec: dict[str, Any] = {}
    taints = [dict(taint) for taint in spec.taints]
    if not spec.ready:
        taints.append({"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"})
    if taints:
        node_spec["taints"] = taints
    if spec.unschedulable:
        node_spec["unschedulable"] = True
    resources = {**DEFAULT_CAPACITY, **spec.capacity}
    return {
        "kind": "Node",
        "apiVersion": "v1",
        "metadata": {"name": spec.name, "uid": uid, "creationTimestamp": to_seconds(now), "labels": labels},
        "spec": node_spec,
        "status": {
            "capacity": resources,
            "allocatable": dict(resources),
            "conditions": [_ready_condition(spec.ready, to_seconds(now))],
            "addresses": [
                {"type": "InternalIP", "address": "127.0.0.1"},
                {"type": "Hostname", "address": spec.name},
            ],
            "nodeInfo": {
                "architecture": architecture,
                "containerRuntimeVersion": "embedded://1",
                "kernelVersion": platform.release(),
                "kubeletVersion": KUBELET_VERSION,
                "operatingSystem": "linux",
                "osImage": "processes of this machine",
            },
        },
    }


def _ready_condition(ready: bool, now: str) -> dict[str, Any]:
    return {
        "type": "Ready",
        "status": "True" if ready else "False",
        "lastHeartbeatTime": now,
        "lastTransitionTime": now,
        "reason": "KubeletReady" if ready else "KubeletNotReady",
        "message": "kubelet is posting ready status" if ready else "container runtime is not ready",
    }
