"""Manifests as the upstream operator builds them, case by case."""

from __future__ import annotations

import importlib
import itertools
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from kpo_multicluster.pods.labels import pod_selector
from kpo_multicluster.pods.manifest import build_manifest

from .building import context, identity, ours, pod_arguments, sent, split, theirs, upstream_operator
from .pod_cases import Arguments, Choice, Values, choices, made, parameter_values

_SECRET_VOLUME = re.compile(r"^secretvol[0-9a-f-]{36}$")


@pytest.fixture(scope="module")
def values(upstream: Any, tmp_path_factory: pytest.TempPathFactory) -> Values:
    from kubernetes.client import models

    secret = importlib.import_module("airflow.providers.cncf.kubernetes.secret").Secret
    return parameter_values(models, secret, tmp_path_factory.mktemp("templates"))


@pytest.fixture(scope="module")
def cases(values: Values) -> list[Choice]:
    return choices(values)


def comparable(part: Any) -> Any:
    """Without what is null or empty, and without `hostNetwork: false`, which upstream always sends."""
    if isinstance(part, dict):
        pruned = {key: comparable(value) for key, value in part.items()}
        return {
            key: value
            for key, value in pruned.items()
            if value not in (None, {}, []) and (key, value) != ("hostNetwork", False)
        }
    if isinstance(part, list):
        return [comparable(item) for item in part]
    return "secret volume" if isinstance(part, str) and _SECRET_VOLUME.match(part) else part


def compared(pod: Any, arguments: Arguments) -> Any:
    # The API server reads a null among texts as an empty one.
    labels = {name: value or "" for name, value in pod["metadata"]["labels"].items()}
    pod = {**comparable(pod), "labels": labels}
    del pod["metadata"]["labels"]
    name = pod["metadata"]["name"]
    assert re.fullmatch(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?", name), name
    if arguments.get("random_name_suffix", True):
        assert len(name) <= 63
        pod["metadata"]["name"] = name[:-8] + "SUFFIX"
    return pod


def differences(built: Any, expected: Any, path: str = "") -> Iterator[str]:
    if isinstance(built, dict) and isinstance(expected, dict):
        for key in sorted(built.keys() | expected.keys()):
            yield from differences(built.get(key), expected.get(key), f"{path}.{key}")
    elif isinstance(built, list) and isinstance(expected, list) and len(built) == len(expected):
        for index, (one, other) in enumerate(zip(built, expected, strict=True)):
            yield from differences(one, other, f"{path}[{index}]")
    elif built != expected:
        yield f"{path}: built {built!r}, upstream has {expected!r}"


def test_every_pair_of_values_and_enough_at_random_is_compared(values: Values, cases: list[Choice]) -> None:
    assert len(cases) >= 400
    assert choices(values) == cases
    pairs = {pair for case in cases for pair in itertools.combinations(sorted(case.items()), 2)}
    options = [(name, index) for name in sorted(values) for index in range(len(values[name]))]
    assert pairs >= {(a, b) for a, b in itertools.combinations(options, 2) if a[0] != b[0]}


def test_manifests_are_equal(upstream: Any, values: Values, cases: list[Choice]) -> None:
    different = []
    for number, case in enumerate(cases):
        (mine, around), (their, _) = split(made(values, case)), split(made(values, case))
        built, expected = compared(ours(mine, around), mine), compared(theirs(upstream, their, around), mine)
        different += [f"case {number} {line}" for line in differences(built, expected)]
    assert not different, f"{len(different)} differences:\n" + "\n".join(different[:20])


def test_selectors_are_equal(upstream: Any, values: Values, cases: list[Choice]) -> None:
    for case in cases:
        arguments, around = split(made(values, case))
        labels = {"labels": arguments.get("labels")}
        operator = upstream_operator(upstream, labels, around)
        for exclude_checked in (True, False):
            expected = operator._build_find_pod_label_selector(context(around), exclude_checked=exclude_checked)
            assert pod_selector(labels["labels"], identity(around), exclude_checked=exclude_checked) == expected


def test_dry_runs_are_equal(upstream: Any, values: Values, cases: list[Choice]) -> None:
    for case in cases[:50]:
        (mine, around), (their, _) = split(made(values, case)), split(made(values, case))
        pod = upstream_operator(upstream, their, around).build_pod_request_obj(dry_run=True)
        dry = replace(identity(around), run_id=None, in_cluster=None, attempt="")
        built = build_manifest(pod_arguments(mine, around), dry)
        assert not list(differences(compared(built, mine), compared(sent(pod), mine)))


def test_the_operator_builds_the_same(upstream: Any, values: Values, cases: list[Choice]) -> None:
    from kpo_multicluster.operators.pod import KubernetesPodOperator

    for case in cases:
        (mine, around), (their, _) = split(made(values, case)), split(made(values, case))
        around |= {name: None for name in around if name.startswith(("xcom_", "cluster_"))}
        operator = KubernetesPodOperator(task_id=around["task_id"], **mine)
        built = sent(operator.build_pod_request_obj(dry_run=True))
        expected = sent(upstream_operator(upstream, their, around).build_pod_request_obj(dry_run=True))
        assert not list(differences(compared(built, mine), compared(expected, mine)))
