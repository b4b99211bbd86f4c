"""Names of pods."""

from __future__ import annotations

import re

import pytest

from kpo_multicluster.errors import ConfigurationError
from kpo_multicluster.pods.naming import NAME_LIMIT, SUFFIXED_LIMIT, clean_name, pod_name, random_suffix, task_name

VALID = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?")


def fixed() -> str:
    return "abcd1234"


@pytest.mark.parametrize(
    ("given", "clean"),
    [("plain", "plain"), ("Upper_Case.dot", "upper-case-dot"), ("a__b", "a-b"), ("_x", "-x"), ("9", "9")],
)
def test_given_names_are_cleaned(given: str, clean: str) -> None:
    assert clean_name(given) == clean


@pytest.mark.parametrize("given", ["", "a b", "a/b", "x" * 221, "new\nline"])
def test_names_that_no_pod_name_comes_from_are_refused(given: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^name "):
        clean_name(given)


@pytest.mark.parametrize(
    ("task_id", "name"),
    [
        ("task", "task"),
        ("group.Sub_Task", "group-sub-task"),
        ("a..b__c", "a-b-c"),
        ("t" * 90, "t" * 63),
        ("a" * 62 + ".b", "a" * 62),
        ("täsk", "task"),
        ("задача", "zadacha"),
        ("...", ""),
    ],
)
def test_task_ids_give_names(task_id: str, name: str) -> None:
    assert task_name(task_id) == name


@pytest.mark.parametrize(
    ("base", "name"),
    [
        ("base", "base-abcd1234"),
        ("b" * 100, "b" * 54 + "-abcd1234"),
        ("b" * 53 + "-c", "b" * 53 + "-abcd1234"),
        ("-odd.", "odd-abcd1234"),
        ("with.dots", "with.dots-abcd1234"),
        ("---", "pod-abcd1234"),
        ("", "pod-abcd1234"),
    ],
)
def test_a_suffix_keeps_a_name_within_a_host_names_length(base: str, name: str) -> None:
    assert pod_name(base, fixed) == name
    assert len(name) <= SUFFIXED_LIMIT
    assert VALID.fullmatch(name)


@pytest.mark.parametrize(
    ("base", "name"), [("base", "base"), ("-odd.", "odd"), ("", "pod"), ("n" * 300, "n" * NAME_LIMIT)]
)
def test_without_a_suffix_a_name_stays_valid(base: str, name: str) -> None:
    assert pod_name(base) == name


def test_suffixes_differ_and_are_made_of_what_names_may_hold() -> None:
    suffixes = {random_suffix() for _ in range(100)}
    assert len(suffixes) == 100
    assert all(re.fullmatch(r"[a-z0-9]{8}", suffix) for suffix in suffixes)
