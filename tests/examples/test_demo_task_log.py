from __future__ import annotations

import json
from typing import Any

from demo.task_log import DagTestLog


def line(
    event: str, at: float = 0.0, *, logger: str = "airflow.task.operators", level: str = "info", **more: Any
) -> str:
    timestamp = f"2026-11-21T06:39:{at:09.6f}Z"
    return json.dumps({"timestamp": timestamp, "level": level, "event": event, "logger": logger, **more})


def starting(task_id: str, map_index: int = -1) -> str:
    return line(f"[DAG TEST] starting task_id={task_id} map_index={map_index}")


def ended(task_id: str) -> str:
    return line(f"[DAG TEST] end task task_id={task_id} map_index=-1")


def read(*lines: str) -> tuple[DagTestLog, list[tuple[str, str]]]:
    told: list[tuple[str, str]] = []
    log = DagTestLog(lambda task_id, text: told.append((task_id, text)))
    for one in lines:
        log.feed(one)
    return log, told


def test_a_pod_task() -> None:
    log, told = read(
        line("Filling up the DagBag"),
        starting("hello"),
        line("Task started", 1.0, logger="airflow.api"),
        line("::endgroup::", 2.25, logger="task"),
        line("Created pod ns/hello-x1 on https://127.0.0.1:1234 (context 'a (b)' of /tmp/k)."),
        line("[base] first"),
        line("[base] last: [x]"),
        line("::group::Post Execute", 2.75, logger="task"),
        line("::endgroup::", 9.0, logger="task"),
        ended("hello"),
    )
    task = log.tasks["hello", -1]
    assert (task.pod, task.server, task.source) == (
        "ns/hello-x1",
        "https://127.0.0.1:1234",
        "context 'a (b)' of /tmp/k",
    )
    assert task.seconds == 0.5
    assert task.last_line == "last: [x]"
    assert told == [("hello", "first"), ("hello", "last: [x]")]
    assert log.raw == []


def test_a_bracketed_line_before_there_is_a_pod_is_not_the_pods() -> None:
    log, told = read(starting("plain"), line("[base] not from a pod"), ended("plain"))
    assert told == []
    assert log.tasks["plain", -1].last_line == ""
    assert log.tasks["plain", -1].seconds is None


def test_only_the_latest_try_counts() -> None:
    log, _ = read(
        starting("flaky"),
        line("Created pod ns/one on https://a (x)."),
        line("[base] no"),
        line(
            "Task failed with exception",
            level="error",
            exception=[{"exc_type": "PodFailedError", "exc_value": "exit 1"}],
        ),
        ended("flaky"),
        starting("flaky"),
        line("Created pod ns/two on https://a (x)."),
        ended("flaky"),
    )
    task = log.tasks["flaky", -1]
    assert (task.pod, task.last_line, task.errors) == ("ns/two", "", [])
    assert log.raw == ["PodFailedError: exit 1"]


def test_mapped_tasks_are_told_apart() -> None:
    log, _ = read(starting("many", 0), line("Created pod ns/zero on https://a (x)."), starting("many", 1))
    assert list(log.tasks) == [("many", 0), ("many", 1)]
    assert log.tasks["many", 0].pod == "ns/zero"


def test_what_is_no_log_entry_is_kept_as_it_is() -> None:
    log, told = read("Traceback (most recent call last):", "{not json", '["a list"]', '{"no": "event"}')
    assert log.raw == ["Traceback (most recent call last):", "{not json", '["a list"]', '{"no": "event"}']
    assert told == []
