"""Deferrable tasks in DAGs that Airflow itself runs: what it stores, resumes, maps, skips and retries."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from airflow.sdk import DAG, task

from kpo_multicluster.cluster import ClusterRef
from kpo_multicluster.operators.pod import KubernetesPodOperator
from kpo_multicluster.testing.cluster import EmbeddedCluster

from ..decorators.test_dags import database, tested
from ..operators.conftest import gone

__all__ = ["database", "tested"]

Tested = Callable[[DAG], dict[str, Any]]


def where(ref: ClusterRef | None) -> dict[str, Any]:
    return {"cluster": ref, "image": "alpine:3", "cmds": ["sh", "-c"], "deferrable": True}


def test_from_task_to_task(tested: Tested, cluster: EmbeddedCluster, ref: ClusterRef) -> None:
    with DAG("deferred_in_a_row", schedule=None) as dag:
        first = KubernetesPodOperator(
            task_id="first",
            arguments=["echo '[1, 2]' > /airflow/xcom/return.json"],
            do_xcom_push=True,
            **where(ref),
        )

        @task
        def doubled(numbers: Any) -> list[str]:
            return [f"echo {2 * number} > /airflow/xcom/return.json" for number in numbers]

        mapped = KubernetesPodOperator.partial(task_id="mapped", do_xcom_push=True, **where(ref)).expand(
            arguments=doubled(first.output).map(lambda script: [script])
        )

        @task
        def total(numbers: Any) -> int:
            return int(sum(numbers))

        total(mapped.output)
    found = tested(dag)
    assert found["state"] == "success"
    assert found["total.return_value"] == 6
    assert found["first.pod_name"].startswith("first-")
    cluster.wait_until(gone)


def test_a_skip_and_a_failure(tested: Tested, cluster: EmbeddedCluster, ref: ClusterRef) -> None:
    with DAG("deferred_ends", schedule=None) as dag:
        KubernetesPodOperator(task_id="skips", arguments=["exit 9"], skip_on_exit_code=9, **where(ref))
        KubernetesPodOperator(task_id="fails", arguments=["exit 3"], **where(ref))
    assert tested(dag)["state"] == "failed"
    cluster.wait_until(gone)


def test_a_connection_that_only_airflow_knows(
    tested: Tested, cluster: EmbeddedCluster, config: Path, database: None
) -> None:
    from airflow.models import Connection
    from airflow.utils.session import create_session

    document = json.dumps(yaml.safe_load(config.read_text()))
    with create_session() as session:
        session.add(Connection("stored", conn_type="kubernetes", extra=json.dumps({"kube_config": document})))
    with DAG("deferred_by_connection", schedule=None) as dag:
        KubernetesPodOperator(
            task_id="by_connection",
            kubernetes_conn_id="stored",
            arguments=["echo 5 > /airflow/xcom/return.json"],
            do_xcom_push=True,
            **where(None),
        )
    found = tested(dag)
    assert found["state"] == "success"
    assert found["by_connection.return_value"] == 5
    cluster.wait_until(gone)


@pytest.mark.parametrize("interval", [None, 1])
def test_logs(
    tested: Tested, cluster: EmbeddedCluster, ref: ClusterRef, capfd: pytest.CaptureFixture[str], interval: int | None
) -> None:
    with DAG(f"deferred_logs_{interval}", schedule=None) as dag:
        KubernetesPodOperator(
            task_id="logs", arguments=["echo 'only once'; sleep 1"], logging_interval=interval, **where(ref)
        )
    assert tested(dag)["state"] == "success"
    assert capfd.readouterr().out.count("[base] only once") == 1
    cluster.wait_until(gone)
