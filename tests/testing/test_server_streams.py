"""Logs and exec: what is asked of the node, and what comes back over the wire."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import aiohttp
import pytest

from kpo_multicluster.testing.interfaces import LogOptions

from .server_side import PODS, Client, Rig, client_of, eventually, hang_up, rig

V4, V5 = "v4.channel.k8s.io", "v5.channel.k8s.io"


@pytest.fixture
def made() -> Iterator[Rig]:
    with rig() as made:
        yield made


@pytest.fixture
async def client(made: Rig) -> AsyncIterator[Client]:
    async with client_of(made.cluster) as client:
        await client.create_pod("a")
        made.cluster.wait_until(lambda pods: "nodeName" in pods[0]["spec"])
        yield client


async def frames(socket: aiohttp.ClientWebSocketResponse[bool]) -> list[tuple[int, bytes]]:
    found = []
    async for message in socket:
        assert message.type is aiohttp.WSMsgType.BINARY
        found.append((message.data[0], message.data[1:]))
    return found


def final(received: list[tuple[int, bytes]]) -> dict[str, Any]:
    channel, data = received[-1]
    assert channel == 3
    status: dict[str, Any] = json.loads(data)
    return status


# ---- logs ----


async def test_a_log_comes_as_plain_text(client: Client) -> None:
    async with client.session.get(f"{PODS}/a/log") as answer:
        assert answer.content_type == "text/plain"
        assert await answer.read() == b"first\nsecond\nthird\n"


async def test_all_options_reach_the_node(made: Rig, client: Client) -> None:
    query = "follow=true&timestamps=true&sinceTime=2024-01-01T00:00:00Z&tailLines=0&limitBytes=5&container=base"
    async with client.session.get(f"{PODS}/a/log?{query}") as answer:
        hang_up(answer)
    asked = LogOptions(follow=True, timestamps=True, since_time="2024-01-01T00:00:00Z", tail_lines=0, limit_bytes=5)
    assert made.node.calls[-1] == ("log", "base", asked)
    await client.call("GET", f"{PODS}/a/log?sinceSeconds=9&container=base")
    assert made.node.calls[-1] == ("log", "base", LogOptions(since_seconds=9))


async def test_a_quiet_log_is_answered_before_its_first_line(made: Rig, client: Client) -> None:
    made.node.log.clear()
    async with client.session.get(f"{PODS}/a/log?follow=true") as answer:
        assert answer.status == 200
        hang_up(answer)


async def test_a_reader_that_leaves_is_noticed(made: Rig, client: Client) -> None:
    async with client.session.get(f"{PODS}/a/log?follow=true") as answer:
        await answer.content.readline()
        hang_up(answer)
    await eventually(lambda: made.node.log_ended == 1)


async def test_what_the_kubelet_refuses_is_passed_on(client: Client) -> None:
    status, body = await client.call("GET", f"{PODS}/a/log?previous=true")
    assert (status, body["reason"]) == (400, "BadRequest")
    assert body["message"] == 'previous terminated container "base" in pod "a" not found'


async def test_a_pod_its_node_does_not_know_is_404(client: Client) -> None:
    await client.create_pod("b", containers=[{"name": "lost", "image": "x"}], nodeName="embedded-node")
    status, body = await client.call("GET", f"{PODS}/b/log")
    assert (status, body["message"]) == (404, "the server could not find the requested resource ( pods/log b)")


async def test_a_node_that_is_not_there_cannot_be_asked(client: Client) -> None:
    await client.create_pod("b", nodeName="ghost")
    status, body = await client.call("GET", f"{PODS}/b/log")
    assert (status, body["reason"]) == (500, "InternalError")
    assert "dial tcp: lookup ghost" in body["message"]


# ---- exec ----


@pytest.mark.parametrize("protocol", [V4, V5])
async def test_an_exec_carries_output_and_exit_code(made: Rig, client: Client, protocol: str) -> None:
    path = f"{PODS}/a/exec?command=sh&command=-c&command=true&stdout=true&stderr=true&stdin=true"
    async with client.session.ws_connect(path, protocols=[protocol]) as socket:
        assert socket.protocol == protocol
        assert (await socket.receive()).data == b"\x01ready\n"
        await socket.send_bytes(b"\x00hello")
        assert [(await socket.receive()).data for _ in range(2)] == [b"\x01hello", b"\x02HELLO"]
        if protocol == V5:
            await socket.send_bytes(b"\xff\x00")
        else:
            made.cluster._thread.call(made.node.sessions[0].close_stdin())
        received = await frames(socket)
    assert final(received) == {
        "metadata": {},
        "status": "Failure",
        "message": "command terminated with non-zero exit code: error executing command [sh -c true], exit code 3",
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": "3"}]},
    }
    assert made.node.calls[-1] == ("exec", "base", ("sh", "-c", "true"), True, False)


async def test_v5_is_chosen_when_both_are_offered(client: Client) -> None:
    path = f"{PODS}/a/exec?command=nope&stdout=true"
    async with client.session.ws_connect(path, protocols=[V5, V4]) as socket:
        assert socket.protocol == V5
        await frames(socket)


async def test_streams_that_were_not_asked_for_are_not_sent(client: Client) -> None:
    path = f"{PODS}/a/exec?command=cat&stderr=true&stdin=true"
    async with client.session.ws_connect(path, protocols=[V5]) as socket:
        await socket.send_bytes(b"\x00hello")
        await socket.send_bytes(b"\xff\x00")
        received = await frames(socket)
    assert [channel for channel, _ in received] == [2, 3]


async def test_a_command_that_cannot_start_is_told_in_the_stream(client: Client) -> None:
    async with client.session.ws_connect(f"{PODS}/a/exec?command=nope&stdout=1", protocols=[V5]) as socket:
        status = final(await frames(socket))
    assert (status["reason"], status["code"]) == ("InternalError", 500)
    assert 'exec: "nope": executable file not found in $PATH' in status["message"]


async def test_a_container_that_is_not_there_is_told_in_the_stream_of_v5(client: Client) -> None:
    async with client.session.ws_connect(f"{PODS}/a/exec?command=gone&stdout=1", protocols=[V5]) as socket:
        status = final(await frames(socket))
    assert status["message"] == 'Internal error occurred: unable to upgrade connection: container not found ("base")'


async def test_a_container_that_is_not_there_is_refused_before_the_stream_of_v4(client: Client) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await client.session.ws_connect(f"{PODS}/a/exec?command=gone&stdout=1", protocols=[V4])
    assert refused.value.status == 500


async def test_a_long_command_fits_into_the_address(made: Rig, client: Client) -> None:
    path = f"{PODS}/a/exec?command=nope&command={'x' * 200_000}&stdout=true"
    async with client.session.ws_connect(path, protocols=[V5]) as socket:
        await frames(socket)
    assert made.node.calls[-1][2] == ("nope", "x" * 200_000)


async def test_a_client_that_leaves_ends_the_command(made: Rig, client: Client) -> None:
    path = f"{PODS}/a/exec?command=cat&stdout=true&stdin=true"
    async with client.session.ws_connect(path, protocols=[V5]) as socket:
        await socket.receive()
    await eventually(lambda: made.node.sessions[0].killed)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("command=ls&stdout=true", "Upgrade request required"),
        ("command=ls", "you must specify at least 1 of stdin, stdout, stderr"),
        ("stdout=true", "you must specify at least 1 command"),
    ],
)
async def test_an_exec_that_asks_for_too_little_is_refused(client: Client, query: str, message: str) -> None:
    status, body = await client.call("GET", f"{PODS}/a/exec?{query}")
    assert (status, body["message"]) == (400, message)


async def test_an_unknown_protocol_is_refused(client: Client) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await client.session.ws_connect(f"{PODS}/a/exec?command=ls&stdout=1", protocols=["v9.channel.k8s.io"])
    assert refused.value.status == 400
