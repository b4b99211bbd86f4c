"""Where pods go, and why some of them do not start: no node takes them, or their image cannot be had."""

from __future__ import annotations

import pytest

from kpo_multicluster.api.client import ApiClient

from .clusters import Cluster, NodeOptions
from .conftest import Create
from .pods import UNKNOWN_IMAGE, WAIT, Object, Pod, container, manifest

GPU = "example.com/gpu"


async def unschedulable(pod: Pod) -> str:
    """Waits until the scheduler gave up for now; gives the text of its condition, which an event repeats."""
    await pod.until(lambda seen: bool(seen["status"].get("conditions")))
    condition = pod.conditions()["PodScheduled"]
    assert (condition["status"], condition["reason"]) == ("False", "Unschedulable")
    assert pod.phase == "Pending"
    event = await pod.event("FailedScheduling")
    assert event["type"] == "Warning"
    assert event["message"] == condition["message"]
    assert event["reportingComponent"] == "default-scheduler"
    return str(condition["message"])


async def count_nodes(api: ApiClient) -> int:
    return len((await api.request("GET", "/api/v1/nodes"))["items"])


@pytest.mark.pod(container(), nodeSelector={"example.com/kind": "none-such"})
async def test_no_node_has_the_label(api: ApiClient, pod: Pod) -> None:
    nodes = await count_nodes(api)
    assert await unschedulable(pod) == (
        f"0/{nodes} nodes are available: {nodes} node(s) didn't match Pod's node affinity/selector. "
        f"no new claims to deallocate, preemption: 0/{nodes} nodes are available: {nodes} Preemption is not helpful "
        "for scheduling."
    )


@pytest.mark.pod(container(resources={"requests": {"cpu": "5000", "memory": "500Ti"}}))
async def test_no_node_has_the_resources(api: ApiClient, pod: Pod) -> None:
    nodes = await count_nodes(api)
    assert (await unschedulable(pod)).startswith(
        f"0/{nodes} nodes are available: {nodes} Insufficient cpu, {nodes} Insufficient memory."
    )


@pytest.mark.pod(container(resources={"limits": {GPU: "1"}}))
async def test_no_node_has_a_gpu(api: ApiClient, pod: Pod) -> None:
    nodes = await count_nodes(api)
    told = await unschedulable(pod)
    assert told.startswith(f"0/{nodes} nodes are available: {nodes} Insufficient {GPU}.")


async def test_a_node_s_taint_keeps_pods_off(cluster: Cluster, create: Create) -> None:
    selector = {"example.com/pool": "tainted"}
    with cluster.node(NodeOptions(labels=selector, taint="example.com/gpu")):
        pod = await create(manifest(container(), nodeSelector=selector))
        told = await unschedulable(pod)
        assert "1 node(s) had untolerated taint(s)" in told
        assert "node(s) didn't match Pod's node affinity/selector" in told
        await pod.delete()


async def test_a_toleration_lets_pods_on(cluster: Cluster, create: Create) -> None:
    tolerations = [{"key": "example.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    options = NodeOptions(labels={"example.com/pool": "gpu"}, taint="example.com/gpu", capacity={GPU: "1"})
    limits = {"limits": {GPU: "1"}}
    with cluster.node(options) as name:
        first = await create(manifest(container(WAIT, resources=limits), tolerations=tolerations))
        await first.running()
        assert first.seen["spec"]["nodeName"] == name
        # There is one only.
        second = await create(manifest(container(resources=limits), tolerations=tolerations))
        assert f"1 Insufficient {GPU}" in await unschedulable(second) or "Insufficient" in await unschedulable(second)
        await first.delete(gracePeriodSeconds=1)
        await second.ended()
        assert second.seen["spec"]["nodeName"] == name
        assert await second.over() == "Succeeded"


async def test_a_pod_waits_for_its_node(cluster: Cluster, create: Create) -> None:
    selector = {"example.com/pool": "late"}
    pod = await create(manifest(container("echo on the new node"), nodeSelector=selector))
    await unschedulable(pod)
    with cluster.node(NodeOptions(labels=selector)) as name:
        await pod.ended()
        assert pod.seen["spec"]["nodeName"] == name
        assert await pod.log() == "on the new node\n"
        await pod.over()


@pytest.mark.pod(container(), schedulingGates=[{"name": "example.com/wait"}])
async def test_a_gate_holds_a_pod(api: ApiClient, pod: Pod) -> None:
    await pod.until(lambda seen: bool(seen["status"].get("conditions")))
    condition = pod.conditions()["PodScheduled"]
    assert (condition["status"], condition["reason"]) == ("False", "SchedulingGated")
    change: Object = {"spec": {"schedulingGates": []}}
    await api.request("PATCH", pod.path, body=change, content_type="application/merge-patch+json")
    assert await pod.over() == "Succeeded"


async def test_nodes_tell_what_they_have(api: ApiClient) -> None:
    node = (await api.request("GET", "/api/v1/nodes"))["items"][0]
    assert {"cpu", "memory", "pods"} <= node["status"]["allocatable"].keys()
    ready = next(each for each in node["status"]["conditions"] if each["type"] == "Ready")
    assert (ready["status"], ready["reason"]) == ("True", "KubeletReady")
    assert node["metadata"]["labels"]["kubernetes.io/hostname"] == node["metadata"]["name"]
    assert node["metadata"]["labels"]["kubernetes.io/os"] == "linux"
    assert node["status"]["nodeInfo"]["kubeletVersion"].startswith("v1.")


@pytest.mark.pod(container(image=UNKNOWN_IMAGE))
async def test_an_image_that_cannot_be_pulled(pod: Pod) -> None:
    first = await pod.waiting("ErrImagePull")
    assert f"{UNKNOWN_IMAGE}: not found" in first["message"]
    later = await pod.waiting("ImagePullBackOff")
    assert later["message"].startswith(f'Back-off pulling image "{UNKNOWN_IMAGE}": ErrImagePull: ')
    assert first["message"] in later["message"]
    assert pod.phase == "Pending"
    pulling = await pod.event("Pulling")
    assert pulling["message"] == f'Pulling image "{UNKNOWN_IMAGE}"'
    messages = {each["message"] for each in await pod.events() if each["reason"] == "Failed"}
    assert f'Failed to pull image "{UNKNOWN_IMAGE}": {first["message"]}' in messages
    assert "Error: ErrImagePull" in messages
    assert (await pod.event("BackOff"))["message"] == f'Back-off pulling image "{UNKNOWN_IMAGE}"'


@pytest.mark.pod(container(image=UNKNOWN_IMAGE, imagePullPolicy="Never"))
async def test_an_image_that_is_not_there_and_not_to_be_pulled(pod: Pod) -> None:
    waiting = await pod.waiting("ErrImageNeverPull")
    assert waiting["message"] == f'Container image "{UNKNOWN_IMAGE}" is not present with pull policy of Never'


@pytest.mark.parametrize(
    "reason",
    [
        pytest.param(reason, marks=pytest.mark.pod(container(image=image)), id=image)
        for image, reason in (
            ("Not-Lower-Case:1", "repository name (library/Not-Lower-Case) must be lowercase"),
            ("not a name", "invalid reference format"),
            ("a:b:c", "invalid reference format"),
        )
    ],
)
async def test_a_name_that_is_none(pod: Pod, reason: str) -> None:
    waiting = await pod.waiting("InvalidImageName")
    image = pod.seen["spec"]["containers"][0]["image"]
    assert waiting["message"].startswith(f'Failed to apply default image tag "{image}": couldn\'t parse image name')
    assert reason in waiting["message"]
    assert (await pod.event("InspectFailed"))["message"] == waiting["message"]


@pytest.mark.pod(container(), initContainers=[container(name="first", image=UNKNOWN_IMAGE)])
async def test_an_init_container_s_image(pod: Pod) -> None:
    await pod.waiting("ErrImagePull", name="first")
    assert pod.container()["state"] == {"waiting": {"reason": "PodInitializing"}}
