"""What the document on moving from upstream says is so."""

from __future__ import annotations

import re
from pathlib import Path

from kpo_multicluster import errors, exceptions
from kpo_multicluster.airflow_names import AirflowException
from kpo_multicluster.operators.pod import KubernetesPodOperator
from kpo_multicluster.raised import as_airflow

from .test_mirrors import MIRRORS
from .test_overrides import STEPS

TEXT = (Path(__file__).parents[2] / "docs" / "moving-from-upstream.md").read_text()


def section(title: str) -> str:
    return TEXT.split(f"## {title}\n")[1].split("\n## ")[0]


def test_every_mirror_is_named() -> None:
    table = TEXT.split("## Exceptions")[0]
    assert set(re.findall(r"`([a-z_.]+)`(?=[^|]*\|[^|]*\|$)", table, re.MULTILINE)) >= MIRRORS.keys()
    names = {name for module in MIRRORS.values() for name in module}
    assert [name for name in names if f"`{name}`" not in TEXT] == []


def test_the_table_of_exceptions() -> None:
    rows = re.findall(r"^\| (`[^|]+) \|([^|]*)\|$", section("Exceptions"), re.MULTILINE)
    assert len(rows) >= 11
    for raised, also in rows:
        for name in re.findall(r"`(\w+Error)`", raised):
            kind = getattr(errors, name)
            error = kind.__new__(kind)
            error.cause = "deleted" if "deleted" in raised else ""
            named = set(re.findall(r"`(\w+)`", also)) - {"PodMutationHookException", "pod_mutation_hook"}
            upstream = {
                kind.__name__ for kind in type(as_airflow(error)).__mro__ if kind.__module__ == exceptions.__name__
            }
            assert upstream == named, name
            assert isinstance(error, AirflowException)


def test_the_methods_exist_and_those_that_are_overridden_are_tested() -> None:
    listed = re.findall(r"`(\w+)`", section("Methods").split("| method |")[0].split("\n\n")[1])
    assert [name for name in listed if not hasattr(KubernetesPodOperator, name)] == []
    further = {"process_duplicate_label_pods", "log_matching_pod", "on_kill", "dry_run", "hook", "client"}
    assert set(listed) == set(STEPS) | further
