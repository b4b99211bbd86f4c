from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from kpo_multicluster.api.client import ApiClient
from kpo_multicluster.auth.registry import resolve
from kpo_multicluster.cluster import kubeconfig
from kpo_multicluster.errors import (
    ConnectError,
    NodeGroupError,
    NodeGroupFailedError,
    NodeGroupTimeoutError,
    ServerError,
    ThrottledError,
)
from kpo_multicluster.node_groups.lifecycle import NodeGroups
from kpo_multicluster.node_groups.nodes import count_nodes
from kpo_multicluster.node_groups.readiness import NodeApi, Report, Stage, Wanted, until_ready
from kpo_multicluster.node_groups.waiting import Pace
from kpo_multicluster.testing import EmbeddedCluster, NodeSpec, Rule, User
from kpo_multicluster.testing.clouds.node_groups import NodeGroup as Emulated
from kpo_multicluster.testing.clouds.node_groups import Trouble

from .conftest import LIMIT_SECONDS, Bed

LABELS = {
    "eks": "eks.amazonaws.com/nodegroup",
    "gke": "cloud.google.com/gke-nodepool",
    "aks": "kubernetes.azure.com/agentpool",
}
GPUS = Wanted(nodes=2, gpus=2)


def node(name: str, *, ready: bool = True, gpus: int = 1, **spec: Any) -> dict[str, Any]:
    condition = {
        "type": "Ready",
        "status": str(ready),
        "message": "kubelet is ready" if ready else "cni plugin missing",
    }
    allocatable = {"cpu": "4", **({"nvidia.com/gpu": str(gpus)} if gpus else {})}
    return {
        "metadata": {"name": name},
        "spec": spec,
        "status": {"conditions": [condition], "allocatable": allocatable},
    }


class Nodes:
    """Lists nodes as a script says, the last of it for ever."""

    def __init__(self, *script: list[dict[str, Any]] | Exception) -> None:
        self.script, self.asked = list(script), list[Mapping[str, str | int]]()

    async def request(self, method: str, path: str, *, params: Mapping[str, str | int] | None = None) -> dict[str, Any]:
        assert (method, path) == ("GET", "/api/v1/nodes")
        self.asked.append(params or {})
        step = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if isinstance(step, Exception):
            raise step
        return {"items": step}


async def reports(bed: Bed, api: NodeApi | None, wanted: Wanted = GPUS, **options: Any) -> list[Report]:
    groups = bed.open()
    ensured = await groups.ensure(bed.spec(desired_size=wanted.nodes, max_size=max(wanted.nodes, 1)))
    if "timeout_seconds" in options:
        # So that this is not what takes too long.
        await groups.until_active(ensured.change, timeout_seconds=LIMIT_SECONDS)
    options = {"timeout_seconds": LIMIT_SECONDS, **options}
    async with aclosing(until_ready(groups, ensured.change, nodes=api, wanted=wanted, **options)) as found:
        return [report async for report in found]


async def test_each_stage_is_told_as_it_changes(bed: Bed) -> None:
    two = [node("a"), node("b")]
    api = Nodes(
        [],
        [node("a", ready=False, gpus=0)],
        [node("a", ready=False, gpus=0)],
        [node("a", gpus=0), node("b", ready=False, gpus=0)],
        [node("a", gpus=0), node("b", gpus=0, unschedulable=True)],
        [node("a", gpus=0), node("b", gpus=0, taints=[{"key": "node.kubernetes.io/not-ready"}])],
        [node("a", gpus=0), node("b", gpus=0)],
        [node("a"), node("b", gpus=0)],
        two,
    )

    found = await reports(bed, api)

    told = [(report.stage.value, report.text) for report in found if report.stage is not Stage.PROVIDER]
    assert told == [
        ("registered", "0 of 2 nodes registered"),
        ("registered", "1 of 2 nodes registered"),
        ("schedulable", "1 of 2 nodes Ready and taking pods"),
        ("gpu", "0 of 2 nvidia.com/gpu allocatable"),
        ("gpu", "1 of 2 nvidia.com/gpu allocatable"),
        ("ready", "ready: 2 nodes take pods, 2 nvidia.com/gpu allocatable"),
    ]
    assert api.asked[0] == {"labelSelector": f"{LABELS[bed.kind]}=gpu"}
    last = found[-1]
    assert last.ready
    assert set(last.spent) == {"provider", "registered", "schedulable", "gpu"}
    assert sum(last.spent.values()) == pytest.approx(last.total_seconds, abs=0.01)
    assert "provider" in str(last)
    assert not found[0].ready


@pytest.mark.parametrize(
    ("nodes", "stage", "texts"),
    [
        ([], "registered", ["0 of 2 nodes registered", "run and do not register"]),
        (
            [node("a"), node("b", ready=False)],
            "schedulable",
            ["1 of 2 nodes Ready", "b: cni plugin missing", "network plugin"],
        ),
        ([node("a"), node("b", unschedulable=True)], "schedulable", ["b: cordoned"]),
        (
            [node("a", gpus=0), node("b", gpus=0)],
            "gpu",
            ["2 nodes are Ready, and 0 nvidia.com/gpu", "device plugin does not run"],
        ),
    ],
)
async def test_the_stage_that_is_missing_is_named(
    bed: Bed, nodes: list[dict[str, Any]], stage: str, texts: list[str]
) -> None:
    with pytest.raises(NodeGroupTimeoutError) as caught:
        await reports(bed, Nodes(nodes), timeout_seconds=0.1)
    assert caught.value.stage == stage
    for text in texts:
        assert text in str(caught.value)


async def test_a_group_that_fails_late_is_not_awaited(bed: Bed) -> None:
    if bed.kind == "aks":
        pytest.skip("AKS has no such state")

    class Late(Nodes):
        async def request(self, *arguments: Any, **named: Any) -> dict[str, Any]:
            bed.fake.node_groups.degrade(bed.cluster, "gpu", Trouble("NodeCreationFailure", "could not join"))
            return await super().request(*arguments, **named)

    with pytest.raises(NodeGroupFailedError, match=r"will not become ready.*could not join"):
        await reports(bed, Late([]))


async def test_a_group_that_someone_deletes_is_not_awaited(eks_bed: Bed) -> None:
    class Gone(Nodes):
        async def request(self, *arguments: Any, **named: Any) -> dict[str, Any]:
            if eks_bed.emulated() is not None:
                eks_bed.fake.node_groups.delete(eks_bed.cluster, "gpu")
            return await super().request(*arguments, **named)

    with pytest.raises(NodeGroupError, match="someone deleted it"):
        await reports(eks_bed, Gone([]))


async def test_without_an_api_server_the_cloud_has_to_do(gke_bed: Bed) -> None:
    last = (await reports(gke_bed, None))[-1]
    assert last.ready
    assert "no API server was given" in (last.warning or "")


async def test_an_empty_group_is_ready_when_the_cloud_says_so(gke_bed: Bed) -> None:
    api = Nodes([])
    last = (await reports(gke_bed, api, Wanted(nodes=0)))[-1]
    assert last.ready
    assert last.warning is None
    assert not api.asked


@pytest.mark.parametrize(
    "away",
    [
        ConnectError("no answer"),
        ServerError(503, request="GET nodes", detail="no answer"),
        ThrottledError(429, request="GET nodes", detail="no answer"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_an_api_server_that_is_away_is_waited_for(gke_bed: Bed, away: Exception) -> None:
    found = await reports(gke_bed, Nodes(away, [node("a"), node("b")]))
    assert found[-1].ready
    with pytest.raises(NodeGroupTimeoutError, match=r"The last try to list its nodes failed: .*no answer"):
        await reports(gke_bed, Nodes(away), timeout_seconds=0.1)


def test_counting() -> None:
    leaving = node("c")
    leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    counted = count_nodes([node("a", gpus=4), node("b", ready=False), leaving, {}], "nvidia.com/gpu")
    assert (counted.registered, counted.schedulable, counted.gpus) == (3, 1, 4)
    assert counted.reasons[0] == "b: cni plugin missing"
    assert count_nodes([node("a", gpus=1)], "nvidia.com/mig-1g.5gb").gpus == 0


# -- against an API server ---------------------------------------------------------------------------------------------


@pytest.fixture
def embedded() -> Iterator[EmbeddedCluster]:
    pods_only = User("pods-only", rules=(Rule(("*",), ("pods",)),))
    with EmbeddedCluster("gpu", nodes=(), users=(pods_only,)) as cluster:
        yield cluster


@asynccontextmanager
async def client(embedded: EmbeddedCluster, user: str, path: Path) -> AsyncIterator[ApiClient]:
    access = await asyncio.to_thread(resolve, kubeconfig(str(embedded.write_kubeconfig(path, user=user))))
    async with ApiClient(access) as made:
        yield made


async def test_nodes_that_join_a_cluster(bed: Bed, embedded: EmbeddedCluster, tmp_path: Path) -> None:
    def join(group: Emulated) -> None:
        for number in range(group.count):
            labels = {LABELS[bed.kind]: group.name}
            embedded.add_node(NodeSpec(f"{group.name}-{number}", labels=labels, capacity={"nvidia.com/gpu": "1"}))

    bed.fake.node_groups.on_active = join
    async with client(embedded, "admin", tmp_path / "config") as api:
        last = (await reports(bed, api))[-1]

    assert last.text == "ready: 2 nodes take pods, 2 nvidia.com/gpu allocatable"


async def test_who_may_not_list_nodes_is_told(gke_bed: Bed, embedded: EmbeddedCluster, tmp_path: Path) -> None:
    async with client(embedded, "pods-only", tmp_path / "config") as api:
        last = (await reports(gke_bed, api))[-1]
    assert last.ready
    assert "grant it `list` on `nodes`" in (last.warning or "")


async def test_fifty_groups_at_once(eks_bed: Bed) -> None:
    groups: NodeGroups = eks_bed.open(pace=Pace(0.5, 1.0))
    api = Nodes([node("a")])

    async def one(number: int) -> Report:
        ensured = await groups.ensure(eks_bed.spec(f"gpu-{number}"))
        following = until_ready(groups, ensured.change, nodes=api, wanted=Wanted(1, 1), timeout_seconds=LIMIT_SECONDS)
        async with aclosing(following) as found:
            return [report async for report in found][-1]

    done = await asyncio.gather(*(one(number) for number in range(50)))
    assert all(report.ready for report in done)
    assert len({report.group.name for report in done}) == 50
