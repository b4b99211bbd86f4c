from __future__ import annotations

import json
from pathlib import Path

from demo.airflow_home import TaskState
from demo.clusters import Placement
from demo.report import Row, table, to_json
from demo.run import Dag, row_of, summary
from demo.task_log import TaskLog

DAG = Dag("d", Path("d.py"), {"t": "alpha"})


def row(
    state: str = "success", *, on: str = "alpha", fault: str = "", xcom: object = None, log: TaskLog | None = None
) -> Row:
    return row_of(DAG, TaskState("t", -1, state, xcom), log or TaskLog(), Placement(on, "t-1", "n-1", fault))


def test_a_task_that_did_what_it_should() -> None:
    assert row(log=TaskLog(last_line="said")) == Row("d", "t", "success", "alpha", "t-1", "n-1", result="said", ok=True)
    assert row(xcom={"a": 1}, log=TaskLog(last_line="said")).result == {"a": 1}
    assert row(xcom=0, log=TaskLog(last_line="said")).result == 0


def test_a_pod_on_another_cluster_than_it_should_be_is_a_failure() -> None:
    found = row(on="beta")
    assert (found.ok, found.state, found.result) == (False, "wrong cluster", "expected on cluster alpha")


def test_no_pod_where_there_should_be_one_is_a_failure() -> None:
    assert row(on="").ok is False


def test_a_contradicted_task_is_a_failure() -> None:
    found = row(fault="no such pod was created")
    assert (found.ok, found.state, found.result) == (False, "wrong cluster", "no such pod was created")


def test_a_failed_task_tells_why() -> None:
    found = row("failed", log=TaskLog(last_line="said", errors=["first", "PodFailedError: exit code 3"]))
    assert (found.ok, found.state, found.result) == (False, "failed", "PodFailedError: exit code 3")


def test_a_task_that_never_ran_is_a_failure() -> None:
    assert row("upstream_failed").ok is False
    assert row("none").ok is False


def test_the_table_is_aligned_and_short() -> None:
    rows = [
        Row("d", "a", "success", "alpha", "a-1", "n-1", 1.234, "x" * 100, ok=True),
        Row("longer", "b", "failed", result="first\nsecond", ok=False),
        Row("d", "c", "success", result=17, ok=True),
    ]
    lines = table(rows).splitlines()
    assert lines[0].split() == ["DAG", "task", "cluster", "node", "seconds", "state", "result"]
    assert lines[2].split() == ["d", "a", "alpha", "n-1", "1.23", "success", "x" * 56, "..."]
    assert lines[3].split() == ["longer", "b", "-", "-", "failed", "first", "..."]
    assert lines[4].split()[-1] == "17"
    assert (
        len({line.index("state") if "state" in line else line.rindex("success") for line in (lines[0], lines[2])}) == 1
    )


def test_json_holds_every_row() -> None:
    assert [entry["task_id"] for entry in json.loads(to_json([row(), row("failed")]))] == ["t", "t"]


def test_the_summary_counts_what_was_not_run_apart() -> None:
    rows = [row(), Row("h", "s", "skipped: no ghc"), row("failed")]
    told = summary(rows, ["alpha: pod default/t-1"])
    done = "1 task done, 1 of them in pods on 1 cluster; 1 not run; 1 FAILED"
    assert told == f"{done}; left behind: alpha: pod default/t-1."
