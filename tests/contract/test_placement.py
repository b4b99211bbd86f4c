"""Where pods go, and what is told of those that no node takes."""

from __future__ import annotations

import pytest

from kpo_multicluster.api.client import ApiClient

from .clusters import Cluster, NodeOptions
from .conftest import Create
from .pods import WAIT, Object, Pod, container, manifest

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
