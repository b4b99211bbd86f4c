"""Follows the log of one container across stream cuts and restarts, until the container has ended for good.

The log never decides that a run is over: it is followed beside the watch, and given a few seconds to drain once the
watch has seen the container end.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from enum import Enum
from typing import Any

from kpo_multicluster.api.client import ApiClient
from kpo_multicluster.errors import (
    ApiError,
    BadRequestError,
    ConnectError,
    CredentialError,
    ForbiddenError,
    KpoMulticlusterError,
    NotFoundError,
)
from kpo_multicluster.pods.emitted import LogBatch, Notice
from kpo_multicluster.pods.logs import LogCursor, LogLine, LogReader
from kpo_multicluster.pods.monitor import PodMonitor
from kpo_multicluster.pods.resources import pod_path
from kpo_multicluster.pods.status import (
    Pod,
    container_status,
    ended_for_good,
    finished_at,
    has_started,
    is_running,
    may_restart,
)

# A stream that breaks at once, again and again, is reopened no faster than this.
_REOPEN_SECONDS = 0.5
_REOPEN_LIMIT_SECONDS = 10.0
_STATUS_LAG_SECONDS = 2.0
# The longer a stream is open, the likelier is its end that of a server which is being replaced; and the less does one
# request more, to be sure that it was the container's, weigh.
_LONG_STREAM_SECONDS = 60.0
# A kubelet that lags behind as a log is rotated reads the old file to its end and does not notice the next: the stream
# falls silent, and ends with the container as if that had been all. It rotates at 10 MiB, unless told otherwise.
_ROTATED_BYTES = 2**20
_SILENT_SECONDS = 5.0


class _End(Enum):
    CLEAN = "the log ended"
    CUT = "the stream broke, or there is no log yet"
    NONE = "there is no log to be had"


Sink = Callable[[LogBatch | Notice], Awaitable[None]]


class _Parts:
    """The parts of a stream; one may be waited for in vain, and still is the next."""

    def __init__(self, stream: AsyncGenerator[bytes, None]) -> None:
        self._stream = stream
        self._coming: asyncio.Task[bytes] | None = None

    async def comes(self, *, within_seconds: float) -> bool:
        """Whether the next part, or the end, comes soon."""
        if self._coming is None:
            self._coming = asyncio.create_task(self._part())
        await asyncio.wait({self._coming}, timeout=within_seconds)
        return self._coming.done()

    async def next(self) -> bytes:
        """The next part, empty at the end."""
        coming, self._coming = self._coming, None
        return await (self._part() if coming is None else coming)

    async def aclose(self) -> None:
        """Ends the stream."""
        if self._coming is not None:
            self._coming.cancel()
            await asyncio.gather(self._coming, return_exceptions=True)
        await self._stream.aclose()

    async def _part(self) -> bytes:
        return await anext(self._stream, b"")


class LogFollower:
    """Follows one container.

    Args:
        api: of the cluster.
        monitor: of the pod.
        container: whose log to follow.
        sink: is awaited with every batch, which holds the stream back when it is slow.
        cursor: where an earlier follower of the same container was.

    Attributes:
        progress: chunks read so far.
        given: lines given to the sink so far.
        heard_at: time of the loop at which the last was read; None before the first.
        held_back: whether it waits for a slow sink.
    """

    def __init__(
        self, api: ApiClient, monitor: PodMonitor, container: str, sink: Sink, cursor: LogCursor | None = None
    ) -> None:
        self.container = container
        self._api = api
        self._monitor = monitor
        self._sink = sink
        self._reader = LogReader(cursor)
        self._given = cursor
        # The last restart read to its end, and the last whose predecessor is known to have been.
        self._finished = -1
        self._refusals = 0
        self._settled = cursor.restart if cursor else -1
        self.progress = 0
        self.given = 0
        self.heard_at: float | None = None
        self.held_back = False

    @property
    def cursor(self) -> LogCursor | None:
        """Where a later follower would go on: after the last line that the sink took."""
        return self._given

    async def run(self) -> None:
        """Returns when the container's last log line was given to the sink, or there is no log to be had.

        Raises:
            KpoMulticlusterError: the pod can no longer be observed.
        """
        while True:
            await self._monitor.wait(self._has_more)
            restart = self._restart_count()
            if restart == self._finished or not has_started(self._monitor.pod, self.container):
                return
            if restart > max(self._settled, 0):
                await self._read_previous(restart - 1)
            self._settled = restart
            end = await self._stream(restart)
            if end is _End.NONE or (end is _End.CUT and self._monitor.deleted):
                return
            if end is _End.CLEAN and not self._still_writing(restart):
                await self._give(self._reader.end())
                self._finished = restart
            elif may_restart(self._monitor.pod, self.container):
                await self._catch_up()
            if self._finished == self._restart_count() and self._over():
                return

    async def _read_previous(self, restart: int) -> None:
        """Reads what was not yet read of the run before a restart.

        The status lags behind the kubelet: what was read as that run's log may have been the next one's already.
        """
        reader, cursor = self._reader, self._reader.cursor
        known = cursor is not None and cursor.restart == restart
        if known and reader.first is not None:
            known = await self._first_of_previous() == reader.first
        if not known:
            self._reader = LogReader()
        if self._finished < restart or not known:
            while await self._stream(restart, previous=True) is _End.CUT and not self._monitor.deleted:
                pass
            await self._give(self._reader.end())
        if not known:
            reader.belongs_to(restart + 1)
            self._reader = reader
        self._finished = restart

    async def _first_of_previous(self) -> int | None:
        """The timestamp of the first line of the run before the last restart; None if it cannot be told."""
        params = {"container": self.container, "timestamps": "true", "previous": "true"}
        reader = LogReader()
        with contextlib.suppress(ApiError, ConnectError):
            async with contextlib.aclosing(self._log(params)) as log:
                async for chunk in log:
                    if lines := reader.feed(chunk):
                        return lines[0].timestamp
        return reader.first

    async def _catch_up(self) -> None:
        """After a cut: the container may have been restarted meanwhile, and the watch be behind."""
        with contextlib.suppress(KpoMulticlusterError):
            await self._monitor.look()

    def _has_more(self, pod: Pod) -> bool:
        return self._over() or (has_started(pod, self.container) and self._restart_count() > self._finished)

    def _over(self) -> bool:
        return self._monitor.deleted or ended_for_good(self._monitor.pod, self.container)

    def _restart_count(self) -> int:
        status = container_status(self._monitor.pod, self.container)
        return int(status.get("restartCount") or 0) if status else 0

    def _still_writing(self, restart: int) -> bool:
        running = is_running(self._monitor.pod, self.container)
        return running and self._restart_count() == restart and not self._monitor.deleted

    async def _stream(self, restart: int, *, previous: bool = False) -> _End:
        """Reads one stream to its end."""
        params = self._params(restart, previous=previous)
        loop = asyncio.get_running_loop()
        opened = loop.time()
        try:
            async with contextlib.aclosing(_Parts(self._log(params))) as parts:
                whole = await self._read(parts, previous=previous)
            if not whole:
                return _End.CUT
        except NotFoundError:
            return _End.NONE
        except ForbiddenError as error:
            text = f"The log of container {self.container!r} cannot be read: {error}. Grant the verb 'get' on pods/log."
            await self._sink(Notice("warning", text))
            return _End.NONE
        except BadRequestError:
            # Not started as the kubelet sees it; if it has ended all the same, it left no log.
            if previous or self._over():
                return _End.NONE
            await self._pause(opened)
            return _End.CUT
        except ConnectError:
            await self._pause(opened)
            return _End.CUT
        except (ApiError, CredentialError):
            self._refusals += 1
            await self._pause(opened)
            return _End.CUT
        return await self._closed(restart, long=loop.time() - opened >= _LONG_STREAM_SECONDS)

    def _log(self, params: Mapping[str, Any]) -> AsyncGenerator[bytes, None]:
        return self._api.stream(pod_path(self._monitor.pod, "log"), params=params)

    async def _read(self, parts: _Parts, *, previous: bool) -> bool:
        """Gives a stream's lines to the sink, until it ends; False if the log is known to have more."""
        # What it gave since it was last known to be of the present file.
        unchecked = 0
        while True:
            if unchecked >= _ROTATED_BYTES and not await parts.comes(within_seconds=_SILENT_SECONDS):
                if await self._has_newer(previous=previous):
                    self._reader.file_ended(surely=False)
                    return False
                unchecked = 0
            chunk = await parts.next()
            if not chunk:
                if unchecked < _ROTATED_BYTES or not await self._has_newer(previous=previous):
                    return True
                self._reader.file_ended(surely=True)
                return False
            self.progress += 1
            self.heard_at = asyncio.get_running_loop().time()
            self._refusals = 0
            given = self.given
            await self._give(self._reader.feed(chunk))
            # What is only read again is no sign of a rotation.
            unchecked += len(chunk) if self.given > given else 0

    async def _has_newer(self, *, previous: bool) -> bool:
        """Whether the log, as the kubelet has it now, ends with another line than the last that was read."""
        params = {"container": self.container, "timestamps": "true", "tailLines": "1"}
        if previous:
            params["previous"] = "true"
        reader, lines = LogReader(), []
        async with contextlib.aclosing(self._log(params)) as chunks:
            async for chunk in chunks:
                lines += reader.feed(chunk)
        lines += reader.end()
        cursor = self._reader.cursor
        return cursor is None or not lines or lines[-1].timestamp != cursor.last

    def _params(self, restart: int, *, previous: bool) -> dict[str, Any]:
        params = {"container": self.container, **self._reader.resume(restart)}
        if previous:
            params.update(previous="true", follow="false")
        elif self._over():
            # A log that is followed comes line by line, which costs everyone on its way more.
            params["follow"] = "false"
        return params

    async def _closed(self, restart: int, *, long: bool) -> _End:
        """What the clean end of a stream means: the end of the log, or no more than that of the stream.

        Args:
            restart: of the container, at the stream's beginning.
            long: whether the stream was open for long.
        """
        closed_at = time.time()
        if self._still_writing(restart):
            # The kubelet closes the stream a moment before the status shows the end: wait for that rather than ask
            # for the same lines again. If it does not come, something between closed the stream: resume.
            await self._monitor.wait(lambda _: not self._still_writing(restart), timeout_seconds=_STATUS_LAG_SECONDS)
            if long or self._ended_after(closed_at, restart):
                return _End.CUT
        return _End.CLEAN

    def _ended_after(self, closed_at: float, restart: int) -> bool:
        """Whether the container went on after its stream was closed: something between closed it, not the kubelet.

        The container's end is known to the second; one within the same second is taken for the kubelet's closing.
        """
        ended_at = finished_at(self._monitor.pod, self.container, restart)
        return ended_at is not None and ended_at > closed_at

    async def _pause(self, opened: float) -> None:
        seconds = min(_REOPEN_SECONDS * 2**self._refusals, _REOPEN_LIMIT_SECONDS)
        left = seconds - (asyncio.get_running_loop().time() - opened)
        if left > 0:
            await asyncio.sleep(left)

    async def _give(self, lines: list[LogLine]) -> None:
        if lines:
            self.held_back = True
            await self._sink(LogBatch(self.container, lines))
            self.held_back = False
            self.given += len(lines)
            self._given = self._reader.cursor
        if self._reader.notice:
            notice, self._reader.notice = self._reader.notice, None
            await self._sink(Notice("warning", notice))
