"""Container logs in the format of the container runtime interface (CRI), with a kubelet's way of reading them.

A line on disk is `TIME stdout F text`, TIME being RFC 3339 with nanoseconds. A line of the container that is longer
than 16 KiB is stored in pieces tagged `P`, and so is a last line without a newline; each piece has a time of its own.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from kpo_multicluster.testing.interfaces import STDERR, STDOUT
from kpo_multicluster.testing.runtime import descriptors

MAX_PIECE_BYTES: Final = 16 * 1024
TIME_BYTES: Final = 30
_KEPT_FILES: Final = 5
_READ_BYTES: Final = 256 * 1024
# A pipe holds a mebibyte at most. Whoever still writes to it after its container's end is not waited for.
_FULL_PIPE_READS: Final = 8
_NAMES: Final = {STDOUT: b"stdout", STDERR: b"stderr"}


class ContainerLog:
    """The log of one run of a container.

    Args:
        directory: where its files go; it exists.
        name: their common stem.
        max_bytes: when a file has reached this size, the next one is begun, as kubelets do (`containerLogMaxSize`). A
            reader that does not follow sees the newest file only. None: one file.
        clock: nanoseconds since the epoch.
    """

    def __init__(
        self, directory: Path, name: str, *, max_bytes: int | None = None, clock: Callable[[], int] = time.time_ns
    ) -> None:
        self._directory = directory
        self._name = name
        self._max_bytes = max_bytes
        self._clock = clock
        self._rest: dict[int, bytes] = {STDOUT: b"", STDERR: b""}
        self._second = -1
        self._second_text = b""
        self._waiters: set[asyncio.Future[None]] = set()
        self.generation = 0
        self.closed = False
        self._size = 0
        self._fd = self._open()

    def path(self, generation: int) -> Path:
        """The file of one generation; each rotation begins the next."""
        return self._directory / f"{self._name}.{generation}.log"

    def write(self, stream: int, data: bytes) -> None:
        """Stores output as it came from the container, in complete lines and pieces."""
        *lines, rest = (self._rest[stream] + data).split(b"\n")
        stored: list[bytes] = []
        name = _NAMES[stream]
        for line in lines:
            while len(line) > MAX_PIECE_BYTES:
                stored.append(b"%s %s P %s\n" % (self._now(), name, line[:MAX_PIECE_BYTES]))
                line = line[MAX_PIECE_BYTES:]
            stored.append(b"%s %s F %s\n" % (self._now(), name, line[:-1] if line.endswith(b"\r") else line))
        while len(rest) > MAX_PIECE_BYTES:
            stored.append(b"%s %s P %s\n" % (self._now(), name, rest[:MAX_PIECE_BYTES]))
            rest = rest[MAX_PIECE_BYTES:]
        self._rest[stream] = rest
        if stored:
            self._store(b"".join(stored))

    def finish(self, stream: int) -> None:
        """Stores what a stream's end left without a newline."""
        rest, self._rest[stream] = self._rest[stream], b""
        if rest:
            self._store(b"%s %s P %s\n" % (self._now(), _NAMES[stream], rest))

    def close(self) -> None:
        """Ends the log: followers read to its end and stop."""
        if not self.closed:
            self.closed = True
            os.close(self._fd)
            self._notify()

    def remove(self) -> None:
        """Removes its files; a reader that has one open reads on."""
        self.close()
        for generation in range(max(0, self.generation - _KEPT_FILES), self.generation + 1):
            self.path(generation).unlink(missing_ok=True)

    async def changed(self) -> None:
        """Returns at the next write, rotation or close."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        try:
            await waiter
        finally:
            self._waiters.discard(waiter)

    def _now(self) -> bytes:
        second, rest = divmod(self._clock(), 1_000_000_000)
        if second != self._second:
            self._second = second
            self._second_text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)).encode()
        return b"%s.%09dZ" % (self._second_text, rest)

    def _store(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]
        self._size += len(data)
        if self._max_bytes is not None and self._size >= self._max_bytes:
            self._rotate()
        self._notify()

    def _rotate(self) -> None:
        os.close(self._fd)
        self.generation += 1
        self._size = 0
        self._fd = self._open()
        self.path(self.generation - _KEPT_FILES).unlink(missing_ok=True)

    def _open(self) -> int:
        return os.open(self.path(self.generation), os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def _notify(self) -> None:
        waiters, self._waiters = self._waiters, set()
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)


class LogPump:
    """Moves a container's output from its pipes into its log, as it comes.

    Args:
        log: where it goes.
        fds: the non-blocking read ends, by stream; they are closed here.
    """

    def __init__(self, log: ContainerLog, fds: dict[int, int]) -> None:
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._fds = fds
        self.finished: asyncio.Future[None] = self._loop.create_future()
        for stream, fd in fds.items():
            self._loop.add_reader(fd, self._read, stream, fd)

    def stop(self) -> None:
        """Gives up on streams that are still open, but not on what is already in them."""
        for stream, fd in tuple(self._fds.items()):
            for _ in range(_FULL_PIPE_READS):
                if stream not in self._fds or not self._read(stream, fd):
                    break
            if stream in self._fds:
                self._end(stream)

    def _read(self, stream: int, fd: int) -> bool:
        """Takes what there is; whether there was anything."""
        try:
            data = os.read(fd, _READ_BYTES)
        except BlockingIOError:
            return False
        except OSError:
            # A terminal's side of it: EIO once the last process of the other side is gone.
            data = b""
        if data:
            self._log.write(stream, data)
        else:
            self._end(stream)
        return bool(data)

    def _end(self, stream: int) -> None:
        fd = self._fds.pop(stream)
        self._loop.remove_reader(fd)
        descriptors.close(fd)
        self._log.finish(stream)
        if not self._fds:
            self._log.close()
            if not self.finished.done():
                self.finished.set_result(None)
