"""docs/embedded-cluster.md lists every case that a real cluster alone is tried on, and nothing else."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from kpo_multicluster.api.client import ApiClient
from kpo_multicluster.auth.registry import resolve
from kpo_multicluster.cluster import kubeconfig
from kpo_multicluster.errors import ApiError
from kpo_multicluster.testing import EmbeddedCluster

ROOT = Path(__file__).parents[2]
ROW = re.compile(r"^\|.*\| `(test_\w+)` \|$", re.MULTILINE)
ITEM = re.compile(r"::(\w+)\[(?:[\w-]+-)?(embedded|kubernetes)\b")


def test_the_document_lists_the_cases_of_real_clusters_alone() -> None:
    command = [sys.executable, "-m", "pytest", "--collect-only", "--quiet", "tests/contract"]
    collected = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    kinds: defaultdict[str, set[str]] = defaultdict(set)
    for case, kind in ITEM.findall(collected):
        kinds[case].add(kind)
    assert sum(found == {"embedded", "kubernetes"} for found in kinds.values()) > 100
    listed = ROW.findall((ROOT / "docs" / "embedded-cluster.md").read_text(encoding="utf-8"))
    assert sorted(listed) == sorted(case for case, found in kinds.items() if found == {"kubernetes"})
    assert [case for case, found in kinds.items() if found == {"embedded"}] == []


@pytest.mark.parametrize(
    ("method", "path", "media", "status"),
    [
        ("PATCH", "/api/v1/namespaces/default/configmaps/kube-root-ca.crt", "application/apply-patch+yaml", 415),
        ("POST", "/api/v1/namespaces/default/pods", "application/vnd.kubernetes.protobuf", 415),
        ("GET", "/apis/apps/v1/namespaces/default/deployments", "application/json", 404),
        ("GET", "/apis/batch/v1/namespaces/default/jobs", "application/json", 404),
        ("GET", "/api/v1/namespaces/default/services", "application/json", 404),
        ("POST", "/api/v1/namespaces/default/pods/a/eviction", "application/json", 404),
        ("POST", "/api/v1/namespaces/default/serviceaccounts/default/token", "application/json", 404),
    ],
)
async def test_what_is_not_there_is_refused(method: str, path: str, media: str, status: int) -> None:
    body = {"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "a"}} if method != "GET" else None
    with EmbeddedCluster(nodes=()) as cluster:
        async with ApiClient(resolve(kubeconfig(document=cluster.kubeconfig()))) as api:
            with pytest.raises(ApiError) as refused:
                await api.request(method, path, body=body, content_type=media)
    assert refused.value.status == status
