"""Runs DAGs by `airflow dags test` and reports each task: where it ran, how long, with which result."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from demo.airflow_home import AirflowHome, TaskState
from demo.clusters import Clusters, Placement
from demo.report import Row
from demo.task_log import DagTestLog, TaskLog

_GOOD_STATES = ("success", "skipped")
_TAIL_LINES = 25


@dataclass(frozen=True)
class Dag:
    """A DAG to run.

    Attributes:
        dag_id: of the DAG.
        path: its file.
        clusters: the cluster that each of its pods must run on, by task id; empty if anyone's guess is as good.
        needs: the program that stands for its image on an embedded cluster; empty if it needs none.
        needs_name: what people call that program.
    """

    dag_id: str
    path: Path
    clusters: Mapping[str, str] = field(default_factory=dict)
    needs: str = ""
    needs_name: str = ""

    def moved(self, names: Mapping[str, str]) -> Dag:
        """It with other clusters in place of some, by their names."""
        clusters = {task_id: names.get(cluster, cluster) for task_id, cluster in self.clusters.items()}
        return replace(self, clusters=clusters)


def say(text: str = "") -> None:
    """Tells the user something, at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


class Runner:
    """Runs DAGs one after the other.

    Args:
        home: the Airflow to run them in.
        clusters: what their pods run on.
    """

    def __init__(self, home: AirflowHome, clusters: Clusters) -> None:
        self._home = home
        self._clusters = clusters

    def run(self, dag: Dag) -> list[Row]:
        """Runs a DAG; says what its pods print meanwhile."""
        if dag.needs and shutil.which(dag.needs) is None:
            say(f"{dag.dag_id}: not run, as {dag.needs_name} is not installed here")
            return [Row(dag.dag_id, task_id, f"skipped: no {dag.needs_name}") for task_id in dag.clusters]
        say(f"{dag.dag_id}: airflow dags test {dag.dag_id}")
        began = time.monotonic()
        log = DagTestLog(lambda task_id, line: say(f"    {task_id} | {line}"))
        code = self._home.test_dag(dag.dag_id, dag.path, log.feed)
        rows = []
        for task in self._home.task_states(dag.dag_id):
            task_log = log.tasks.get((task.task_id, task.map_index)) or TaskLog()
            rows.append(row_of(dag, task, task_log, self._clusters.placement(dag.dag_id, task.task_id, task_log)))
        if all(row.ok for row in rows) and (code or not rows):
            rows.append(Row(dag.dag_id, "-", f"exit code {code}" if code else "no task ran", ok=False))
        if not all(row.ok for row in rows):
            _tell_failure(code, log)
        say(f"    done in {time.monotonic() - began:.1f} s")
        return rows


def row_of(dag: Dag, task: TaskState, log: TaskLog, placement: Placement) -> Row:
    """What became of a task. One that succeeded elsewhere than it should have is a failure."""
    state, result = task.state, task.xcom
    if state == "failed" and log.errors:
        result = log.errors[-1]
    elif result is None:
        result = log.last_line or None
    expected = dag.clusters.get(task.task_id)
    fault = placement.fault
    if not fault and expected is not None and state == "success" and placement.cluster != expected:
        fault = f"expected on cluster {expected}"
    if fault:
        state, result = "wrong cluster", fault
    return Row(
        dag_id=dag.dag_id,
        task_id=task.task_id if task.map_index < 0 else f"{task.task_id}[{task.map_index}]",
        state=state,
        cluster=placement.cluster,
        pod=placement.pod,
        node=placement.node,
        seconds=log.seconds,
        result=result,
        server=log.server,
        ok=state in _GOOD_STATES,
    )


def summary(rows: Sequence[Row], left: Sequence[str]) -> str:
    """One line for the end."""
    failed = [row for row in rows if row.ok is False]
    skipped = [row for row in rows if row.ok is None]
    pods = [row for row in rows if row.ok and row.pod]
    clusters = {row.cluster for row in pods}
    done = _counted(sum(1 for row in rows if row.ok), "task")
    parts = [f"{done} done, {len(pods)} of them in pods on {_counted(len(clusters), 'cluster')}"]
    if skipped:
        parts.append(f"{len(skipped)} not run")
    if failed:
        parts.append(f"{len(failed)} FAILED")
    if left:
        parts.append(f"left behind: {', '.join(left)}")
    return "; ".join(parts) + "."


def _tell_failure(code: int, log: DagTestLog) -> None:
    say(f"    FAILED: airflow dags test ended with exit code {code}; the end of what it said:")
    for line in "\n".join(log.raw).splitlines()[-_TAIL_LINES:]:
        say(f"    ! {line}")


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
