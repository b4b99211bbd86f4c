"""The doctor tells of a cluster what is so: whom it knows, what they may do, what is in the way."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml

from kpo_multicluster.cluster import ClusterRef, kubeconfig
from kpo_multicluster.doctor.examination import Subject, examine
from kpo_multicluster.doctor.report import Examination, Outcome, Step
from kpo_multicluster.doctor.rights import FEATURES

from .clusters import Cluster

RUN = next(feature for feature in FEATURES if feature.name == "run")
EVERYTHING = sorted({right for feature in FEATURES for right in feature.rights})


def rules(rights: Any) -> list[dict[str, list[str]]]:
    return [{"verbs": [verb], "resources": [resource]} for verb, resource in rights]


def look(ref: ClusterRef, namespace: str) -> Examination:
    return examine(lambda: Subject(ref, "given by the case"), namespace=namespace, within_seconds=120)


def failing(found: Examination, name: str) -> Step:
    step = found.first_failure
    assert step is not None, str(found)
    assert step.name == name, str(found)
    return step


def changed(cluster: Cluster, directory: Path, *, user: Any = None, ca: bytes | None = None) -> ClusterRef:
    """The cluster by a kubeconfig that has another user, or another CA."""
    document = yaml.safe_load(cluster.kubeconfig.read_text())
    context = next(item["context"] for item in document["contexts"] if item["name"] == cluster.name)
    if user is not None:
        next(item for item in document["users"] if item["name"] == context["user"])["user"] = user
    if ca is not None:
        section = next(item["cluster"] for item in document["clusters"] if item["name"] == context["cluster"])
        section.pop("certificate-authority", None)
        section["certificate-authority-data"] = base64.b64encode(ca).decode()
    path = directory / "changed"
    path.write_text(yaml.safe_dump(document))
    return kubeconfig(str(path), context=cluster.name)


def test_an_administrator_may_do_everything(cluster: Cluster, namespace: str) -> None:
    found = look(cluster.ref, namespace)
    assert {step.outcome for step in found.steps} == {Outcome.OK}, str(found)
    assert "knows us as " in found.step("authentication").found
    assert "system:masters" in found.step("authentication").found


def test_a_role_with_all_rights(cluster: Cluster, namespace: str) -> None:
    account = cluster.make_account(namespace, rules(EVERYTHING))
    found = look(account.ref, namespace)
    assert {step.outcome for step in found.steps} == {Outcome.OK}, str(found)
    assert f"knows us as {account.user}" in found.step("authentication").found


def test_a_role_that_runs_pods_and_no_more(cluster: Cluster, namespace: str) -> None:
    found = look(cluster.make_account(namespace, rules(RUN.rights)).ref, namespace)
    assert found.well
    step = found.step("permissions")
    assert step.outcome is Outcome.WARNING
    assert "a retry starts a new pod (reattach)" in step.found
    assert "no pod can be created" not in step.found


@pytest.mark.parametrize("missing", RUN.rights, ids=" ".join)
def test_a_role_that_lacks_a_right(cluster: Cluster, namespace: str, missing: tuple[str, str]) -> None:
    account = cluster.make_account(namespace, rules(right for right in RUN.rights if right != missing))
    step = look(account.ref, namespace).step("permissions")
    assert step.outcome is (Outcome.WARNING if missing[0] == "delete" or missing[1] == "pods/log" else Outcome.FAILED)
    assert " ".join(missing) in step.found
    assert f'resources: ["{missing[1]}"], verbs: [' in step.next_step


def test_an_account_without_a_role(cluster: Cluster, namespace: str) -> None:
    step = failing(look(cluster.make_account(namespace).ref, namespace), "permissions")
    assert "no pod can be created" in step.found


def test_a_token_no_one_knows(cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    step = failing(look(changed(cluster, tmp_path, user={"token": "no-ones-token"}), namespace), "authentication")
    assert "no-ones-token" not in f"{step.found} {step.next_step}"


def test_another_ca(cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    ref = changed(cluster, tmp_path, ca=trustme.CA().cert_pem.bytes())
    assert "issued by" in failing(look(ref, namespace), "tls").next_step
