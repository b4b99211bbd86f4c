"""Nodes that are gone: what becomes of their pods, and of tasks that wait for these."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from kpo_multicluster.api.client import ApiClient
from kpo_multicluster.errors import PodLostError
from kpo_multicluster.operators.pod import KubernetesPodOperator
from kpo_multicluster.pods.outcome import judge
from kpo_multicluster.pods.resources import pod_path
from kpo_multicluster.pods.run import PodRun
from kpo_multicluster.pods.settings import RunSettings

from ..operators.conftest import FakeTaskInstance, context_of, quiet
from ..operators.deferring import execute_deferred
from .clusters import REAL_ONLY, Cluster, NodeOptions
from .pods import IMAGE, WAIT, Object, Pod, container, manifest

# The API server gives a node 50 seconds to report, and another controller looks every 20 seconds for pods without one,
# which it removes 40 seconds later.
pytestmark = pytest.mark.timeout(400)
NOTICED_SECONDS = 240.0

UNREACHABLE = {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute"}


@dataclass(frozen=True)
class Lost:
    """A pod, and perhaps tasks, that ran on a node which is there no more.

    Attributes:
        node: its name.
        pod: as it was when it ran.
        tasks: what comes of them; one waits in this process, one is deferred.
    """

    node: str
    pod: Object
    tasks: Mapping[str, Future[Any]]


@pytest.fixture(scope="module")
def lost(cluster: Cluster, namespace: str) -> Iterator[Callable[[str], Lost]]:
    """What was lost with a node, by how it went: `deleted`, or `silent` on a real cluster.

    All are lost before the first case, which then waits for the rest too.
    """
    made: dict[str, Lost] = {}
    with ThreadPoolExecutor(2) as workers:
        try:
            made["deleted"] = _lose(cluster, namespace, workers)
            if cluster.real:
                made["silent"] = _lose(cluster, namespace)
            yield made.__getitem__
        finally:
            for each in made.values():
                cluster.forget_node(each.node)


def _lose(cluster: Cluster, namespace: str, workers: ThreadPoolExecutor | None = None) -> Lost:
    label = {"example.com/case": uuid.uuid4().hex}
    tasks: dict[str, Future[Any]] = {}
    with cluster.node(NodeOptions(labels=label), outlived=workers is None) as node:
        for mode in ("sync", "deferred") if workers is not None else ():
            operator = KubernetesPodOperator(
                task_id=mode,
                cluster=cluster.ref,
                namespace=namespace,
                image=IMAGE,
                cmds=["sh", "-c"],
                arguments=[WAIT],
                node_selector=label,
                labels=label,
                deferrable=mode == "deferred",
            )
            assert workers is not None
            tasks[mode] = workers.submit(execute_deferred, quiet(operator), context_of(FakeTaskInstance(mode)))
        # Otherwise it is left on a silent node for five minutes.
        tolerations = [{**UNREACHABLE, "tolerationSeconds": 0}]
        body = manifest(container(WAIT), nodeSelector=label, tolerations=tolerations, labels=label)
        pod = asyncio.run(_started(cluster, namespace, body, 1 + len(tasks)))
        # Once it watches, a triggerer looks at its pod. What was gone by then it could not be told of.
        while tasks and not cluster.asked(namespace)["get"]:
            time.sleep(0.1)
    return Lost(node, pod, tasks)


async def _started(cluster: Cluster, namespace: str, body: Object, count: int) -> Object:
    """Starts a pod; waits until so many run that have its label."""
    pods = f"/api/v1/namespaces/{namespace}/pods"
    ((key, value),) = body["metadata"]["labels"].items()
    running: dict[str, Object] = {}
    async with ApiClient(cluster.access) as api:
        pod = Pod(api, await api.request("POST", pods, body=body))
        events = api.watch(pods, resource_version="0", params={"labelSelector": f"{key}={value}"})
        async with contextlib.aclosing(events):
            async for event in events:
                if event.object["status"].get("phase") == "Running":
                    running[event.object["metadata"]["name"]] = event.object
                if len(running) == count and pod.name in running:
                    break
    return running[pod.name]


async def test_a_node_that_is_deleted_takes_its_pods_along(api: ApiClient, lost: Callable[[str], Lost]) -> None:
    pod = Pod(api, lost("deleted").pod)
    await pod.until(lambda _: pod.deleted, timeout_seconds=NOTICED_SECONDS)
    assert pod.phase == "Failed"
    target = pod.conditions()["DisruptionTarget"]
    assert (target["status"], target["reason"]) == ("True", "DeletionByPodGC")
    assert target["message"] == "PodGC: node no longer exists"
    # No one was there to tell how it ended.
    assert "running" in pod.container()["state"]


@pytest.mark.parametrize("mode", ["sync", "deferred"])
def test_a_task_on_a_node_that_is_deleted_is_told_so(lost: Callable[[str], Lost], mode: str) -> None:
    waiting = lost("deleted").tasks[mode]
    with pytest.raises(PodLostError, match="DeletionByPodGC: PodGC: node no longer exists") as raised:
        waiting.result(NOTICED_SECONDS)
    assert raised.value.cause == "node_lost"


@REAL_ONLY
async def test_a_node_that_falls_silent_keeps_its_pods_on_the_way_out(
    api: ApiClient, lost: Callable[[str], Lost]
) -> None:
    pod = Pod(api, lost("silent").pod)
    await pod.until(lambda seen: "deletionTimestamp" in seen["metadata"], timeout_seconds=NOTICED_SECONDS)
    target = pod.conditions()["DisruptionTarget"]
    assert (target["status"], target["reason"]) == ("True", "DeletionByTaintManager")
    assert pod.conditions()["Ready"]["status"] == "False"
    # There is no kubelet that could say that it has ended.
    assert (pod.phase, list(pod.container()["state"])) == ("Running", ["running"])
    assert (await pod.event("NodeNotReady"))["type"] == "Warning"


@REAL_ONLY
async def test_a_run_on_a_node_that_falls_silent_is_lost(
    cluster: Cluster, api: ApiClient, lost: Callable[[str], Lost]
) -> None:
    """No one ever takes the pod away; the run ends a while after its grace period all the same."""
    emitted: list[Any] = []

    async def emit(item: Any) -> None:
        emitted.append(item)

    settings = RunSettings("base", follow=("base",), log_drain_seconds=1, node_confirmation_seconds=5)
    run = PodRun(api, settings, emit)
    try:
        await run.adopt(lost("silent").pod)
        await asyncio.wait_for(run.until_ended(), NOTICED_SECONDS)
    finally:
        await run.close()
    failure = judge(run.pod, "base", deleted=run.monitor.deleted)
    assert isinstance(failure, PodLostError)
    assert failure.cause == "node_lost"
    assert f"node '{lost('silent').node}' has not confirmed" in str(failure)
    # It is there still: another try of the task begins a new one.
    assert "deletionTimestamp" in (await api.request("GET", pod_path(run.pod)))["metadata"]
