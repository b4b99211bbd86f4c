"""Connections of every kind of cluster, made, read back and tested in a browser, as people do."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from kpo_multicluster.hooks.connection_form import CLUSTER_KINDS

from .conftest import Bed
from .form import Connections

pytestmark = pytest.mark.timeout(1500)

MASK = "***"
_MOST_BYTES = 150_000
_ADDRESS = "https://10.0.0.1:6443"


@dataclass(frozen=True)
class Filled:
    """What is filled into the form.

    Attributes:
        fields: that lead to a cluster which is there.
        secret: those of them that are not to be seen again.
        shown: what a picture has in their place.
        pictures: the field whose section is shown, by the picture's name.
    """

    fields: dict[str, str]
    secret: tuple[str, ...] = ()
    shown: dict[str, str] = field(default_factory=dict)
    pictures: dict[str, str] = field(default_factory=dict)


def filled(kind: str, bed: Bed) -> Filled:
    cluster = bed.cluster
    if kind == "kubeconfig":
        return Filled(
            {"cluster_kind": kind, "kubeconfig_path": str(bed.kubeconfig), "context": cluster.name},
            shown={"kubeconfig_path": "/etc/airflow/kubeconfig", "context": "gpu"},
            pictures={"connection-kubeconfig": "kubeconfig_path"},
        )
    if kind == "pasted":
        pasted = json.dumps(cluster.kubeconfig(), indent=1)
        return Filled({"cluster_kind": "kubeconfig", "kubeconfig_secret": pasted}, ("kubeconfig_secret",))
    if kind == "token":
        return Filled(
            {"cluster_kind": kind, "server": cluster.server, "token": cluster.token(), "ca_data": cluster.ca_pem},
            ("token",),
            shown={"server": _ADDRESS},
            pictures={"connection-token": "server"},
        )
    if kind == "in_cluster":
        return Filled({"cluster_kind": kind, "namespace": "jobs"})
    pictures = {"connection-clouds": "cluster_name"} if kind == "eks" else {}
    own = {"eks": "region", "gke": "location", "aks": "resource_group"}[kind]
    fields = {**bed.clouds[kind].fields, "namespace": bed.namespace}
    return Filled(fields, pictures={**pictures, f"connection-{kind}": own})


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Where pictures go: into the documents, if that is asked for."""
    return Path(os.environ.get("KPO_PICTURES") or tmp_path)


def stored(bed: Bed, conn_id: str) -> dict[str, Any]:
    """The extra of a connection as the REST API shows it."""
    extra: dict[str, Any] = json.loads(bed.airflow.ask("GET", f"/api/v2/connections/{conn_id}")["extra"])
    return extra


@pytest.mark.parametrize("kind", ["kubeconfig", "pasted", "token", "eks", "gke", "aks"])
def test_a_connection(kind: str, connections: Connections, bed: Bed, pictures: Path) -> None:
    what = filled(kind, bed)
    masked = {**what.fields, **dict.fromkeys(what.secret, MASK)}
    form = connections.add(kind)
    form.fill({**what.fields, **what.shown})
    for picture, name in what.pictures.items():
        form.picture(pictures / f"{picture}.png", name)
        assert (pictures / f"{picture}.png").stat().st_size < _MOST_BYTES
    form.fill({name: what.fields[name] for name in what.shown})
    form.save()
    extra = stored(bed, kind)
    assert {name: value for name, value in extra.items() if value is not None} == masked

    # What is read back may be saved again: a secret that was not touched stays what it was.
    form = connections.edit(kind)
    shown = {"cluster_kind": CLUSTER_KINDS[what.fields["cluster_kind"]]}
    assert form.read(what.fields) == {**masked, **shown}
    form.fill({"namespace": bed.namespace})
    form.save()
    assert stored(bed, kind)["namespace"] == bed.namespace
    good, said = connections.test(kind, pictures / "connection-test.png" if kind == "eks" else None)
    assert good, said


def test_the_one_airflow_runs_in(connections: Connections, bed: Bed, pictures: Path) -> None:
    """This one runs in none: Test says what is missing."""
    form = connections.add("in_cluster")
    form.fill(filled("in_cluster", bed).fields)
    form.picture(pictures / "connection-form.png", "cluster_kind", whole=True)
    assert (pictures / "connection-form.png").stat().st_size < _MOST_BYTES
    form.save()
    good, said = connections.test("in_cluster")
    assert not good
    assert "so it runs in no pod" in said


def test_what_is_wrong_is_shown_with_the_fields_of_the_form(connections: Connections, bed: Bed) -> None:
    form = connections.add("two_kinds")
    form.fill({**bed.clouds["eks"].fields, "kubeconfig_path": "/etc/airflow/kubeconfig"})
    form.save()
    good, said = connections.test("two_kinds")
    assert not good
    assert "'Amazon EKS', and fills in 'Kubeconfig file' (kubeconfig_path), which that kind does not have" in said
