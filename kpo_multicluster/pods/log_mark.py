"""Notes at a pod how far its logs were read, for whoever goes on with them after the one who read them is gone.

Airflow stores nothing for a trigger once it runs; the pod is there for all of them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from kpo_multicluster.api.client import ApiClient
from kpo_multicluster.errors import KpoMulticlusterError
from kpo_multicluster.pods.logs import LogCursor
from kpo_multicluster.pods.resources import pod_path
from kpo_multicluster.pods.status import Pod, uid_of

MARK_ANNOTATION: Final = "kpo-multicluster/log-read"


@dataclass(frozen=True)
class LogMark:
    """How far logs were read.

    Attributes:
        run: tells the deferral that wrote it; another one has a log of its own, which is to be whole.
        cursors: where each log was left.
        final: whether no more was read after it.
        at: Unix time in seconds.
    """

    run: float
    cursors: Mapping[str, LogCursor]
    final: bool
    at: float = field(default_factory=time.time)


async def read_mark(api: ApiClient, pod: Pod, run: float) -> LogMark | None:
    """What was noted in the course of a deferral; None if nothing was, or cannot be read.

    Args:
        api: of the cluster.
        pod: the pod.
        run: the deferral.
    """
    try:
        found = await api.request("GET", pod_path(pod))
        value = json.loads((found["metadata"].get("annotations") or {})[MARK_ANNOTATION])
        cursors = {name: LogCursor.from_json(cursor) for name, cursor in value["cursors"].items()}
        mark = LogMark(float(value["run"]), cursors, bool(value["final"]), float(value["at"]))
    except (KpoMulticlusterError, KeyError, TypeError, ValueError, AttributeError):
        return None
    return mark if mark.run == run and uid_of(found) == uid_of(pod) else None


async def write_mark(api: ApiClient, pod: Pod, mark: LogMark) -> None:
    """Notes it.

    Args:
        api: of the cluster.
        pod: the pod; another one under its name is left alone.
        mark: to be noted.

    Raises:
        KpoMulticlusterError: it was refused or not answered.
    """
    cursors = {name: cursor.to_json() for name, cursor in mark.cursors.items()}
    value: dict[str, Any] = {"run": mark.run, "cursors": cursors, "final": mark.final, "at": round(mark.at)}
    body = {"metadata": {"uid": uid_of(pod), "annotations": {MARK_ANNOTATION: json.dumps(value)}}}
    await api.request("PATCH", pod_path(pod), body=body, content_type="application/merge-patch+json")
