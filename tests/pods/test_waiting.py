"""What is told of a pod that takes long to start."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kpo_multicluster.pods.digest import digest
from kpo_multicluster.pods.emitted import Notice
from kpo_multicluster.pods.waiting import tell_waiting, waiting_line

CREATED, PLACED, BEGUN = "2026-01-01T00:00:01Z", "2026-01-01T00:00:02Z", "2026-01-01T00:00:03Z"
NO_GPU = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."


def pod(
    *, node: str = "", condition: dict[str, str] | None = None, spec: dict[str, Any] | None = None, **status: Any
) -> dict[str, Any]:
    return {
        "metadata": {"name": "train", "namespace": "ml", "creationTimestamp": CREATED},
        "spec": {**({"nodeName": node} if node else {}), **(spec or {})},
        "status": {"conditions": [{"type": "PodScheduled", **condition}] if condition else [], **status},
    }


UNPLACED = pod(condition={"status": "False", "message": NO_GPU, "lastTransitionTime": PLACED})
SCHEDULED = {"status": "True", "lastTransitionTime": PLACED}
PULLING = {"name": "base", "state": {"waiting": {"reason": "ContainerCreating"}}}
CLONING = {"name": "clone", "state": {"running": {"startedAt": BEGUN}}}
MESH = {"initContainers": [{"name": "mesh", "restartPolicy": "Always"}]}
MESHED = {"name": "mesh", "started": True, "state": {"running": {"startedAt": BEGUN}}}


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        (pod(), "since 00:00:01 UTC: the scheduler has not yet placed it on a node."),
        (UNPLACED, f"since 00:00:01 UTC: no node was found for it: {NO_GPU}"),
        (pod(node="a", condition=SCHEDULED), "since 00:00:02 UTC: the kubelet of node 'a' has not yet started its"),
        (
            pod(node="a", condition=SCHEDULED, containerStatuses=[PULLING]),
            "since 00:00:02 UTC: container 'base' is waiting (ContainerCreating).",
        ),
        (
            pod(node="a", condition=SCHEDULED, initContainerStatuses=[CLONING], containerStatuses=[PULLING]),
            "since 00:00:03 UTC: init container 'clone' is still running.",
        ),
        (
            pod(node="a", condition=SCHEDULED, spec=MESH, initContainerStatuses=[MESHED], containerStatuses=[PULLING]),
            "since 00:00:02 UTC: container 'base' is waiting (ContainerCreating).",
        ),
        (
            pod(node="a", condition=SCHEDULED, spec=MESH, initContainerStatuses=[{**MESHED, "started": False}]),
            "since 00:00:03 UTC: init container 'mesh' is still running.",
        ),
        (pod(node="a"), "Pod ml/train has not started: the kubelet of node 'a'"),
    ],
)
def test_what_a_pod_waits_for_and_since_when(seen: dict[str, Any], said: str) -> None:
    line = waiting_line(seen)
    # A triggerer knows no more of a pod than its digest.
    assert waiting_line(digest(seen)) == line
    assert line.startswith("Pod ml/train has not started")
    assert said in line
    assert not line.endswith("..")


async def test_each_line_tells_what_is_so_by_then() -> None:
    seen, told = UNPLACED, asyncio.Queue[Any]()
    task = asyncio.create_task(
        tell_waiting(lambda: seen, told.put, after_seconds=0.0, pause_seconds=(0.001, 0.002)), name="waiting"
    )
    try:
        first = await asyncio.wait_for(told.get(), 30)
        assert isinstance(first, Notice)
        assert first.level == "info"
        assert "no node was found" in first.text
        seen = pod(node="a", condition=SCHEDULED)
        while "kubelet of node 'a'" not in (await asyncio.wait_for(told.get(), 30)).text:
            continue
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
