"""Workerless tasks under a real scheduler and triggerer: `make test-airflow`."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
import yaml

from kpo_multicluster.airflow_names import STARTS_IN_TRIGGERER
from kpo_multicluster.testing.cluster import EmbeddedCluster

from .airflow import Airflow
from .test_deferred_services import open_gate, running

pytestmark = [
    pytest.mark.skipif("KPO_AIRFLOW_SERVICES" not in os.environ, reason="run by `make test-airflow`, in minutes"),
    pytest.mark.skipif(not STARTS_IN_TRIGGERER, reason="needs Airflow 3.3"),
    pytest.mark.timeout(1500),
]

DAGS = """
import json
from datetime import timedelta
from pathlib import Path
from airflow.sdk import DAG, task
from kpo_multicluster.cluster import kubeconfig
from kpo_multicluster.operators.pod import KubernetesPodOperator

TOLD = Path(CONFIG).parent
WHERE = dict(
    cluster=kubeconfig(CONFIG), image="alpine:3", cmds=["sh", "-c"], workerless=True, termination_grace_period=0
)
GATE = "while [ ! -e /tmp/open ]; do sleep 0.1; done"


def called(name):
    def callback(context):
        with (TOLD / f"{name}-{context['ti'].task_id}").open("a") as file:
            file.write(f"{context['ti'].try_number}\\n")

    return callback


TOLD_OF = {name: called(name) for name in ("on_failure_callback", "on_retry_callback")}

with DAG("workerless", schedule=None, is_paused_upon_creation=False, params={"factor": 23}) as dag:

    @task(multiple_outputs=True)
    def extract():
        return {"number": 2}

    multiply = KubernetesPodOperator(
        task_id="multiply",
        env_vars={"NUMBER": extract()["number"], "FACTOR": "{{ params.factor }}"},
        arguments=['echo "{\\\\"product\\\\": $(($NUMBER * $FACTOR)), \\\\"of\\\\": \\\\"{{ ti.task_id }}\\\\"}"'
                   " > /airflow/xcom/return.json"],
        do_xcom_push=True,
        multiple_outputs=True,
        **TOLD_OF,
        **{**WHERE, "cluster": None, "kubernetes_conn_id": "stored"},
    )

    @task.pod(workerless=True, cluster=kubeconfig(CONFIG), image="python:3")
    def twice(number: int) -> int:
        return 2 * number

    @task
    def load(everything, of, doubled):
        (TOLD / "loaded").write_text(json.dumps([everything, of, doubled]))

    load(multiply.output, multiply.output["of"], twice(multiply.output["product"]))

with DAG("workerless_again", schedule=None, is_paused_upon_creation=False):
    KubernetesPodOperator(
        task_id="second_time",
        arguments=["echo try {{ ti.try_number }}; exit $((2 - {{ ti.try_number }}))"],
        retries=1,
        retry_delay=timedelta(seconds=1),
        **TOLD_OF,
        **WHERE,
    )

with DAG("workerless_fails", schedule=None, is_paused_upon_creation=False):
    KubernetesPodOperator(task_id="never", arguments=["echo so it is; exit 7"], **TOLD_OF, **WHERE)
    KubernetesPodOperator(task_id="skips", arguments=["exit 9"], skip_on_exit_code=9, **WHERE)
    KubernetesPodOperator(
        task_id="late", arguments=["echo begun; sleep 3000"], execution_timeout=timedelta(seconds=15), **WHERE
    )

with DAG("workerless_ended", schedule=None, is_paused_upon_creation=False):
    KubernetesPodOperator(task_id="long", arguments=["sleep 3000"], **WHERE)

with DAG("workerless_moved", schedule=None, is_paused_upon_creation=False):
    KubernetesPodOperator(
        task_id="moves",
        arguments=["seq 1 100; " + GATE + "; seq 101 200; echo 7 > /airflow/xcom/return.json"],
        do_xcom_push=True,
        **WHERE,
    )
"""
TASKS = ("multiply", "twice", "second_time", "never", "skips", "late", "long", "moves")


@pytest.fixture(scope="module", autouse=True)
def prepared(airflow: Airflow) -> None:
    """A connection that holds a kubeconfig, and who calls callbacks."""
    document = json.dumps(yaml.safe_load((airflow.home / "kubeconfig").read_text()))
    stored = {"conn_type": "kubernetes", "extra": {"kube_config": document}}
    airflow.run("connections", "add", "stored", "--conn-json", json.dumps(stored))
    airflow.part("dag-processor", "dag-processor")


def ends(airflow: Airflow, task_id: str) -> str:
    airflow.until(lambda: airflow.state(task_id) in ("success", "failed", "skipped"), f"{task_id} ends")
    return airflow.state(task_id)


def told(airflow: Airflow, what: str) -> str:
    path = airflow.home / what
    airflow.until(path.exists, f"{what} was told")
    return path.read_text()


def test_from_task_to_task(airflow: Airflow, cluster: EmbeddedCluster) -> None:
    airflow.run("dags", "trigger", "workerless")
    assert ends(airflow, "multiply") == "success", airflow.log("multiply")
    product = {"product": 46, "of": "multiply"}
    assert json.loads(told(airflow, "loaded")) == [product, "multiply", 92]
    cluster.wait_until(lambda pods: not pods)


def test_a_try_that_fails_is_followed_by_another(airflow: Airflow, cluster: EmbeddedCluster) -> None:
    airflow.run("dags", "trigger", "workerless_again")
    assert ends(airflow, "second_time") == "success", airflow.log("second_time")
    log = airflow.log("second_time")
    assert re.findall(r"\[base\] (try \d)", log) == ["try 1", "try 2"]
    assert told(airflow, "on_retry_callback-second_time") == "1\n"


def test_failures_skips_and_time_limits(airflow: Airflow, cluster: EmbeddedCluster) -> None:
    airflow.run("dags", "trigger", "workerless_fails")
    assert (ends(airflow, "never"), ends(airflow, "skips")) == ("failed", "skipped"), airflow.log("skips")
    assert "exit code 7" in airflow.log("never")
    assert told(airflow, "on_failure_callback-never") == "1\n"
    assert ends(airflow, "late") == "failed"
    assert "begun" in airflow.log("late")
    cluster.wait_until(lambda pods: not pods)


def test_a_user_who_ends_the_task_ends_the_pod(airflow: Airflow, cluster: EmbeddedCluster) -> None:
    airflow.run("dags", "trigger", "workerless_ended")
    airflow.until(lambda: running(cluster, "long"), "the pod runs")
    airflow.mark("workerless_ended", "long", "failed")
    assert airflow.state("long") == "failed"
    cluster.wait_until(lambda pods: not pods, timeout_seconds=60)


def test_a_triggerer_that_is_killed_is_replaced(airflow: Airflow, cluster: EmbeddedCluster) -> None:
    cluster.requests.reset()
    airflow.run("dags", "trigger", "workerless_moved")
    airflow.until(lambda: running(cluster, "moves"), "the pod runs")
    airflow.until(lambda: cluster.requests.counts()["watch"], "it is watched")
    airflow.kill("triggerer")
    (pod,) = cluster.pods()
    assert running(cluster, "moves")
    airflow.start_triggerer()
    airflow.until(lambda: cluster.requests.counts()["watch"] > 1, "the other triggerer watches")
    assert [found["metadata"]["uid"] for found in cluster.pods()] == [pod["metadata"]["uid"]]
    open_gate(cluster, airflow.home / "kubeconfig")
    assert ends(airflow, "moves") == "success", airflow.log("moves")
    assert [int(number) for number in re.findall(r"\[base\] (\d+)", airflow.log("moves"))] == list(range(1, 201))
    assert cluster.requests.counts()["create"] == 1
    cluster.wait_until(lambda pods: not pods)


def test_no_worker_had_a_hand_in_it(airflow: Airflow) -> None:
    """Runs last: of all tries of the tasks above, none was queued for a worker, or has a process or its log."""
    tries = airflow.query(
        "SELECT task_id, try_number, queued_dttm, pid FROM task_instance "
        "UNION SELECT task_id, try_number, queued_dttm, pid FROM task_instance_history"
    )
    ours = [row for row in tries if row[0] in TASKS]
    assert {row[0] for row in ours} == set(TASKS)
    # Airflow's own time limit may be the first to strike: a worker then says so.
    assert [row for row in ours if row[0] != "late" and (row[2], row[3]) != (None, None)] == []
    by_workers = {
        path.parent.name.removeprefix("task_id=")
        for path in Path(airflow.home).glob("logs/**/attempt=*.log")
        if ".trigger." not in path.name
    }
    assert by_workers - {"late"} == {"extract", "load"}
