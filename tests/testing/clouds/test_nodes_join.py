"""Nodes of emulated node groups, which join a cluster and leave it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from kpo_multicluster.errors import ConfigurationError
from kpo_multicluster.testing import EmbeddedCluster, NodeSpec
from kpo_multicluster.testing.clouds import FakeAws, FakeAzure, FakeGoogle
from kpo_multicluster.testing.clouds.emulated_cloud import EmulatedCloud, EmulatedCluster
from kpo_multicluster.testing.clouds.node_groups import HOOK_FAILED, LEAVE_FAILED, ChangeKind, NodeGroup, Stage, Trouble
from kpo_multicluster.testing.clouds.node_plans import aks_nodes, eks_nodes

from ..server_side import client_of
from .traces import children

GPU = "nvidia.com/gpu"
TAINT = {"key": "team", "value": "ml", "effect": "NoSchedule"}
GPU_TAINT = {"key": GPU, "value": "present", "effect": "NoSchedule"}
ENUM_TAINTS = [{"key": "team", "value": "ml", "effect": "NO_SCHEDULE"}]
WAIT_SECONDS = 60.0

EKS = {
    "instanceTypes": ["g5.12xlarge"],
    "amiType": "AL2023_x86_64_NVIDIA",
    "subnets": ["subnet-a", "subnet-b"],
    "labels": {"stage": "test"},
    "taints": ENUM_TAINTS,
}
GKE = {
    "config": {
        "machineType": "g2-standard-48",
        "accelerators": [{"acceleratorCount": 4, "acceleratorType": "nvidia-l4"}],
        "labels": {"stage": "test"},
        "taints": ENUM_TAINTS,
    },
    "locations": ["europe-west1-b", "europe-west1-c"],
}
AKS = {
    "vmSize": "Standard_NC64as_T4_v3",
    "mode": "User",
    "nodeLabels": {"stage": "test"},
    "nodeTaints": ["team=ml:NoSchedule"],
    "scaleSetPriority": "Spot",
}
LABELS = {
    "eks": {
        "eks.amazonaws.com/nodegroup": "gpus",
        "eks.amazonaws.com/capacityType": "ON_DEMAND",
        "node.kubernetes.io/instance-type": "g5.12xlarge",
        "topology.kubernetes.io/region": "us-east-2",
    },
    "gke": {
        "cloud.google.com/gke-nodepool": "gpus",
        "cloud.google.com/gke-accelerator": "nvidia-l4",
        "node.kubernetes.io/instance-type": "g2-standard-48",
        "topology.kubernetes.io/region": "europe-west1",
    },
    "aks": {
        "agentpool": "gpus",
        "kubernetes.azure.com/agentpool": "gpus",
        "kubernetes.azure.com/accelerator": "nvidia",
        "kubernetes.azure.com/scalesetpriority": "spot",
        "node.kubernetes.io/instance-type": "Standard_NC64as_T4_v3",
    },
}
SPOT_TAINT = {"key": "kubernetes.azure.com/scalesetpriority", "value": "spot", "effect": "NoSchedule"}
TAINTS = {"eks": [TAINT], "gke": [TAINT, GPU_TAINT], "aks": [TAINT, SPOT_TAINT]}


@pytest.fixture
def embedded() -> Iterator[EmbeddedCluster]:
    with EmbeddedCluster("gpu", nodes=(NodeSpec("own"),)) as cluster:
        yield cluster


class Host:
    """A cluster that has its nodes in a list, and comes to them when it is let."""

    def __init__(self) -> None:
        self.nodes: list[str] = []
        self.drained: list[str] = []
        self.let = threading.Event()
        self.let.set()
        self.trouble: Exception | None = None

    def add_node(self, spec: NodeSpec) -> None:
        assert self.let.wait(WAIT_SECONDS)
        if self.trouble is not None:
            raise self.trouble
        self.nodes.append(spec.name)

    def drain_node(self, name: str, *, timeout_seconds: float) -> None:
        self.drained.append(name)
        if self.trouble is not None:
            raise self.trouble

    def remove_node(self, name: str) -> None:
        if name not in self.nodes:
            raise KeyError(name)
        self.nodes.remove(name)

    def refuse(self, name: str) -> None:
        raise OSError("no power")


@pytest.fixture
def host() -> Host:
    return Host()


@pytest.fixture
def pools(azure: FakeAzure, host: Host) -> tuple[FakeAzure, str]:
    cluster = azure.add_cluster("ml")
    azure.nodes_join(cluster, host)
    return azure, cluster.id


def made(cloud: EmulatedCloud, cluster: EmulatedCluster | str, count: int = 1, spec: Any = AKS) -> NodeGroup:
    key = cluster if isinstance(cluster, str) else cluster.id
    cloud.node_groups.create(key, "gpus", count, spec)
    return now(cloud, key)


def now(cloud: EmulatedCloud, key: str) -> NodeGroup:
    cloud.node_groups.advance()
    found = cloud.node_groups.find(key, "gpus")
    assert found is not None
    return found


def nodes(embedded: EmbeddedCluster) -> dict[str, dict[str, Any]]:
    return {node["metadata"]["name"]: node for node in embedded.objects("nodes") if node["metadata"]["name"] != "own"}


@pytest.mark.parametrize("kind", ["eks", "gke", "aks"])
def test_nodes_of_each_cloud(
    kind: str, aws: FakeAws, google: FakeGoogle, azure: FakeAzure, embedded: EmbeddedCluster
) -> None:
    clouds: dict[str, tuple[EmulatedCloud, EmulatedCluster, Any, int]] = {
        "eks": (aws, aws.add_cluster("ml"), EKS, 2),
        # That many in each of two zones.
        "gke": (google, google.add_cluster("ml"), GKE, 1),
        "aks": (azure, azure.add_cluster("ml"), AKS, 2),
    }
    cloud, cluster, spec, count = clouds[kind]
    processes = children().keys()
    cloud.nodes_join(cluster, embedded)

    assert made(cloud, cluster, count, spec).stage is Stage.ACTIVE

    joined = nodes(embedded)
    assert len(joined) == 2
    assert len(children()) == len(processes) + 2
    assert set(cloud.node_groups.nodes_of(cluster.id, "gpus")) == set(joined)
    for node in joined.values():
        labels = node["metadata"]["labels"]
        assert labels.items() >= {**LABELS[kind], "stage": "test"}.items()
        assert node["spec"]["taints"] == TAINTS[kind]
        assert node["status"]["allocatable"][GPU] == "4"
    if kind != "aks":
        zones = {node["metadata"]["labels"]["topology.kubernetes.io/zone"] for node in joined.values()}
        assert len(zones) == 2

    grown = {"eks": 3, "gke": 2, "aks": 3}[kind]
    cloud.node_groups.resize(cluster.id, "gpus", grown)
    assert now(cloud, cluster.id).stage is Stage.ACTIVE
    assert nodes(embedded).keys() > joined.keys()
    cloud.node_groups.resize(cluster.id, "gpus", count)
    assert now(cloud, cluster.id).stage is Stage.ACTIVE
    assert nodes(embedded).keys() == joined.keys()

    cloud.node_groups.delete(cluster.id, "gpus")
    cloud.node_groups.advance()
    assert cloud.node_groups.of(cluster.id) == ()
    assert nodes(embedded) == {}
    assert len(embedded.objects("nodes")) == 1
    assert children().keys() == processes


async def test_its_pods_are_evicted_before_a_node_ends(azure: FakeAzure, embedded: EmbeddedCluster) -> None:
    cluster = azure.add_cluster("ml")
    azure.nodes_join(cluster, embedded)
    await asyncio.to_thread(made, azure, cluster)
    (name,) = nodes(embedded)
    async with client_of(embedded) as client:
        containers = [{"name": "base", "image": "busybox", "command": ["sh", "-c", "trap 'exit 7' TERM; sleep 3600"]}]
        selected = {"nodeSelector": {"agentpool": "gpus"}, "tolerations": [{"operator": "Exists"}]}
        await client.create_pod("gpu", containers=containers, terminationGracePeriodSeconds=1, **selected)
        running = await asyncio.to_thread(embedded.wait_until, lambda pods: pods[0]["status"]["phase"] == "Running")
        assert running[0]["spec"]["nodeName"] == name
        async with client.watch() as events:
            azure.node_groups.delete(cluster.id, "gpus")
            seen = list[dict[str, Any]]()
            while not seen or seen[-1]["type"] != "DELETED":
                event = await events.next()
                assert event is not None
                seen.append(event)
        await asyncio.to_thread(azure.node_groups.advance)

    last = seen[-1]["object"]["status"]
    reasons = [condition["reason"] for condition in last["conditions"] if condition["type"] == "DisruptionTarget"]
    assert reasons == ["EvictionByEvictionAPI"]
    assert nodes(embedded) == {}


def test_who_looks_is_not_kept_waiting_for_nodes(pools: tuple[FakeAzure, str], host: Host) -> None:
    azure, key = pools
    host.let.clear()
    azure.node_groups.create(key, "gpus", 1, AKS)
    azure.node_groups.advance(wait=False)
    found = azure.node_groups.find(key, "gpus")
    assert found is not None
    assert found.stage is Stage.CREATING
    assert azure.node_groups.under_way(key) is not None
    host.let.set()
    assert now(azure, key).stage is Stage.ACTIVE


def test_the_emulator_itself_sees_to_it(pools: tuple[FakeAzure, str], host: Host) -> None:
    azure, key = pools
    azure.node_groups.create(key, "gpus", 2, AKS)
    deadline = time.monotonic() + WAIT_SECONDS
    while azure.node_groups.under_way(key) is not None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert len(host.nodes) == 2


def test_deleted_while_its_nodes_join(pools: tuple[FakeAzure, str], host: Host) -> None:
    azure, key = pools
    host.let.clear()
    azure.node_groups.create(key, "gpus", 3, AKS)
    azure.node_groups.advance(wait=False)
    azure.node_groups.delete(key, "gpus")
    azure.node_groups.advance(wait=False)
    host.let.set()
    azure.node_groups.advance()
    assert azure.node_groups.of(key) == ()
    assert host.nodes == []


def test_nodes_that_do_not_join(pools: tuple[FakeAzure, str], host: Host) -> None:
    azure, key = pools
    host.trouble = OSError("no kubelet")
    group = made(azure, key)
    assert group.stage is Stage.CREATE_FAILED
    assert group.troubles == (Trouble(HOOK_FAILED, "Instances failed to join the kubernetes cluster: no kubelet"),)


def test_nodes_that_do_not_leave(pools: tuple[FakeAzure, str], host: Host) -> None:
    azure, key = pools
    made(azure, key)
    host.trouble = OSError("no power")
    azure.node_groups.delete(key, "gpus")
    group = now(azure, key)
    assert group.stage is Stage.DELETE_FAILED
    assert group.troubles == (Trouble(LEAVE_FAILED, "Instances could not be terminated: no power"),)
    host.trouble = None
    azure.node_groups.delete(key, "gpus")
    azure.node_groups.advance()
    assert azure.node_groups.of(key) == ()
    assert host.nodes == []


@pytest.mark.parametrize("trouble", [TimeoutError("still there"), KeyError("gone"), ConfigurationError("stopped")])
def test_what_does_not_keep_a_node_from_leaving(pools: tuple[FakeAzure, str], host: Host, trouble: Exception) -> None:
    azure, key = pools
    made(azure, key)
    host.trouble = trouble
    azure.node_groups.delete(key, "gpus")
    azure.node_groups.advance()
    assert azure.node_groups.of(key) == ()
    assert azure.node_groups.nodes_of(key, "gpus") == ()
    assert len(host.drained) == 1
    assert (host.nodes == []) is isinstance(trouble, TimeoutError)


def test_a_group_whose_deletion_fails_keeps_its_nodes(pools: tuple[FakeAzure, str], host: Host) -> None:
    azure, key = pools
    made(azure, key)
    azure.node_groups.fail_next(ChangeKind.DELETE, Trouble("PodEvictionFailure", "no"))
    azure.node_groups.delete(key, "gpus")
    assert now(azure, key).stage is Stage.DELETE_FAILED
    assert len(host.nodes) == 1


def test_a_group_in_trouble_has_no_nodes(pools: tuple[FakeAzure, str], host: Host) -> None:
    azure, key = pools
    azure.node_groups.fail_next(ChangeKind.CREATE, Trouble("QuotaExceeded", "no"))
    assert made(azure, key).stage is Stage.CREATE_FAILED
    assert host.nodes == []


def test_a_node_that_cannot_be_ended_does_not_keep_the_others(host: Host) -> None:
    stuck = Host()
    azure = FakeAzure().start()
    for name, its_host in (("stuck", stuck), ("well", host)):
        cluster = azure.add_cluster(name)
        azure.nodes_join(cluster, its_host)
        made(azure, cluster)
    stuck.remove_node = stuck.refuse  # type: ignore[method-assign]
    with pytest.raises(OSError, match="no power"):
        azure.stop()
    assert host.nodes == []


def test_nodes_end_with_their_cloud(host: Host) -> None:
    with FakeAzure() as azure:
        cluster = azure.add_cluster("ml")
        azure.nodes_join(cluster, host)
        made(azure, cluster, 2)
        assert len(host.nodes) == 2
    assert host.nodes == []
    assert host.drained == []


@pytest.mark.parametrize(
    ("machine", "image", "gpus"),
    [
        ("g5.xlarge", "AL2023_x86_64_NVIDIA", 1),
        ("p4d.24xlarge", "AL2_x86_64_GPU", 8),
        ("g5.xlarge", "AL2023_x86_64_STANDARD", 0),
        ("m7i.large", "AL2023_x86_64_NVIDIA", 0),
    ],
)
def test_gpus_of_instance_types(machine: str, image: str, gpus: int) -> None:
    key = "arn:aws:eks:us-east-2:111111111111:cluster/ml"
    (node,) = eks_nodes(NodeGroup(key, "gpus", 1, {"instanceTypes": [machine], "amiType": image}))
    assert node.capacity == ({GPU: str(gpus)} if gpus else {})


@pytest.mark.parametrize(
    ("size", "driver", "gpus"),
    [
        ("Standard_NC4as_T4_v3", None, 1),
        ("Standard_ND96isr_H100_v5", "Install", 8),
        ("Standard_NC24ads_A100_v4", "None", 0),
        ("Standard_DS2_v2", None, 0),
    ],
)
def test_gpus_of_vm_sizes(size: str, driver: str | None, gpus: int) -> None:
    spec = {"vmSize": size, "gpuProfile": {"driver": driver} if driver else None}
    (node,) = aks_nodes(NodeGroup("/subscriptions/s", "gpus", 1, spec))
    assert node.capacity == ({GPU: str(gpus)} if gpus else {})
