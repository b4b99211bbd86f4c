"""Tells a pod that is gone from one that was never there: another cluster may stand at the address of the one before.

A cluster counts every change, and a list tells how far it has come. One that has not come as far as a pod that was seen
on it is another, or was set back to a backup.
"""

from __future__ import annotations

from typing import Any

from kpo_multicluster.pods.status import REPLACED


def is_behind(version: str, pod: dict[str, Any]) -> bool:
    """Whether a cluster has not come as far as a pod that was seen on it.

    Args:
        version: resource version of a collection of the cluster.
        pod: as last seen.
    """
    known = str(pod["metadata"].get("resourceVersion", ""))
    # Where a server has others than numbers, they tell nothing.
    return version.isdecimal() and known.isdecimal() and int(version) < int(known)


def as_replaced(pod: dict[str, Any], version: str, server: str) -> dict[str, Any]:
    """A pod that is not there, with the reason.

    Args:
        pod: as last seen.
        version: resource version of a collection of the cluster, just asked for.
        server: the cluster's address.
    """
    if not is_behind(version, pod):
        return pod
    message = (
        f"what is at {server} now is another cluster than the one the pod was created on, or was set back to a backup: "
        f"it counts {version} changes, and the pod was seen at {pod['metadata']['resourceVersion']}"
    )
    return {**pod, "status": {**pod.get("status", {}), "reason": REPLACED, "message": message}}
