"""Watches, history and chunked lists."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from .server_side import EVENTS, MERGE, PODS, Client, Rig, client_of, eventually, named, rig


@pytest.fixture
def small() -> Iterator[Rig]:
    with rig(history=5, bookmark_seconds=0.05, nodes=()) as made:
        yield made


@pytest.fixture
async def client(small: Rig) -> AsyncIterator[Client]:
    async with client_of(small.cluster) as made:
        yield made


# Without the scheduler, a pod has the versions that a test gives it.
QUIET = {"schedulerName": "none"}


async def label(client: Client, name: str, value: str) -> None:
    status, _ = await client.call("PATCH", f"{PODS}/{name}", {"metadata": {"labels": {"n": value}}}, type=MERGE)
    assert status == 200


async def test_a_watch_tells_what_is_there_and_then_what_happens(client: Client) -> None:
    await client.create_pod("a", **QUIET)
    async with client.watch() as events:
        assert named([await events.next() or {}]) == [("ADDED", "a")]
        await client.create_pod("b", **QUIET)
        await label(client, "a", "1")
        await client.call("DELETE", f"{PODS}/a")
        told = [await events.next() or {} for _ in range(4)]
    assert named(told) == [("ADDED", "b"), ("MODIFIED", "a"), ("MODIFIED", "a"), ("DELETED", "a")]
    versions = [int(event["object"]["metadata"]["resourceVersion"]) for event in told]
    assert versions == sorted(set(versions))


async def test_a_watch_goes_on_from_a_version(client: Client) -> None:
    await client.create_pod("a", **QUIET)
    version = (await client.get(PODS))["metadata"]["resourceVersion"]
    await label(client, "a", "1")
    await label(client, "a", "2")
    async with client.watch(f"resourceVersion={version}") as events:
        labels = [(await events.next() or {})["object"]["metadata"]["labels"]["n"] for _ in range(2)]
    assert labels == ["1", "2"]


async def test_a_watch_of_one_namespace_does_not_tell_of_another(client: Client, small: Rig) -> None:
    small.cluster.create_namespace("other")
    async with client.watch() as events, client.watch(path="/api/v1/pods") as everywhere:
        await client.call("POST", "/api/v1/namespaces/other/pods", {**pod_body("x")})
        await client.create_pod("b", **QUIET)
        assert named([await events.next() or {}]) == [("ADDED", "b")]
        assert named([await everywhere.next() or {}, await everywhere.next() or {}]) == [("ADDED", "x"), ("ADDED", "b")]


def pod_body(name: str) -> dict[str, object]:
    return {"metadata": {"name": name}, "spec": {"containers": [{"name": "base", "image": "x"}], **QUIET}}


async def test_a_version_that_is_no_longer_held_ends_the_watch_with_410(client: Client) -> None:
    await client.create_pod("a", **QUIET)
    version = int((await client.get(PODS))["metadata"]["resourceVersion"])
    for number in range(6):
        await label(client, "a", str(number))
    async with client.watch(f"resourceVersion={version}") as events:
        (error,) = await events.rest()
    assert error["type"] == "ERROR"
    assert (error["object"]["code"], error["object"]["reason"]) == (410, "Expired")
    assert error["object"]["message"] == f"too old resource version: {version} ({version + 1})"
    async with client.watch(f"resourceVersion={version + 1}") as events:
        labels = [(await events.next() or {})["object"]["metadata"]["labels"]["n"] for _ in range(5)]
    assert labels == ["1", "2", "3", "4", "5"]


async def test_forgotten_history_ends_watches_that_come_back_and_on_demand_those_under_way(
    client: Client, small: Rig
) -> None:
    await client.create_pod("a", **QUIET)
    version = (await client.get(PODS))["metadata"]["resourceVersion"]
    async with client.watch(f"resourceVersion={version}") as going_on:
        small.cluster.create_namespace("other")
        small.cluster.compact()
        await label(client, "a", "1")
        assert named([await going_on.next() or {}]) == [("MODIFIED", "a")]
        async with client.watch(f"resourceVersion={version}") as late:
            assert [event["type"] for event in await late.rest()] == ["ERROR"]
        small.cluster.compact(end_watches=True)
        assert [event["object"]["code"] for event in await going_on.rest()] == [410]


async def test_bookmarks_carry_versions_that_other_resources_brought_about(client: Client, small: Rig) -> None:
    await client.create_pod("a", **QUIET)
    version = (await client.get(PODS))["metadata"]["resourceVersion"]
    async with client.watch(f"resourceVersion={version}&allowWatchBookmarks=true") as events:
        small.cluster.create_namespace("other")
        bookmark = await events.next() or {}
    assert bookmark["type"] == "BOOKMARK"
    assert int(bookmark["object"]["metadata"]["resourceVersion"]) > int(version)
    assert bookmark["object"]["kind"] == "Pod"


async def test_no_bookmark_unless_asked_for_or_when_there_is_nothing_new(client: Client, small: Rig) -> None:
    await client.create_pod("a", **QUIET)
    version = (await client.get(PODS))["metadata"]["resourceVersion"]
    async with client.watch(f"resourceVersion={version}&allowWatchBookmarks=true&timeoutSeconds=1") as events:
        assert await events.rest() == []
    async with client.watch("resourceVersion=1&timeoutSeconds=1") as events:
        small.cluster.create_namespace("other")
        assert {event["type"] for event in await events.rest()} == {"ADDED"}


async def test_a_slow_watcher_holds_nobody_up(client: Client) -> None:
    async with client.watch():
        for number in range(50):
            await client.create_pod(f"p{number}", **QUIET)
    assert len((await client.get(PODS))["items"]) == 50


async def test_a_watch_that_its_client_left_is_over(client: Client, small: Rig) -> None:
    async with client.watch():
        pass
    histories = small.cluster._store._histories
    await eventually(lambda: not histories["pods"].subscriptions)


async def test_a_chunked_list_shows_one_moment(client: Client) -> None:
    for name in "abc":
        await client.create_pod(name, **QUIET)
    first = await client.get(f"{PODS}?limit=1")
    await client.call("DELETE", f"{PODS}/b")
    await client.create_pod("d", **QUIET)
    rest = await client.get(f"{PODS}?limit=5&continue={first['metadata']['continue']}")
    assert [item["metadata"]["name"] for item in first["items"] + rest["items"]] == ["a", "b", "c"]
    assert rest["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]


async def test_a_chunked_list_that_took_too_long_is_410(client: Client, small: Rig) -> None:
    for name in "ab":
        await client.create_pod(name, **QUIET)
    first = await client.get(f"{PODS}?limit=1")
    await client.create_pod("c", **QUIET)
    small.cluster.compact()
    status, body = await client.call("GET", f"{PODS}?continue={first['metadata']['continue']}")
    assert (status, body["reason"]) == (410, "Expired")
    assert body["message"].startswith("The provided continue parameter is too old")
    status, body = await client.call("GET", f"{PODS}?resourceVersion=1&resourceVersionMatch=Exact")
    assert (status, body["message"]) == (410, "The resourceVersion for the provided list is too old.")


async def test_events_can_be_watched_by_the_pod_they_are_about(client: Client) -> None:
    async with client.watch("fieldSelector=involvedObject.name%3Db", path=EVENTS) as events:
        await client.create_pod("a")
        await client.create_pod("b")
        event = (await events.next() or {})["object"]
    assert event["involvedObject"]["name"] == "b"
    assert (event["type"], event["reason"]) == ("Warning", "FailedScheduling")
