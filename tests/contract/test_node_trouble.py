"""What only a real node can do to a pod. The embedded cluster differs here; docs/embedded-cluster.md lists it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kpo_multicluster.errors import PodFailedError, PodLostError
from kpo_multicluster.operators.pod import KubernetesPodOperator

from ..operators.conftest import FakeTaskInstance, context_of, execute, mode, quiet, sync_only
from ..operators.deferring import Execute
from .clusters import REAL_ONLY, Cluster
from .pods import IDLE, IMAGE, Pod, container

__all__ = ["execute", "mode"]

pytestmark = REAL_ONLY


# A kubelet measures volumes once a minute unless it is told otherwise, and looks at what it measured every ten seconds.
EVICTION_SECONDS = 150.0
GREEDY = container("tail /dev/zero", resources={"limits": {"memory": "32Mi"}})
MOUNT = [{"name": "v", "mountPath": "/v"}]
FULL = {"name": "v", "emptyDir": {"sizeLimit": "1Mi"}}
# What it answers the eviction's SIGTERM with. At 0 a kubelet (1.34) calls the pod a success, whatever ended it.
FILLS = "trap 'exit {code}' TERM; head -c 4000000 /dev/zero > /v/file; " + IDLE


@pytest.mark.pod(container(imagePullPolicy="Always"))
async def test_an_image_is_pulled(pod: Pod) -> None:
    await pod.ended()
    assert (await pod.event("Pulling"))["message"] == f'Pulling image "{IMAGE}"'
    assert (await pod.event("Pulled"))["message"].startswith(f'Successfully pulled image "{IMAGE}" in ')
    assert "ImageNotPulled" not in {each["reason"] for each in await pod.events()}


@pytest.mark.pod(GREEDY)
async def test_a_container_over_its_memory_limit(pod: Pod) -> None:
    ended = await pod.ended()
    assert (ended["exitCode"], ended["reason"]) == (137, "OOMKilled")


@pytest.mark.pod(container(FILLS.format(code=1), volumeMounts=MOUNT), volumes=[FULL])
async def test_a_volume_over_its_limit(pod: Pod) -> None:
    assert await pod.over(timeout_seconds=EVICTION_SECONDS) == "Failed"
    assert pod.status["reason"] == "Evicted"
    assert pod.status["message"] == 'Usage of EmptyDir volume "v" exceeds the limit "1Mi". '
    assert (await pod.event("Evicted"))["type"] == "Warning"


@pytest.mark.pod(container(FILLS.format(code=0), volumeMounts=MOUNT), volumes=[FULL])
async def test_an_eviction_that_a_program_answers_with_0_shows_in_an_event_only(pod: Pod) -> None:
    assert await pod.over(timeout_seconds=EVICTION_SECONDS) == "Succeeded"
    assert "reason" not in pod.status
    assert (await pod.event("Evicted"))["type"] == "Warning"


@pytest.fixture
def run(cluster: Cluster, task_namespace: str, execute: Execute) -> Callable[..., Any]:
    def run(script: str, **arguments: Any) -> Any:
        operator = KubernetesPodOperator(
            task_id="task",
            cluster=cluster.ref,
            namespace=task_namespace,
            image=IMAGE,
            cmds=["sh", "-c"],
            arguments=[script],
            **arguments,
        )
        return execute(quiet(operator), context_of(FakeTaskInstance("task")))

    return run


def test_a_task_over_its_memory_limit_is_told_so(run: Callable[..., Any]) -> None:
    with pytest.raises(PodFailedError, match="OOMKilled: it used more memory than its limit") as raised:
        run("tail /dev/zero", container_resources={"limits": {"memory": "32Mi"}})
    assert (raised.value.reason, raised.value.exit_code) == ("OOMKilled", 137)


# Read off the pod as the case before, and it takes a node a while.
@sync_only
def test_a_task_that_is_evicted_is_told_so(run: Callable[..., Any]) -> None:
    with pytest.raises(PodLostError, match='Usage of EmptyDir volume "v" exceeds the limit') as raised:
        run(FILLS.format(code=1), volumes=[FULL], volume_mounts=MOUNT)
    assert raised.value.cause == "evicted"
