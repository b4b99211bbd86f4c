"""Events about pods, in the two shapes a cluster has: the kubelet's with counts, the scheduler's with `eventTime`."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

from kpo_multicluster.testing.apiserver.timestamps import to_microseconds, to_seconds
from kpo_multicluster.testing.store import Store

SCHEDULER = "default-scheduler"


class EventRecorder:
    """Writes events into a store.

    Args:
        store: of the cluster.
        clock: Unix time in seconds.
        new_uid: makes the uid of an object.
    """

    def __init__(self, store: Store, clock: Callable[[], float], new_uid: Callable[[], str]) -> None:
        self._store = store
        self._clock = clock
        self._new_uid = new_uid

    def from_kubelet(self, pod: Mapping[str, Any], type: str, reason: str, message: str, field_path: str = "") -> None:
        """Records what a kubelet tells of a pod; the same again counts up what is there."""
        now = to_seconds(self._clock())
        involved = _reference(pod)
        if field_path:
            involved["fieldPath"] = field_path
        known = self._find(involved, reason, message)
        if known is not None:
            event = copy.deepcopy(known)
            event["count"] += 1
            event["lastTimestamp"] = now
            self._store.put("events", event)
            return
        node = pod["spec"].get("nodeName", "")
        self._add(
            pod,
            {
                "involvedObject": involved,
                "reason": reason,
                "message": message,
                "source": {"component": "kubelet", "host": node},
                "firstTimestamp": now,
                "lastTimestamp": now,
                "count": 1,
                "type": type,
                "eventTime": None,
                "reportingComponent": "kubelet",
                "reportingInstance": node,
            },
        )

    def from_scheduler(self, pod: Mapping[str, Any], type: str, reason: str, message: str, action: str) -> None:
        """Records what the scheduler tells of a pod."""
        self._add(
            pod,
            {
                "involvedObject": _reference(pod),
                "reason": reason,
                "message": message,
                "source": {},
                "firstTimestamp": None,
                "lastTimestamp": None,
                "type": type,
                "eventTime": to_microseconds(self._clock()),
                "action": action,
                "reportingComponent": SCHEDULER,
                "reportingInstance": f"{SCHEDULER}-embedded",
            },
        )

    def _find(self, involved: Mapping[str, Any], reason: str, message: str) -> dict[str, Any] | None:
        for event in self._store.objects("events", involved["namespace"]):
            about = event["involvedObject"]
            same = about.get("uid") == involved["uid"] and about.get("fieldPath") == involved.get("fieldPath")
            if same and event["reason"] == reason and event["message"] == message and "count" in event:
                return event
        return None

    def _add(self, pod: Mapping[str, Any], body: Mapping[str, Any]) -> None:
        namespace, now = pod["metadata"]["namespace"], self._clock()
        # Events of one pod are told apart by the nanosecond they were made in; the version keeps the name unique.
        suffix = int(now * 1e9) + self._store.version
        metadata = {
            "name": f"{pod['metadata']['name']}.{suffix:x}",
            "namespace": namespace,
            "uid": self._new_uid(),
            "creationTimestamp": to_seconds(now),
        }
        self._store.put("events", {"kind": "Event", "apiVersion": "v1", "metadata": metadata, **body})


def _reference(pod: Mapping[str, Any]) -> dict[str, Any]:
    metadata = pod["metadata"]
    return {
        "kind": "Pod",
        "namespace": metadata["namespace"],
        "name": metadata["name"],
        "uid": metadata["uid"],
        "apiVersion": "v1",
        "resourceVersion": metadata["resourceVersion"],
    }
