"""The logs of one pod's containers, followed side by side and read to their end once the containers have ended."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from kpo_multicluster.api.client import ApiClient
from kpo_multicluster.errors import KpoMulticlusterError
from kpo_multicluster.pods.emitted import Notice
from kpo_multicluster.pods.follow import LogFollower
from kpo_multicluster.pods.logs import LogCursor
from kpo_multicluster.pods.monitor import PodMonitor
from kpo_multicluster.pods.patience import Patience
from kpo_multicluster.pods.status import container_names, ended_for_good


class LogFollowers:
    """A follower for each container whose log is wanted.

    Args:
        api: of the cluster.
        monitor: of the pod.
        emit: is awaited with every LogBatch and Notice.
    """

    def __init__(self, api: ApiClient, monitor: PodMonitor, emit: Callable[[Any], Awaitable[None]]) -> None:
        self._api = api
        self._monitor = monitor
        self._emit = emit
        self._patience = Patience(api, self._warn)
        self._running: dict[str, tuple[LogFollower, asyncio.Task[None]]] = {}

    @property
    def cursors(self) -> dict[str, LogCursor]:
        """Where each followed log was left."""
        left = {container: follower.cursor for container, (follower, _) in self._running.items()}
        return {container: cursor for container, cursor in left.items() if cursor is not None}

    def heard_at(self, container: str) -> float | None:
        """When a followed log last gave something, in the loop's time: now where it has more than is taken from it."""
        follower, _ = self._running.get(container, (None, None))
        if follower is None:
            return None
        return asyncio.get_running_loop().time() if follower.held_back else follower.heard_at

    async def follow(self, containers: Iterable[str], cursors: dict[str, LogCursor]) -> None:
        """Begins with the containers that are not followed yet; tells of those that the pod does not have."""
        present = container_names(self._monitor.pod)
        for container in containers:
            if container in self._running:
                continue
            if container not in present:
                await self._warn(
                    f"There is no container {container!r} to read the log of; there are: {sorted(present)}."
                )
                continue
            self._start(container, cursors.get(container))

    async def settle(self, patience_seconds: float) -> None:
        """Lets the followers of ended containers read to the end, as `drain` does; the others go on."""
        for container in list(self._running):
            if ended_for_good(self._monitor.pod, container) or self._monitor.deleted:
                await self._drain(container, patience_seconds)

    async def drain(self, patience_seconds: float) -> None:
        """Lets the followers of ended containers read to the end as long as lines still come, and ends the others.

        Args:
            patience_seconds: how long a log may give nothing before it is followed anew, and then given up.
        """
        monitor = self._monitor
        await self.settle(patience_seconds)
        await self.close()
        for container, (_, task) in self._running.items():
            if not task.cancelled() and task.exception() is not None and not monitor.deleted:
                await self._warn(f"The log of container {container!r} broke off: {task.exception()}")

    async def close(self) -> None:
        """Ends all followers; the cursors stay."""
        ending = [task for _, task in self._running.values()]
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)

    def _start(self, container: str, cursor: LogCursor | None) -> None:
        follower = LogFollower(self._api, self._monitor, container, self._emit, cursor)
        self._running[container] = (follower, asyncio.create_task(follower.run(), name=f"log {container}"))

    async def _drain(self, container: str, patience_seconds: float) -> None:
        reopened = False
        while True:
            follower, task = self._running[container]
            before, given = follower.progress, follower.given
            await asyncio.wait({task}, timeout=patience_seconds)
            if task.done():
                return
            if follower.given != given or follower.held_back:
                reopened = False
            elif follower.progress != before:
                # What was read again is no sign that there will be more.
                continue
            elif reopened or not await self._reopen(container):
                break
            else:
                reopened = True
        await self._warn(
            f"The log of container {container!r} did not end, and gave nothing for {patience_seconds:g} s after "
            "the container ended: its last lines may be missing."
        )

    async def _reopen(self, container: str) -> bool:
        """Follows a silent log anew: its stream may be dead, or wait for a next try; False without a cluster."""
        follower, task = self._running[container]
        before = follower.progress
        try:
            # Answered only when the cluster is there: as long as it is away, no log can be expected.
            await self._patience.insist(self._monitor.look)
        except KpoMulticlusterError:
            return False
        if not task.done() and follower.progress == before and not follower.held_back:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            self._start(container, follower.cursor)
        return True

    async def _warn(self, text: str) -> None:
        await self._emit(Notice("warning", text))
