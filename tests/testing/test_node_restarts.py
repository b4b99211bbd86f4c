"""Restart policies: what is started again, how long that waits, and what is told meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from kpo_multicluster.testing.interfaces import LogOptions
from kpo_multicluster.testing.node_backoff import Backoff, duration

from .node_cases import UNTIL_TOLD, NodeUnderTest, running_node


@pytest.fixture
async def node() -> AsyncIterator[NodeUnderTest]:
    async with running_node() as under_test:
        yield under_test


@pytest.fixture
async def patient() -> AsyncIterator[NodeUnderTest]:
    """A node that starts a container a second time, and does not get to a third."""
    async with running_node(backoff_seconds=200) as under_test:
        yield under_test


def counting(script: str) -> str:
    """A script that knows, by a volume at /data, which run of the container it is."""
    return f"echo x >> /data/runs; run=$(wc -l < /data/runs); echo run $run; {script}"


WORK = {
    "base": {"volumeMounts": [{"name": "data", "mountPath": "/data"}]},
    "volumes": [{"name": "data", "emptyDir": {}}],
}


async def test_on_failure_restarts_until_success(node: NodeUnderTest) -> None:
    pod = await node.run("sh", "-c", counting("[ $run -ge 3 ]"), **WORK, restartPolicy="OnFailure")
    assert await pod.result() == "run 3\n"
    assert await pod.log(previous=True) == "run 2\n"
    status = pod.container()
    assert status["restartCount"] == 2
    assert status["lastState"]["terminated"]["exitCode"] == 1
    assert status["lastState"]["terminated"]["containerID"] != status["containerID"]
    assert "Failed" not in {status["phase"] for status in pod.history}


async def test_always_restarts_after_success_too(node: NodeUnderTest) -> None:
    pod = await node.run("sh", "-c", counting("exit 0"), **WORK, restartPolicy="Always")
    await node.store.until(lambda: pod.container().get("restartCount", 0) >= 3)
    assert {status["phase"] for status in pod.history} == {"Pending", "Running"}
    await pod.stop(0)


async def test_a_pod_that_is_deleted_between_two_runs_ended_as_the_last_of_them(patient: NodeUnderTest) -> None:
    pod = await patient.run("true", restartPolicy="Always")
    await pod.waiting("CrashLoopBackOff")
    await pod.stop(0)
    assert pod.status["phase"] == "Succeeded"


async def test_never_restarts_nothing(node: NodeUnderTest) -> None:
    pod = await node.run("false")
    assert await pod.over() == "Failed"
    assert pod.container()["restartCount"] == 0
    with pytest.raises(LookupError, match=r'previous terminated container "base" in pod "pod-\d+" not found'):
        await pod.log(previous=True)


async def test_a_crash_loop_is_told(patient: NodeUnderTest) -> None:
    pod = await patient.run("sh", "-c", "echo crash; exit 3", restartPolicy="Always")
    waiting = await pod.waiting("CrashLoopBackOff")
    label = f"{pod.manifest['metadata']['name']}_default({pod.uid})"
    assert waiting["message"] == f"back-off 3m20s restarting failed container=base pod={label}"
    waits = [entry for entry in pod.history if "waiting" in entry["containerStatuses"][0]["state"] and "podIP" in entry]
    first = next(entry["containerStatuses"][0] for entry in waits if entry["containerStatuses"][0]["lastState"])
    assert first["lastState"]["terminated"]["exitCode"] == 3
    assert first["restartCount"] == 1, "the first restart does not wait"
    assert first["ready"] is False
    assert pod.status["phase"] == "Running"
    message = f"Back-off restarting failed container base in pod {label}"
    assert ("Warning", "BackOff", message, "spec.containers{base}") in patient.store.events
    assert await pod.log() == "crash\n"
    await pod.stop(0)
    assert pod.state()["terminated"]["exitCode"] == 3
    assert pod.status["phase"] == "Failed"


async def test_a_command_that_does_not_exist_is_tried_again(node: NodeUnderTest) -> None:
    pod = await node.run("nosuch", restartPolicy="Always")
    await pod.waiting("CrashLoopBackOff")
    states = [entry["containerStatuses"][0] for entry in pod.history]
    refused = next(entry for entry in states if entry["state"].get("waiting", {}).get("reason") == "RunContainerError")
    assert refused["state"]["waiting"]["message"].startswith("failed to create containerd task: ")
    assert refused["lastState"]["terminated"]["reason"] == "StartError"
    await pod.stop(0)


async def test_an_init_container_is_restarted_until_it_succeeds(node: NodeUnderTest) -> None:
    init = {
        "name": "init",
        "image": "alpine",
        "command": ["sh", "-c", counting("[ $run -ge 2 ]")],
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }
    base = {"name": "base", "image": "alpine", "command": ["echo", "main"]}
    pod = await node.run_spec(
        {
            "initContainers": [init],
            "containers": [base],
            "volumes": WORK["volumes"],
            "restartPolicy": "OnFailure",
        }
    )
    assert await pod.result() == "main\n"
    assert pod.container("init")["restartCount"] == 1
    assert {status["phase"] for status in pod.history if "running" in str(status["initContainerStatuses"])} == {
        "Pending"
    }


async def test_followers_end_with_the_run_they_follow(node: NodeUnderTest) -> None:
    script = counting("until [ -e /data/go ]; do sleep 0.01; done; exit 1")
    pod = await node.run("sh", "-c", script, **WORK, restartPolicy="Always")
    await pod.said("run 1")
    log = asyncio.create_task(pod.log(follow=True))
    await asyncio.sleep(0)
    await pod.exec("touch", "/data/go")
    assert await asyncio.wait_for(log, 60) == "run 1\n"
    await pod.stop(0)


async def test_logs_of_the_last_two_runs_are_kept(node: NodeUnderTest) -> None:
    pod = await node.run("sh", "-c", counting("exit 1"), **WORK, restartPolicy="Always")
    await node.store.until(lambda: pod.container().get("restartCount", 0) >= 4)
    assert len(list((node.node._runtime.directory / "pods" / pod.uid / "logs").iterdir())) <= 2
    await pod.stop(0)


async def test_logs_rotate_where_the_node_is_set_so() -> None:
    async with running_node(log_max_bytes=10_000) as node:
        pod = await node.run(
            "sh", "-c", f"echo begun; {UNTIL_TOLD}; i=0; while [ $i -lt 2000 ]; do echo line $i; i=$((i+1)); done"
        )
        await pod.running()
        batches = node.node.read_log(pod.uid, "base", LogOptions(follow=True))
        followed = [await anext(batches)]
        await pod.go()
        followed += [batch async for batch in batches]
        await pod.over()
        lines = (await pod.log()).splitlines()
        assert lines[-1:] in (["line 1999"], [])
        assert len(lines) < 400
        assert b"".join(followed).splitlines()[-1] == b"line 1999"


def test_back_off_doubles_and_forgives() -> None:
    backoff = Backoff(10, 300)
    waits = []
    now = 1000.0
    for _ in range(8):
        waits.append(backoff.remaining(finished=now, now=now))
        now += waits[-1]
        backoff.started(now)
    assert waits == [0, 10, 20, 40, 80, 160, 300, 300]
    assert backoff.remaining(finished=now + 290, now=now + 295) == 295
    assert backoff.remaining(finished=now + 601, now=now + 601) == 0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(10, "10s"), (80, "1m20s"), (300, "5m0s"), (0.05, "50ms"), (2.5, "2.5s"), (3600, "1h0m0s")],
)
def test_durations_are_written_as_go_does(seconds: float, text: str) -> None:
    assert duration(seconds) == text
