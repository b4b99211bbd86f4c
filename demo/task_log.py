"""Reads the log of `airflow dags test`: which task runs, what its pod prints, how long it takes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

_TEST_STARTING = re.compile(r"^\[DAG TEST\] starting task_id=(\S+) map_index=(-?\d+)")
_TEST_ENDED = "[DAG TEST] end task"
_POD = re.compile(r"^(?:Created pod|Going on with pod) (\S+)(?: on (\S+) \((.*)\))?")
_POD_LINE = re.compile(r"^\[([a-z0-9]([-a-z0-9]*[a-z0-9])?)\] (?P<text>.*)")
# Airflow frames what happens before and after a task's own code by these.
_BEFORE_ENDS = "::endgroup::"
_AFTER_BEGINS = "::group::Post Execute"

TaskKey = tuple[str, int]


@dataclass
class TaskLog:
    """What the log says of one task's latest try.

    Attributes:
        pod: namespace and name, as `NAMESPACE/NAME`; empty when the task ran none.
        server: address of the API server that the pod was created at.
        source: what named that cluster.
        last_line: the last that the pod printed.
        errors: error messages, first to last.
    """

    pod: str = ""
    server: str = ""
    source: str = ""
    last_line: str = ""
    errors: list[str] = field(default_factory=list)
    _began: float | None = None
    _ended: float | None = None

    @property
    def seconds(self) -> float | None:
        """How long the task's own code took: Airflow's start-up is not in it. None if it never ran."""
        return None if self._began is None or self._ended is None else self._ended - self._began

    def mark(self, event: str, at: float) -> None:
        """Takes note of a line that Airflow itself wrote."""
        if event == _BEFORE_ENDS and self._began is None:
            self._began = at
        elif event == _AFTER_BEGINS:
            self._ended = at


class DagTestLog:
    """Takes the lines of one `airflow dags test`, written as JSON.

    Args:
        tell: is given the task's id and each line its pod prints.

    Attributes:
        tasks: by id and map index, in the order in which they began.
        raw: every line that was not written by Airflow's logging, and every error.
    """

    def __init__(self, tell: Callable[[str, str], None]) -> None:
        self.tasks: dict[TaskKey, TaskLog] = {}
        self.raw: list[str] = []
        self._tell = tell
        self._current: TaskKey | None = None

    def feed(self, line: str) -> None:
        """Takes the next line."""
        entry = _entry(line)
        if entry is None:
            self.raw.append(line)
            return
        event = str(entry["event"])
        starting = _TEST_STARTING.match(event)
        if starting:
            self._current = (starting[1], int(starting[2]))
            self.tasks[self._current] = TaskLog()
        elif event.startswith(_TEST_ENDED):
            self._current = None
        elif entry.get("level") in ("error", "critical"):
            self._take_error(event, entry)
        elif self._current is not None:
            self._take(self.tasks[self._current], self._current[0], event, entry)

    def _take(self, task: TaskLog, task_id: str, event: str, entry: dict[str, Any]) -> None:
        if entry.get("logger") == "task":
            task.mark(event, _seconds(entry))
            return
        pod, printed = _POD.match(event), _POD_LINE.match(event)
        if pod:
            task.pod, task.server, task.source = pod[1], pod[2] or task.server, pod[3] or task.source
        elif printed and task.pod:
            task.last_line = printed["text"]
            self._tell(task_id, printed["text"])

    def _take_error(self, event: str, entry: dict[str, Any]) -> None:
        raised = [f"{one.get('exc_type')}: {one.get('exc_value')}" for one in entry.get("exception") or ()]
        # The exception itself says more than "Task failed with exception".
        text = raised[0] if raised else event
        self.raw.append(text)
        if self._current is not None:
            self.tasks[self._current].errors.append(text)


def _entry(line: str) -> dict[str, Any] | None:
    if not line.startswith("{"):
        return None
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) and "event" in entry else None


def _seconds(entry: dict[str, Any]) -> float:
    # Python 3.10 reads no "Z".
    return datetime.fromisoformat(str(entry["timestamp"]).replace("Z", "+00:00")).timestamp()
