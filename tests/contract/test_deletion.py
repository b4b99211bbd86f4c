"""Deletion: grace, preconditions, and what a container is told."""

from __future__ import annotations

import time

import pytest

from kpo_multicluster.api.client import ApiClient
from kpo_multicluster.errors import ConflictError, NotFoundError

from .clusters import Cluster
from .conftest import Create
from .pods import IDLE, NOBODY, WAIT, Pod, container, manifest

DEAF = container(f"trap '' TERM; echo up; while :; do {IDLE}; done")


@pytest.mark.pod(container(f"trap 'echo asked; sleep 1; echo done; exit 7' TERM; echo up; {IDLE}"))
async def test_a_container_is_asked_to_end_and_may_take_its_time(pod: Pod) -> None:
    await pod.said("up")
    deleted = await pod.delete(gracePeriodSeconds=20)
    assert deleted["metadata"]["deletionTimestamp"]
    assert deleted["metadata"]["deletionGracePeriodSeconds"] == 20
    assert deleted["metadata"]["uid"] == pod.uid
    assert await pod.log(follow="true") == "up\nasked\ndone\n"
    await pod.gone()
    ended = pod.container()["state"]["terminated"]
    assert (ended["exitCode"], ended["reason"], pod.phase) == (7, "Error", "Failed")
    # The end is told in one, not the container's first.
    assert ("Running", "terminated") not in pod.steps()
    assert (await pod.event("Killing"))["message"] == "Stopping container base"


@pytest.mark.pod(DEAF)
async def test_a_container_that_does_not_listen_is_killed_after_its_grace(pod: Pod) -> None:
    await pod.said("up")
    began = time.monotonic()
    await pod.delete(gracePeriodSeconds=1)
    await pod.gone()
    # It is not the thirty of the pod's own grace.
    assert 1 <= time.monotonic() - began < 30
    ended = pod.container()["state"]["terminated"]
    assert (ended["exitCode"], ended["reason"]) == (137, "Error")


@pytest.mark.pod(DEAF)
async def test_without_grace_a_pod_is_gone_at_once(api: ApiClient, pod: Pod) -> None:
    await pod.said("up")
    await pod.delete(gracePeriodSeconds=0)
    with pytest.raises(NotFoundError):
        await api.request("GET", pod.path)
    await pod.gone()


@pytest.mark.pod(container(WAIT), terminationGracePeriodSeconds=3)
async def test_the_pod_s_own_grace_is_the_default(pod: Pod) -> None:
    await pod.running()
    assert (await pod.delete())["metadata"]["deletionGracePeriodSeconds"] == 3
    await pod.gone()


@pytest.mark.pod(DEAF)
async def test_grace_can_be_taken_back(api: ApiClient, pod: Pod) -> None:
    await pod.said("up")
    await pod.delete(gracePeriodSeconds=300)
    # Longer it does not get.
    assert (await pod.delete(gracePeriodSeconds=400))["metadata"]["deletionGracePeriodSeconds"] == 300
    await pod.delete(gracePeriodSeconds=0)
    with pytest.raises(NotFoundError):
        await api.request("GET", pod.path)


@pytest.mark.pod(container(WAIT))
async def test_only_the_pod_of_that_uid_is_deleted(api: ApiClient, pod: Pod) -> None:
    await pod.running()
    other = "00000000-0000-0000-0000-000000000000"
    with pytest.raises(ConflictError) as refused:
        await pod.delete(preconditions={"uid": other})
    assert refused.value.reason == "Conflict"
    assert f"the UID in the precondition ({other}) does not match the UID in record ({pod.uid})" in refused.value.detail
    assert "deletionTimestamp" not in (await api.request("GET", pod.path))["metadata"]
    await pod.delete(preconditions={"uid": pod.uid}, gracePeriodSeconds=1)
    await pod.gone()


async def test_a_pod_that_no_node_has_is_gone_at_once(api: ApiClient, create: Create) -> None:
    pod = await create(manifest(container(), **NOBODY))
    await pod.delete()
    with pytest.raises(NotFoundError):
        await api.request("GET", pod.path)


@pytest.mark.pod(container("exit 3"))
async def test_a_pod_that_has_ended_is_gone_soon(pod: Pod) -> None:
    await pod.over()
    began = time.monotonic()
    await pod.delete()
    await pod.gone()
    assert time.monotonic() - began < 30
    assert pod.container()["state"]["terminated"]["exitCode"] == 3


@pytest.mark.pod(
    container(volumeMounts=[{"name": "v", "mountPath": "/v"}]),
    volumes=[{"name": "v", "secret": {"secretName": "no-such-secret"}}],
)
async def test_a_pod_that_waits_for_a_secret_can_be_deleted(pod: Pod) -> None:
    await pod.waiting("ContainerCreating")
    await pod.delete(gracePeriodSeconds=5)
    await pod.gone()


async def test_a_name_is_free_again_after_its_pod(api: ApiClient, create: Create) -> None:
    body = manifest(container(), **NOBODY)
    first = await create(body)
    await first.delete()
    second = await create(body)
    assert second.name == first.name
    assert second.uid != first.uid


HOOK = {"preStop": {"exec": {"command": ["sh", "-c", "echo hook > /proc/1/fd/1; sleep 0.5"]}}}


@pytest.mark.pod(container(f"trap 'echo asked; exit 0' TERM; echo up; {IDLE}", lifecycle=HOOK))
async def test_a_hook_runs_before_a_container_is_asked_to_end(pod: Pod) -> None:
    await pod.said("up")
    await pod.delete(gracePeriodSeconds=10)
    assert await pod.log(follow="true") == "up\nhook\nasked\n"


async def test_a_finalizer_keeps_a_pod(api: ApiClient, create: Create) -> None:
    body = manifest(container(), **NOBODY)
    body["metadata"]["finalizers"] = ["kpo-multicluster.test/hold"]
    pod = await create(body)
    await pod.delete()
    held = await api.request("GET", pod.path)
    assert held["metadata"]["deletionTimestamp"]
    change = {"metadata": {"finalizers": None}}
    await api.request("PATCH", pod.path, body=change, content_type="application/merge-patch+json")
    await pod.gone()


async def test_pods_go_by_selector(api: ApiClient, create: Create) -> None:
    doomed = [await create(manifest(container(), labels={"doom": "yes"}, **NOBODY)) for _ in range(2)]
    spared = await create(manifest(container(), labels={"doom": "no"}, **NOBODY))
    await api.request("DELETE", spared.collection, params={"labelSelector": "doom=yes"})
    for pod in doomed:
        await pod.gone()
    assert "deletionTimestamp" not in (await api.request("GET", spared.path))["metadata"]


async def test_a_namespace_takes_its_pods_along(cluster: Cluster, api: ApiClient) -> None:
    name = cluster.make_namespace()
    body = manifest(container(), **NOBODY)
    created = await api.request("POST", f"/api/v1/namespaces/{name}/pods", body=body)
    await api.request("DELETE", f"/api/v1/namespaces/{name}")
    version = created["metadata"]["resourceVersion"]
    params = {"fieldSelector": f"metadata.name={body['metadata']['name']}"}
    async for event in api.watch(f"/api/v1/namespaces/{name}/pods", resource_version=version, params=params):
        if event.type == "DELETED":
            assert event.object["metadata"]["uid"] == created["metadata"]["uid"]
            return
