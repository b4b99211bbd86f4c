"""Every fault that can be injected, as a client meets it."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Iterator

import aiohttp
import pytest

from .server_side import PODS, Client, Rig, broken_connections, client_of, eventually, hang_up, read_all, rig

QUIET = {"schedulerName": "none"}
pytestmark = broken_connections


@pytest.fixture
def made() -> Iterator[Rig]:
    with rig() as made:
        yield made


@pytest.fixture
async def client(made: Rig) -> AsyncIterator[Client]:
    async with client_of(made.cluster) as client:
        yield client


@pytest.mark.parametrize(
    ("status", "reason"),
    [(401, "Unauthorized"), (403, "Forbidden"), (409, "Conflict"), (410, "Expired"), (503, "ServiceUnavailable")],
)
async def test_a_failure_is_answered_as_often_as_asked(made: Rig, client: Client, status: int, reason: str) -> None:
    fault = made.cluster.faults.answer("^list .*pods", status, times=2)
    answers = [await client.call("GET", PODS) for _ in range(3)]
    assert [code for code, _ in answers] == [status, status, 200]
    assert answers[0][1]["reason"] == reason
    assert (answers[0][1]["kind"], answers[0][1]["code"], fault.hits) == ("Status", status, 2)


async def test_a_failure_lasts_as_long_as_its_block(made: Rig, client: Client) -> None:
    with made.cluster.faults.answer("^create ", 500, times=None, message="out of order") as fault:
        for _ in range(3):
            status, body = await client.call("POST", PODS, {})
            assert (status, body["message"]) == (500, "out of order")
    assert fault.hits == 3
    await client.create_pod("a")


async def test_retry_after_goes_into_header_and_status(made: Rig, client: Client) -> None:
    made.cluster.faults.answer("^get ", 429, retry_after_seconds=7)
    async with client.session.get(f"{PODS}/a") as answer:
        assert answer.headers["Retry-After"] == "7"
        assert (await answer.json())["details"] == {"retryAfterSeconds": 7}


async def test_a_fault_leaves_other_requests_alone(made: Rig, client: Client) -> None:
    made.cluster.faults.answer(r"^get GET /api/v1/namespaces/default/pods/b$", 500, times=None)
    await client.create_pod("a")
    await client.get(f"{PODS}/a")
    assert (await client.call("GET", f"{PODS}/b"))[0] == 500


def test_a_pattern_that_is_none_is_refused_at_once(made: Rig) -> None:
    with pytest.raises(re.error):
        made.cluster.faults.answer("(", 500)


async def test_a_delay_comes_before_the_work(made: Rig, client: Client) -> None:
    made.cluster.faults.delay("^create ", 2)
    started = time.monotonic()
    creating = asyncio.create_task(client.create_pod("a"))
    assert (await client.get(PODS))["items"] == []
    await creating
    assert time.monotonic() - started >= 2


async def test_delays_add_to_what_follows(made: Rig, client: Client) -> None:
    made.cluster.faults.delay("^list ", 0.1)
    made.cluster.faults.answer("^list ", 503)
    made.cluster.faults.answer("^list ", 500)
    assert [(await client.call("GET", PODS))[0] for _ in range(3)] == [503, 500, 200]


@pytest.mark.parametrize("processed", [False, True])
async def test_an_answer_is_lost_with_or_without_the_work(made: Rig, client: Client, processed: bool) -> None:
    made.cluster.faults.drop("^create ", processed=processed)
    with pytest.raises(aiohttp.ClientError):
        await client.create_pod("a", **QUIET)
    assert [pod["metadata"]["name"] for pod in made.cluster.pods()] == (["a"] if processed else [])


async def test_a_log_is_cut_after_lines(made: Rig, client: Client) -> None:
    await client.create_pod("a")
    made.cluster.wait_until(lambda pods: "nodeName" in pods[0]["spec"])
    made.cluster.faults.cut("^log ", after_lines=2)
    async with client.session.get(f"{PODS}/a/log?follow=true") as answer:
        assert await answer.content.readline() == b"first\n"
        assert await answer.content.readline() == b"second\n"
        with pytest.raises(aiohttp.ClientPayloadError):
            await answer.content.read()


@pytest.mark.parametrize(("cut", "kept"), [(0, b""), (1, b"f"), (8, b"first\nse")])
async def test_a_log_is_cut_after_bytes(made: Rig, client: Client, cut: int, kept: bytes) -> None:
    await client.create_pod("a")
    made.cluster.wait_until(lambda pods: "nodeName" in pods[0]["spec"])
    made.cluster.faults.cut("^log ", after_bytes=cut)
    async with client.session.get(f"{PODS}/a/log") as answer:
        assert await read_all(answer.content) == kept
        assert isinstance(answer.content.exception(), aiohttp.ClientPayloadError)


async def test_a_watch_is_cut_inside_an_event(made: Rig, client: Client) -> None:
    made.cluster.faults.cut("^watch ", after_bytes=20)
    await client.create_pod("a", **QUIET)
    async with client.session.get(f"{PODS}?watch=true") as answer:
        assert await read_all(answer.content) == b'{"type":"ADDED","obj'
        assert isinstance(answer.content.exception(), aiohttp.ClientPayloadError)


async def test_a_plain_answer_is_cut_too(made: Rig, client: Client) -> None:
    made.cluster.faults.cut("^list ", after_bytes=10)
    with pytest.raises(aiohttp.ClientPayloadError):
        await client.get(PODS)
    await client.get(PODS)


def test_a_cut_needs_one_measure(made: Rig) -> None:
    with pytest.raises(ValueError, match="exactly one"):
        made.cluster.faults.cut("^log ")


async def test_an_exec_is_cut_after_bytes(made: Rig, client: Client) -> None:
    await client.create_pod("a")
    made.cluster.wait_until(lambda pods: "nodeName" in pods[0]["spec"])
    made.cluster.faults.cut("^exec ", after_bytes=3)
    path = f"{PODS}/a/exec?command=cat&stdout=true"
    async with client.session.ws_connect(path, protocols=["v5.channel.k8s.io"]) as socket:
        assert (await socket.receive()).data == b"\x01rea"
        assert (await socket.receive()).type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.CLOSE)
    await eventually(lambda: made.node.sessions[0].killed)


async def test_silence_lasts_for_those_it_caught(made: Rig, client: Client) -> None:
    with made.cluster.faults.black_hole("^list ") as fault:
        caught = asyncio.create_task(client.get(PODS))
        await asyncio.to_thread(fault.wait)
        assert (await client.call("GET", f"{PODS}/a"))[0] == 404
    await client.get(PODS)
    assert not caught.done()
    caught.cancel()


def test_waiting_for_a_fault_ends(made: Rig) -> None:
    fault = made.cluster.faults.black_hole()
    with pytest.raises(TimeoutError, match="took 0 of 1 requests"):
        fault.wait(timeout_seconds=0.01)


async def test_of_two_like_faults_the_one_that_is_removed_goes(made: Rig, client: Client) -> None:
    first = made.cluster.faults.answer("^list ", 500, times=None)
    second = made.cluster.faults.answer("^list ", 500, times=None)
    second.remove()
    assert (await client.call("GET", PODS))[0] == 500
    assert (first.hits, second.hits) == (1, 0)
    first.remove()
    await client.get(PODS)


async def test_all_faults_go_at_once(made: Rig, client: Client) -> None:
    made.cluster.faults.black_hole()
    made.cluster.faults.answer(".", 500, times=None)
    made.cluster.faults.clear()
    await client.get(PODS)


async def test_an_expired_token_is_refused_and_open_streams_go_on(made: Rig) -> None:
    token = made.cluster.issue_token()
    async with client_of(made.cluster, token) as client, client.watch() as events:
        made.cluster.expire_token(token)
        status, body = await client.call("GET", PODS)
        assert (status, body["message"]) == (401, "Unauthorized")
        async with client_of(made.cluster) as other:
            await other.create_pod("a", **QUIET)
        assert (await events.next() or {})["type"] == "ADDED"


async def test_nothing_listens_during_an_outage_and_then_all_is_as_before(made: Rig, client: Client) -> None:
    await client.create_pod("a", **QUIET)
    server = made.cluster.server
    async with client.session.get(f"{PODS}?watch=true") as answer:
        with made.cluster.outage():
            with pytest.raises(aiohttp.ClientConnectorError):
                await client.get(PODS)
            assert (await read_all(answer.content)).count(b"\n") == 1
            assert isinstance(answer.content.exception(), aiohttp.ClientPayloadError)
        hang_up(answer)
    assert made.cluster.server == server
    assert len((await client.get(PODS))["items"]) == 1


async def test_requests_are_counted_by_what_they_ask_for(made: Rig, client: Client) -> None:
    await client.create_pod("a")
    made.cluster.wait_until(lambda pods: "nodeName" in pods[0]["spec"])
    made.cluster.requests.reset()
    await client.get(PODS)
    await client.get(f"{PODS}/a")
    await client.call("GET", f"{PODS}/a/log")
    async with client.watch():
        pass
    await client.call("PATCH", f"{PODS}/a", {}, type="application/merge-patch+json")
    await client.call("DELETE", f"{PODS}/a")
    await client.call("DELETE", PODS)
    await client.call("GET", "/version")
    await client.call("GET", f"{PODS}/a/exec?command=x")
    expected = ("list", "get", "log", "watch", "patch", "delete", "deletecollection", "exec", "/version")
    assert made.cluster.requests.counts() == dict.fromkeys(expected, 1)
    assert made.cluster.requests.counts(namespace="other") == {}
    (log,) = made.cluster.requests.matching("^log GET .*/a/log$")
    assert (log.status, log.user, log.info.name) == (200, "admin", "a")
