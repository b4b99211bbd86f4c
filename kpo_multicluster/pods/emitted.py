"""What a run tells while it goes on. Imports nothing heavy: the Airflow edge knows these types at DAG parse."""

from __future__ import annotations

from typing import NamedTuple

from kpo_multicluster.pods.logs import LogLine


class LogBatch(NamedTuple):
    """Lines of one container that arrived together."""

    container: str
    lines: list[LogLine]


class Notice(NamedTuple):
    """Something the user should know about the run."""

    level: str
    text: str


class PodEvent(NamedTuple):
    """An event that Kubernetes recorded about the pod.

    Attributes:
        type: Normal or Warning.
        reason: such as FailedScheduling.
        message: in the words of who recorded it.
    """

    type: str
    reason: str
    message: str
