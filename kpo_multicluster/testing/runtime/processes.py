"""The server's side of a process in a container: what it has said, whether it runs, how it ended."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from typing import Final

from kpo_multicluster.testing.interfaces import STDERR, STDOUT
from kpo_multicluster.testing.runtime import descriptors

_READ_BYTES: Final = 64 * 1024
_SIGNAL_BASE: Final = 128
# Output that is still in the pipes when the first process ends arrives at once; a descriptor smuggled out does not.
DRAIN_SECONDS: Final = 2.0


class StartError(Exception):
    """A container or command could not be started.

    Args:
        text: the runtime's.
        number: errno; 0 when there is none.
    """

    def __init__(self, text: str, number: int = 0) -> None:
        super().__init__(text)
        self.number = number


class Process:
    """A process that was asked for.

    Args:
        name: the id under which its warden knows it.
        send_signal: how to reach it.

    Attributes:
        started: done when the command has taken over; fails with `StartError`.
        ended: the exit code, 128 + N for an end by signal N.
    """

    def __init__(self, name: str, send_signal: Callable[[str, int], None]) -> None:
        loop = asyncio.get_running_loop()
        self.name = name
        self.started: asyncio.Future[None] = loop.create_future()
        self.ended: asyncio.Future[int] = loop.create_future()
        self._send_signal = send_signal

    def signal(self, number: int) -> None:
        """Sends a signal; harmless when the process has ended."""
        if not self.ended.done():
            self._send_signal(self.name, number)

    def kill(self) -> None:
        """Ends it, and if it is a container's first process, all others of the container."""
        self.signal(signal.SIGKILL)

    def set_started(self, failure: str) -> None:
        """Records that the command has taken over, or why it did not, as errno and text."""
        if self.started.done():
            return
        if failure:
            number, _, text = failure.partition(" ")
            self.started.set_exception(StartError(text, int(number)))
            # Read by whoever waits for the start; nobody has to.
            self.started.exception()
        else:
            self.started.set_result(None)

    def set_ended(self, status: int) -> None:
        """Records the end; a negative status is a signal's number."""
        if not self.ended.done():
            self.ended.set_result(status if status >= 0 else _SIGNAL_BASE - status)


class Session:
    """A command running in a container: an `ExecSession`.

    Args:
        process: the command's.
        outputs: non-blocking descriptors to read from, by stream.
        stdin: non-blocking descriptor to write to; None when the command has no input.
    """

    def __init__(self, process: Process, outputs: dict[int, int], stdin: int | None) -> None:
        self._process = process
        self._outputs = outputs
        self._stdin = stdin
        self._loop = asyncio.get_running_loop()
        process.ended.add_done_callback(lambda _: self._close_stdin())

    async def read(self) -> AsyncIterator[tuple[int, bytes]]:
        """Output as it comes, as (`STDOUT` or `STDERR`, bytes); ends once both are closed."""
        try:
            while self._outputs:
                await self._readable()
                for stream in sorted(self._outputs):
                    data = self._read(stream)
                    if data:
                        yield stream, data
        finally:
            for stream in tuple(self._outputs):
                descriptors.close(self._outputs.pop(stream))

    async def write_stdin(self, data: bytes) -> None:
        """Gives the command input; a command that closed its stdin takes it silently."""
        view = memoryview(data)
        while view and self._stdin is not None:
            try:
                view = view[os.write(self._stdin, view) :]
            except BlockingIOError:
                await self._writable(self._stdin)
            except OSError:
                self._close_stdin()

    async def close_stdin(self) -> None:
        """Ends the command's input."""
        self._close_stdin()

    async def wait(self) -> int:
        """The exit code; 128 + N for a command ended by signal N."""
        return await asyncio.shield(self._process.ended)

    async def kill(self) -> None:
        """Ends the command at once; harmless when it has ended."""
        self._process.kill()

    def discard(self) -> None:
        """Closes everything unread."""
        self._close_stdin()
        for stream in tuple(self._outputs):
            descriptors.close(self._outputs.pop(stream))

    def _read(self, stream: int) -> bytes:
        try:
            data = os.read(self._outputs[stream], _READ_BYTES)
        except BlockingIOError:
            return b""
        except OSError:
            data = b""  # a terminal's end
        if not data:
            descriptors.close(self._outputs.pop(stream))
        return data

    async def _readable(self) -> None:
        ready: asyncio.Future[None] = self._loop.create_future()
        fds = tuple(self._outputs.values())
        for fd in fds:
            self._loop.add_reader(fd, _wake, ready)
        try:
            await ready
        finally:
            for fd in fds:
                self._loop.remove_reader(fd)

    async def _writable(self, fd: int) -> None:
        ready: asyncio.Future[None] = self._loop.create_future()
        self._loop.add_writer(fd, _wake, ready)
        self._process.ended.add_done_callback(lambda _: _wake(ready))
        try:
            await ready
        finally:
            self._loop.remove_writer(fd)

    def _close_stdin(self) -> None:
        if self._stdin is not None:
            fd, self._stdin = self._stdin, None
            self._loop.remove_writer(fd)
            descriptors.close(fd)


class Pipes:
    """The pipes, or the terminal, between a process and the server.

    Args:
        stdin: whether the process gets input; otherwise it reads the null device.
        tty: one terminal in place of pipes.

    Attributes:
        theirs: the process's stdin, stdout and stderr.
        outputs: the server's ends to read, by stream.
        stdin: the server's end to write, if there is one.
    """

    def __init__(self, *, stdin: bool, tty: bool) -> None:
        self.theirs: list[int] = []
        self.outputs: dict[int, int] = {}
        self.stdin: int | None = None
        if tty:
            ours, theirs = map(descriptors.keep, os.openpty())
            self.theirs = [theirs, descriptors.keep(os.dup(theirs)), descriptors.keep(os.dup(theirs))]
            self.outputs[STDOUT] = ours
            self.stdin = descriptors.keep(os.dup(ours)) if stdin else None
        else:
            if stdin:
                reader, self.stdin = descriptors.pipe()
            else:
                reader = descriptors.keep(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
            self.theirs = [reader]
            for stream in (STDOUT, STDERR):
                self.outputs[stream], writer = descriptors.pipe()
                self.theirs.append(writer)
        for fd in (*self.outputs.values(), *([self.stdin] if self.stdin is not None else [])):
            os.set_blocking(fd, False)

    def close_theirs(self) -> None:
        """Closes the process's ends here, once it has them."""
        for fd in self.theirs:
            descriptors.close(fd)
        self.theirs = []


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
