"""Tells when a node can no longer be expected to confirm the end of a pod.

A pod that is deleted stays until the kubelet of its node has seen it end. A node that is lost for good never does: once
its pods are evicted they are there, about to go, for ever. A kubelet that is merely slow still reports what becomes of
the containers; so the time begins anew with every change of the pod, and it is much longer where nothing says that the
deletion was for the node's sake.
"""

from __future__ import annotations

from typing import Any

from kpo_multicluster.pods.status import disruption

# By the time it evicts, Kubernetes has not heard of the node for minutes.
_EVICTED_FROM_NODE = ("DeletionByTaintManager", "DeletionByPodGC", "NodeLost")
_BENEFIT_OF_DOUBT = 5


def confirmation_seconds(pod: dict[str, Any], margin_seconds: float) -> float | None:
    """How long after the pod's last change its end is waited for; None for one that is not being deleted.

    Args:
        pod: as last seen.
        margin_seconds: beyond the pod's own grace period, where its node is in trouble; five times that elsewhere.
    """
    metadata = pod["metadata"]
    if "deletionTimestamp" not in metadata:
        return None
    reason = disruption(pod) or str(pod.get("status", {}).get("reason") or "")
    certain = reason.startswith(_EVICTED_FROM_NODE)
    margin_seconds *= 1 if certain else _BENEFIT_OF_DOUBT
    return int(metadata.get("deletionGracePeriodSeconds") or 0) + margin_seconds


def as_lost(pod: dict[str, Any], seconds: float) -> dict[str, Any]:
    """The pod as Kubernetes would report it if it knew that the node is gone.

    Args:
        pod: as last seen.
        seconds: for how long nothing was heard of it.
    """
    node = pod.get("spec", {}).get("nodeName")
    why = disruption(pod)
    message = f"node {node!r} has not confirmed for {seconds:g} s that the pod, whose deletion was asked for, has ended"
    status = {**pod.get("status", {}), "reason": "NodeLost", "message": f"{message} ({why})" if why else message}
    return {**pod, "status": status}
