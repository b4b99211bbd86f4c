"""The relay under TLS in TLS: both ways, no faster than the slower side, and never half closed."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from kpo_multicluster.api.relay import relay_socket

from .cases import payload


@dataclass
class Line:
    """A relay's socket, the server's end of the connection that carries it, and the relays that are open."""

    near: socket.socket
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    relays: set[asyncio.Future[None]]


@pytest.fixture
async def line() -> AsyncIterator[Line]:
    loop = asyncio.get_running_loop()
    accepted: asyncio.Future[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = loop.create_future()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.set_result((reader, writer))

    server = await asyncio.start_server(accept, "127.0.0.1", 0, limit=1024)
    outer, _ = await loop.create_connection(asyncio.Protocol, *server.sockets[0].getsockname())
    relays: set[asyncio.Future[None]] = set()
    near = await relay_socket(outer, relays)
    opened = Line(near, *await accepted, relays)
    yield opened
    near.close()
    opened.writer.close()
    if relays:
        await asyncio.wait(relays)
    server.close()
    await server.wait_closed()


async def test_both_ways(line: Line) -> None:
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(line.near, b"there")
    assert await line.reader.readexactly(5) == b"there"
    line.writer.write(b"back")
    assert await loop.sock_recv(line.near, 100) == b"back"


async def test_a_reader_that_stops_stops_the_writer(line: Line) -> None:
    loop = asyncio.get_running_loop()
    text = payload(2**20) * 32
    sending = asyncio.create_task(loop.sock_sendall(line.near, text))
    done, _ = await asyncio.wait([sending], timeout=0.3)
    assert not done, "32 MB were taken in for a peer that reads nothing"
    assert await line.reader.readexactly(len(text)) == text
    await sending


async def test_the_end_arrives_after_all_that_was_sent(line: Line) -> None:
    loop = asyncio.get_running_loop()
    text = payload(4 * 2**20)
    line.writer.write(text)
    line.writer.close()
    received = bytearray()
    while part := await loop.sock_recv(line.near, 65_536):
        received += part
    assert received == text
    await asyncio.gather(*line.relays)
    assert not line.relays


async def test_closing_the_socket_closes_what_carries_it(line: Line) -> None:
    line.near.close()
    await asyncio.gather(*line.relays)
    with contextlib.suppress(ConnectionResetError):
        assert await line.reader.read() == b""
    assert not line.relays
