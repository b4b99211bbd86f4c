"""Which container runs when: init containers, native sidecars, restarts."""

from __future__ import annotations

from typing import Any

import pytest

from .pods import IDLE, UNTIL_TOLD, WAIT, Object, Pod, container

SHARED = {"name": "shared", "emptyDir": {}}
MOUNT = [{"name": "shared", "mountPath": "/shared"}]


def writes(name: str) -> Object:
    return container(f"echo {name} >> /shared/order; sleep 0.2", name=name, volumeMounts=MOUNT)


@pytest.mark.pod(
    container("echo base >> /shared/order; cat /shared/order", volumeMounts=MOUNT),
    initContainers=[writes("zz"), writes("aa")],
    volumes=[SHARED],
)
async def test_they_run_one_after_the_other_and_before_the_rest(pod: Pod) -> None:
    assert await pod.over() == "Succeeded"
    assert await pod.log() == "zz\naa\nbase\n"
    # They are listed as in the manifest.
    listed = pod.status["initContainerStatuses"]
    assert [(each["name"], each["ready"], each["state"]["terminated"]["reason"]) for each in listed] == [
        ("zz", True, "Completed"),
        ("aa", True, "Completed"),
    ]


@pytest.mark.pod(container(), initContainers=[container(UNTIL_TOLD, name="first"), container(name="second")])
async def test_while_one_runs_the_rest_waits(pod: Pod) -> None:
    await pod.running("first")
    assert pod.phase == "Pending"
    for name in ("second", "base"):
        assert pod.container(name)["state"] == {"waiting": {"reason": "PodInitializing"}}
    initialized = pod.conditions()["Initialized"]
    assert (initialized["status"], initialized["reason"]) == ("False", "ContainersNotInitialized")
    assert initialized["message"] == "containers with incomplete status: [first second]"
    await pod.go("first")
    assert await pod.over() == "Succeeded"
    assert pod.conditions()["Initialized"]["status"] == "True"


@pytest.mark.pod(container(), initContainers=[container("echo no; exit 4", name="first"), container(name="second")])
async def test_one_that_fails_fails_the_pod(pod: Pod) -> None:
    assert await pod.over() == "Failed"
    assert pod.container("first")["state"]["terminated"]["exitCode"] == 4
    for name in ("second", "base"):
        assert pod.container(name)["state"] == {"waiting": {"reason": "PodInitializing"}}
    assert await pod.log("first") == "no\n"


ONCE = "if [ -e /shared/again ]; then sleep 1.5; exit 0; fi; touch /shared/again; exit 1"


@pytest.mark.pod(
    container("echo base"),
    initContainers=[container(ONCE, name="first", volumeMounts=MOUNT)],
    volumes=[SHARED],
    restartPolicy="OnFailure",
)
async def test_one_that_fails_is_tried_again_where_the_policy_says_so(pod: Pod) -> None:
    await pod.until(lambda _: pod.container("first").get("restartCount") == 1)
    assert pod.container("first")["lastState"]["terminated"]["exitCode"] == 1
    assert await pod.over() == "Succeeded"
    assert pod.container("first")["state"]["terminated"]["exitCode"] == 0


@pytest.mark.pod(container(), initContainers=[container(name="first")])
async def test_an_event_names_an_init_container_s_field(pod: Pod) -> None:
    await pod.ended("first")
    started = await pod.event("Started")
    assert started["involvedObject"]["fieldPath"] == "spec.initContainers{first}"


def sidecar(script: str, **fields: Any) -> Object:
    return container(script, name="side", restartPolicy="Always", **fields)


@pytest.mark.pod(
    container(f"{UNTIL_TOLD}; ls /shared", volumeMounts=MOUNT),
    initContainers=[sidecar(f"trap 'echo asked; exit 0' TERM; echo up; touch /shared/up; {IDLE}", volumeMounts=MOUNT)],
    volumes=[SHARED],
)
async def test_a_sidecar_starts_before_the_base_and_ends_after_it(pod: Pod) -> None:
    await pod.running()
    status = pod.container("side")
    assert (status["ready"], status["started"], list(status["state"])) == (True, True, ["running"])
    assert pod.conditions()["Initialized"]["status"] == "True"
    await pod.said("up", "side")
    await pod.go()
    assert await pod.over() == "Succeeded"
    assert await pod.log() == "up\n"
    assert await pod.log("side") == "up\nasked\n"
    ended = {name: pod.container(name)["state"]["terminated"] for name in ("base", "side")}
    assert ended["side"]["startedAt"] <= ended["base"]["startedAt"]
    assert ended["side"]["finishedAt"] >= ended["base"]["finishedAt"]


@pytest.mark.pod(container(UNTIL_TOLD), initContainers=[sidecar(f"trap 'exit 9' TERM; echo up; {IDLE}")])
async def test_a_sidecar_s_exit_code_does_not_count(pod: Pod) -> None:
    await pod.said("up", "side")
    await pod.go()
    assert await pod.over() == "Succeeded"
    assert pod.container("side")["state"]["terminated"]["exitCode"] == 9


@pytest.mark.pod(container("exit 3"), initContainers=[sidecar(WAIT)])
async def test_a_base_that_fails_fails_the_pod_beside_a_sidecar(pod: Pod) -> None:
    assert await pod.over() == "Failed"
    assert pod.container()["state"]["terminated"]["exitCode"] == 3


@pytest.mark.pod(container(WAIT), initContainers=[sidecar("sleep 2")])
async def test_a_sidecar_that_ends_is_started_again(pod: Pod) -> None:
    await pod.until(lambda _: pod.container("side").get("restartCount", 0) >= 1)
    await pod.running()
    assert pod.container()["restartCount"] == 0


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
