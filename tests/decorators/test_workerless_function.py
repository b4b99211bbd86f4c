"""`@task.pod` without a worker: what is stored is the function's source, and the triggerer sends it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import date
from typing import Any

import pytest
from airflow.sdk import DAG, task
from airflow.triggers.base import TaskFailedEvent, TaskSuccessEvent

from kpo_multicluster.airflow_names import STARTS_IN_TRIGGERER
from kpo_multicluster.decorators.pod import pod_task
from kpo_multicluster.operators.workerless import steps
from kpo_multicluster.testing import EmbeddedCluster

from ..operators.conftest import gone, quiet
from ..operators.deferring import first_event
from ..operators.triggering import TriggererSide, started, stored_dag

pytestmark = pytest.mark.skipif(not STARTS_IN_TRIGGERER, reason="needs Airflow 3.3")

Where = dict[str, Any]


@pytest.fixture(autouse=True)
def _seen(monkeypatch: pytest.MonkeyPatch) -> None:
    made = steps.task_of
    monkeypatch.setattr(steps, "task_of", lambda *of: quiet(made(*of)))


def ended(operator: Any, ti: TriggererSide, **context: Any) -> Any:
    trigger = started(operator, ti, **context)
    trigger._log = logging.getLogger("task")  # type: ignore[assignment]
    return asyncio.run(first_event(trigger))


def test_arguments_in_and_the_result_out(where: Where, pods: EmbeddedCluster) -> None:
    with DAG("dag", schedule=None) as dag:

        @task
        def extract() -> int:
            return 2

        @task.pod(workerless=True, multiple_outputs=True, **where)
        def multiply(number: int, word: str, *, factor: int = 23, ds: Any = None) -> dict[str, Any]:
            return {"product": number * factor, "said": f"{word} on {ds}"}

        given: Any = extract()
        result: Any = multiply(given, word="{{ ti.task_id }}")
    assert stored_dag(dag).get_task("multiply").upstream_task_ids == {"extract"}
    ti = TriggererSide("multiply", others={("extract", "return_value"): 2})
    assert isinstance(ended(result.operator, ti, ds="2026-11-21"), TaskSuccessEvent)
    assert (ti.pushed["product"], ti.pushed["said"]) == (46, "multiply on 2026-11-21")
    pods.wait_until(gone)


def test_a_traceback(where: Where, lines: Callable[[], list[str]]) -> None:
    def fails(numbers: list[int]) -> None:
        raise ValueError(f"not {numbers}")  # so it is

    decorated: Any = pod_task(fails, workerless=True, **where)
    with DAG("dag", schedule=None):
        operator = decorated([1, 2]).operator
    assert isinstance(ended(operator, TriggererSide("fails")), TaskFailedEvent)
    text = "\n".join(lines())
    assert "ValueError: not [1, 2]" in text
    assert "# so it is" in text


def test_an_argument_that_cannot_be_stored(where: Where) -> None:
    def f(day: date) -> str:
        return day.isoformat()

    decorated: Any = pod_task(f, workerless=True, serializer="pickle", **where)
    with DAG("dag", schedule=None) as dag:
        decorated(date(2026, 11, 21))
    with pytest.raises(Exception, match=r"op_args\[0\] holds a date"):
        stored_dag(dag)
