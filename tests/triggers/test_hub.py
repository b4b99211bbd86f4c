"""The watch that many pods share: what it asks of the cluster, and what it outlasts."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Callable
from types import FrameType, FunctionType, ModuleType
from typing import Any

import pytest

from kpo_multicluster.api.client import ApiClient, RetryPolicy
from kpo_multicluster.auth.registry import resolve
from kpo_multicluster.cluster import ClusterRef
from kpo_multicluster.errors import KpoMulticlusterError
from kpo_multicluster.pods import hub as hub_module
from kpo_multicluster.pods.hub import PodHub
from kpo_multicluster.pods.monitor import PodMonitor
from kpo_multicluster.testing.cluster import EmbeddedCluster

from .conftest import PATIENCE_SECONDS, until
from .stub import StubServer

LABELS = {"kubernetes_pod_operator": "True"}
PODS = "/api/v1/namespaces/default/pods"


class Watched:
    """A hub, and what is done to the pods it watches."""

    def __init__(self, api: ApiClient) -> None:
        self.api = api
        self.hub = PodHub(api)
        self.told: list[str] = []
        self.monitors: list[PodMonitor] = []

    async def create(self, name: str, labels: dict[str, str] | None = None) -> dict[str, Any]:
        """A pod that no node takes: nothing happens to it by itself."""
        spec = {"containers": [{"name": "base", "image": "alpine:3"}], "nodeSelector": {"none": "such"}}
        metadata = {"name": name, "labels": LABELS if labels is None else labels}
        body = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {**spec, "restartPolicy": "Never"}}
        return await self.api.request("POST", PODS, body=body)

    async def create_many(self, prefix: str, count: int) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for start in range(0, count, 20):
            names = [f"{prefix}-{number}" for number in range(start, min(count, start + 20))]
            found.extend(await asyncio.gather(*map(self.create, names)))
        return found

    async def end(self, pod: dict[str, Any], code: int = 0) -> None:
        """As a kubelet would."""
        terminated = {"terminated": {"exitCode": code, "reason": "Completed"}}
        status = {"name": "base", "image": "alpine:3", "imageID": "", "ready": False, "restartCount": 0}
        body = {"status": {"phase": "Succeeded", "containerStatuses": [{**status, "state": terminated}]}}
        path = f"{PODS}/{pod['metadata']['name']}/status"
        await self.api.request("PATCH", path, body=body, content_type="application/merge-patch+json")

    async def delete(self, pod: dict[str, Any]) -> None:
        await self.api.request("DELETE", f"{PODS}/{pod['metadata']['name']}", body={"gracePeriodSeconds": 0})

    def watch(self, pod: dict[str, Any]) -> PodMonitor:
        async def warn(text: str) -> None:
            self.told.append(text)

        self.monitors.append(PodMonitor(self.api, pod, self.hub.observe, warn))
        self.monitors[-1].start()
        return self.monitors[-1]


def ended(pod: dict[str, Any]) -> bool:
    return bool(pod["status"].get("phase") == "Succeeded")


async def sees(monitor: PodMonitor) -> None:
    assert await monitor.wait(ended, timeout_seconds=PATIENCE_SECONDS)
    assert not monitor.deleted


@pytest.fixture
async def watched(cluster: EmbeddedCluster, ref: ClusterRef) -> AsyncIterator[Watched]:
    async with ApiClient(resolve(ref)) as api:
        watched = Watched(api)
        yield watched
        await asyncio.gather(*(monitor.close() for monitor in watched.monitors))
        assert watched.hub._namespaces == {}


async def test_a_thousand_pods_share_one_watch_and_one_look() -> None:
    async with StubServer().serving() as server, ApiClient(server.access) as api:
        watched = Watched(api)
        names = [f"own-{number}" for number in range(1000)]
        pods = await server.put(*names)
        # Some have ended before anyone waits for them, and others are none of ours.
        await server.put(*names[:100], phase="Succeeded")
        await server.put(*(f"foreign-{number}" for number in range(100)))
        monitors = [watched.watch(pod) for pod in pods]
        await asyncio.gather(*map(sees, monitors[:100]))
        await server.put(*names[100:], phase="Running")
        await server.put(*names[100:], phase="Succeeded")
        await asyncio.gather(*map(sees, monitors))
        # The place of the watch, and the pages of one list.
        assert server.counts == {"watch": 1, "list": 1 + 4}
        assert server.watching == 1
        await asyncio.gather(*(monitor.close() for monitor in monitors))
        await until(lambda: server.watching == 0)
        assert watched.hub._namespaces == {}


async def test_pods_that_no_one_waits_for_are_not_kept() -> None:
    async with StubServer().serving() as server, ApiClient(server.access) as api:
        watched = Watched(api)
        await server.put(*(f"foreign-{number}" for number in range(5000)))
        pods = await server.put("own-0", "own-1")
        monitors = [watched.watch(pod) for pod in pods]
        await server.put("own-0", phase="Succeeded")
        await sees(monitors[0])
        for phase in ("Running", "Succeeded"):
            await server.put(*(f"foreign-{number}" for number in range(5000)), phase=phase)
        await server.put("own-1", phase="Succeeded")
        await sees(monitors[1])
        kept = held_by(watched.hub)
        assert not [text for text in kept if "foreign" in text]
        assert [text for text in kept if "own-1" in text]
        # Of those that are waited for, no more than the steps of a run need.
        assert not {"labels", "annotations"} & set(monitors[1].pod["metadata"])
        await asyncio.gather(*(monitor.close() for monitor in monitors))


def held_by(root: object) -> list[str]:
    """The texts that can be reached from an object, but for modules, classes and the event loop."""
    seen: set[int] = set()
    left, found = [root], list[str]()
    while left:
        item = left.pop()
        if id(item) in seen or isinstance(item, (type, ModuleType, FunctionType, asyncio.AbstractEventLoop, FrameType)):
            continue
        seen.add(id(item))
        if isinstance(item, str):
            found.append(item)
        left.extend(gc.get_referents(item))
    return found


@pytest.mark.parametrize("count", [1, 20])
async def test_without_the_right_to_watch_pods_are_read_at_intervals(
    cluster: EmbeddedCluster, watched: Watched, count: int
) -> None:
    cluster.faults.answer("^watch ", 403, times=None)
    pods = await watched.create_many("polled", count)
    cluster.requests.reset()
    monitors = [watched.watch(pod) for pod in pods]
    await asyncio.gather(*map(watched.end, pods))
    await asyncio.gather(*map(sees, monitors))
    assert len(watched.told) == count
    assert "Grant the verb 'watch'" in watched.told[0]
    if count > 4:
        assert cluster.requests.counts()["get"] == 0


async def test_without_the_rights_to_watch_and_to_list_pods_are_read_one_by_one(
    cluster: EmbeddedCluster, watched: Watched
) -> None:
    cluster.faults.answer("^(watch|list) ", 403, times=None)
    pods = await watched.create_many("polled", 10)
    monitors = [watched.watch(pod) for pod in pods]
    await asyncio.gather(*map(watched.end, pods))
    await asyncio.gather(*map(sees, monitors))


async def test_the_right_to_watch_alone_suffices(cluster: EmbeddedCluster, watched: Watched) -> None:
    cluster.faults.answer("^(get|list) ", 403, times=None)
    pods = await watched.create_many("watched", 10)
    await watched.end(pods[0])
    monitors = [watched.watch(pod) for pod in pods]
    await sees(monitors[0])
    await asyncio.gather(*map(watched.end, pods[1:]))
    await asyncio.gather(*map(sees, monitors))


async def test_what_was_missed_is_looked_up(cluster: EmbeddedCluster, watched: Watched) -> None:
    pods = await watched.create_many("missed", 10)
    monitors = [watched.watch(pod) for pod in pods]
    await watched.end(pods[0])
    await sees(monitors[0])
    # Every change from here on is of a version that the server no longer has when the watch is opened again.
    with cluster.faults.answer("^watch ", 410) as fault:
        await asyncio.to_thread(cluster.compact, end_watches=True)
        await asyncio.gather(*map(watched.end, pods[1:]))
        await asyncio.to_thread(fault.wait, timeout_seconds=PATIENCE_SECONDS)
    await asyncio.gather(*map(sees, monitors))


async def test_a_server_that_was_away_is_watched_again(
    cluster: EmbeddedCluster, watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_module, "_RETRY", RetryPolicy(0.2, 0.05, 0.1))
    pods = await watched.create_many("away", 10)
    monitors = [watched.watch(pod) for pod in pods]
    await watched.end(pods[0])
    await sees(monitors[0])

    def outage() -> None:
        with cluster.outage():
            asyncio.run_coroutine_threadsafe(until(lambda: len(watched.told) == 10), loop).result(PATIENCE_SECONDS)

    loop = asyncio.get_running_loop()
    await asyncio.to_thread(outage)
    assert all("Trying again for 120 s" in text for text in watched.told)
    await asyncio.gather(*map(watched.end, pods[1:]))
    await asyncio.gather(*map(sees, monitors))


async def test_outages_far_apart_are_not_one_that_lasts(
    cluster: EmbeddedCluster, watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_module, "_RETRY", RetryPolicy(0.1, 0.02, 0.05))
    monkeypatch.setattr(hub_module, "_AGAIN_SECONDS", 0.05)
    monkeypatch.setattr(hub_module, "_WORKED_SECONDS", 0.2)
    monkeypatch.setattr(hub_module, "OUTAGE_SECONDS", 10.0)
    pod = await watched.create("own")
    monitor = watched.watch(pod)

    def wait_until(holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        # Until it is given up, at the latest.
        while not holds() and watched.hub._namespaces and time.monotonic() < deadline:
            time.sleep(0.02)

    def outage(number: int) -> None:
        # Nothing happens meanwhile that the watch would tell of.
        time.sleep(0.3)
        with cluster.outage():
            wait_until(lambda: len(watched.told) >= number)
            cluster.requests.reset()

    for number in (1, 2):
        await until(lambda: cluster.requests.counts()["watch"] > 0)
        await asyncio.to_thread(outage, number)
    assert len(watched.told) == 2
    await watched.end(pod)
    await sees(monitor)


async def test_an_outage_that_lasts_ends_every_wait(
    cluster: EmbeddedCluster, watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_module, "_RETRY", RetryPolicy(0.1, 0.05, 0.1))
    monkeypatch.setattr(hub_module, "OUTAGE_SECONDS", 0.2)
    pods = await watched.create_many("away", 5)
    cluster.faults.answer("^(watch|list|get) ", 503, times=None)
    waits = [watched.watch(pod).wait(ended, timeout_seconds=PATIENCE_SECONDS) for pod in pods]
    results = await asyncio.gather(*waits, return_exceptions=True)
    assert all(isinstance(result, KpoMulticlusterError) for result in results)
    cluster.faults.clear()
    # Whoever comes next is served.
    monitor = watched.watch(pods[0])
    await watched.end(pods[0])
    await sees(monitor)


async def test_a_watch_that_is_cut_goes_on(cluster: EmbeddedCluster, watched: Watched) -> None:
    pods = await watched.create_many("cut", 20)
    with cluster.faults.cut("^watch ", after_lines=5):
        monitors = [watched.watch(pod) for pod in pods]
        await asyncio.gather(*map(watched.end, pods))
        await asyncio.gather(*map(sees, monitors))


async def test_a_pod_that_is_gone_when_it_is_first_looked_up(cluster: EmbeddedCluster, watched: Watched) -> None:
    pods = await watched.create_many("gone", 10)
    for pod in pods[:6]:
        await watched.delete(pod)
    again = await watched.create("gone-0")
    monitors = [watched.watch(pod) for pod in pods]
    await asyncio.gather(*(until(lambda monitor=monitor: monitor.deleted) for monitor in monitors[:6]))  # type: ignore[misc]
    assert not any(monitor.deleted for monitor in monitors[6:])
    assert not watched.watch(again).deleted


async def test_a_pod_that_is_deleted_is_told(cluster: EmbeddedCluster, watched: Watched) -> None:
    pods = await watched.create_many("deleted", 2)
    monitors = [watched.watch(pod) for pod in pods]
    await watched.end(pods[0])
    await sees(monitors[0])
    await watched.delete(pods[1])
    await until(lambda: monitors[1].deleted)
    assert not monitors[0].deleted


async def test_a_pod_that_loses_its_label_is_not_lost(cluster: EmbeddedCluster, watched: Watched) -> None:
    pods = await watched.create_many("label", 2)
    monitors = [watched.watch(pod) for pod in pods]
    await watched.end(pods[0])
    await sees(monitors[0])
    path, body = f"{PODS}/label-1", {"metadata": {"labels": {"kubernetes_pod_operator": None}}}
    await watched.api.request("PATCH", path, body=body, content_type="application/merge-patch+json")
    await watched.end(pods[1])
    await sees(monitors[1])


async def test_a_pod_without_the_label_is_watched_by_itself(cluster: EmbeddedCluster, watched: Watched) -> None:
    pod = await watched.create("unlabelled", {})
    monitor = watched.watch(pod)
    await until(lambda: cluster.requests.counts()["watch"] == 2)
    await watched.end(pod)
    await sees(monitor)


async def test_a_pod_may_be_waited_for_twice(cluster: EmbeddedCluster, watched: Watched) -> None:
    pod = await watched.create("twice")
    first, second = watched.watch(pod), watched.watch(pod)
    await first.close()
    await watched.end(pod)
    await sees(second)


async def test_the_last_who_waits_ends_the_watch(cluster: EmbeddedCluster, watched: Watched) -> None:
    pods = await watched.create_many("last", 2)
    monitors = [watched.watch(pod) for pod in pods]
    await until(lambda: cluster.requests.counts()["watch"] == 1)
    await monitors[0].close()
    assert "default" in watched.hub._namespaces
    await monitors[1].close()
    assert watched.hub._namespaces == {}
    await until(lambda: not [task for task in asyncio.all_tasks() if task.get_name() == "watch default"])
    monitor = watched.watch(pods[0])
    await watched.end(pods[0])
    await sees(monitor)
