"""Restart policies, and what a container's status tells between its runs."""

from __future__ import annotations

import pytest

from .pods import WAIT, Pod, container

SHARED = {"name": "shared", "emptyDir": {}}
MOUNT = [{"name": "shared", "mountPath": "/shared"}]
# Fails the first time.
TWICE = "if [ -e /shared/again ]; then echo second; sleep 1.5; exit 0; fi; touch /shared/again; echo first; exit 3"


@pytest.mark.pod(container("exit 3"), restartPolicy="Never")
async def test_never(pod: Pod) -> None:
    assert await pod.over() == "Failed"
    assert pod.container()["restartCount"] == 0


@pytest.mark.pod(container(TWICE, volumeMounts=MOUNT), volumes=[SHARED], restartPolicy="OnFailure")
async def test_on_failure_until_it_succeeds(pod: Pod) -> None:
    await pod.until(lambda _: pod.container().get("restartCount") == 1)
    last = pod.container()["lastState"]["terminated"]
    assert (last["exitCode"], last["reason"]) == (3, "Error")
    assert last["containerID"] != pod.container()["containerID"]
    assert await pod.over() == "Succeeded"
    assert pod.container()["restartCount"] == 1
    assert pod.container()["state"]["terminated"]["exitCode"] == 0
    assert await pod.log() == "second\n"


@pytest.mark.pod(container("exit 0"), restartPolicy="OnFailure")
async def test_on_failure_not_after_a_success(pod: Pod) -> None:
    assert await pod.over() == "Succeeded"
    assert pod.container()["restartCount"] == 0


@pytest.mark.pod(container("exit 3"), restartPolicy="OnFailure")
async def test_failing_again_and_again_it_waits_longer_each_time(pod: Pod) -> None:
    waiting = await pod.waiting("CrashLoopBackOff")
    assert waiting["message"] == (
        f"back-off 10s restarting failed container=base pod={pod.name}_{pod.namespace}({pod.uid})"
    )
    status = pod.container()
    assert (status["ready"], status["started"], status["restartCount"]) == (False, False, 1)
    assert status["lastState"]["terminated"]["exitCode"] == 3
    assert pod.phase == "Running"
    assert pod.conditions()["Ready"]["reason"] == "ContainersNotReady"
    event = await pod.event("BackOff")
    assert (event["type"], event["message"]) == (
        "Warning",
        f"Back-off restarting failed container base in pod {pod.name}_{pod.namespace}({pod.uid})",
    )


@pytest.mark.pod(container("exit 0"), restartPolicy="Always")
async def test_always_even_after_a_success(pod: Pod) -> None:
    await pod.waiting("CrashLoopBackOff")
    last = pod.container()["lastState"]["terminated"]
    assert (last["exitCode"], last["reason"], pod.phase) == (0, "Completed", "Running")


@pytest.mark.pod(container("exit 1"), container(WAIT, name="steady"), restartPolicy="OnFailure")
async def test_one_container_s_restarts_do_not_touch_another(pod: Pod) -> None:
    await pod.until(lambda _: pod.container().get("restartCount", 0) >= 1)
    assert pod.container("steady")["restartCount"] == 0
    assert "running" in pod.container("steady")["state"]


@pytest.mark.pod(container("exit 1"), restartPolicy="Always", activeDeadlineSeconds=3)
async def test_a_deadline_ends_restarts(pod: Pod) -> None:
    assert await pod.over() == "Failed"
    assert pod.status["reason"] == "DeadlineExceeded"
