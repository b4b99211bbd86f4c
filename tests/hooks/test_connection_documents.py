"""What docs/connections.md tells a reader to write works."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest

from kpo_multicluster.hooks.cluster_ways import KNOWN_FIELDS
from kpo_multicluster.hooks.clusters import ClusterArguments, choose_cluster
from kpo_multicluster.hooks.fields import ConnectionFields
from kpo_multicluster.testing.cluster import EmbeddedCluster

DOCUMENT = (Path(__file__).parents[2] / "docs" / "connections.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", DOCUMENT, flags=re.MULTILINE | re.DOTALL)


def test_every_extra_names_a_cluster() -> None:
    form, *extras = (json.loads(block) for block in blocks("json"))
    assert len(extras) == 7
    kinds = []
    named = choose_cluster(ClusterArguments(), ConnectionFields("gpu", form["conn_type"], extra=form["extra"]), {})
    assert named.ref.options == {"cluster_name": "gpu", "region": "us-east-2", "conn_id": "aws_remote"}
    for extra in extras:
        by_type = extra["cluster"].get("auth") is None
        fields = ConnectionFields("gpu", "aws" if by_type else "kubernetes", extra=extra)
        if extra["cluster"].get("auth") == "token":
            fields = ConnectionFields("gpu", "kubernetes", extra=extra, host="10.0.0.1", port=6443, password="t")
        kinds.append(choose_cluster(ClusterArguments(), fields, {}).ref.kind)
    assert kinds == ["eks", "eks", "gke", "aks", "kubeconfig", "token", "eks"]


def test_what_is_explained_is_what_is_shown() -> None:
    fields = ConnectionFields("gpu", "kubernetes", extra=json.loads(blocks("json")[1]))
    assert choose_cluster(ClusterArguments(), fields, {}).explain() == blocks("text")[0].strip()


def test_the_form_is_shown() -> None:
    directory = Path(__file__).parents[2] / "docs"
    shown = {directory / path for path in re.findall(r"!\[[^]]+\]\((\S+)\)", DOCUMENT)}
    assert shown == set((directory / "images").iterdir())
    assert all(path.stat().st_size < 150_000 for path in shown)


def test_every_field_is_mentioned() -> None:
    fields = [name for name in KNOWN_FIELDS if not name.startswith(("xcom_sidecar", "disable_tcp"))]
    assert [name for name in fields if f"`{name}`" not in DOCUMENT] == []


@pytest.mark.parametrize("index", [0, 1])
def test_the_code_runs(index: int, cluster: EmbeddedCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    written = json.dumps({"conn_type": "kubernetes", "extra": {"kube_config": cluster.kubeconfig()}})
    for name in ("GPU", "CPU"):
        monkeypatch.setenv(f"AIRFLOW_CONN_{name}", written)
    names: dict[str, Any] = {}
    exec(blocks("python")[index], names)
    function = (names["namespaces"] if index == 0 else names["namespaces_of_both"]).function
    result = function()
    assert "default" in result if index == 0 else result["gpu"] == result["cpu"] > 0
    assert not asyncio._get_running_loop()
