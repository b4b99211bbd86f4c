"""Paths of the API resources that a run uses (core/v1)."""

from __future__ import annotations

from kpo_multicluster.pods.status import Pod


def pods_path(namespace: str) -> str:
    """The pods of a namespace."""
    return f"/api/v1/namespaces/{namespace}/pods"


def all_pods_path() -> str:
    """The pods of all namespaces."""
    return "/api/v1/pods"


def pod_path(pod: Pod, subresource: str = "") -> str:
    """One pod, or a subresource of it such as `log` or `exec`."""
    metadata = pod["metadata"]
    path = f"{pods_path(metadata['namespace'])}/{metadata['name']}"
    return f"{path}/{subresource}" if subresource else path


def events_path(namespace: str) -> str:
    """The events of a namespace."""
    return f"/api/v1/namespaces/{namespace}/events"
