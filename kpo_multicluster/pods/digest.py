"""What the steps of a run need of a pod, without the rest.

It is kept of each pod that is waited for with a thousand others, and stored while a task is deferred. It holds no
environment, arguments, annotations or labels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

_METADATA = (
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
)
_SPEC = ("nodeName", "restartPolicy", "terminationGracePeriodSeconds")
_CONTAINER = ("name", "restartPolicy")
_STATUS = ("phase", "reason", "message", "startTime")
_CONDITION = ("type", "status", "reason", "message", "lastTransitionTime")
_CONTAINER_STATUS = ("name", "image", "state", "lastState", "restartCount", "started")


def digest(pod: Mapping[str, Any]) -> dict[str, Any]:
    """The pod, reduced; a digest of a digest is the same."""
    spec, status = pod.get("spec") or {}, pod.get("status") or {}
    return {
        "metadata": _picked(pod["metadata"], _METADATA),
        "spec": {
            **_picked(spec, _SPEC),
            **{
                field: _each(spec.get(field), _CONTAINER)
                for field in ("containers", "initContainers")
                if spec.get(field)
            },
        },
        "status": {
            **_picked(status, _STATUS),
            "conditions": _each(status.get("conditions"), _CONDITION),
            "initContainerStatuses": _each(status.get("initContainerStatuses"), _CONTAINER_STATUS),
            "containerStatuses": _each(status.get("containerStatuses"), _CONTAINER_STATUS),
        },
    }


def _picked(value: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return {name: value[name] for name in names if name in value}


def _each(values: Iterable[Mapping[str, Any]] | None, names: Iterable[str]) -> list[dict[str, Any]]:
    return [_picked(value, names) for value in values or ()]
