"""Events about pods, in the two shapes a cluster has: the kubelet's with counts, the scheduler's with `eventTime`."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from kpo_multicluster.testing.apiserver.timestamps import to_microseconds, to_seconds
from kpo_multicluster.testing.store import Store

SCHEDULER = "default-scheduler"
# As long as real clusters keep them by default.
_LIFE_SECONDS = 3600.0


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
        self._ends: deque[tuple[float, str, str]] = deque()
        self._counted: dict[tuple[str, str, str, str], str] = {}

    def from_kubelet(self, pod: Mapping[str, Any], type: str, reason: str, message: str, field_path: str = "") -> None:
        """Records what a kubelet tells of a pod; the same again counts up what is there."""
        self._forget()
        now = to_seconds(self._clock())
        involved = _reference(pod)
        if field_path:
            involved["fieldPath"] = field_path
        key = (involved["uid"], field_path, reason, message)
        known = self._store.get("events", involved["namespace"], self._counted.get(key, ""))
        if known is not None:
            event = copy.deepcopy(known)
            event["count"] += 1
            event["lastTimestamp"] = now
            self._store.put("events", event)
            return
        node = pod["spec"].get("nodeName", "")
        self._counted[key] = self._add(
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
        self._forget()
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

    def _add(self, pod: Mapping[str, Any], body: Mapping[str, Any]) -> str:
        namespace, now = pod["metadata"]["namespace"], self._clock()
        # Events of one pod are told apart by the nanosecond they were made in; the version keeps the name unique.
        suffix = int(now * 1e9) + self._store.version
        name = f"{pod['metadata']['name']}.{suffix:x}"
        metadata = {
            "name": name,
            "namespace": namespace,
            "uid": self._new_uid(),
            "creationTimestamp": to_seconds(now),
        }
        self._store.put("events", {"kind": "Event", "apiVersion": "v1", "metadata": metadata, **body})
        self._ends.append((now + _LIFE_SECONDS, namespace, name))
        return name

    def _forget(self) -> None:
        now = self._clock()
        while self._ends and self._ends[0][0] <= now:
            _, namespace, name = self._ends.popleft()
            if self._store.get("events", namespace, name) is not None:
                self._store.delete("events", namespace, name)
        if len(self._counted) > 2 * len(self._ends):
            kept = {name for _, _, name in self._ends}
            self._counted = {key: name for key, name in self._counted.items() if name in kept}


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
