"""How pods end: deletion, deadlines, termination messages, hooks, and what is left of them."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from .node_cases import TRAP, NodeUnderTest, container, events_of, pod_manifest, pod_states, running_node


@pytest.fixture
async def node() -> AsyncIterator[NodeUnderTest]:
    async with running_node() as under_test:
        yield under_test


@pytest.mark.parametrize(("trapped", "code"), [(0, 0), (3, 3), (143, 143)])
async def test_deletion_lets_the_container_end_itself(node: NodeUnderTest, trapped: int, code: int) -> None:
    pod = await node.run("sh", "-c", TRAP.format(code=trapped))
    await pod.said("up")
    log = asyncio.create_task(pod.log(follow=True))
    await pod.stop(30)
    assert await log == "up\nstopping\n"
    assert pod.state()["terminated"]["exitCode"] == code
    assert pod.status["phase"] == ("Failed" if code else "Succeeded")
    with pytest.raises(LookupError, match="cannot be found"):
        await pod.log()


async def test_deletion_kills_after_the_grace_period(node: NodeUnderTest) -> None:
    pod = await node.run("sleep", "100")
    await pod.running()
    began = time.monotonic()
    await pod.stop(0.3)
    # Its program would have gone on for a hundred seconds.
    assert 0.3 <= time.monotonic() - began < 60
    assert pod.state()["terminated"]["exitCode"] == 137
    assert node.store.removed == [pod.uid]


async def test_a_shorter_grace_period_overtakes_the_first(node: NodeUnderTest) -> None:
    pod = await node.run("sleep", "100")
    await pod.running()
    await node.node.stop_pod(pod.manifest, 60)
    await asyncio.sleep(0.05)
    began = time.monotonic()
    await pod.stop(0)
    assert time.monotonic() - began < 45
    assert node.store.removed == [pod.uid]
    assert node.store.reasons().count("Killing") == 1


async def test_deletion_of_a_pod_that_has_ended_or_never_came(node: NodeUnderTest) -> None:
    pod = await node.run("true")
    await pod.over()
    await pod.stop(30)
    stranger = pod_manifest({"containers": [container("base", "true")]})
    await node.node.stop_pod(stranger, 30)
    await node.store.until(lambda: stranger["metadata"]["uid"] in node.store.removed)


async def test_deletion_before_anything_started(node: NodeUnderTest) -> None:
    pod = await node.run("echo", "never")
    await pod.stop(30)
    assert node.store.removed == [pod.uid]
    assert pod.status["phase"] in ("Failed", "Succeeded")


async def test_deletion_stops_sidecars_last(node: NodeUnderTest) -> None:
    sidecar = "trap 'echo asked; exit 0' TERM; echo up; while :; do sleep 0.01; done"
    base = TRAP.format(code=0).replace("echo stopping; exit 0", "sleep 0.1; echo stopped; exit 0")
    pod = await node.run_spec(
        {
            "initContainers": [container("side", sidecar, restartPolicy="Always")],
            "containers": [container("base", base)],
        }
    )
    await pod.said("up")
    await pod.said("up", "side")
    logs = [asyncio.create_task(pod.log(name, follow=True, timestamps=True)) for name in ("base", "side")]
    await pod.stop(30)
    stopped, asked = [(await log).splitlines()[-1].split() for log in logs]
    assert (stopped[1], asked[1]) == ("stopped", "asked")
    assert stopped[0] < asked[0]


async def test_active_deadline(node: NodeUnderTest) -> None:
    pod = await node.run("sh", "-c", TRAP.format(code=7), activeDeadlineSeconds=4)
    assert await pod.over() == "Failed"
    message = "Pod was active on the node longer than the specified deadline"
    assert (pod.status["reason"], pod.status["message"]) == ("DeadlineExceeded", message)
    assert pod.state()["terminated"]["exitCode"] == 7
    assert ("Normal", "DeadlineExceeded", message, "") in node.store.events
    # That it fails shows before its end; why, and how its containers ended, with it.
    running = [status for status in pod.history if "running" in pod_states(status)]
    ready = [next(each for each in status["conditions"] if each["type"] == "Ready") for status in running]
    assert [(each["status"], each.get("reason")) for each in ready] == [("True", None), ("False", "PodFailed")]
    assert not any(status.get("reason") for status in running)
    assert [status["phase"] for status in pod.history if "terminated" in pod_states(status)] == ["Failed"]
    await pod.stop(1)


async def test_active_deadline_that_is_not_reached(node: NodeUnderTest) -> None:
    pod = await node.run("true", activeDeadlineSeconds=100)
    assert await pod.over() == "Succeeded"


async def test_active_deadline_can_be_shortened(node: NodeUnderTest) -> None:
    pod = await node.run("sh", "-c", TRAP.format(code=0), activeDeadlineSeconds=100)
    await pod.said("up")
    pod.manifest["spec"]["activeDeadlineSeconds"] = 1
    await node.node.update_pod(pod.manifest)
    assert await pod.over() == "Failed"
    assert pod.status["reason"] == "DeadlineExceeded"


async def test_active_deadline_of_a_pod_that_never_started(node: NodeUnderTest) -> None:
    pod = await node.run("true", base={"envFrom": [{"secretRef": {"name": "none"}}]}, activeDeadlineSeconds=1)
    await pod.waiting("CreateContainerConfigError")
    assert await pod.over() == "Failed"
    assert pod.state()["terminated"]["reason"] == "ContainerStatusUnknown"


async def test_termination_message(node: NodeUnderTest) -> None:
    pod = await node.run("sh", "-c", "printf 'because \\303\\274' > /dev/termination-log; exit 1")
    await pod.over()
    assert pod.state()["terminated"]["message"] == "because ü"
    pod = await node.run(
        "sh",
        "-c",
        "head -c 5000 /dev/zero | tr '\\0' x > /tmp/message",
        base={"terminationMessagePath": "/tmp/message"},
    )
    await pod.over()
    assert pod.state()["terminated"]["message"] == "x" * 4096


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo last words; exit 1", "last words\n"),
        ("echo last words; exit 0", None),
        ("echo log; echo file > /dev/termination-log; exit 1", "file\n"),
        ("i=0; while [ $i -lt 200 ]; do echo line $i; i=$((i+1)); done; exit 1", "line 199\n"),
    ],
)
async def test_termination_message_from_the_log(node: NodeUnderTest, script: str, message: str | None) -> None:
    pod = await node.run("sh", "-c", script, base={"terminationMessagePolicy": "FallbackToLogsOnError"})
    await pod.over()
    told = pod.state()["terminated"].get("message")
    if script.startswith("i=0"):
        assert told.splitlines() == [f"line {number}" for number in range(120, 200)]
    else:
        assert told == message


async def test_hooks(node: NodeUnderTest) -> None:
    lifecycle = {
        "postStart": {"exec": {"command": ["sh", "-c", "echo started > /tmp/hook"]}},
        "preStop": {"exec": {"command": ["sh", "-c", "echo stopped > /tmp/hook; sleep 0.1"]}},
    }
    wait = "while :; do sleep 0.01; done"
    script = f"trap 'cat /tmp/hook; exit 0' TERM; until [ -s /tmp/hook ]; do sleep 0.01; done; cat /tmp/hook; {wait}"
    pod = await node.run("sh", "-c", script, base={"lifecycle": lifecycle})
    await pod.said("started")
    log = asyncio.create_task(pod.log(follow=True))
    await pod.stop(10)
    assert await log == "started\nstopped\n"


async def test_hooks_that_fail(node: NodeUnderTest) -> None:
    pod = await node.run(
        "sh", "-c", TRAP.format(code=0), base={"lifecycle": {"postStart": {"exec": {"command": ["false"]}}}}
    )
    await pod.over()
    assert ("Warning", "FailedPostStartHook", "PostStartHook failed") in events_of(node)
    assert ("Normal", "Killing", "FailedPostStartHook") in events_of(node)
    pod = await node.run("sh", "-c", TRAP.format(code=0), base={"lifecycle": {"preStop": {"httpGet": {"port": 1}}}})
    await pod.said("up")
    await pod.stop(5)
    assert ("Warning", "FailedPreStopHook", "PreStopHook failed") in events_of(node)


async def test_a_pod_that_is_given_twice_runs_once(node: NodeUnderTest) -> None:
    pod = await node.run("echo", "once")
    await node.node.run_pod(pod.manifest)
    assert await pod.result() == "once\n"
    assert node.store.reasons().count("Started") == 1


async def test_a_store_that_fails_does_not_take_the_node_down(
    node: NodeUnderTest, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("store is broken")

    with monkeypatch.context() as patched:
        patched.setattr(node.store, "record_event", fail)
        pod = await node.run("sleep", "100")
        assert await pod.over() == "Failed"
    assert "store is broken" in caplog.text
    assert pod.status["reason"] == "NodeError"
    assert await (await node.run("echo", "fine")).result() == "fine\n"


async def test_pods_fail_when_what_holds_the_containers_is_gone(
    node: NodeUnderTest, caplog: pytest.LogCaptureFixture
) -> None:
    pod = await node.run("sleep", "500", restartPolicy="Always")
    await pod.running()
    keeper = node.node._runtime._keeper
    assert keeper is not None
    children = Path(f"/proc/{keeper.pid}/task/{keeper.pid}/children").read_text().split()
    os.kill(int(children[-1]), signal.SIGKILL)
    assert await pod.over() == "Failed"
    late = await node.run("true")
    assert await late.over() == "Failed"
    assert pod.status["reason"] == late.status["reason"] == "NodeError"
    await asyncio.to_thread(keeper.wait)
    assert not node.node._runtime.directory.exists()


async def test_ended_pods_leave_only_their_logs(node: NodeUnderTest) -> None:
    mount = [{"name": "data", "mountPath": "/data"}]
    pod = await node.run(
        "touch", "/data/file", base={"volumeMounts": mount}, volumes=[{"name": "data", "emptyDir": {}}]
    )
    await pod.result()
    directory = node.node._runtime.directory / "pods" / pod.uid
    while (directory / "volumes").exists():
        await asyncio.sleep(0.005)
    await pod.stop(0)
    assert not directory.exists()


async def test_a_closed_node_leaves_nothing() -> None:
    before = len(os.listdir("/proc/self/fd"))
    async with running_node() as under_test:
        directory = under_test.node._runtime.directory
        pods = [await under_test.run("sleep", "500") for _ in range(3)]
        stuck = await under_test.run("true", base={"image": "Not A Name"})
        for pod in pods:
            await pod.running()
        await stuck.waiting("InvalidImageName")
        await under_test.node.stop_pod(pods[0].manifest, 60)
        followers = [asyncio.create_task(pod.log(follow=True)) for pod in pods]
        await asyncio.sleep(0.05)
    assert not directory.exists()
    assert await asyncio.gather(*followers) == [""] * 3
    assert len(os.listdir("/proc/self/fd")) <= before
