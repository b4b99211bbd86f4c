"""Node groups of emulated clouds whose nodes are real: each has a kubelet that joined the cluster."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kpo_multicluster.api.client import ApiClient
from kpo_multicluster.auth.registry import resolve
from kpo_multicluster.cluster import kubeconfig
from kpo_multicluster.node_groups.placement import NODE_LABELS, Placement, placement_of
from kpo_multicluster.node_groups.readiness import Report, Wanted, until_ready
from kpo_multicluster.node_groups.spec import NodeGroupSpec

from ..node_groups.conftest import Bed, aks_bed, aws, azure, azure_ca, bed, eks_bed, gke_bed, google, no_one
from . import bed as machines
from .fixtures import MakeNamespace, RealClusters
from .joining import RealNodes
from .layout import NodeLayout

__all__ = ["aks_bed", "aws", "azure", "azure_ca", "bed", "eks_bed", "gke_bed", "google", "no_one"]

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

CLUSTER = "beta"
GPU = "nvidia.com/gpu"
UNTIL_TOLD = "trap 'exit 0' TERM; echo on the GPU; while :; do sleep 0.1; done"


@pytest.fixture
def joined(bed: Bed, real_clusters: RealClusters) -> Bed:
    """A cloud whose nodes join a real cluster."""
    if not real_clusters.ours:
        pytest.skip("adds a node, which only the clusters made for the tests allow")
    bed.fake.nodes_join(SimpleNamespace(id=bed.cluster), RealNodes(CLUSTER))
    return bed


def processes_of(node: NodeLayout) -> list[str]:
    """What runs on a node: its kubelet, which has its name, and whatever is in a cgroup of its pods."""
    found = [path.parent.name for path in Path("/proc").glob("[0-9]*/cmdline") if node.name in _read(path)]
    in_groups = Path("/sys/fs/cgroup").glob(f"**/{node.cgroup}/**/cgroup.procs")
    return [*found, *(pid for path in in_groups for pid in _read(path).split())]


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # it has ended
        return ""


def pod(name: str, **spec: Any) -> dict[str, Any]:
    container = {"name": "base", "image": "busybox", "command": ["sh", "-c", UNTIL_TOLD]}
    limits = {"resources": {"limits": {GPU: "1"}}}
    return {"metadata": {"name": name}, "spec": {"restartPolicy": "Never", "containers": [container | limits], **spec}}


async def until_ready_on(clusters: RealClusters, bed: Bed, spec: NodeGroupSpec) -> Report:
    groups = bed.open()
    ensured = await groups.ensure(spec)
    access = await asyncio.to_thread(resolve, kubeconfig(str(clusters.kubeconfig), context=CLUSTER))
    async with (
        ApiClient(access) as api,
        aclosing(until_ready(groups, ensured.change, nodes=api, wanted=Wanted.of(spec))) as reports,
    ):
        return [report async for report in reports][-1]


async def gone(bed: Bed, name: str) -> None:
    groups = bed.open()
    deletion = await groups.delete(name)
    assert deletion is not None
    await groups.until_gone(deletion)


def test_a_real_kubelet_joins_for_a_group_and_is_gone_after_it(
    joined: Bed, real_clusters: RealClusters, make_namespace: MakeNamespace
) -> None:
    client, pods = real_clusters.client(CLUSTER), f"/api/v1/namespaces/{make_namespace(CLUSTER)}/pods"
    spec = joined.spec("gpus", taints=(f"{GPU}=present:NoSchedule",), labels={"stage": "test"})

    report = asyncio.run(until_ready_on(real_clusters, joined, spec))

    assert report.text == f"ready: 1 nodes take pods, 1 {GPU} allocatable"
    (name,) = joined.fake.node_groups.nodes_of(joined.cluster, "gpus")
    node = client.request("GET", f"/api/v1/nodes/{name}")
    mine = {NODE_LABELS[joined.kind]: "gpus", "stage": "test", "node.kubernetes.io/instance-type": joined.machine}
    assert node["metadata"]["labels"].items() >= mine.items()
    assert [taint for taint in node["spec"]["taints"] if taint["key"] == GPU] == [
        {"key": GPU, "value": "present", "effect": "NoSchedule"}
    ]
    assert node["status"]["allocatable"][GPU] == "1"
    (layout,) = [each for each in machines.nodes(CLUSTER) if each.name == name]
    assert processes_of(layout)

    placement: Placement = placement_of(spec)
    selector, tolerations = dict(placement.node_selector), [dict(each) for each in placement.tolerations]
    client.request("POST", pods, pod("stranger", nodeSelector=selector))
    client.request("POST", pods, pod("gpu", nodeSelector=selector, tolerations=tolerations))
    running = client.wait(f"{pods}/gpu", lambda seen: seen.get("status", {}).get("phase") == "Running")
    assert running["spec"]["nodeName"] == name
    refused = client.wait(f"{pods}/stranger", lambda seen: bool(seen.get("status", {}).get("conditions")))
    assert refused["status"]["conditions"][0]["reason"] == "Unschedulable"
    assert "untolerated taint" in refused["status"]["conditions"][0]["message"]
    assert client.text("GET", f"{pods}/gpu/log") == "on the GPU\n"

    asyncio.run(gone(joined, "gpus"))

    assert joined.emulated("gpus") is None
    names = [each["metadata"]["name"] for each in client.request("GET", "/api/v1/nodes")["items"]]
    assert name not in names
    assert processes_of(layout) == []
    assert not layout.directory.exists()
    # It was evicted: no one deletes the pods of a node that just goes within this time.
    left = {each["metadata"]["name"]: each for each in client.request("GET", pods)["items"]}
    assert set(left) == {"stranger"}
    assert "nodeName" not in left["stranger"]["spec"]
