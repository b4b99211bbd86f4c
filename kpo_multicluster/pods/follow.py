"""Follows the log of one container across stream cuts and restarts, until the container has ended for good.

The log never decides that a run is over: it is followed beside the watch, and given a few seconds to drain once the
watch has seen the container end.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NamedTuple

from kpo_multicluster.api.client import ApiClient
from kpo_multicluster.errors import ApiError, BadRequestError, ConnectError, ForbiddenError, NotFoundError
from kpo_multicluster.pods.logs import LogCursor, LogLine, LogReader
from kpo_multicluster.pods.monitor import PodMonitor
from kpo_multicluster.pods.resources import pod_path
from kpo_multicluster.pods.status import Pod, container_status, ended_for_good, has_started, is_running

# A stream that breaks at once, again and again, is reopened no faster than this.
_REOPEN_SECONDS = 0.5


class LogBatch(NamedTuple):
    """Lines of one container that arrived together."""

    container: str
    lines: list[LogLine]


class Notice(NamedTuple):
    """Something the user should know about the run."""

    level: str
    text: str


Sink = Callable[[LogBatch | Notice], Awaitable[None]]


class LogFollower:
    """Follows one container.

    Args:
        api: of the cluster.
        monitor: of the pod.
        container: whose log to follow.
        sink: is awaited with every batch, which holds the stream back when it is slow.
        cursor: where an earlier follower of the same container was.
    """

    def __init__(
        self, api: ApiClient, monitor: PodMonitor, container: str, sink: Sink, cursor: LogCursor | None = None
    ) -> None:
        self.container = container
        self._api = api
        self._monitor = monitor
        self._sink = sink
        self._reader = LogReader(cursor)

    @property
    def cursor(self) -> LogCursor | None:
        """Where a later follower would go on."""
        return self._reader.cursor

    async def run(self) -> None:
        """Returns when the container's last log line was given to the sink, or the pod is gone.

        Raises:
            KpoMulticlusterError: the pod can no longer be observed.
        """
        finished_restart = -1
        while True:
            await self._monitor.wait(lambda pod: self._has_new_log(pod, finished_restart))
            if not has_started(self._monitor.pod, self.container):
                return
            over = ended_for_good(self._monitor.pod, self.container) or self._monitor.deleted
            restart = self._restart_count()
            complete = await self._stream(restart)
            if complete is None:
                return
            if complete and not self._still_writing(restart):
                await self._give(self._reader.end())
                finished_restart = restart
            elif over and not complete and self._monitor.deleted:
                return
            if complete and over:
                return

    def _has_new_log(self, pod: Pod, finished_restart: int) -> bool:
        if ended_for_good(pod, self.container):
            return True
        return has_started(pod, self.container) and self._restart_count() > finished_restart

    def _restart_count(self) -> int:
        status = container_status(self._monitor.pod, self.container)
        return int(status.get("restartCount") or 0) if status else 0

    def _still_writing(self, restart: int) -> bool:
        return is_running(self._monitor.pod, self.container) and self._restart_count() == restart

    async def _stream(self, restart: int) -> bool | None:
        """Reads one stream to its end: True if it ended cleanly, False if it was cut, None if there is no log to have."""
        params: dict[str, Any] = {"container": self.container, **self._reader.resume(restart)}
        started = asyncio.get_running_loop().time()
        try:
            chunks: AsyncIterator[bytes] = self._api.stream(pod_path(self._monitor.pod, "log"), params=params)
            async with contextlib.aclosing(chunks):  # type: ignore[type-var]
                async for chunk in chunks:
                    await self._give(self._reader.feed(chunk))
        except NotFoundError:
            return None
        except ForbiddenError as error:
            await self._sink(
                Notice("warning", f"The log of container {self.container!r} cannot be read: {error}. Grant 'get' on pods/log.")
            )
            return None
        except (BadRequestError, ConnectError, ApiError):
            # Not started yet as the kubelet sees it, a cut, or a kubelet that is away: the watch tells if it is over.
            await self._pause(started)
            return False
        if self._still_writing(restart):
            # The log of a running container does not end; the kubelet closes the stream a moment before the status
            # shows the end, so wait for that rather than ask for the same lines again.
            await self._monitor.next_change(_REOPEN_SECONDS)
        return True

    async def _pause(self, started: float) -> None:
        left = _REOPEN_SECONDS - (asyncio.get_running_loop().time() - started)
        if left > 0:
            await self._monitor.next_change(left)

    async def _give(self, lines: list[LogLine]) -> None:
        if lines:
            await self._sink(LogBatch(self.container, lines))
        if self._reader.notice:
            notice, self._reader.notice = self._reader.notice, None
            await self._sink(Notice("warning", notice))
