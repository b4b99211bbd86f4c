"""Pods on a node: phases, conditions, events, init containers and native sidecars."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

import pytest

from kpo_multicluster.testing.interfaces import Node, NodeStore
from kpo_multicluster.testing.node import LocalNode

from .node_cases import TRAP, UNTIL_TOLD, FakeStore, NodeUnderTest, container, events_of, pod_states, running_node


@pytest.fixture
async def node() -> AsyncIterator[NodeUnderTest]:
    async with running_node() as under_test:
        yield under_test


def conditions(status: dict[str, Any]) -> dict[str, str]:
    return {entry["type"]: entry["status"] + entry.get("reason", "") for entry in status["conditions"]}


def test_both_sides_fit_their_protocols() -> None:
    store: NodeStore = FakeStore()
    node: Node = LocalNode(store, name="n", images={})
    assert node.name == "n"


async def test_a_pod_that_succeeds(node: NodeUnderTest) -> None:
    pod = await node.run("echo", "hello")
    assert await pod.over() == "Succeeded"
    assert await pod.log() == "hello\n"
    seen = [(status["phase"], *pod_states(status)) for status in pod.history]
    assert seen == [
        ("Pending", "waiting"),
        ("Running", "running"),
        ("Running", "terminated"),
        ("Succeeded", "terminated"),
    ]
    assert conditions(pod.history[0]) == {
        "PodReadyToStartContainers": "False",
        "Initialized": "True",
        "Ready": "FalseContainersNotReady",
        "ContainersReady": "FalseContainersNotReady",
        "PodScheduled": "True",
    }
    assert conditions(pod.history[1]) == {
        "PodReadyToStartContainers": "True",
        "Initialized": "True",
        "Ready": "True",
        "ContainersReady": "True",
        "PodScheduled": "True",
    }
    assert conditions(pod.status) == {
        "PodReadyToStartContainers": "False",
        "Initialized": "TruePodCompleted",
        "Ready": "FalsePodCompleted",
        "ContainersReady": "FalsePodCompleted",
        "PodScheduled": "True",
    }
    ended = pod.state()["terminated"]
    assert (ended["exitCode"], ended["reason"]) == (0, "Completed")
    assert ended["startedAt"] <= ended["finishedAt"]
    assert re.fullmatch(r"local://[0-9a-f]{64}", ended["containerID"])
    status = pod.container()
    assert (status["ready"], status["started"], status["restartCount"]) == (False, False, 0)
    assert status["imageID"] == "local://docker.io/library/alpine:latest"
    assert pod.status["qosClass"] == "BestEffort"
    assert pod.status["hostIP"] == "127.0.0.1"
    assert pod.status["podIP"].startswith("127.")
    assert pod.status["podIPs"] == [{"ip": pod.status["podIP"]}]
    scheduled = next(entry for entry in pod.status["conditions"] if entry["type"] == "PodScheduled")
    assert scheduled["lastTransitionTime"] == "2026-01-01T00:00:00Z"


async def test_what_a_status_repeats_of_the_manifest(node: NodeUnderTest) -> None:
    resources = {"limits": {"memory": "64Mi"}, "requests": {"cpu": "10m", "memory": "64Mi"}}
    mounts = [{"name": "v", "mountPath": "/v"}, {"name": "v", "mountPath": "/r", "readOnly": True}]
    pod = await node.run_spec(
        {
            "containers": [container("base", "true", resources=resources, volumeMounts=mounts)],
            "volumes": [{"name": "v", "emptyDir": {}}],
        },
        generation=1,
    )
    await pod.over()
    shown = [
        {"name": "v", "mountPath": "/v"},
        {"name": "v", "mountPath": "/r", "readOnly": True, "recursiveReadOnly": "Disabled"},
    ]
    before, after = pod.history[0]["containerStatuses"][0], pod.container()
    assert (before["image"], after["image"]) == ("alpine", "docker.io/library/alpine:latest")
    assert (before["volumeMounts"], after["volumeMounts"]) == (shown, shown)
    assert (before.get("resources"), after["resources"]) == (None, resources)
    assert after["allocatedResources"] == resources["requests"]
    assert pod.status["observedGeneration"] == 1
    assert {entry.get("observedGeneration") for entry in pod.status["conditions"]} == {1}


async def test_events_are_a_kubelet_s(node: NodeUnderTest) -> None:
    pod = await node.run("sh", "-c", TRAP.format(code=0))
    await pod.said("up")
    await pod.stop(10)
    assert events_of(node) == [
        ("Normal", "ImageNotPulled", 'Image "alpine" is not pulled: its command runs with the files of this machine'),
        ("Normal", "Pulled", 'Container image "alpine" already present on machine'),
        ("Normal", "Created", "Created container: base"),
        ("Normal", "Started", "Started container base"),
        ("Normal", "Killing", "Stopping container base"),
    ]
    assert {path for *_, path in node.store.events} == {"spec.containers{base}"}


@pytest.mark.parametrize("code", [1, 42, 137, 255])
async def test_a_pod_that_fails(node: NodeUnderTest, code: int) -> None:
    pod = await node.run("sh", "-c", f"exit {code}")
    assert await pod.over() == "Failed"
    ended = pod.state()["terminated"]
    assert (ended["exitCode"], ended["reason"]) == (code, "Error")
    assert conditions(pod.status)["Ready"] == "FalsePodFailed"


async def test_a_command_that_does_not_exist(node: NodeUnderTest) -> None:
    pod = await node.run("nosuch", "--flag")
    assert await pod.over() == "Failed"
    message = (
        "failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create failed: "
        'unable to start container process: exec: "nosuch": executable file not found in $PATH: unknown'
    )
    ended = pod.state()["terminated"]
    assert (ended["exitCode"], ended["reason"], ended["message"]) == (128, "StartError", message)
    assert ended["startedAt"] == "1970-01-01T00:00:00Z"
    assert events_of(node)[-1] == ("Warning", "Failed", f"Error: {message}")
    assert await pod.log() == ""


async def test_a_pod_ends_when_its_last_container_has(node: NodeUnderTest) -> None:
    pod = await node.run_spec({"containers": [container("zz", "exit 0"), container("aa", f"{UNTIL_TOLD}; exit 3")]})
    await node.store.until(lambda: "terminated" in pod.state("zz"))
    await pod.go("aa")
    assert await pod.over() == "Failed"
    assert [entry["name"] for entry in pod.status["containerStatuses"]] == ["aa", "zz"]
    assert [entry["state"]["terminated"]["exitCode"] for entry in pod.status["containerStatuses"]] == [3, 0]
    between = [status for status in pod.history if pod_states(status) == ["running", "terminated"]]
    assert {status["phase"] for status in between} == {"Running"}
    message = "containers with unready status: [zz]"
    assert message in [entry.get("message") for status in between for entry in status["conditions"]]


async def test_init_containers_run_in_order(node: NodeUnderTest) -> None:
    mount = [{"name": "data", "mountPath": "/data"}]
    pod = await node.run_spec(
        {
            "initContainers": [
                container("first", "echo first >> /data/order; sleep 0.05", volumeMounts=mount),
                container("second", "echo second >> /data/order", volumeMounts=mount),
            ],
            "containers": [container("base", "cat /data/order", volumeMounts=mount)],
            "volumes": [{"name": "data", "emptyDir": {}}],
        }
    )
    assert await pod.result() == "first\nsecond\n"
    first = pod.history[0]
    assert [entry["state"]["waiting"]["reason"] for entry in first["initContainerStatuses"]] == ["PodInitializing"] * 2
    assert first["containerStatuses"][0]["state"]["waiting"]["reason"] == "PodInitializing"
    assert conditions(first)["Initialized"] == "FalseContainersNotInitialized"
    incomplete = next(entry for entry in first["conditions"] if entry["type"] == "Initialized")
    assert incomplete["message"] == "containers with incomplete status: [first second]"
    assert {status["phase"] for status in pod.history if "running" in str(status["initContainerStatuses"])} == {
        "Pending"
    }
    assert [entry["ready"] for entry in pod.status["initContainerStatuses"]] == [True, True]
    assert "spec.initContainers{second}" in {path for *_, path in node.store.events}


async def test_a_failed_init_container_fails_the_pod(node: NodeUnderTest) -> None:
    pod = await node.run_spec(
        {"initContainers": [container("init", "exit 4")], "containers": [container("base", "echo never")]}
    )
    assert await pod.over() == "Failed"
    assert pod.state("init")["terminated"]["exitCode"] == 4
    assert pod.state() == {"waiting": {"reason": "PodInitializing"}}
    with pytest.raises(LookupError, match=r'container "base" in pod "pod-\d+" is waiting to start: PodInitializing'):
        await pod.log()


async def test_a_native_sidecar_serves_the_others_and_does_not_hold_the_pod(node: NodeUnderTest) -> None:
    mount = [{"name": "data", "mountPath": "/data"}]
    sidecars = [
        container(
            name,
            f"trap 'echo {name} stops >> /data/order; cat /data/order; exit 5' TERM; echo {name} up >> /data/order;"
            "while :; do sleep 0.01; done",
            restartPolicy="Always",
            volumeMounts=mount,
        )
        for name in ("one", "two")
    ]
    main = "until grep -q 'two up' /data/order; do sleep 0.01; done; echo main >> /data/order"
    pod = await node.run_spec(
        {
            "initContainers": [sidecars[0], container("init", "true"), sidecars[1]],
            "containers": [container("base", main, volumeMounts=mount)],
            "volumes": [{"name": "data", "emptyDir": {}}],
        }
    )
    assert await pod.over() == "Succeeded"
    assert await pod.log("one") == "one up\ntwo up\nmain\ntwo stops\none stops\n"
    assert pod.state("one")["terminated"]["exitCode"] == 5
    assert [entry["name"] for entry in pod.status["initContainerStatuses"]] == ["one", "init", "two"]
    while_stopping = [status for status in pod.history if pod_states(status) == ["terminated"]][:-1]
    assert {status["phase"] for status in while_stopping} == {"Running"}
    running = next(status for status in pod.history if pod_states(status) == ["running"])
    assert [(entry["ready"], entry["started"]) for entry in running["initContainerStatuses"]] == [
        (True, True),
        (True, False),
        (True, True),
    ]


async def test_a_sidecar_that_ends_is_started_again(node: NodeUnderTest) -> None:
    pod = await node.run_spec(
        {
            "initContainers": [container("side", "sleep 0.05; exit 1", restartPolicy="Always")],
            "containers": [container("base", TRAP.format(code=0))],
        }
    )
    await node.store.until(lambda: pod.container("side").get("restartCount", 0) >= 2)
    assert pod.status["phase"] == "Running"
    assert conditions(pod.status)["Initialized"] == "True"
    await pod.stop(1)


async def test_a_sidecar_that_cannot_start_holds_what_comes_after_it(node: NodeUnderTest) -> None:
    pod = await node.run_spec(
        {
            "initContainers": [{**container("side", "", restartPolicy="Always"), "command": ["nosuch"]}],
            "containers": [container("base", "true")],
        }
    )
    await pod.waiting("CrashLoopBackOff", "side")
    assert pod.status["phase"] == "Pending"
    assert pod.state() == {"waiting": {"reason": "PodInitializing"}}
    await pod.stop(0)
