"""Defers tasks on an embedded cluster, and runs their triggers as a triggerer does."""

from __future__ import annotations

import asyncio
import contextlib
import copy
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from kpo_multicluster.airflow_names import TaskDeferred
from kpo_multicluster.api.client import ApiClient
from kpo_multicluster.auth.registry import resolve
from kpo_multicluster.cluster import ClusterRef
from kpo_multicluster.errors import BadRequestError
from kpo_multicluster.operators.pod import KubernetesPodOperator
from kpo_multicluster.testing.cluster import EmbeddedCluster
from kpo_multicluster.triggers.clusters import hubs
from kpo_multicluster.triggers.pod import KubernetesPodTrigger

from ..operators.conftest import FakeTaskInstance, cluster, config, context_of, embedded, lines, ref
from ..operators.deferring import first_event, passed_on, quiet, restored, stored

__all__ = ["cluster", "config", "embedded", "lines", "ref"]

# Far beyond what anything takes; only a test that fails gets there.
PATIENCE_SECONDS = 60.0
# What Airflow 3.3 cancels the trigger of a task with that a user has ended.
USER_ACTION = "__airflow_user_action__"


class Deferred:
    """A task that was deferred.

    Attributes:
        ti: of the task.
        path: the trigger's class.
        row: what is stored of the trigger.
        timeout: after which Airflow itself ends the wait.
    """

    def __init__(self, operator: KubernetesPodOperator, ti: FakeTaskInstance) -> None:
        self.ti = ti
        self._made = copy.deepcopy(operator)
        with pytest.raises(TaskDeferred) as raised:
            operator.execute(context_of(ti))
        self.path, self.row = stored(raised.value)
        self.timeout = raised.value.timeout
        self._method = raised.value.method_name

    @property
    def pod_name(self) -> str:
        return str(self.ti.pushed["pod_name"])

    def trigger(self) -> KubernetesPodTrigger:
        return restored(self.path, self.row)

    def resume(self, event: Any) -> Any:
        """Goes on in another process than that of before."""
        return self.resume_with({"event": passed_on(event)})

    def resume_with(self, kwargs: dict[str, Any], method: str = "") -> Any:
        return quiet(copy.deepcopy(self._made)).resume_execution(method or self._method, kwargs, context_of(self.ti))

    def finish(self) -> Any:
        """Waits for the pod and finishes the task."""
        return self.resume(asyncio.run(first_event(self.trigger())))


Defer = Callable[..., Deferred]


@pytest.fixture
def defer(ref: Any) -> Defer:
    def defer(script: str = "true", *, ti: FakeTaskInstance | None = None, **arguments: Any) -> Deferred:
        defaults = {"task_id": "task", "cluster": ref, "image": "alpine:3", "cmds": ["sh", "-c"], "deferrable": True}
        kind = arguments.pop("kind", KubernetesPodOperator)
        operator = quiet(kind(**{**defaults, "arguments": [script], **arguments}))
        return Deferred(operator, ti or FakeTaskInstance(operator.task_id))

    return defer


def numbers(lines: list[str]) -> list[int]:
    """What the base container wrote, if it counts."""
    return [int(line.removeprefix("[base] ")) for line in lines if line.startswith("[base] ")]


GATE = "while [ ! -e /tmp/open ]; do sleep 0.05; done"


async def open_gate(ref: ClusterRef, deferred: Deferred) -> None:
    """Lets a pod go on whose script waits at the `GATE`."""
    async with ApiClient(resolve(ref)) as api:
        path = f"/api/v1/namespaces/default/pods/{deferred.pod_name}/exec"
        await api.exec(path, ["touch", "/tmp/open"], container="base")


async def until_logged(ref: ClusterRef, deferred: Deferred, end: bytes) -> None:
    """Waits until the pod's log ends so."""
    path = f"/api/v1/namespaces/default/pods/{deferred.pod_name}/log"
    async with ApiClient(resolve(ref)) as api:
        written = b""
        while not written.endswith(end):
            # Refused as long as the container has not started.
            with contextlib.suppress(BadRequestError):
                written = b"".join([part async for part in api.stream(path)])
            await asyncio.sleep(0.05)


class Running:
    """A trigger that runs on this loop as in a triggerer."""

    def __init__(self, trigger: KubernetesPodTrigger) -> None:
        self.trigger = trigger
        self.task = asyncio.create_task(first_event(trigger))

    async def event(self) -> Any:
        return await asyncio.wait_for(asyncio.shield(self.task), PATIENCE_SECONDS)

    async def end(self, *message: str) -> None:
        self.task.cancel(*message)
        with contextlib.suppress(asyncio.CancelledError):
            await self.task

    async def kill(self) -> None:
        """As Airflow 3.3 does when a user ends the task: cancels, and cancels `on_kill` again every second."""
        await self.end(USER_ACTION)
        killing = asyncio.create_task(self.trigger.on_kill())
        while not (await asyncio.wait({killing}, timeout=0.1))[0]:
            killing.cancel()


@contextlib.asynccontextmanager
async def running(*triggers: KubernetesPodTrigger) -> AsyncIterator[list[Running]]:
    """Runs triggers side by side; nothing of theirs is left on the loop after it."""
    started = [Running(trigger) for trigger in triggers]
    try:
        yield started
    finally:
        await asyncio.gather(*(each.end() for each in started), return_exceptions=True)
        assert not hubs.keys
        await hubs.settle()
        assert asyncio.all_tasks() == {asyncio.current_task()}


async def until(holds: Callable[[], bool]) -> None:
    """Waits until something holds."""

    async def wait() -> None:
        while not holds():
            await asyncio.sleep(0.02)

    await asyncio.wait_for(wait(), PATIENCE_SECONDS)


def is_running(cluster: EmbeddedCluster, deferred: Deferred) -> bool:
    """Whether the pod's base container runs."""
    return any(
        "running" in status["state"]
        for pod in cluster.pods()
        if pod["metadata"]["name"] == deferred.pod_name
        for status in pod["status"].get("containerStatuses") or ()
        if status["name"] == "base"
    )
