"""A task that is killed, as Airflow kills one: SIGTERM, whose handler in the main thread calls `on_kill`.

The task runs in a process of its own. Airflow's handler raises nothing, so the task must end by itself, and within the
five seconds after which SIGKILL follows.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kpo_multicluster.testing.cluster import EmbeddedCluster

TASK = """
import json, logging, os, signal, sys, time, uuid
from airflow.sdk import BaseHook
from kpo_multicluster.operators.pod import KubernetesPodOperator

options = json.loads(sys.argv[1])
logging.basicConfig(level=logging.INFO, stream=open(options["log"], "w"), format="%(message)s", force=True)

class TaskInstance:
    task_id, dag_id, run_id, map_index, try_number, max_tries = "task", "dag", "run", -1, 1, 1
    id = uuid.uuid4()
    def xcom_push(self, key, value):
        print("pushed", key, value, flush=True)

if options["slow_lookup"]:
    lookup = BaseHook.get_connection
    def get_connection(conn_id):
        print("looking up", flush=True)
        until = time.monotonic() + 1
        while time.monotonic() < until:  # a call to the supervisor goes on after the handler has returned
            time.sleep(0.05)
        return lookup(conn_id)
    BaseHook.get_connection = get_connection

operator = KubernetesPodOperator(task_id="task", kubernetes_conn_id="cluster", image="alpine:3", **options["arguments"])
signal.signal(signal.SIGTERM, lambda number, frame: operator.on_kill())
try:
    operator.execute({"ti": TaskInstance()})
    ended = "succeeded"
except BaseException as error:
    ended = f"{type(error).__name__}: {error}"
print(json.dumps({"ended": ended}), flush=True)
"""


class Task:
    """The process."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self.process = process
        self.log = log
        self.output: list[str] = []

    def read_until(self, word: str) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.output.append(line)
            if word in line:
                return
        pytest.fail(f"the task ended before {word!r}: {self.output}")

    def terminate(self) -> tuple[str, float]:
        """What the task ended with, and the seconds it took to."""
        started = time.monotonic()
        self.process.terminate()
        rest, _ = self.process.communicate(timeout=20)
        return json.loads(rest.splitlines()[-1])["ended"], time.monotonic() - started


@pytest.fixture
def start(config: Path, tmp_path: Path) -> Iterator[Any]:
    tasks: list[Task] = []

    def start(*, slow_lookup: bool = False, **arguments: Any) -> Task:
        connection = {"conn_type": "kubernetes", "extra": {"kube_config_path": str(config)}}
        options = {"log": str(tmp_path / "log"), "slow_lookup": slow_lookup, "arguments": arguments}
        process = subprocess.Popen(
            [sys.executable, "-c", TASK, json.dumps(options)],
            stdout=subprocess.PIPE,
            text=True,
            env={
                "PATH": "/usr/bin:/bin",
                "AIRFLOW_HOME": str(tmp_path / "airflow"),
                "AIRFLOW_CONN_CLUSTER": json.dumps(connection),
            },
        )
        tasks.append(Task(process, tmp_path / "log"))
        return tasks[-1]

    yield start
    for task in tasks:
        if task.process.poll() is None:
            task.process.kill()
        task.process.communicate()


def all_gone(pods: list[dict[str, Any]]) -> bool:
    return pods == []


def test_during_the_run_the_pod_is_deleted_and_the_task_fails(cluster: EmbeddedCluster, start: Any) -> None:
    task = start(cmds=["sleep", "300"], termination_grace_period=0)
    task.read_until("pushed pod_namespace")
    ended, seconds = task.terminate()
    assert ended.startswith("PodRunError: The task was killed. Pod default/task-")
    assert seconds < 5
    cluster.wait_until(all_gone)


def test_during_a_connection_lookup_no_pod_is_started(cluster: EmbeddedCluster, start: Any) -> None:
    task = start(cmds=["sleep", "300"], slow_lookup=True)
    task.read_until("looking up")
    ended, seconds = task.terminate()
    assert ended == "PodRunError: The task was killed before its pod was created."
    assert seconds < 5
    assert cluster.requests.counts().get("create", 0) == 0


def test_during_200000_log_lines(cluster: EmbeddedCluster, start: Any) -> None:
    task = start(cmds=["sh", "-c"], arguments=["seq 200000; sleep 300"], termination_grace_period=0)
    task.read_until("pushed pod_namespace")
    deadline = time.monotonic() + 20
    while not (task.log.exists() and task.log.stat().st_size > 20_000) and time.monotonic() < deadline:
        time.sleep(0.01)
    ended, seconds = task.terminate()
    assert ended.startswith("PodRunError: The task was killed.")
    assert seconds < 5
    cluster.wait_until(all_gone)


def test_while_the_pod_s_creation_is_unanswered_the_pod_is_found_and_deleted(
    cluster: EmbeddedCluster, start: Any
) -> None:
    with cluster.faults.drop("^create ", processed=True), cluster.faults.black_hole("^create ") as held:
        task = start(cmds=["sleep", "300"], termination_grace_period=0)
        held.wait(hits=1)
        ended, seconds = task.terminate()
    assert ended.startswith("PodRunError: The task was killed. Pod default/task-")
    assert seconds < 5
    cluster.wait_until(all_gone)


def test_with_an_api_server_that_no_longer_answers_the_pod_that_may_remain_is_named(
    cluster: EmbeddedCluster, start: Any
) -> None:
    task = start(cmds=["sleep", "300"])
    task.read_until("pushed pod_namespace")
    with cluster.faults.black_hole():
        ended, seconds = task.terminate()
    (pod,) = cluster.pods()
    assert seconds < 5
    assert f"default/{pod['metadata']['name']}" in ended
    assert "may still be running" in ended


def test_a_pod_that_is_to_be_kept_is_kept(cluster: EmbeddedCluster, start: Any) -> None:
    task = start(cmds=["sleep", "300"], on_kill_action="keep_pod")
    task.read_until("pushed pod_namespace")
    _, seconds = task.terminate()
    assert seconds < 5
    assert len(cluster.pods()) == 1
