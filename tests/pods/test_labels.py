"""Labels and the selector made of them."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from kpo_multicluster.pods.labels import RunIdentity, identity_labels, pod_selector, run_labels, safe_label_value

RUN = RunIdentity(
    task_id="task", airflow_version="3.3.2+local", dag_id="dag", run_id="manual__1", try_number=2, in_cluster=False
)


@pytest.mark.parametrize(
    ("value", "safe"),
    [
        ("valid-Value_1.x", "valid-Value_1.x"),
        ("", ""),
        ("scheduled__2024-01-01T00:00:00+00:00", "scheduled__2024-01-01T0000000000-654f198ec"),
        ("d" * 80, "d" * 53 + "-8eddb7b40"),
        ("täsk-ünder", "tsk-nder-ee1be657c"),
    ],
)
def test_values_are_made_safe_as_upstream_makes_them(value: str, safe: str) -> None:
    assert safe_label_value(value) == safe
    assert len(safe) <= 63


@pytest.mark.parametrize("value", ["_" * 70, "-", "ü", "a" * 64, "x:" * 60])
def test_unsafe_values_stay_within_the_limit_and_apart(value: str) -> None:
    safe = safe_label_value(value)
    assert len(safe) <= 63
    assert re.search(r"-[0-9a-f]{9}$", safe)
    assert safe != safe_label_value(value + "x")


def test_labels_of_a_run() -> None:
    assert run_labels(RUN) == {
        "dag_id": "dag",
        "task_id": "task",
        "run_id": "manual__1",
        "kubernetes_pod_operator": "True",
        "try_number": "2",
        "airflow_version": "3.3.2-local",
        "airflow_kpo_in_cluster": "False",
    }


def test_a_mapped_instance_has_its_index() -> None:
    assert identity_labels(replace(RUN, map_index=0))["map_index"] == "0"
    assert "map_index" not in identity_labels(RUN)


def test_a_dry_run_is_no_ones() -> None:
    assert run_labels(replace(RUN, run_id=None, in_cluster=None)) == {"airflow_version": "3.3.2-local"}


def test_selector() -> None:
    labels = {"team": "data", "app": None, "n": 1, "b": True}
    assert pod_selector(labels, RUN) == (
        "app=,b=True,dag_id=dag,kubernetes_pod_operator=True,n=1,run_id=manual__1,task_id=task,team=data,"
        "already_checked!=True,!airflow-worker"
    )


def test_selector_of_every_pod_of_a_mapped_instance() -> None:
    assert pod_selector(None, replace(RUN, map_index=3), exclude_checked=False) == (
        "dag_id=dag,kubernetes_pod_operator=True,map_index=3,run_id=manual__1,task_id=task,!airflow-worker"
    )


def test_the_runs_own_labels_win() -> None:
    assert "dag_id=dag," in pod_selector({"dag_id": "other"}, RUN)
