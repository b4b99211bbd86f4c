"""Watches: events of any size, resumed from where they were cut."""

from __future__ import annotations

import contextlib
import itertools
import json
import time

import pytest

from kpo_multicluster.api.client import ApiClient
from kpo_multicluster.api.retry import Clock, RetryPolicy
from kpo_multicluster.errors import (
    ApiError,
    BadRequestError,
    ConnectError,
    ForbiddenError,
    GoneError,
)

from .cases import PODS, FakeClock, client
from .servers import FakeApi, Handler, chunks, error_event, event, hangs_after, reset, status


async def _take(tested: ApiClient, count: int, *, resource_version: str = "1", timeout_seconds: int = 300) -> list[str]:
    events = tested.watch(PODS, resource_version=resource_version, timeout_seconds=timeout_seconds)
    found = []
    async with contextlib.aclosing(events):
        async for seen in events:
            found.append(f"{seen.type} {seen.object['metadata']['resourceVersion']}")
            if len(found) == count:
                break
    return found


async def test_the_query(api: FakeApi) -> None:
    api.answer(chunks(event("ADDED", "8")))
    async with client(api.url) as tested:
        events = tested.watch(
            PODS, resource_version="7", params={"labelSelector": "a=b"}, timeout_seconds=30, reconnect=False
        )
        assert [seen.type async for seen in events] == ["ADDED"]
    assert dict(api.seen[0].query) == {
        "labelSelector": "a=b",
        "watch": "1",
        "allowWatchBookmarks": "true",
        "timeoutSeconds": "30",
        "resourceVersion": "7",
    }


async def test_lines_are_split_anywhere(api: FakeApi) -> None:
    text = "".join(
        json.dumps(
            {"type": "ADDED", "object": {"metadata": {"resourceVersion": str(n)}, "x": "é€𝄞"}}, ensure_ascii=False
        )
        + "\n"
        for n in range(2, 5)
    ).encode()
    for size in (1, 2, 3, 7, 64, len(text)):
        api.answer(chunks(*(text[start : start + size] for start in range(0, len(text), size))))
        async with client(api.url) as tested:
            events = [seen.object async for seen in tested.watch(PODS, resource_version="1", reconnect=False)]
        assert [obj["x"] for obj in events] == ["é€𝄞"] * 3
        assert [obj["metadata"]["resourceVersion"] for obj in events] == ["2", "3", "4"]


async def test_an_event_of_several_megabytes(api: FakeApi) -> None:
    value = "é" * 1_500_000
    line = event("MODIFIED", "2", value=value)
    api.answer(chunks(line[:100_001], line[100_001:], event("ADDED", "3")))
    async with client(api.url) as tested:
        events = [seen.object async for seen in tested.watch(PODS, resource_version="1", reconnect=False)]
    assert len(line) > 2**20
    assert events[0]["value"] == value
    assert len(events) == 2


@pytest.mark.parametrize("end", [OSError(), b""], ids=["cut", "ended"])
async def test_resumes_from_the_last_event(api: FakeApi, end: bytes | Exception) -> None:
    api.answer(chunks(event("ADDED", "5"), event("MODIFIED", "6"), end), chunks(event("DELETED", "9")))
    async with client(api.url) as tested:
        assert await _take(tested, 3) == ["ADDED 5", "MODIFIED 6", "DELETED 9"]
    assert [seen.query["resourceVersion"] for seen in api.seen] == ["1", "6"]


async def test_bookmarks_move_the_place_to_resume_from_and_are_not_seen(api: FakeApi) -> None:
    api.answer(chunks(event("ADDED", "5"), event("BOOKMARK", "40")), reset, status(503), chunks(event("ADDED", "41")))
    async with client(api.url) as tested:
        assert await _take(tested, 2) == ["ADDED 5", "ADDED 41"]
    resumed = [seen.query["resourceVersion"] for seen in api.seen]
    assert resumed[0] == "1"
    assert set(resumed[1:]) == {"40"}


async def test_a_line_cut_short_is_sent_again(api: FakeApi) -> None:
    whole = event("ADDED", "5")
    api.answer(chunks(event("ADDED", "4"), whole[:-9]), chunks(whole))
    async with client(api.url) as tested:
        assert await _take(tested, 2) == ["ADDED 4", "ADDED 5"]
    assert [seen.query["resourceVersion"] for seen in api.seen] == ["1", "4"]


async def test_no_version_is_asked_for_as_none(api: FakeApi) -> None:
    api.answer(chunks(event("ADDED", "4")))
    async with client(api.url) as tested:
        assert await _take(tested, 1, resource_version="") == ["ADDED 4"]
    assert "resourceVersion" not in api.seen[0].query


@pytest.mark.parametrize("as_event", [False, True], ids=["status", "event"])
async def test_gone(api: FakeApi, as_event: bool) -> None:
    gone: Handler = status(410, "Expired", "too old resource version: 1 (9)")
    if as_event:
        gone = chunks(event("ADDED", "2"), error_event(410, "Expired", "too old resource version: 1 (9)"))
    api.answer(gone)
    async with client(api.url) as tested:
        with pytest.raises(GoneError, match="410 Expired: too old resource version") as caught:
            await _take(tested, 2)
    assert caught.value.status == 410
    assert len(api.seen) == 1


@pytest.mark.parametrize("code", [429, 500, 504])
async def test_an_error_event_that_may_pass_is_a_cut(api: FakeApi, code: int) -> None:
    passing = error_event(code, "Reason", "why")
    api.answer(chunks(event("ADDED", "5"), passing), chunks(passing), chunks(event("MODIFIED", "6")))
    async with client(api.url) as tested:
        assert await _take(tested, 2) == ["ADDED 5", "MODIFIED 6"]
    assert [seen.query["resourceVersion"] for seen in api.seen] == ["1", "5", "5"]

    api.answer(chunks(passing))
    async with client(api.url, retry=RetryPolicy(0.0)) as tested:
        with pytest.raises(ConnectError, match=f"the server ended the watch: {code} Reason: why"):
            await _take(tested, 1)


@pytest.mark.parametrize(("code", "kind"), [(400, BadRequestError), (403, ForbiddenError)])
async def test_other_error_events_are_typed(api: FakeApi, code: int, kind: type[ApiError]) -> None:
    api.answer(chunks(error_event(code, "Reason", "why")))
    async with client(api.url) as tested:
        with pytest.raises(kind, match=f"{code} Reason: why"):
            await _take(tested, 1)
    assert len(api.seen) == 1


async def test_forbidden_is_told_at_once(api: FakeApi) -> None:
    api.answer(status(403, "Forbidden", "cannot watch"))
    async with client(api.url) as tested:
        with pytest.raises(ForbiddenError, match="cannot watch"):
            await _take(tested, 1)
    assert len(api.seen) == 1


async def test_something_that_is_no_event(api: FakeApi) -> None:
    api.answer(chunks(b"<html>hello</html>\n"))
    async with client(api.url, retry=RetryPolicy(0.0)) as tested:
        with pytest.raises(ConnectError, match="answered with something that is no event"):
            await _take(tested, 1)


async def test_a_half_open_connection_is_noticed(api: FakeApi) -> None:
    api.answer(hangs_after(event("ADDED", "5")), chunks(event("ADDED", "6")))
    began = time.monotonic()
    async with client(api.url) as tested:
        assert await _take(tested, 2, timeout_seconds=1) == ["ADDED 5", "ADDED 6"]
    assert 1.5 < time.monotonic() - began < 25
    assert [seen.query["resourceVersion"] for seen in api.seen] == ["1", "5"]


async def test_a_server_timeout_is_followed_without_delay(api: FakeApi) -> None:
    api.answer(*[chunks()] * 5, chunks(event("ADDED", "9")))
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    # Five minutes pass between any two looks at this clock.
    clock = Clock(now=itertools.count(0.0, 300.0).__next__, sleep=sleep)
    async with client(api.url, clock=clock) as tested:
        assert await _take(tested, 1) == ["ADDED 9"]
    assert slept == []
    assert len(api.seen) == 6


async def test_a_watch_that_dies_at_once_backs_off_and_gives_up(api: FakeApi) -> None:
    api.answer(chunks())
    clock = FakeClock()
    async with client(api.url, clock=clock.clock(), retry=RetryPolicy()) as tested:
        with pytest.raises(ConnectError, match=r"the watch ends as soon as it is opened \(17 times in a row\)"):
            await _take(tested, 1)
    assert clock.slept[:7] == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0]
    assert len(api.seen) == 17


async def test_a_watch_that_is_cut_at_once_but_moves_on_never_gives_up(api: FakeApi) -> None:
    api.answer(*(chunks(event("BOOKMARK", str(n)), OSError()) for n in range(2, 60)), chunks(event("ADDED", "99")))
    clock = FakeClock()
    async with client(api.url, clock=clock.clock(), retry=RetryPolicy()) as tested:
        assert await _take(tested, 1) == ["ADDED 99"]
    assert max(clock.slept) == 10.0
    assert clock.time > 500


async def test_without_reconnection_a_cut_raises(api: FakeApi) -> None:
    api.answer(chunks(event("ADDED", "2"), OSError()))
    found = []

    async def follow(tested: ApiClient) -> None:
        async for seen in tested.watch(PODS, resource_version="1", reconnect=False):
            found.append(seen.type)

    async with client(api.url) as tested:
        with pytest.raises(ConnectError, match="cut in the middle"):
            await follow(tested)
    assert found == ["ADDED"]
    assert len(api.seen) == 1


async def test_closing_the_iterator_closes_the_connection(api: FakeApi) -> None:
    api.answer(hangs_after(event("ADDED", "2")))
    async with client(api.url) as tested:
        for _ in range(3):
            assert await _take(tested, 1) == ["ADDED 2"]
    assert len({seen.connection for seen in api.seen}) == 3


async def test_a_client_closed_under_a_watch_ends_it(api: FakeApi) -> None:
    api.answer(hangs_after(event("ADDED", "2")))
    tested = client(api.url)

    async def close_at_the_first_event() -> None:
        async for _ in tested.watch(PODS, resource_version="1"):
            await tested.close()

    with pytest.raises(ConnectError, match="is closed: make a new one"):
        await close_at_the_first_event()
    assert len(api.seen) == 1
