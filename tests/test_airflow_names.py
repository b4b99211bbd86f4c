"""Where Airflow's versions differ."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kpo_multicluster import airflow_names
from kpo_multicluster.airflow_names import AirflowNotFoundException, BaseHook, airflow_connection

PACKAGE = Path(airflow_names.__file__).parent


def switches(tree: ast.AST) -> Iterator[int]:
    """Lines of imports from Airflow that are tried only."""
    for tried in ast.walk(tree):
        if isinstance(tried, ast.Try):
            for node in ast.walk(tried):
                if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "airflow":
                    yield node.lineno


def test_one_module_knows_of_them() -> None:
    found = {
        str(path.relative_to(PACKAGE)): lines
        for path in PACKAGE.rglob("*.py")
        if (lines := list(switches(ast.parse(path.read_text(encoding="utf-8")))))
    }
    assert list(found) == ["airflow_names.py"]


@pytest.mark.parametrize(
    ("said", "raised"),
    [
        (
            "cannot import name 'SUPERVISOR_COMMS' from 'airflow.sdk.execution_time.task_runner'",
            AirflowNotFoundException,
        ),
        ("No module named 'hvac'", ImportError),
    ],
)
def test_a_connection_that_no_supervisor_can_be_asked_for(said: str, raised: type[Exception]) -> None:
    class Hook(BaseHook):
        @classmethod
        def get_connection(cls, conn_id: str) -> Any:
            raise ImportError(said)

    with pytest.raises(raised):
        airflow_connection("nowhere", Hook)


def test_a_connection_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_GPU", '{"conn_type": "kubernetes", "extra": {"namespace": "jobs"}}')
    assert airflow_connection("gpu").extra_dejson == {"namespace": "jobs"}
    with pytest.raises(AirflowNotFoundException):
        airflow_connection("nowhere")
