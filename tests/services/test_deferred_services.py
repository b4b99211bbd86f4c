"""Deferred tasks under a real scheduler and triggerer, one of which is killed and replaced: `make test-airflow`."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from kpo_multicluster.testing.cluster import EmbeddedCluster

from .airflow import Airflow

pytestmark = [
    pytest.mark.skipif("KPO_AIRFLOW_SERVICES" not in os.environ, reason="run by `make test-airflow`, in minutes"),
    pytest.mark.timeout(1500),
]

DAGS = """
from datetime import timedelta
from airflow.sdk import DAG
from kpo_multicluster.cluster import kubeconfig
from kpo_multicluster.operators.pod import KubernetesPodOperator

WHERE = dict(
    cluster=kubeconfig(CONFIG), image="alpine:3", cmds=["sh", "-c"], deferrable=True, termination_grace_period=0
)
GATE = "while [ ! -e /tmp/open ]; do sleep 0.1; done"

with DAG("moved", schedule=None, is_paused_upon_creation=False):
    KubernetesPodOperator(
        task_id="counts",
        arguments=["seq 1 100; " + GATE + "; seq 101 200; echo 7 > /airflow/xcom/return.json"],
        do_xcom_push=True,
        **WHERE,
    )

with DAG("live", schedule=None, is_paused_upon_creation=False):
    KubernetesPodOperator(
        task_id="tells", arguments=["seq 1 100; " + GATE + "; seq 101 200"], logging_interval=5, **WHERE
    )

with DAG("cleared", schedule=None, is_paused_upon_creation=False):
    KubernetesPodOperator(task_id="sleeps", arguments=["sleep 3000"], **WHERE)

with DAG("late", schedule=None, is_paused_upon_creation=False):
    KubernetesPodOperator(
        task_id="dawdles", arguments=["echo begun; sleep 3000"], execution_timeout=timedelta(seconds=20), **WHERE
    )
"""


def running(cluster: EmbeddedCluster, task_id: str) -> bool:
    return any(
        "running" in status["state"]
        for pod in cluster.pods()
        if pod["metadata"]["labels"]["task_id"] == task_id
        for status in pod["status"].get("containerStatuses") or ()
    )


def open_gate(cluster: EmbeddedCluster, config: Path) -> None:
    import asyncio

    from kpo_multicluster.api.client import ApiClient
    from kpo_multicluster.auth.registry import resolve
    from kpo_multicluster.cluster import kubeconfig

    async def touch() -> None:
        async with ApiClient(resolve(kubeconfig(str(config)))) as api:
            for pod in cluster.pods():
                path = f"/api/v1/namespaces/default/pods/{pod['metadata']['name']}/exec"
                await api.exec(path, ["touch", "/tmp/open"], container="base")

    asyncio.run(touch())


def waits(airflow: Airflow, cluster: EmbeddedCluster, dag_id: str, task_id: str) -> None:
    """Starts a DAG; returns when its task is deferred and its trigger has opened the watch."""
    cluster.requests.reset()
    airflow.run("dags", "trigger", dag_id)
    airflow.until(lambda: airflow.state(task_id) in ("deferred", "failed"), f"{task_id} deferred")
    assert airflow.state(task_id) == "deferred", airflow.log(task_id) + airflow.told()
    airflow.until(lambda: running(cluster, task_id), f"the pod of {task_id} runs")
    airflow.until(lambda: cluster.requests.counts()["watch"], f"{task_id} watched")


def goes_on_elsewhere(airflow: Airflow, cluster: EmbeddedCluster, task_id: str) -> str:
    """The log of a task whose triggerer is gone, and which another one has seen to its end."""
    assert running(cluster, task_id)
    cluster.requests.reset()
    airflow.start_triggerer()
    airflow.until(lambda: cluster.requests.counts()["watch"], "the other triggerer watches")
    open_gate(cluster, airflow.home / "kubeconfig")
    airflow.until(lambda: airflow.state(task_id) in ("success", "failed"), "the task ends")
    log = airflow.log(task_id)
    assert airflow.state(task_id) == "success", log
    return log


def test_a_triggerer_that_is_killed_is_replaced(airflow: Airflow, cluster: EmbeddedCluster) -> None:
    waits(airflow, cluster, "moved", "counts")
    airflow.kill("triggerer")
    log = goes_on_elsewhere(airflow, cluster, "counts")
    assert [int(number) for number in re.findall(r"\[base\] (\d+)", log)] == list(range(1, 201))
    cluster.wait_until(lambda pods: not pods)


def test_a_triggerer_that_is_stopped_leaves_its_log_to_the_next(airflow: Airflow, cluster: EmbeddedCluster) -> None:
    def told() -> list[int]:
        return [int(number) for number in re.findall(r"\[base\] (\d+)", airflow.log("tells"))]

    waits(airflow, cluster, "live", "tells")
    airflow.until(lambda: told() == list(range(1, 101)), "the triggerer writes what there is")
    airflow.end("triggerer")
    log = goes_on_elsewhere(airflow, cluster, "tells")
    assert sorted(told()) == list(range(1, 201)), log
    assert log.count("goes on with this log where it was left") == 1
    cluster.wait_until(lambda pods: not pods)


def test_a_task_that_is_cleared_while_deferred_leaves_no_pod(airflow: Airflow, cluster: EmbeddedCluster) -> None:
    waits(airflow, cluster, "cleared", "sleeps")
    (first,) = cluster.pods()
    airflow.run("tasks", "clear", "--yes", "cleared")

    def replaced() -> bool:
        names = {pod["metadata"]["name"] for pod in cluster.pods()}
        return bool(names) and first["metadata"]["name"] not in names

    # A quick scheduler begins the other try before the triggerer has heard of the clearing. That try goes on with the
    # pod, and fails as it is deleted.
    airflow.until(lambda: replaced() or airflow.state("sleeps") == "failed", "the pod of the cleared task is gone")
    if airflow.state("sleeps") != "failed":
        airflow.until(lambda: airflow.state("sleeps") == "deferred", "the other try is deferred")
        cluster.delete_all_pods()
        airflow.until(lambda: airflow.state("sleeps") == "failed", "the other try ends with its pod")
    cluster.wait_until(lambda pods: not pods)


def test_a_deferred_task_that_runs_out_of_time_leaves_no_pod(airflow: Airflow, cluster: EmbeddedCluster) -> None:
    waits(airflow, cluster, "late", "dawdles")
    airflow.until(lambda: airflow.state("dawdles") == "failed", "the task fails")
    log = airflow.log("dawdles")
    assert "AirflowTaskTimeout" in log
    assert log.count("[base] begun") == 1
    cluster.wait_until(lambda pods: not pods)
