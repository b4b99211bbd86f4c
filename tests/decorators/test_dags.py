"""Decorated functions in DAGs that Airflow itself runs: XComs, templates, mapping, retries."""

from __future__ import annotations

import runpy
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG, task

from kpo_multicluster.decorators.pod import pod_task
from kpo_multicluster.decorators.pod_cmd import pod_cmd_task
from kpo_multicluster.testing import EmbeddedCluster

Where = dict[str, Any]


BUNDLE = "dags-folder"


@pytest.fixture(scope="session")
def database() -> None:
    """Airflow's database, which a run of a DAG is written to."""
    from airflow.dag_processing.bundles.manager import DagBundlesManager
    from airflow.utils.db import initdb

    with warnings.catch_warnings():
        # What Airflow's own modules warn of while they are imported is not under test.
        warnings.simplefilter("ignore")
        initdb()
        DagBundlesManager().sync_bundles_to_db()  # type: ignore[no-untyped-call]
        with DAG("first", schedule=None) as dag:
            task(task_id="nothing")(lambda: None)()
        # Its server's thread stays, for all runs of DAGs in this process.
        serialized(dag).test()


def serialized(dag: DAG) -> DAG:
    """The DAG, which Airflow now knows as one that it has found in a file."""
    from airflow.dag_processing.collection import update_dag_parsing_results_in_db
    from airflow.serialization.serialized_objects import LazyDeserializedDAG
    from airflow.utils.session import create_session

    with create_session() as session:
        found = [LazyDeserializedDAG.from_dag(dag)]
        update_dag_parsing_results_in_db(BUNDLE, None, found, {}, None, set(), session)
    return dag


@pytest.fixture
def tested(database: None) -> Callable[[DAG], dict[str, Any]]:
    """Runs a DAG; returns its state and the XComs that its tasks have left, by task and key."""

    def tested(dag: DAG) -> dict[str, Any]:
        from airflow.models.xcom import XComModel
        from airflow.utils.session import create_session
        from sqlalchemy import select

        done = serialized(dag).test()
        found: dict[str, Any] = {"state": str(done.state)}
        with create_session() as session:
            rows = session.scalars(select(XComModel).where(XComModel.run_id == done.run_id))
            for row in rows:
                found[f"{row.task_id}.{row.key}"] = XComModel.deserialize_value(row)
        return found

    return tested


def test_from_task_to_task(tested: Callable[[DAG], dict[str, Any]], where: Where, pods: EmbeddedCluster) -> None:
    with DAG("pods_in_a_row", schedule=None) as dag:

        @task
        def extract() -> dict[str, Any]:
            return {"number": 2}

        @task.pod(multiple_outputs=True, **where)
        def transform(given: dict[str, Any], word: str, times: int = 23) -> dict[str, Any]:
            return {"product": given["number"] * times, "word": word}

        @task.pod_cmd(do_xcom_push=True, **where)
        def twice(product: int, word: str) -> list[str]:
            return ["sh", "-c", f"echo {product * 2} > /airflow/xcom/return.json; echo {word}"]

        extracted: Any = extract()
        transformed: Any = transform(extracted, word="{{ dag.dag_id }}")
        twice(transformed["product"], transformed["word"])

    found = tested(dag)
    assert found["state"] == "success"
    assert (found["transform.product"], found["transform.word"]) == (46, "pods_in_a_row")
    assert found["twice.return_value"] == 92
    assert found["transform.pod_name"].startswith("transform-")


@pytest.mark.parametrize("deferrable", [False, True])
def test_mapped(tested: Callable[[DAG], dict[str, Any]], where: Where, deferrable: bool) -> None:
    with DAG(f"mapped_pods_{deferrable}", schedule=None) as dag:

        @task.pod(xcom_transport="termination-message", deferrable=deferrable, **where)
        def square(number: int, offset: int = 0) -> int:
            return number * number + offset

        @task.pod(**where)
        def total(numbers: list[int]) -> int:
            return sum(numbers)

        squares: Any = square.partial(offset=1).expand(number=[1, 2])
        total(squares)

    found = tested(dag)
    assert (found["state"], found["total.return_value"]) == ("success", 7)


def test_a_failure_fails_the_dag(tested: Callable[[DAG], dict[str, Any]], where: Where) -> None:
    with DAG("failing_pods", schedule=None) as dag:

        @task.pod(**where)
        def fails() -> None:
            raise RuntimeError("so it is")

        @task.pod_cmd(**where)
        def never() -> list[str]:
            return ["true"]

        fails() >> never()

    assert tested(dag)["state"] == "failed"


def test_airflow_knows_the_decorators() -> None:
    assert task.pod is pod_task
    assert task.pod_cmd is pod_cmd_task


def test_the_example(
    tested: Callable[[DAG], dict[str, Any]], pods: EmbeddedCluster, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(config))
    monkeypatch.delenv("POD_NAMESPACE", raising=False)
    file = Path(__file__).parents[2] / "examples" / "task_pod.py"
    found = tested(runpy.run_path(str(file))["measured"].operator.dag)
    assert (found["state"], found["measure.words"], found["measure.longest"]) == ("success", 7, "multitudes")
