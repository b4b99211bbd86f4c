"""The rights the doctor asks for are those of docs/rbac.md."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from kpo_multicluster.doctor.rights import FEATURES, Right, asked_for, consequences, prevents_runs, rules

DOCUMENT = Path(__file__).parents[2] / "docs" / "rbac.md"


def documented() -> dict[str, set[Right]]:
    rows = re.findall(r"^\| `([a-z-]+)` \|[^|]*\|([^|]*)\|", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
    found: dict[str, set[Right]] = {}
    for name, cell in rows:
        parts = [part.split(":") for part in cell.split(";") if ":" in part]
        found[name] = {(verb.strip(), resource.strip()) for resource, verbs in parts for verb in verbs.split(",")}
    return found


def test_the_rights_of_every_feature_are_the_documented_ones() -> None:
    assert {feature.name: set(feature.rights) for feature in FEATURES} == documented()


def test_older_servers_are_not_asked_for_what_they_do_not_need() -> None:
    everything = {right for feature in FEATURES for right in feature.rights}
    assert set(asked_for(35)) == set(asked_for(None)) == everything
    assert set(asked_for(34)) == everything - {("create", "pods/exec")}


def test_what_prevents_runs() -> None:
    assert prevents_runs({("create", "pods")})
    assert prevents_runs({("watch", "pods"), ("get", "pods")})
    assert not prevents_runs({("watch", "pods")})
    assert not prevents_runs({("delete", "pods"), ("get", "pods/log"), ("list", "events")})


def test_each_right_that_is_missing_has_a_consequence() -> None:
    for right in asked_for(None):
        assert consequences({right}), right
    assert consequences(()) == []
    assert consequences({("watch", "pods")}) == ["a pod's state is read every 2 s"]


def test_the_rules_are_those_of_a_role() -> None:
    granted = yaml.safe_load("rules:\n" + rules(asked_for(None)))["rules"]
    found = {(verb, resource) for rule in granted for resource in rule["resources"] for verb in rule["verbs"]}
    assert found == set(asked_for(None))
    assert all(rule["apiGroups"] == [""] for rule in granted)
