"""A cluster whose kubelet is the test: it reports what it is told to, when it is told to, and nothing else."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any, NoReturn

from kpo_multicluster.api.client import ApiClient
from kpo_multicluster.auth.access import ClusterAccess, static_token
from kpo_multicluster.pods.submission import delete_pod
from kpo_multicluster.testing.cluster import EmbeddedCluster
from kpo_multicluster.testing.interfaces import LogOptions, NodeStore
from kpo_multicluster.testing.topology import NodeSpec

Pod = dict[str, Any]
Script = Callable[["ScriptedNode", Pod], Awaitable[None]]


_IMAGE = {"image": "img:1", "imageID": "img"}


def now(later_seconds: float = 0.0) -> str:
    """As the API tells times: in whole seconds."""
    return (datetime.now(timezone.utc) + timedelta(seconds=later_seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def running() -> Pod:
    return {"running": {"startedAt": now()}}


def terminated(code: int = 0, *, at: str | None = None) -> Pod:
    return {
        "terminated": {"exitCode": code, "reason": "Completed" if code == 0 else "Error", "finishedAt": at or now()}
    }


def waiting(reason: str, message: str = "") -> Pod:
    return {"waiting": {"reason": reason, "message": message}}


class ScriptedNode:
    """Does with a pod what a script says, on the cluster's event loop.

    Attributes:
        cluster: whose node it is.
        streams: of the log, opened so far.
    """

    def __init__(self, store: NodeStore, name: str, script: Script) -> None:
        self._store = store
        self._name = name
        self._script = script
        self._tasks: list[asyncio.Future[None]] = []
        self._states: dict[str, Pod] = {}
        # Each with its end, which only a piece of a line lacks.
        self._lines: list[tuple[int, str]] = []
        self._written = asyncio.Condition()
        self._files = [0]
        # How much was written when the streams of that time were ended.
        self._closed: list[int] = []
        self.cluster: EmbeddedCluster | None = None
        self.streams = 0

    @property
    def name(self) -> str:
        return self._name

    # -- what a script calls -----------------------------------------------------------------------------------------

    async def report(self, pod: Pod, phase: str = "Running", *, conditions: Sequence[Pod] = (), **states: Pod) -> None:
        """Sets the states of containers; the others keep theirs."""
        self._states.update(states)
        statuses = [
            {"name": name.replace("_", "-"), **_IMAGE, "ready": "running" in state, "restartCount": 0, "state": state}
            for name, state in self._states.items()
        ]
        status = {"phase": phase, "containerStatuses": statuses, "conditions": list(conditions)}
        metadata = pod["metadata"]
        await self._store.set_status(metadata["namespace"], metadata["name"], metadata["uid"], status)

    async def write(self, *lines: str) -> None:
        """Adds to the log."""
        async with self._written:
            self._lines += [(time.time_ns(), f"{line}\n") for line in lines]
            self._written.notify_all()

    async def rotate(self, *, torn: str = "") -> None:
        """Begins a new file: what is in the old one reaches only the streams that are open, and nothing new does.

        Args:
            torn: the first piece of a line, with which the old file ends; what is written next is the rest.
        """
        async with self._written:
            if torn:
                self._lines.append((time.time_ns(), torn))
            self._files.append(len(self._lines))
            self._written.notify_all()

    async def close_streams(self) -> None:
        """Ends the log streams that are open, cleanly, with what was written so far."""
        async with self._written:
            self._closed.append(len(self._lines))
            self._written.notify_all()

    async def opened(self, streams: int) -> None:
        """Waits until so many streams of the log were opened."""
        async with self._written:
            await self._written.wait_for(lambda: self.streams >= streams)

    async def delete(self, pod: Pod) -> None:
        """Asks for the pod's deletion, with a second of grace, as someone else would."""
        assert self.cluster is not None
        tokens = static_token(self.cluster.token(), source="the test")
        async with ApiClient(ClusterAccess(self.cluster.server, "the test", self.cluster.ca_pem, tokens)) as api:
            await delete_pod(api, pod, grace_seconds=1)

    # -- what the API server calls -----------------------------------------------------------------------------------

    async def start(self) -> None:
        """Nothing: there is nothing behind it."""

    async def run_pod(self, pod: Pod) -> None:
        self._tasks.append(asyncio.ensure_future(self._script(self, pod)))

    async def update_pod(self, pod: Pod) -> None:
        """Nothing."""

    async def stop_pod(self, pod: Pod, grace_seconds: float) -> None:
        """Nothing: whether it ends is up to the script."""

    async def read_log(self, uid: str, container: str, options: LogOptions) -> AsyncIterator[bytes]:
        since = 0
        if options.since_time is not None:
            since = int(datetime.fromisoformat(options.since_time.replace("Z", "+00:00")).timestamp()) * 10**9
        async with self._written:
            self.streams += 1
            self._written.notify_all()
        file, closed = len(self._files), len(self._closed)
        given = self._files[-1]
        if options.tail_lines is not None:
            given = max(given, len(self._lines) - options.tail_lines)

        def end() -> int:
            """Of what this stream is served."""
            return min((*self._files[file:], *self._closed[closed:], len(self._lines)))

        def has_more() -> bool:
            return end() > given or len(self._closed) > closed

        while True:
            while given < end():
                stamp, line = self._lines[given]
                given += 1
                if stamp >= since:
                    yield f"{_rfc3339(stamp)} {line}".encode()
            if not options.follow or "terminated" in self._states.get(container, {}) or len(self._closed) > closed:
                return
            async with self._written:
                await self._written.wait_for(has_more)

    async def exec(self, uid: str, container: str, command: Sequence[str], *, stdin: bool, tty: bool) -> NoReturn:
        raise LookupError("nothing runs here")

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        results = await asyncio.gather(*self._tasks, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception):
                raise result


def scripted_cluster(script: Script) -> EmbeddedCluster:
    """A cluster of one node, whose pods all follow the script."""

    def make_node(store: NodeStore, spec: NodeSpec) -> ScriptedNode:
        node = ScriptedNode(store, spec.name, script)
        node.cluster = cluster
        return node

    cluster = EmbeddedCluster("scripted", make_node=make_node)
    return cluster


def _rfc3339(stamp: int) -> str:
    seconds, fraction = divmod(stamp, 10**9)
    return f"{datetime.fromtimestamp(seconds, timezone.utc):%Y-%m-%dT%H:%M:%S}.{fraction:09d}Z"
