"""Chooses a node for a pod, or says in the real scheduler's words why there is none.

The filters run in the default profile's order, and a node is counted by the first that refuses it: unschedulable,
taints, node selector and affinity, ports, resources. Pods are never preempted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from kpo_multicluster.testing.apiserver import quantity

_TERMINAL = frozenset({"Succeeded", "Failed"})
_BLOCKING_EFFECTS = frozenset({"NoSchedule", "NoExecute"})
_UNSCHEDULABLE_TAINT = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}
_NOT_HELPFUL = "Preemption is not helpful for scheduling"
_NO_VICTIMS = "No preemption victims found for incoming pod"
_DEFAULT_PODS = Decimal(110)

Resources = dict[str, Decimal]


@dataclass(frozen=True)
class Placement:
    """What the scheduler decided.

    Attributes:
        node: where the pod goes; empty when it fits nowhere.
        message: why it fits nowhere.
    """

    node: str = ""
    message: str = ""


@dataclass(frozen=True)
class _Refusal:
    reasons: tuple[str, ...]
    # Whether evicting other pods could change the answer, which is what the second half of the message tells.
    preemptible: bool = False


def place(pod: Mapping[str, Any], nodes: Sequence[Mapping[str, Any]], pods: Iterable[Mapping[str, Any]]) -> Placement:
    """Chooses the node with the fewest pods among those that fit.

    Args:
        pod: to be placed.
        nodes: of the cluster.
        pods: of the cluster; those that ended take no room.
    """
    if not nodes:
        return Placement(message="no nodes available to schedule pods")
    if claim := _claim(pod):
        return Placement(message=_unbound_claim(claim, len(nodes)))
    bound: dict[str, list[Mapping[str, Any]]] = {node["metadata"]["name"]: [] for node in nodes}
    for other in pods:
        name = other["spec"].get("nodeName", "")
        if name in bound and other.get("status", {}).get("phase") not in _TERMINAL:
            bound[name].append(other)
    refusals: list[_Refusal] = []
    fitting: list[tuple[int, str]] = []
    for node in nodes:
        name = node["metadata"]["name"]
        refusal = _refusal(pod, node, bound[name])
        if refusal is None:
            fitting.append((len(bound[name]), name))
        else:
            refusals.append(refusal)
    if fitting:
        return Placement(node=min(fitting)[1])
    return Placement(message=_message(refusals))


def _claim(pod: Mapping[str, Any]) -> str:
    for volume in pod["spec"].get("volumes") or []:
        if volume.get("persistentVolumeClaim"):
            return str(volume["persistentVolumeClaim"]["claimName"])
    return ""


def _unbound_claim(claim: str, count: int) -> str:
    # Storage is not served, so that any claim is one that does not exist.
    none = f"0/{count} nodes are available"
    return f'{none}: persistentvolumeclaim "{claim}" not found. not found'


def _message(refusals: Sequence[_Refusal]) -> str:
    none = f"0/{len(refusals)} nodes are available"
    reasons = Counter(reason for refusal in refusals for reason in refusal.reasons)
    preemption = Counter(_NO_VICTIMS if refusal.preemptible else _NOT_HELPFUL for refusal in refusals)
    # Since 1.34 the plugin for dynamic resources puts in its word before the one for preemption.
    return f"{none}: {_histogram(reasons)}. no new claims to deallocate, preemption: {none}: {_histogram(preemption)}."


def _histogram(counts: Counter[str]) -> str:
    return ", ".join(sorted(f"{count} {reason}" for reason, count in counts.items()))


def _refusal(pod: Mapping[str, Any], node: Mapping[str, Any], bound: Sequence[Mapping[str, Any]]) -> _Refusal | None:
    spec, node_spec = pod["spec"], node.get("spec") or {}
    tolerations = spec.get("tolerations") or []
    if node_spec.get("unschedulable") and not _tolerated(_UNSCHEDULABLE_TAINT, tolerations):
        return _Refusal(("node(s) were unschedulable",))
    for taint in node_spec.get("taints") or []:
        if taint["effect"] in _BLOCKING_EFFECTS and not _tolerated(taint, tolerations):
            return _Refusal(("node(s) had untolerated taint(s)",))
    if not _selected(spec, node):
        return _Refusal(("node(s) didn't match Pod's node affinity/selector",))
    if _host_ports(spec) & {port for other in bound for port in _host_ports(other["spec"])}:
        return _Refusal(("node(s) didn't have free ports for the requested pod ports",), preemptible=True)
    return _resource_refusal(spec, node, bound)


def _tolerated(taint: Mapping[str, Any], tolerations: Iterable[Mapping[str, Any]]) -> bool:
    return any(_tolerates(toleration, taint) for toleration in tolerations)


def _tolerates(toleration: Mapping[str, Any], taint: Mapping[str, Any]) -> bool:
    if toleration.get("effect") and toleration["effect"] != taint["effect"]:
        return False
    if toleration.get("key") and toleration["key"] != taint["key"]:
        return False
    if toleration.get("operator") == "Exists":
        return True
    return bool(toleration.get("key")) and (toleration.get("value") or "") == (taint.get("value") or "")


def _selected(spec: Mapping[str, Any], node: Mapping[str, Any]) -> bool:
    labels = node["metadata"].get("labels") or {}
    if any(labels.get(key) != value for key, value in (spec.get("nodeSelector") or {}).items()):
        return False
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    wanted = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    if wanted is None:
        return True
    fields = {"metadata.name": node["metadata"]["name"]}
    return any(_term_matches(term, labels, fields) for term in wanted.get("nodeSelectorTerms") or [])


def _term_matches(term: Mapping[str, Any], labels: Mapping[str, str], fields: Mapping[str, str]) -> bool:
    expressions, field_terms = term.get("matchExpressions") or [], term.get("matchFields") or []
    # A term that asks for nothing matches nothing.
    return bool(expressions or field_terms) and (
        all(_expression_matches(expression, labels) for expression in expressions)
        and all(_expression_matches(expression, fields) for expression in field_terms)
    )


def _expression_matches(expression: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    key, operator, values = expression["key"], expression["operator"], expression.get("values") or []
    if operator == "Exists":
        return key in labels
    if operator == "DoesNotExist":
        return key not in labels
    if operator == "NotIn":
        return labels.get(key) not in values
    if operator == "In":
        return labels.get(key) in values
    try:
        value, bound = int(labels.get(key, "")), int(values[0])
    except ValueError:
        return False
    return value > bound if operator == "Gt" else value < bound


def _host_ports(spec: Mapping[str, Any]) -> set[tuple[int, str]]:
    return {
        (port["hostPort"], port.get("protocol", "TCP"))
        for container in spec.get("containers") or []
        for port in container.get("ports") or []
        if port.get("hostPort")
    }


def requests_of(spec: Mapping[str, Any]) -> Resources:
    """What a pod asks of its node: the sum of its containers, or its largest init container where that is more."""
    running: Resources = {}
    peak: Resources = {}
    for container in spec.get("initContainers") or []:
        wanted = _container_requests(container)
        if container.get("restartPolicy") == "Always":
            running = _sum(running, wanted)
            wanted = {}
        peak = _largest(peak, _sum(running, wanted))
    for container in spec.get("containers") or []:
        running = _sum(running, _container_requests(container))
    overhead = {name: quantity.parse(str(value)) for name, value in (spec.get("overhead") or {}).items()}
    return _sum(_largest(peak, running), overhead)


def _container_requests(container: Mapping[str, Any]) -> Resources:
    requests = (container.get("resources") or {}).get("requests") or {}
    return {name: quantity.parse(str(value)) for name, value in requests.items()}


def _sum(first: Resources, second: Resources) -> Resources:
    return {name: first.get(name, Decimal(0)) + second.get(name, Decimal(0)) for name in {*first, *second}}


def _largest(first: Resources, second: Resources) -> Resources:
    return {name: max(first.get(name, Decimal(0)), second.get(name, Decimal(0))) for name in {*first, *second}}


def _resource_refusal(
    spec: Mapping[str, Any], node: Mapping[str, Any], bound: Sequence[Mapping[str, Any]]
) -> _Refusal | None:
    status = node.get("status") or {}
    stated = status.get("allocatable") or status.get("capacity") or {}
    room = {name: quantity.parse(str(value)) for name, value in stated.items()}
    wanted = requests_of(spec)
    reasons: list[str] = []
    preemptible = True
    if len(bound) + 1 > room.get("pods", _DEFAULT_PODS):
        reasons.append("Too many pods")
    taken: Resources = {}
    for other in bound:
        taken = _sum(taken, requests_of(other["spec"]))
    for name in sorted(wanted):
        total = room.get(name, Decimal(0))
        if wanted[name] and wanted[name] > total - taken.get(name, Decimal(0)):
            reasons.append(f"Insufficient {name}")
            preemptible = preemptible and wanted[name] <= total
    return _Refusal(tuple(reasons), preemptible) if reasons else None
