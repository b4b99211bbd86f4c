"""A cluster whose nodes only note what they are told, and a plain HTTP client for it."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import ssl
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from kpo_multicluster.testing.cluster import EmbeddedCluster
from kpo_multicluster.testing.interfaces import STDERR, STDOUT, ExecSession, LogOptions, NodeStore
from kpo_multicluster.testing.topology import NodeSpec


class FakeExec:
    """Echoes its input to both streams, then exits with 3."""

    def __init__(self, tty: bool) -> None:
        self.tty = tty
        self.killed = False
        self._input: asyncio.Queue[bytes | None] = asyncio.Queue()

    async def read(self) -> AsyncIterator[tuple[int, bytes]]:
        yield STDOUT, b"ready\n"
        while (data := await self._input.get()) is not None:
            yield STDOUT, data
            yield STDERR, data.upper()

    async def write_stdin(self, data: bytes) -> None:
        self._input.put_nowait(data)

    async def close_stdin(self) -> None:
        self._input.put_nowait(None)

    async def wait(self) -> int:
        return 3

    async def kill(self) -> None:
        self.killed = True


@dataclass
class FakeNode:
    """Notes what it is told; its pods do what a test makes of them."""

    store: NodeStore
    spec: NodeSpec
    calls: list[tuple[Any, ...]] = field(default_factory=list)
    removes: bool = True
    log: list[bytes] = field(default_factory=lambda: [b"first\n", b"second\n", b"third\n"])
    sessions: list[FakeExec] = field(default_factory=list)
    closed: bool = False
    log_ended: int = 0

    @property
    def name(self) -> str:
        return self.spec.name

    async def start(self) -> None:
        self.calls.append(("start",))

    async def run_pod(self, pod: dict[str, Any]) -> None:
        self.calls.append(("run", pod["metadata"]["name"]))

    async def update_pod(self, pod: dict[str, Any]) -> None:
        self.calls.append(("update", pod["spec"].get("activeDeadlineSeconds")))

    async def stop_pod(self, pod: dict[str, Any], grace_seconds: float) -> None:
        metadata = pod["metadata"]
        self.calls.append(("stop", metadata["name"], grace_seconds))
        if self.removes:
            await self.store.remove(metadata["namespace"], metadata["name"], metadata["uid"])

    async def read_log(self, uid: str, container: str, options: LogOptions) -> AsyncIterator[bytes]:
        self.calls.append(("log", container, options))
        if options.previous:
            raise LookupError(f'previous terminated container "{container}" in pod "a" not found')
        if container == "lost":
            raise LookupError('pod "a" does not exist')
        try:
            for piece in self.log:
                yield piece
            if options.follow:
                await asyncio.Event().wait()
        finally:
            self.log_ended += 1

    async def exec(self, uid: str, container: str, command: Sequence[str], *, stdin: bool, tty: bool) -> ExecSession:
        self.calls.append(("exec", container, tuple(command), stdin, tty))
        if command[0] == "gone":
            raise LookupError(f'container not found ("{container}")')
        if command[0] == "nope":
            raise FileNotFoundError("nope")
        session = FakeExec(tty)
        self.sessions.append(session)
        return session

    async def close(self) -> None:
        self.closed = True


@dataclass
class Rig:
    """A cluster and its nodes by name."""

    cluster: EmbeddedCluster
    nodes: dict[str, FakeNode]

    @property
    def node(self) -> FakeNode:
        return self.nodes["embedded-node"]


@contextmanager
def rig(**options: Any) -> Iterator[Rig]:
    nodes: dict[str, FakeNode] = {}

    def make_node(store: NodeStore, spec: NodeSpec) -> FakeNode:
        return nodes.setdefault(spec.name, FakeNode(store, spec))

    bookmark_seconds = options.pop("bookmark_seconds", 60.0)
    cluster = EmbeddedCluster(make_node=make_node, **options)
    cluster.bookmark_seconds = bookmark_seconds
    with cluster:
        yield Rig(cluster, nodes)


@dataclass
class Client:
    """A user of a cluster."""

    session: aiohttp.ClientSession

    async def call(
        self, method: str, path: str, body: Any = None, *, type: str = "application/json"
    ) -> tuple[int, Any]:
        data = None if body is None else io.BytesIO(json.dumps(body).encode())
        headers = {"Content-Type": type} if data is not None else {}
        async with self.session.request(method, path, data=data, headers=headers) as answer:
            text = await answer.text()
            is_json = answer.content_type == "application/json" and "watch=" not in path
            return answer.status, json.loads(text) if is_json else text

    async def get(self, path: str) -> Any:
        status, body = await self.call("GET", path)
        assert status == 200, body
        return body

    async def create_pod(self, name: str = "a", **spec: Any) -> dict[str, Any]:
        status, body = await self.call("POST", PODS, pod(name, **spec))
        assert status == 201, body
        return dict(body)

    async def set_phase(self, name: str, phase: str) -> None:
        body = {"status": {"phase": phase}}
        status, answer = await self.call("PATCH", f"{PODS}/{name}/status", body, type=MERGE)
        assert status == 200, answer

    @asynccontextmanager
    async def watch(self, query: str = "", path: str = "") -> AsyncIterator[Events]:
        async with self.session.get(f"{path or PODS}?watch=true&{query}") as answer:
            assert answer.status == 200, await answer.text()
            try:
                yield Events(answer)
            finally:
                hang_up(answer)


@dataclass
class Events:
    """The events of a watch."""

    answer: aiohttp.ClientResponse

    async def next(self) -> dict[str, Any] | None:
        line = await asyncio.wait_for(self.answer.content.readline(), 60)
        return json.loads(line) if line else None

    async def rest(self) -> list[dict[str, Any]]:
        found = []
        while (event := await self.next()) is not None:
            found.append(event)
        return found


# Up to Python 3.10, aiohttp's client does not close the TLS layer of a connection that the server broke off.
broken_connections = pytest.mark.filterwarnings(
    "ignore:unclosed transport <asyncio.sslproto:ResourceWarning" if sys.version_info < (3, 11) else "error"
)

PODS = "/api/v1/namespaces/default/pods"
EVENTS = "/api/v1/namespaces/default/events"
MERGE = "application/merge-patch+json"


def pod(name: str, *, labels: Mapping[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    containers = [{"name": "base", "image": "busybox"}]
    return {"metadata": {"name": name, "labels": dict(labels or {})}, "spec": {"containers": containers, **spec}}


async def eventually(condition: Callable[[], object]) -> None:
    """Waits for what another thread is about to do."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        await asyncio.sleep(0.005)


async def read_all(content: aiohttp.StreamReader) -> bytes:
    """What arrives until the body ends or breaks off."""
    received = bytearray()
    with contextlib.suppress(aiohttp.ClientPayloadError):
        async for chunk in content.iter_any():
            received += chunk
    return bytes(received)


def hang_up(answer: aiohttp.ClientResponse) -> None:
    """Leaves an answer in its middle; a TLS connection that is closed in order would outlive the test."""
    if answer.connection is not None and answer.connection.transport is not None:
        answer.connection.transport.abort()


@asynccontextmanager
async def client_of(cluster: EmbeddedCluster, token: str | None = None) -> AsyncIterator[Client]:
    port = int(cluster.server.rpartition(":")[2])
    before = connected_to(port)
    context = ssl.create_default_context(cadata=cluster.ca_pem)
    headers = {"Authorization": f"Bearer {cluster.token() if token is None else token}"}
    connector = aiohttp.TCPConnector(ssl=context)
    async with aiohttp.ClientSession(cluster.server, connector=connector, headers=headers) as session:
        yield Client(session)
    # A TLS connection says good-bye after its session is closed; the test's loop must not end before.
    await eventually(lambda: connected_to(port) <= before)


def connected_to(port: int) -> set[str]:
    """This machine's open sockets whose other end is a port, as the kernel lists them."""
    sockets = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    # Field 2 is the other end; field 9 is the inode, 0 once no process holds the socket.
    return {fields[1] for fields in sockets if fields[2].endswith(f":{port:04X}") and fields[9] != "0"}


def named(events: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    return [(event["type"], event["object"].get("metadata", {}).get("name", "")) for event in events]
