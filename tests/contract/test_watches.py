"""Watches: from where they begin, what they tell, and how they end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import uuid
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from kpo_multicluster.api.client import ApiClient, WatchEvent
from kpo_multicluster.errors import GoneError
from kpo_multicluster.pods.monitor import PodMonitor
from kpo_multicluster.pods.own_watch import watch_alone

from .clusters import Cluster
from .conftest import Create, Start
from .pods import NOBODY, Object, Pod, container, manifest

MERGE = "application/merge-patch+json"
Told = tuple[str, str, str]


@pytest.fixture
def pods(namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/pods"


async def version_of(api: ApiClient, pods: str) -> str:
    answer = await api.request("GET", pods)
    return str(answer["metadata"]["resourceVersion"])


async def set_label(api: ApiClient, pod: Pod, value: str) -> Object:
    return await api.request("PATCH", pod.path, body={"metadata": {"labels": {"step": value}}}, content_type=MERGE)


async def take(events: AsyncGenerator[WatchEvent, None], count: int) -> list[WatchEvent]:
    """The next events of a watch, which is then closed."""

    async def read() -> list[WatchEvent]:
        taken: list[WatchEvent] = []
        async with contextlib.aclosing(events):
            async for event in events:
                taken.append(event)
                if len(taken) == count:
                    break
        return taken

    return await asyncio.wait_for(read(), 90)


def told(events: list[WatchEvent]) -> list[tuple[str, str]]:
    return [(event.type, event.object["metadata"].get("labels", {}).get("step", "")) for event in events]


async def test_a_watch_tells_of_every_change_in_order(api: ApiClient, create: Create, pods: str) -> None:
    since = await version_of(api, pods)
    pod = await create(manifest(container(), **NOBODY))
    for value in ("one", "two", "three"):
        await set_label(api, pod, value)
    await pod.delete(gracePeriodSeconds=0)
    params = {"fieldSelector": f"metadata.name={pod.name}"}
    events = await take(api.watch(pods, resource_version=since, params=params), 6)
    assert told(events) == [
        ("ADDED", ""),
        ("MODIFIED", "one"),
        ("MODIFIED", "two"),
        ("MODIFIED", "three"),
        # Its deletion begins, and ends.
        ("MODIFIED", "three"),
        ("DELETED", "three"),
    ]
    versions = [int(event.object["metadata"]["resourceVersion"]) for event in events]
    assert versions == sorted(set(versions))
    pod.deleted = True


async def test_a_watch_goes_on_from_any_version_it_saw(api: ApiClient, create: Create, pods: str) -> None:
    pod = await create(manifest(container(), **NOBODY))
    versions = [(await set_label(api, pod, value))["metadata"]["resourceVersion"] for value in ("one", "two", "three")]
    params = {"fieldSelector": f"metadata.name={pod.name}"}
    events = await take(api.watch(pods, resource_version=versions[0], params=params), 2)
    assert told(events) == [("MODIFIED", "two"), ("MODIFIED", "three")]


async def test_a_watch_from_the_present_begins_with_what_is_there(api: ApiClient, create: Create, pods: str) -> None:
    pod = await create(manifest(container(), **NOBODY))
    await set_label(api, pod, "here")
    params = {"fieldSelector": f"metadata.name={pod.name}"}
    assert told(await take(api.watch(pods, resource_version="0", params=params), 1)) == [("ADDED", "here")]


async def test_what_leaves_a_selection_is_deleted_from_it(api: ApiClient, create: Create, pods: str) -> None:
    case = uuid.uuid4().hex
    pod = await create(manifest(container(), labels={"step": case, "kept": "x"}, **NOBODY))
    since = pod.seen["metadata"]["resourceVersion"]
    await set_label(api, pod, "elsewhere")
    back = await set_label(api, pod, case)
    params = {"labelSelector": f"step={case}"}
    left, returned = await take(api.watch(pods, resource_version=since, params=params), 2)
    # It is shown as it was while it was in the selection, with the version of the change that took it out.
    assert told([left, returned]) == [("DELETED", case), ("ADDED", case)]
    assert returned.object["metadata"]["resourceVersion"] == back["metadata"]["resourceVersion"]


async def test_a_watch_survives_the_server_s_own_end_of_it(api: ApiClient, create: Create, pods: str) -> None:
    pod = await create(manifest(container(), **NOBODY))
    version = pod.seen["metadata"]["resourceVersion"]
    params = {"fieldSelector": f"metadata.name={pod.name}"}
    watch = api.watch(pods, resource_version=version, params=params, timeout_seconds=1)

    async def change() -> None:
        for value in ("one", "two"):
            await asyncio.sleep(1.2)
            await set_label(api, pod, value)

    changes = asyncio.create_task(change())
    assert told(await take(watch, 2)) == [("MODIFIED", "one"), ("MODIFIED", "two")]
    await changes


async def test_bookmarks_tell_how_far_a_quiet_watch_is(api: ApiClient, create: Create, pods: str) -> None:
    """A server sends one two seconds before a watch ends, so that the next one need not begin at an old version."""
    quiet = await create(manifest(container(), **NOBODY))
    busy = await create(manifest(container(), **NOBODY))
    latest = int((await set_label(api, busy, "later"))["metadata"]["resourceVersion"])
    params: dict[str, Any] = {
        "watch": "1",
        "allowWatchBookmarks": "true",
        "timeoutSeconds": 8,
        "resourceVersion": quiet.seen["metadata"]["resourceVersion"],
        "fieldSelector": f"metadata.name={quiet.name}",
    }
    body = b"".join([part async for part in api.stream(pods, params=params)])
    events = [json.loads(line) for line in body.splitlines()]
    assert {event["type"] for event in events} == {"BOOKMARK"}
    assert events[-1]["object"]["kind"] == "Pod"
    assert int(events[-1]["object"]["metadata"]["resourceVersion"]) >= latest


async def test_a_version_that_is_too_old_is_gone(cluster: Cluster, api: ApiClient, create: Create, pods: str) -> None:
    await create(manifest(container(), **NOBODY))
    cluster.forget_history()
    with pytest.raises(GoneError) as gone:
        await take(api.watch(pods, resource_version="1"), 1)
    assert (gone.value.status, gone.value.reason) == (410, "Expired")
    assert gone.value.detail.startswith("too old resource version: 1 (")


async def test_a_run_is_watched_on_after_its_version_is_gone(cluster: Cluster, api: ApiClient, start: Start) -> None:
    pod = await start("sleep 1; exit 3")
    cluster.forget_history()
    old = {**pod.seen, "metadata": {**pod.seen["metadata"], "resourceVersion": "1"}}

    async def warn(text: str) -> None:
        raise AssertionError(text)

    monitor = PodMonitor(api, old, watch_alone, warn)
    assert await monitor.wait(lambda seen: seen["status"].get("phase") == "Failed", timeout_seconds=90)
    assert monitor.pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 3
    await monitor.close()


async def test_events_are_watched_too(api: ApiClient, start: Start, namespace: str) -> None:
    pod = await start()
    started = await pod.event("Started")
    assert started["involvedObject"]["uid"] == pod.uid
