"""What the server does to objects of each kind when they are created or changed."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from kpo_multicluster.testing.apiserver import pod_defaults
from kpo_multicluster.testing.apiserver.naming import config_key_problems, metadata_errors
from kpo_multicluster.testing.apiserver.pod_validation import pod_errors, pod_update_errors
from kpo_multicluster.testing.apiserver.status import FieldError, invalid_value

_MAX_DATA_BYTES = 1024 * 1024
_NOT_READY = {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}
_GATED = "Scheduling is blocked due to non-empty scheduling gates"
_NODE_INFO = (
    *("machineID", "systemUUID", "bootID", "kernelVersion", "osImage", "containerRuntimeVersion"),
    *("kubeletVersion", "kubeProxyVersion", "operatingSystem", "architecture"),
)

Item = dict[str, Any]
Errors = list[FieldError]


def _unchanged(item: Item) -> None:
    """Nothing to add."""


def _no_errors(new: Mapping[str, Any], old: Mapping[str, Any]) -> Errors:
    return []


def _plain_errors(item: Mapping[str, Any]) -> Errors:
    return metadata_errors(item["metadata"])


@dataclass(frozen=True)
class Strategy:
    """How one kind is treated.

    Attributes:
        defaults: fills in a new or changed object, in place.
        creation: sets what only a new object gets, in place; a status sent by the client is dropped before it.
        errors: what is wrong with an object.
        update_errors: what may not change, given the new and the old object.
        has_status: whether `status` is written through its own address only.
        has_generation: whether `metadata.generation` counts changes of the spec.
    """

    defaults: Callable[[Item], None] = _unchanged
    creation: Callable[[Item], None] = _unchanged
    errors: Callable[[Mapping[str, Any]], Errors] = _plain_errors
    update_errors: Callable[[Mapping[str, Any], Mapping[str, Any]], Errors] = _no_errors
    has_status: bool = False
    has_generation: bool = False


def _new_pod(pod: Item) -> None:
    pod_defaults.apply_admission(pod)
    pod["metadata"]["generation"] = 1
    pod["status"] = {"phase": "Pending", "qosClass": pod_defaults.qos_class(pod["spec"])}
    if pod["spec"].get("schedulingGates"):
        gated = {"type": "PodScheduled", "status": "False", "reason": "SchedulingGated", "message": _GATED}
        pod["status"]["conditions"] = [{**gated, "lastProbeTime": None, "lastTransitionTime": None}]


def _new_namespace(namespace: Item) -> None:
    namespace["spec"] = {"finalizers": ["kubernetes"]}
    namespace["status"] = {"phase": "Active"}


def _default_namespace(namespace: Item) -> None:
    metadata = namespace["metadata"]
    metadata["labels"] = {**(metadata.get("labels") or {}), "kubernetes.io/metadata.name": metadata.get("name", "")}


def _namespace_errors(namespace: Mapping[str, Any]) -> Errors:
    return metadata_errors(namespace["metadata"], dns_label_name=True)


def _default_secret(secret: Item) -> None:
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in secret.pop("stringData", {}).items()}
    if encoded or secret.get("data"):
        secret["data"] = {**(secret.get("data") or {}), **encoded}
    secret["type"] = secret.get("type") or "Opaque"


def _data_errors(item: Mapping[str, Any]) -> Errors:
    errors = metadata_errors(item["metadata"])
    data: Mapping[str, str] = item.get("data") or {}
    for key in data:
        errors += [invalid_value(f"data[{key}]", key, problem) for problem in config_key_problems(key)]
    if sum(map(len, data.values())) > _MAX_DATA_BYTES:
        message = f"Too long: may not be more than {_MAX_DATA_BYTES} bytes"
        errors.append(FieldError("data", "FieldValueTooLong", message))
    return errors


def _default_event(event: Item) -> None:
    event.setdefault("source", {})
    for key in ("firstTimestamp", "lastTimestamp", "eventTime"):
        event.setdefault(key, None)
    for key in ("reportingComponent", "reportingInstance"):
        event.setdefault(key, "")


def _new_node(node: Item) -> None:
    spec = node.setdefault("spec", {})
    # A node that joins is kept free of pods until its kubelet has said that it is ready.
    taints = spec.setdefault("taints", [])
    if not any(taint.get("key") == _NOT_READY["key"] for taint in taints):
        taints.append(dict(_NOT_READY))
    status = node.setdefault("status", {})
    status.setdefault("daemonEndpoints", {"kubeletEndpoint": {"Port": 0}})
    status.setdefault("nodeInfo", dict.fromkeys(_NODE_INFO, ""))


STRATEGIES: Mapping[str, Strategy] = {
    "pods": Strategy(
        defaults=pod_defaults.apply_defaults,
        creation=_new_pod,
        errors=pod_errors,
        update_errors=pod_update_errors,
        has_status=True,
        has_generation=True,
    ),
    "namespaces": Strategy(
        defaults=_default_namespace, creation=_new_namespace, errors=_namespace_errors, has_status=True
    ),
    "secrets": Strategy(defaults=_default_secret, errors=_data_errors),
    "configmaps": Strategy(errors=_data_errors),
    "events": Strategy(defaults=_default_event),
    "nodes": Strategy(creation=_new_node, has_status=True),
    "serviceaccounts": Strategy(),
}
