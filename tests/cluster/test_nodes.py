"""Nodes that join a running cluster and leave it, as those of a cloud's node group do."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from . import bed
from .errors import ClusterError
from .fixtures import MakeNamespace, RealClusters

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

GPU = "nvidia.com/gpu"
TAINT = {"key": GPU, "value": "present", "effect": "NoSchedule"}
LABELS = {"eks.amazonaws.com/nodegroup": "gpu-group"}


@pytest.fixture
def gpu_node(real_clusters: RealClusters) -> Iterator[str]:
    if not real_clusters.ours:
        pytest.skip("adds a node, which only the clusters made for the tests allow")
    name = "alpha-gpu"
    bed.add_node("alpha", name, labels=LABELS, taints=[TAINT], capacity={GPU: "1"})
    yield name
    if any(node.name == name for node in bed.nodes("alpha")):
        bed.remove_node("alpha", name)


def gpu_pod(**spec: Any) -> dict[str, Any]:
    container = {"name": "base", "image": "busybox", "command": ["echo", "on the GPU"]}
    limits = {"resources": {"limits": {GPU: "1"}}}
    return {"metadata": {"name": "gpu"}, "spec": {"restartPolicy": "Never", "containers": [container | limits], **spec}}


def test_a_gpu_node_joins_runs_a_pod_and_leaves(
    real_clusters: RealClusters, make_namespace: MakeNamespace, gpu_node: str
) -> None:
    client = real_clusters.client("alpha")
    node = client.request("GET", f"/api/v1/nodes/{gpu_node}")
    assert node["metadata"]["labels"].items() >= LABELS.items()
    assert TAINT in node["spec"]["taints"]
    pods = f"/api/v1/namespaces/{make_namespace('alpha')}/pods"

    client.request("POST", pods, gpu_pod())
    waiting = client.wait(f"{pods}/gpu", lambda seen: bool(seen.get("status", {}).get("conditions")))
    (scheduled,) = waiting["status"]["conditions"]
    assert scheduled["reason"] == "Unschedulable"
    reason = "0/2 nodes are available: 1 Insufficient nvidia.com/gpu, 1 node(s) had untolerated taint(s)."
    assert scheduled["message"].startswith(reason)
    client.request("DELETE", f"{pods}/gpu")

    tolerates = [{"key": GPU, "operator": "Exists", "effect": "NoSchedule"}]
    client.request("POST", pods, gpu_pod(tolerations=tolerates))
    ran = client.wait(f"{pods}/gpu", lambda seen: seen.get("status", {}).get("phase") == "Succeeded")
    assert ran["spec"]["nodeName"] == gpu_node
    assert client.text("GET", f"{pods}/gpu/log") == "on the GPU\n"

    bed.remove_node("alpha", gpu_node)
    assert [node["metadata"]["name"] for node in client.request("GET", "/api/v1/nodes")["items"]] == ["alpha-1"]


def test_a_name_is_given_to_one_node_only(gpu_node: str) -> None:
    with pytest.raises(ClusterError, match="There is a node alpha-gpu in alpha already"):
        bed.add_node("alpha", gpu_node)
    assert [node.name for node in bed.nodes("alpha")] == ["alpha-1", gpu_node]


def test_the_machines_own_resources_cannot_be_given(real_clusters: RealClusters) -> None:
    with pytest.raises(ValueError, match="memory is the machine's own"):
        bed.add_node("alpha", "refused", capacity={"memory": "1Gi"})


def test_a_node_that_fails_to_start_leaves_nothing(real_clusters: RealClusters) -> None:
    if not real_clusters.ours:
        pytest.skip("adds a node, which only the clusters made for the tests allow")
    started = time.monotonic()
    # A kubelet may not give itself this label, and ends.
    with pytest.raises(ClusterError, match=r"unknown 'kubernetes\.io' or 'k8s\.io' labels"):
        bed.add_node("alpha", "refused", labels={"node-role.kubernetes.io/worker": "true"})
    # The minute that a node may take to be ready is not waited for.
    assert time.monotonic() - started < 60
    assert [node.name for node in bed.nodes("alpha")] == ["alpha-1"]
