"""How long the parts of a run took, told to Airflow's metrics."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any

from kpo_multicluster.airflow_names import tell_timing
from kpo_multicluster.pods.status import Pod, container_status

PREFIX = "kpo_multicluster.pod."


def phase_seconds(pod: Pod, base: str) -> dict[str, float]:
    """Seconds that a pod took to be scheduled, to start, and to run, as far as it came; by its cluster's own clock.

    Kubernetes keeps whole seconds.

    Args:
        pod: as last seen.
        base: the container that does the work.
    """
    state = (container_status(pod, base) or {}).get("state") or {}
    running, ended = state.get("running") or {}, state.get("terminated") or {}
    scheduled = next(
        (
            condition.get("lastTransitionTime")
            for condition in (pod.get("status") or {}).get("conditions") or ()
            if condition.get("type") == "PodScheduled" and condition.get("status") == "True"
        ),
        None,
    )
    moments = [
        pod["metadata"].get("creationTimestamp"),
        scheduled,
        ended.get("startedAt") or running.get("startedAt"),
        ended.get("finishedAt"),
    ]
    times = [_time(moment) for moment in moments]
    return {
        phase: max(0.0, (end - begin).total_seconds())
        for phase, begin, end in zip(("schedule", "start", "run"), times[:-1], times[1:], strict=True)
        if begin is not None and end is not None
    }


@contextmanager
def timings_told(pod: Pod, base: str, ti: Any) -> Iterator[None]:
    """Within it, a task does what is left to do after its run; after it, Airflow's metrics are told how long all took.

    They are `kpo_multicluster.pod.schedule`, `start`, `run` and `cleanup`, with the tags `dag_id` and `task_id`.

    Args:
        pod: as last seen.
        base: the container that does the work.
        ti: the task instance.
    """
    ended = time.monotonic()
    try:
        yield
    finally:
        # Whatever is wrong with the metrics, a run has ended as it has ended.
        with suppress(Exception):
            tags = {"dag_id": ti.dag_id, "task_id": ti.task_id}
            for phase, seconds in {**phase_seconds(pod, base), "cleanup": time.monotonic() - ended}.items():
                tell_timing(PREFIX + phase, seconds, tags)


def _time(text: Any) -> datetime | None:
    # A container that never started has the Unix epoch as its start.
    if not isinstance(text, str) or text.startswith("1970-"):
        return None
    return datetime.fromisoformat(text.replace("Z", "+00:00"))
