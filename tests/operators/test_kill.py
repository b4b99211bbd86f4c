"""A task that is killed, as Airflow kills one: SIGTERM, whose handler in the main thread calls `on_kill`.

The task runs in a process of its own, forked as an executor forks one. Airflow's handler raises nothing, so the task
must end by itself, and within the five seconds after which SIGKILL follows.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kpo_multicluster.testing.cluster import EmbeddedCluster

from .conftest import gone

# Imports Airflow once, then forks a process for each task it is told of, one JSON line each.
EXECUTOR = """
import json, logging, os, signal, sys, time, uuid
from airflow.sdk import BaseHook
from kpo_multicluster.operators.pod import KubernetesPodOperator

class TaskInstance:
    task_id, dag_id, run_id, map_index, try_number, max_tries = "task", "dag", "run", -1, 1, 1

    def __init__(self):
        self.id = uuid.uuid4()

    def xcom_push(self, key, value):
        print("pushed", key, value, flush=True)

def run(options):
    if options["slow_lookup"]:
        lookup = BaseHook.get_connection
        def get_connection(conn_id):
            print("looking up", flush=True)
            until = time.monotonic() + 1
            while time.monotonic() < until:  # a call to the supervisor goes on after the handler has returned
                time.sleep(0.05)
            return lookup(conn_id)
        BaseHook.get_connection = get_connection
    operator = KubernetesPodOperator(
        task_id="task", kubernetes_conn_id="cluster", image="alpine:3", **options["arguments"]
    )
    logging.basicConfig(level=logging.INFO, stream=open(options["log"], "w"), format="%(message)s", force=True)
    operator._cached_logger = logging.getLogger("task")
    signal.signal(signal.SIGTERM, lambda number, frame: operator.on_kill())
    try:
        operator.execute({"ti": TaskInstance()})
        ended = "succeeded"
    except BaseException as error:
        ended = f"{type(error).__name__}: {error}"
    print(f"ended {ended}", flush=True)

for line in sys.stdin:
    options = json.loads(line)
    pid = os.fork()
    if pid == 0:
        os.dup2(os.open(options["output"], os.O_WRONLY), 1)
        run(options)
        os._exit(0)
    print(pid, flush=True)
    os.waitpid(pid, 0)
    print("reaped", flush=True)
"""


class Task:
    """One task's process."""

    def __init__(self, executor: subprocess.Popen[str], options: dict[str, Any]) -> None:
        assert executor.stdin is not None
        assert executor.stdout is not None
        self._executor = executor
        self.log = Path(options["log"])
        os.mkfifo(options["output"])
        executor.stdin.write(json.dumps(options) + "\n")
        executor.stdin.flush()
        self.pid = int(executor.stdout.readline())
        self._output = Path(options["output"]).open()  # noqa: SIM115 - closed with the task

    def read_until(self, word: str) -> str:
        for line in self._output:
            if word in line:
                return line
        pytest.fail(f"the task ended without {word!r}")

    def terminate(self) -> tuple[str, float]:
        """What the task ended with, and the seconds it took to."""
        started = time.monotonic()
        os.kill(self.pid, signal.SIGTERM)
        ended = "\n".join([self.read_until("ended ").removeprefix("ended ").strip(), *self._output])
        return ended, time.monotonic() - started

    def close(self) -> None:
        assert self._executor.stdout is not None
        self._output.close()
        if Path(f"/proc/{self.pid}").exists():
            os.kill(self.pid, signal.SIGKILL)
        assert self._executor.stdout.readline() == "reaped\n"


@pytest.fixture(scope="module")
def executor(config: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[subprocess.Popen[str]]:
    connection = {"conn_type": "kubernetes", "extra": {"kube_config_path": str(config)}}
    environment = {
        "PATH": "/usr/bin:/bin",
        "AIRFLOW_HOME": str(tmp_path_factory.mktemp("airflow")),
        "AIRFLOW_CONN_CLUSTER": json.dumps(connection),
    }
    arguments = [sys.executable, "-c", EXECUTOR]
    pipe = subprocess.PIPE
    with subprocess.Popen(arguments, stdin=pipe, stdout=pipe, text=True, env=environment) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


@pytest.fixture
def start(executor: subprocess.Popen[str], tmp_path: Path) -> Iterator[Any]:
    tasks: list[Task] = []

    def start(*, slow_lookup: bool = False, **arguments: Any) -> Task:
        paths = {"log": str(tmp_path / "log"), "output": str(tmp_path / "output")}
        tasks.append(Task(executor, {**paths, "slow_lookup": slow_lookup, "arguments": arguments}))
        return tasks[-1]

    yield start
    for task in tasks:
        task.close()


def test_during_the_run_the_pod_is_deleted_and_the_task_fails(cluster: EmbeddedCluster, start: Any) -> None:
    task = start(cmds=["sleep", "300"], termination_grace_period=0)
    task.read_until("pushed pod_namespace")
    ended, seconds = task.terminate()
    assert ended.startswith("PodRunError: The task was killed. Pod default/task-")
    assert seconds < 20
    cluster.wait_until(gone)


def test_during_a_connection_lookup_no_pod_is_started(cluster: EmbeddedCluster, start: Any) -> None:
    task = start(cmds=["sleep", "300"], slow_lookup=True)
    task.read_until("looking up")
    ended, seconds = task.terminate()
    assert ended == "PodRunError: The task was killed before its pod was created."
    assert seconds < 20
    assert cluster.requests.counts().get("create", 0) == 0


def test_during_200000_log_lines(cluster: EmbeddedCluster, start: Any) -> None:
    task = start(cmds=["sh", "-c"], arguments=["seq 200000; sleep 300"], termination_grace_period=0)
    task.read_until("pushed pod_namespace")
    deadline = time.monotonic() + 20
    while not (task.log.exists() and task.log.stat().st_size > 20_000):
        assert time.monotonic() < deadline
        time.sleep(0.001)
    ended, seconds = task.terminate()
    assert task.log.read_text().count("\n") < 190_000, "it was to be killed in the middle"
    assert ended.startswith("PodRunError: The task was killed.")
    assert seconds < 20
    cluster.wait_until(gone)


def test_while_the_pod_s_creation_is_unanswered_the_pod_is_found_and_deleted(
    cluster: EmbeddedCluster, start: Any
) -> None:
    with cluster.faults.drop("^create ", processed=True), cluster.faults.black_hole("^create ") as held:
        task = start(cmds=["sleep", "300"], termination_grace_period=0)
        held.wait(hits=1)
        ended, seconds = task.terminate()
    assert ended.startswith("PodRunError: The task was killed. Pod default/task-")
    assert seconds < 20
    cluster.wait_until(gone)


def test_with_an_api_server_that_no_longer_answers_the_pod_that_may_remain_is_named(
    cluster: EmbeddedCluster, start: Any
) -> None:
    task = start(cmds=["sleep", "300"])
    task.read_until("pushed pod_namespace")
    with cluster.faults.black_hole():
        ended, seconds = task.terminate()
    (pod,) = cluster.pods()
    assert seconds < 20
    assert f"default/{pod['metadata']['name']}" in ended
    assert "may still be running" in ended


def test_a_pod_that_is_to_be_kept_is_kept(cluster: EmbeddedCluster, start: Any) -> None:
    task = start(cmds=["sleep", "300"], on_kill_action="keep_pod")
    task.read_until("pushed pod_namespace")
    ended, seconds = task.terminate()
    assert seconds < 20
    assert ended.endswith(" was left as it is.")
    (pod,) = cluster.pods()
    assert "deletionTimestamp" not in pod["metadata"]
