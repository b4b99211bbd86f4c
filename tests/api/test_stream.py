"""Log streams: raw parts as they arrive, and an end that is told from a cut."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from types import SimpleNamespace
from typing import cast

import aiohttp
import pytest
from aiohttp import web

from kpo_multicluster.api.client import ApiClient
from kpo_multicluster.api.pace import Pace
from kpo_multicluster.api.tunnel import ClusterConnector
from kpo_multicluster.errors import BadRequestError, ConnectError

from .cases import LOG, client, payload
from .servers import FakeApi, chunks, hangs_after, ok, reset, status


async def _read(tested: ApiClient, idle_seconds: float | None = None) -> bytes:
    params: dict[str, str | bool] = {"follow": True, "container": "base"}
    return b"".join([part async for part in tested.stream(LOG, params=params, idle_seconds=idle_seconds)])


async def test_parts_arrive_as_they_are_sent(api: FakeApi) -> None:
    gate = asyncio.Event()

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"half a line")
        await gate.wait()
        await response.write(b" and its end\n\xff\xfe")
        return response

    api.answer(handler)
    async with client(api.url) as tested:
        parts = tested.stream(LOG, params={"follow": True, "tailLines": 10})
        assert await parts.__anext__() == b"half a line"
        gate.set()
        assert [part async for part in parts] == [b" and its end\n\xff\xfe"]
    assert dict(api.seen[0].query) == {"follow": "true", "tailLines": "10"}
    assert api.seen[0].headers["Accept-Encoding"] == "identity"


async def test_a_large_log(api: FakeApi) -> None:
    text = payload(8 * 2**20)
    api.answer(chunks(*(text[start : start + 50_000] for start in range(0, len(text), 50_000))))
    async with client(api.url) as tested:
        assert await _read(tested) == text


class _Transport:
    """Of an answer; notes what is asked of it."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def pause_reading(self) -> None:
        self.asked.append("pause")

    def resume_reading(self) -> None:
        self.asked.append("resume")


async def test_a_burst_may_gather() -> None:
    transport = _Transport()
    pace = Pace(cast("aiohttp.ClientResponse", SimpleNamespace(connection=SimpleNamespace(transport=transport))))
    for _ in range(60):
        await pace.read(1_000)
    assert transport.asked == []
    await pace.read(100_000)
    assert transport.asked == ["pause", "resume"]


async def test_an_answer_that_has_come_whole_is_not_waited_for() -> None:
    response = SimpleNamespace(connection=None)
    await Pace(cast("aiohttp.ClientResponse", response)).read(100_000)


async def test_a_rest_ends_with_the_connection() -> None:
    transport = _Transport()
    response = SimpleNamespace(connection=SimpleNamespace(transport=transport))
    resting = asyncio.create_task(Pace(cast("aiohttp.ClientResponse", response)).read(100_000))
    await asyncio.sleep(0)
    response.connection.transport = None
    await resting
    assert transport.asked == ["pause"]


async def test_a_cut_is_an_error_and_not_an_end(api: FakeApi) -> None:
    api.answer(chunks(b"one\n", b"two\n", OSError()))
    found = []

    async def read(tested: ApiClient) -> None:
        async for part in tested.stream(LOG):
            found.append(part)

    async with client(api.url) as tested:
        with pytest.raises(ConnectError, match="cut in the middle of the answer"):
            await read(tested)
    assert b"".join(found) == b"one\ntwo\n"
    assert len(api.seen) == 1


async def test_a_clean_close_without_the_last_chunk_is_a_cut(api: FakeApi) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        await response.prepare(request)
        await response.write(b"one\n")
        assert request.transport is not None
        request.transport.close()
        return response

    api.answer(handler)
    async with client(api.url) as tested:
        with pytest.raises(ConnectError, match="cut in the middle"):
            await _read(tested)


async def test_silence_has_no_limit_unless_one_is_given(api: FakeApi) -> None:
    api.answer(chunks(b"one\n", 0.6, b"two\n"))
    async with client(api.url, request_timeout_seconds=0.2, connect_timeout_seconds=0.2) as tested:
        assert await _read(tested) == b"one\ntwo\n"
        with pytest.raises(ConnectError, match=r"did not answer within 0\.3 s"):
            await _read(tested, idle_seconds=0.3)


async def test_silence_before_the_answer_has_no_limit_either(api: FakeApi) -> None:
    async def late(request: web.Request) -> web.StreamResponse:
        # A kubelet sends not even headers before the container's first line.
        await asyncio.sleep(0.5)
        return await chunks(b"late\n")(request)

    api.answer(late)
    async with client(api.url, request_timeout_seconds=0.2, connect_timeout_seconds=0.2) as tested:
        assert await _read(tested) == b"late\n"


async def test_only_the_opening_is_tried_again(api: FakeApi) -> None:
    api.answer(reset, status(503), chunks(b"one\n", OSError()))
    async with client(api.url) as tested:
        with pytest.raises(ConnectError):
            await _read(tested)
    # The HTTP library itself repeats a GET once whose connection was cut before an answer.
    assert len(api.seen) in (3, 4)


async def test_a_container_that_waits_is_a_bad_request(api: FakeApi) -> None:
    api.answer(status(400, "BadRequest", 'container "base" in pod "x" is waiting to start: ContainerCreating'))
    async with client(api.url) as tested:
        with pytest.raises(BadRequestError, match="is waiting to start"):
            await _read(tested)


async def test_leaving_early_closes_the_connection(api: FakeApi) -> None:
    api.answer(hangs_after(b"one\n"), ok())
    async with client(api.url) as tested:
        async with contextlib.aclosing(tested.stream(LOG)) as parts:
            assert await parts.__anext__() == b"one\n"
        began = time.monotonic()
        await tested.request("GET", LOG)
    assert time.monotonic() - began < 20
    assert api.seen[0].connection != api.seen[1].connection


async def test_streams_do_not_wait_for_each_other(api: FakeApi) -> None:
    api.answer(hangs_after(b"one\n"))
    async with client(api.url) as tested:
        streams = [tested.stream(LOG) for _ in range(120)]
        assert await asyncio.gather(*(parts.__anext__() for parts in streams)) == [b"one\n"] * 120
        for parts in streams:
            await parts.aclose()


async def test_connections_are_kept_alive(api: FakeApi) -> None:
    api.answer(hangs_after(b"one\n"))
    connector = ClusterConnector(proxy=None, proxy_context=None, keepalive_seconds=1.0)
    import aiohttp

    async with aiohttp.ClientSession(connector=connector) as session, session.get(f"{api.url}{LOG}") as response:
        assert response.connection is not None
        assert response.connection.transport is not None
        sock = response.connection.transport.get_extra_info("socket")
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 30
