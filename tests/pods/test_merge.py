"""How layers of a pod merge."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from kpo_multicluster.pods.merge import merge_container, merge_containers, merge_pods, merge_resources

Containers = list[dict[str, Any]]


def named(*names: str | None, **extra: Any) -> Containers:
    return [{"name": name, **extra} if name else dict(extra) for name in names]


@pytest.mark.parametrize(
    ("base", "over", "merged"),
    [
        (["base"], ["base"], [("base", 1)]),
        (["main", "side"], ["base"], [("base", 1), ("side", 0)]),
        (["side", "base"], ["base"], [("side", 0), ("base", 1)]),
        (["a", "b"], ["b", "c"], [("a", 0), ("b", 1), ("c", 1)]),
        (["a", "b"], ["b", "a"], [("a", 1), ("b", 1)]),
        (["a", "b"], ["x", "a"], [("a", 1), ("b", 0), ("x", 1)]),
        (["a"], ["x", "y"], [("x", 1), ("y", 1)]),
        ([], ["x"], [("x", 1)]),
        (["a"], [], [("a", 0)]),
        (["a", "a"], ["a"], [("a", 1), ("a", 0)]),
        ([None, "a"], ["x"], [("x", 1), ("a", 0)]),
    ],
)
def test_containers_merge_by_name_else_by_position(
    base: list[str | None], over: list[str], merged: list[tuple[str, int]]
) -> None:
    result = merge_containers(named(*base, mark=0), named(*over, mark=1))
    assert [(container["name"], container["mark"]) for container in result] == merged


def test_a_container_keeps_its_name_under_one_without() -> None:
    assert merge_containers(named("a"), [{"image": "i"}]) == [{"name": "a", "image": "i"}]


@pytest.mark.parametrize(
    ("base", "over", "merged"),
    [
        ({}, {}, {}),
        ({"limits": {"gpu": "1"}}, {"requests": {"cpu": "1"}}, {"limits": {"gpu": "1"}, "requests": {"cpu": "1"}}),
        ({"limits": {"memory": "1Gi"}}, {"requests": {"memory": "2Gi"}}, {"requests": {"memory": "2Gi"}}),
        ({"requests": {"cpu": "1"}}, {"limits": {"cpu": "2"}}, {"limits": {"cpu": "2"}}),
        ({"claims": [{"name": "c"}]}, {"limits": {"cpu": "2"}}, {"claims": [{"name": "c"}], "limits": {"cpu": "2"}}),
    ],
)
def test_resources_merge_by_resource(base: Any, over: Any, merged: Any) -> None:
    assert merge_resources(base, over) == merged


def test_empty_resources_clear() -> None:
    assert merge_container({"resources": {"limits": {"cpu": "1"}}}, {"resources": {}}) == {"resources": {}}


def test_lists_of_a_container_are_concatenated_and_the_rest_replaced() -> None:
    base = {"env": [{"name": "A"}], "command": ["a"], "tty": True, "image": "a"}
    over = {"env": [{"name": "B"}], "command": [], "tty": False}
    assert merge_container(base, over) == {
        "env": [{"name": "A"}, {"name": "B"}],
        "command": [],
        "tty": False,
        "image": "a",
    }


def test_pods() -> None:
    base = {
        "metadata": {"labels": {"a": "1", "b": "1"}, "name": "base", "finalizers": ["x/y"]},
        "spec": {
            "containers": named("base"),
            "initContainers": named("first", "second", image="old", env=[{"name": "A"}]),
            "volumes": [{"name": "v"}],
            "tolerations": [{"key": "base"}],
            "hostNetwork": True,
        },
    }
    over = {
        "kind": "Pod",
        "metadata": {"labels": {"b": "2"}, "annotations": {"c": "3"}},
        "spec": {
            "initContainers": [{"name": "second", "image": "new", "env": [{"name": "B"}]}, {"name": "third"}],
            "volumes": [{"name": "w"}],
            "tolerations": [],
            "hostNetwork": False,
        },
    }
    before = copy.deepcopy((base, over))
    assert merge_pods(base, over) == {
        "kind": "Pod",
        "metadata": {
            "labels": {"a": "1", "b": "2"},
            "annotations": {"c": "3"},
            "name": "base",
            "finalizers": ["x/y"],
        },
        "spec": {
            "containers": named("base"),
            "initContainers": [
                {"name": "first", "image": "old", "env": [{"name": "A"}]},
                {"name": "second", "image": "new", "env": [{"name": "A"}, {"name": "B"}]},
                {"name": "third"},
            ],
            "volumes": [{"name": "v"}, {"name": "w"}],
            "tolerations": [],
            "hostNetwork": False,
        },
    }
    assert (base, over) == before


@pytest.mark.parametrize("layer", [{}, {"metadata": None, "spec": None}, {"spec": {"containers": None}}])
def test_nothing_says_nothing(layer: Any) -> None:
    pod = {"metadata": {"name": "n"}, "spec": {"containers": named("a"), "initContainers": named("i")}}
    assert merge_pods(pod, layer) == pod
    assert merge_pods(layer, pod) == pod
