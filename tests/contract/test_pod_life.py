"""The life of a pod, as its status tells it."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any

import pytest
from _pytest.mark import ParameterSet

from kpo_multicluster.api.client import ApiClient

from .conftest import Create
from .pods import IDLE, UNTIL_TOLD, WAIT, Object, Pod, container, manifest

UNREADY = ("False", "ContainersNotReady", "containers with unready status: [base]")
YES = ("True", "", "")


def at(time: str) -> datetime:
    """A time of a status, which has whole seconds."""
    return datetime.strptime(time, "%Y-%m-%dT%H:%M:%SZ")


def told(pod: Pod) -> dict[str, tuple[str, str, str]]:
    """The conditions: status, reason and message by type."""
    return {
        kind: (each["status"], each.get("reason", ""), each.get("message", ""))
        for kind, each in pod.conditions().items()
    }


@pytest.mark.pod(container(f"echo hello; {UNTIL_TOLD}"))
async def test_a_pod_that_succeeds_goes_through_its_phases(pod: Pod) -> None:
    await pod.go()
    assert await pod.over() == "Succeeded"
    assert pod.steps() == [
        ("Pending", ""),
        ("Pending", "waiting"),
        ("Running", "running"),
        ("Running", "terminated"),
        ("Succeeded", "terminated"),
    ]
    assert await pod.log() == "hello\n"


@pytest.mark.pod(container(f"{UNTIL_TOLD}; exit 2"))
async def test_conditions_follow_the_containers(pod: Pod) -> None:
    await pod.waiting("ContainerCreating")
    assert told(pod) == {
        "PodScheduled": YES,
        "PodReadyToStartContainers": ("False", "", ""),
        "Initialized": YES,
        "ContainersReady": UNREADY,
        "Ready": UNREADY,
    }
    await pod.running()
    kinds = ("PodScheduled", "PodReadyToStartContainers", "Initialized", "ContainersReady", "Ready")
    assert told(pod) == dict.fromkeys(kinds, YES)
    ready_since = pod.conditions()["Ready"]["lastTransitionTime"]
    # Times of a status have whole seconds.
    await asyncio.sleep(1.1)
    await pod.go()
    assert await pod.over() == "Failed"
    failed = ("False", "PodFailed", "")
    assert told(pod) == {
        "PodScheduled": YES,
        "PodReadyToStartContainers": ("False", "", ""),
        "Initialized": YES,
        "ContainersReady": failed,
        "Ready": failed,
    }
    assert at(pod.conditions()["Ready"]["lastTransitionTime"]) > at(ready_since)


@pytest.mark.pod(container())
async def test_conditions_of_a_pod_that_succeeded(pod: Pod) -> None:
    assert await pod.over() == "Succeeded"
    done = ("PodCompleted", "")
    assert told(pod)["Initialized"] == ("True", *done)
    assert told(pod)["ContainersReady"] == told(pod)["Ready"] == ("False", *done)


@pytest.mark.pod(container(WAIT))
async def test_a_container_s_status(pod: Pod) -> None:
    await pod.running()
    status = pod.container()
    assert (status["ready"], status["started"], status["restartCount"]) == (True, True, 0)
    assert status["lastState"] == {}
    assert status["resources"] == {}
    # A node knows an image by any of its names.
    assert "alpine" in status["image"]
    assert status["imageID"]
    runtime, _, identity = status["containerID"].partition("://")
    assert runtime
    assert identity
    await pod.delete(gracePeriodSeconds=1)
    await pod.gone()
    gone = pod.container()
    assert (gone["ready"], gone["started"], gone["restartCount"]) == (False, False, 0)
    assert gone["containerID"] == gone["state"]["terminated"]["containerID"] == status["containerID"]


@pytest.mark.pod(container(WAIT))
async def test_a_pod_s_addresses_and_node(pod: Pod) -> None:
    await pod.running()
    status = pod.status
    assert pod.seen["spec"]["nodeName"]
    assert status["podIPs"][0] == {"ip": status["podIP"]}
    assert status["hostIPs"][0] == {"ip": status["hostIP"]}
    printed = await pod.execute("hostname")
    assert printed.stdout.decode().strip() == pod.name


@pytest.mark.pod(container("sleep 1.2"))
async def test_times_are_in_order(pod: Pod) -> None:
    ended = await pod.ended()
    scheduled = pod.conditions()["PodScheduled"]["lastTransitionTime"]
    times = [pod.seen["metadata"]["creationTimestamp"], scheduled, pod.status["startTime"], ended["startedAt"]]
    assert [at(time) for time in times] == sorted(at(time) for time in times)
    assert (at(ended["finishedAt"]) - at(ended["startedAt"])).total_seconds() >= 1


@pytest.mark.pod(container(WAIT))
async def test_the_status_tells_which_generation_it_is_of(pod: Pod) -> None:
    await pod.running()
    assert pod.seen["metadata"]["generation"] == 1
    assert pod.status["observedGeneration"] == 1
    assert {each["observedGeneration"] for each in pod.status["conditions"]} == {1}


def ends(script: str, code: int) -> ParameterSet:
    return pytest.param(code, marks=pytest.mark.pod(container(script)), id=script)


@pytest.mark.parametrize(
    "code",
    [
        ends("exit 1", 1),
        ends("exit 42", 42),
        ends("exit 255", 255),
        ends("exit 300", 44),
        ends("no-such-program", 127),
        # In a manifest `$$` stands for one dollar sign.
        ends("sh -c 'kill -9 $$$$'; exit $?", 137),
        ends("sh -c 'kill -TERM $$$$'; exit $?", 143),
    ],
)
async def test_an_exit_code_is_told(pod: Pod, code: int) -> None:
    ended = await pod.ended()
    assert (ended["exitCode"], ended["reason"]) == (code, "Error")
    assert "message" not in ended


@pytest.mark.pod(container("kill -9 1; kill -TERM 1; echo still here; exit 3"))
async def test_a_first_process_ignores_signals_it_does_not_handle(pod: Pod) -> None:
    """As the first of its process ids it is spared even SIGKILL from within."""
    assert (await pod.ended())["exitCode"] == 3
    assert await pod.log() == "still here\n"


@pytest.mark.pod(container(f"trap 'echo caught; exit 9' INT; echo up; {IDLE}"))
async def test_a_signal_from_another_process_reaches_a_handler(pod: Pod) -> None:
    await pod.said("up")
    await pod.execute("kill", "-s", "INT", "1")
    assert (await pod.ended())["exitCode"] == 9
    assert await pod.log() == "up\ncaught\n"


@pytest.mark.pod({**container(), "command": ["no-such-program", "--option"]})
async def test_a_program_that_is_not_there_cannot_be_started(pod: Pod) -> None:
    assert await pod.over() == "Failed"
    ended = pod.container()["state"]["terminated"]
    assert (ended["exitCode"], ended["reason"], ended["startedAt"]) == (128, "StartError", "1970-01-01T00:00:00Z")
    assert 'exec: "no-such-program": executable file not found in $PATH' in ended["message"]
    failed = await pod.event("Failed")
    assert (failed["type"], failed["message"]) == ("Warning", f"Error: {ended['message']}")
    assert await pod.log() == ""


@pytest.mark.pod(container("exit 3", name="short"), container(UNTIL_TOLD, name="long"))
async def test_a_pod_ends_with_the_last_of_its_containers(pod: Pod) -> None:
    await pod.running("long")
    await pod.ended("short")
    assert pod.phase == "Running"
    assert told(pod)["Ready"] == ("False", "ContainersNotReady", "containers with unready status: [short]")
    await pod.go("long")
    assert await pod.over() == "Failed"
    assert pod.container("long")["state"]["terminated"]["exitCode"] == 0


@pytest.mark.pod(container(name="zz"), container(name="aa"), container(name="mm"))
async def test_statuses_are_listed_by_name(pod: Pod) -> None:
    await pod.over()
    assert [each["name"] for each in pod.status["containerStatuses"]] == ["aa", "mm", "zz"]


SHARED = [{"name": "shared", "mountPath": "/shared/deep/directory"}]
WRITER = "echo secret > /tmp/own; echo from one > /shared/deep/directory/file; sleep 1"
READER = """
until [ -s /shared/deep/directory/file ]; do sleep 0.1; done
cat /shared/deep/directory/file; ls /tmp/own 2>/dev/null || echo no such file
"""


@pytest.mark.pod(
    container(WRITER, name="one", volumeMounts=SHARED),
    container(READER, name="two", volumeMounts=SHARED),
    volumes=[{"name": "shared", "emptyDir": {}}],
)
async def test_containers_share_volumes_and_nothing_else(pod: Pod) -> None:
    assert await pod.over() == "Succeeded"
    assert await pod.log("two") == "from one\nno such file\n"


def of_class(qos: str, resources: Object) -> ParameterSet:
    return pytest.param(resources, qos, marks=pytest.mark.pod(container(resources=resources)), id=qos)


@pytest.mark.parametrize(
    ("resources", "qos"),
    [
        of_class("BestEffort", {}),
        of_class("Burstable", {"requests": {"cpu": "1m", "memory": "8Mi"}}),
        of_class("Guaranteed", {"limits": {"cpu": "100m", "memory": "64Mi"}}),
    ],
)
async def test_resources_decide_the_class(pod: Pod, resources: Object, qos: str) -> None:
    assert pod.status["qosClass"] == qos
    await pod.ended()
    assert pod.status["qosClass"] == qos
    expected = resources and {"requests": resources.get("requests", resources.get("limits")), **resources}
    assert pod.container()["resources"] == expected


@pytest.mark.pod(container(f"trap 'exit 5' TERM; {IDLE}"), activeDeadlineSeconds=1000)
async def test_a_deadline_ends_a_pod(api: ApiClient, pod: Pod) -> None:
    await pod.running()
    # It counts from the pod's start, and may be shortened.
    shorter = {"spec": {"activeDeadlineSeconds": 1}}
    await api.request("PATCH", pod.path, body=shorter, content_type="application/merge-patch+json")
    assert await pod.over() == "Failed"
    assert pod.status["reason"] == "DeadlineExceeded"
    assert pod.status["message"] == "Pod was active on the node longer than the specified deadline"
    assert pod.container()["state"]["terminated"]["exitCode"] == 5
    # Why is told with the end, not after it.
    assert ("Running", "terminated") not in pod.steps()
    assert (await pod.event("DeadlineExceeded"))["type"] == "Normal"


@pytest.mark.pod(container())
async def test_events_tell_of_a_start(pod: Pod) -> None:
    await pod.ended()
    await pod.event("Started")
    # On the embedded cluster an image that is not declared is noticed by an event of its own.
    events = [each for each in await pod.events() if each["reason"] != "ImageNotPulled"]
    node = pod.seen["spec"]["nodeName"]
    assert [(each["type"], each["reason"], each["message"]) for each in events if each["reason"] != "Pulled"] == [
        ("Normal", "Scheduled", f"Successfully assigned {pod.namespace}/{pod.name} to {node}"),
        ("Normal", "Created", "Created container: base"),
        ("Normal", "Started", "Started container base"),
    ]
    scheduled, pulled, *_ = events
    assert pulled["reason"] == "Pulled"
    assert pulled["involvedObject"]["fieldPath"] == "spec.containers{base}"
    assert (pulled["reportingComponent"], pulled["source"]) == ("kubelet", {"component": "kubelet", "host": node})
    assert (pulled["count"], pulled["involvedObject"]["name"]) == (1, pod.name)
    assert scheduled["reportingComponent"] == "default-scheduler"


FAILING_HOOK = {"postStart": {"exec": {"command": ["sh", "-c", "exit 5"]}}}


@pytest.mark.pod(container(f"trap 'exit 6' TERM; {IDLE}", lifecycle=FAILING_HOOK))
async def test_a_hook_after_the_start_that_fails_ends_the_container(pod: Pod) -> None:
    assert (await pod.ended())["exitCode"] == 6
    assert (await pod.event("FailedPostStartHook"))["message"] == "PostStartHook failed"
    assert (await pod.event("Killing"))["message"] == "FailedPostStartHook"


async def test_ten_pods_at_once(create: Create) -> None:
    pods = await asyncio.gather(*(create(manifest(container(f"echo {n}; exit {n}"))) for n in range(10)))
    ended: list[Any] = await asyncio.gather(*(pod.ended() for pod in pods))
    assert [each["exitCode"] for each in ended] == list(range(10))
    assert [await pod.log() for pod in pods] == [f"{n}\n" for n in range(10)]
