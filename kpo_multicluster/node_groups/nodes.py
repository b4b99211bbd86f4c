"""What Kubernetes says of a group's nodes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

# Taints of nodes that are not ready for pods yet, or not any more.
_STARTUP_TAINTS = (
    "node.kubernetes.io/not-ready",
    "node.kubernetes.io/unreachable",
    "node.kubernetes.io/unschedulable",
    "node.kubernetes.io/network-unavailable",
    "node.cloudprovider.kubernetes.io/uninitialized",
    "node.cloudprovider.kubernetes.io/shutdown",
)
_SHOWN = 3


@dataclass(frozen=True)
class NodeCount:
    """How far nodes are.

    Attributes:
        registered: how many there are.
        schedulable: how many of them are Ready and take pods.
        gpus: how many can be asked for on those.
        reasons: why the others are not, a phrase each, of a few of them.
    """

    registered: int = 0
    schedulable: int = 0
    gpus: int = 0
    reasons: tuple[str, ...] = ()


def count_nodes(nodes: Iterable[Mapping[str, Any]], resource: str) -> NodeCount:
    """Counts nodes as an API server lists them.

    Args:
        nodes: of the list.
        resource: that GPUs are asked for by.
    """
    registered = schedulable = gpus = 0
    reasons: list[str] = []
    for node in nodes:
        if (node.get("metadata") or {}).get("deletionTimestamp"):
            continue
        registered += 1
        why = _unfit(node)
        if why is not None:
            reasons.append(f"{(node.get('metadata') or {}).get('name')}: {why}")
            continue
        schedulable += 1
        gpus += _whole((node.get("status") or {}).get("allocatable") or {}, resource)
    return NodeCount(registered, schedulable, gpus, tuple(reasons[:_SHOWN]))


def _unfit(node: Mapping[str, Any]) -> str | None:
    conditions = (node.get("status") or {}).get("conditions") or ()
    ready: Mapping[str, Any] = next((item for item in conditions if item.get("type") == "Ready"), {})
    if ready.get("status") != "True":
        return str(ready.get("message") or ready.get("reason") or "not Ready")
    spec = node.get("spec") or {}
    if spec.get("unschedulable"):
        return "cordoned"
    held = next((taint["key"] for taint in spec.get("taints") or () if taint.get("key") in _STARTUP_TAINTS), None)
    return None if held is None else f"has the taint {held}"


def _whole(allocatable: Mapping[str, Any], resource: str) -> int:
    try:
        return int(allocatable.get(resource) or 0)
    except ValueError:  # a fraction, which GPUs do not come in
        return 0
