"""Remembers a task's pod across tries in Airflow's task state store, where there is one (Airflow 3.3).

It finds the pod where the role may not list pods, and pins it by its uid.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from kpo_multicluster.airflow_names import Context

# Upstream's key and fields, to which uid and cluster are added: a task that moves to this operator finds its pod.
POD_IDENTIFIER_STATE_KEY = "pod_identifier"


@dataclass(frozen=True)
class Remembered:
    """A pod that an earlier try ran.

    Attributes:
        namespace: of the pod.
        name: of the pod.
        uid: of the pod; None where upstream's operator remembered it.
        cluster: fingerprint of the cluster; None likewise.
    """

    namespace: str
    name: str
    uid: str | None = None
    cluster: str | None = None


def recall(context: Context) -> Remembered | None:
    """The pod remembered by an earlier try; None if there is none, or no store."""
    store = _store(context)
    stored = store.get(POD_IDENTIFIER_STATE_KEY) if store is not None else None
    if not isinstance(stored, dict):
        return None
    name, namespace = stored.get("name"), stored.get("namespace")
    if not isinstance(name, str) or not isinstance(namespace, str):
        return None
    return Remembered(namespace, name, stored.get("uid"), stored.get("cluster"))


def remember(context: Context, pod: Remembered) -> None:
    """Remembers a pod for later tries."""
    store = _store(context)
    if store is not None:
        store.set(
            POD_IDENTIFIER_STATE_KEY,
            {"namespace": pod.namespace, "name": pod.name, "uid": pod.uid, "cluster": pod.cluster},
        )


def _store(context: Context) -> Any:
    # Not a key of Context before Airflow 3.3.
    return cast("dict[str, Any]", context).get("task_state_store")
