"""The container runtime of a node: containers are processes of this machine, in namespaces of their own."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import itertools
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from kpo_multicluster.testing.runtime import descriptors, host
from kpo_multicluster.testing.runtime.inside import wire
from kpo_multicluster.testing.runtime.inside.keeper import remove_tree
from kpo_multicluster.testing.runtime.logs import ContainerLog, LogPump
from kpo_multicluster.testing.runtime.processes import DRAIN_SECONDS, Pipes, Process, Session
from kpo_multicluster.testing.runtime.spec import Command, ContainerSpec, encode

_logger = logging.getLogger(__name__)

_BOOT: Final = "import sys; sys.path.insert(0, sys.argv[1]); from inside.keeper import main; main()"
_START_SECONDS: Final = 60.0
_STATUS_BYTES: Final = 16 * 1024
_PIPE_BYTES: Final = 1024 * 1024
_F_SETPIPE_SZ: Final = 1031


class Container:
    """A container that was asked for.

    Attributes:
        process: its first process; everything in it ends with that.
        log: what it says.
        ended: its exit code, once its log is complete.
    """

    def __init__(self, process: Process, log: ContainerLog, pump: LogPump) -> None:
        self.process = process
        self.log = log
        self.ended: asyncio.Task[int] = asyncio.create_task(self._complete(pump))

    @property
    def running(self) -> bool:
        """Whether its command has taken over and not ended."""
        started = self.process.started
        return started.done() and started.exception() is None and not self.process.ended.done()

    async def _complete(self, pump: LogPump) -> int:
        code = await self.process.ended
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.shield(pump.finished), DRAIN_SECONDS)
        pump.stop()
        return code


class LocalRuntime:
    """Runs containers on this machine.

    Args:
        overlay: False gives containers the host's directories read-only instead of copy-on-write, as it happens where
            the kernel refuses overlays (before 5.11, or in a container whose own files are two overlays deep).

    Attributes:
        directory: the node's own; all that is ever written to the host's file system lies in it. Removed by `close`,
            and also when this process is killed.
    """

    def __init__(self, *, overlay: bool = True) -> None:
        self.directory = Path()
        self._overlay = overlay
        self._loop: asyncio.AbstractEventLoop
        self._control: socket.socket | None = None
        self._keeper: subprocess.Popen[bytes] | None = None
        self._gone: asyncio.Future[None]
        self._standing: asyncio.Future[None]
        self._processes: dict[str, Process] = {}
        self._unsent: deque[tuple[bytes, Sequence[int]]] = deque()
        self._containers: set[asyncio.Task[int]] = set()
        self._names = (f"p{number}" for number in itertools.count())

    async def start(self) -> None:
        """Starts the processes that hold the containers.

        Raises:
            ConfigurationError: this machine does not allow it; names the setting and the fix.
        """
        if sys.platform != "linux":
            raise host.not_linux(sys.platform)
        self._loop = asyncio.get_running_loop()
        self._standing = self._loop.create_future()
        self._gone = self._loop.create_future()
        self.directory = Path(tempfile.mkdtemp(prefix="kpo-multicluster-node-"))
        for name in ("root", "pods"):
            (self.directory / name).mkdir()
        errors = os.memfd_create("keeper-errors")
        try:
            self._launch(errors)
            await asyncio.wait_for(asyncio.shield(self._standing), _START_SECONDS)
        except BaseException as error:
            await self.close()
            if isinstance(error, (EOFError, asyncio.TimeoutError)):
                raise host.not_started(os.pread(errors, 4096, 0).decode(errors="replace")) from error
            if isinstance(error, OSError):
                raise host.not_started(str(error)) from error
            raise
        finally:
            os.close(errors)

    def run(self, spec: ContainerSpec, log: ContainerLog) -> Container:
        """Starts a container; its `process` tells how that went.

        Raises:
            ConnectionError: what holds the containers is gone, with all of them; the log is closed.
        """
        if self._control is None:
            log.close()
            raise ConnectionError("the process that holds the containers has ended, and no container can be started")
        pipes = Pipes(stdin=False, tty=spec.command.tty)
        for fd in pipes.outputs.values():
            _widen(fd)
        process = self._start({"do": "run"}, spec, pipes)
        container = Container(process, log, LogPump(log, pipes.outputs))
        self._containers.add(container.ended)
        container.ended.add_done_callback(self._containers.discard)
        return container

    async def exec(self, container: Container, command: Command, *, stdin: bool) -> Session:
        """Runs a command in a running container.

        Raises:
            StartError: it cannot be started; the text is the runtime's.
        """
        pipes = Pipes(stdin=stdin, tty=command.tty)
        process = self._start({"do": "exec", "in": container.process.name}, command, pipes)
        session = Session(process, pipes.outputs, pipes.stdin)
        try:
            await asyncio.shield(process.started)
        except BaseException:
            process.kill()
            session.discard()
            raise
        return session

    async def remove_tree(self, path: Path) -> None:
        """Removes a directory below the node's, whatever containers left in it."""
        if self._control is not None:
            name = next(self._names)
            process = self._processes[name] = Process(name, self._signal)
            self._send({"do": "remove", "id": name, "path": str(path)})
            await asyncio.shield(process.ended)

    async def close(self) -> None:
        """Ends every container at once, and removes all that the runtime made."""
        if self._control is not None:
            # The warden ends with its socket, every container with the warden, and then the keeper clears up.
            with contextlib.suppress(OSError):
                self._control.shutdown(socket.SHUT_RDWR)
            self._drop_control()
        if self._keeper is not None:
            await self._gone
            self._keeper.wait()
            self._keeper = None
        if self.directory.parts:
            # The keeper's work, unless it could not be started, or was killed.
            remove_tree(str(self.directory))
        self.directory = Path()
        if self._containers:
            await asyncio.wait(self._containers)

    def _launch(self, errors: int) -> None:
        ours, theirs = descriptors.socket_pair()
        gone, held = descriptors.pipe()
        config = {
            "control": theirs.fileno(),
            "held": held,
            "directory": str(self.directory),
            "server": os.getpid(),
            "shown": sorted({sys.prefix, sys.base_prefix}),
            "overlay": self._overlay,
        }
        library_path = os.environ.get("LD_LIBRARY_PATH")
        try:
            self._keeper = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _BOOT, str(Path(__file__).parent), json.dumps(config)],
                pass_fds=(theirs.fileno(), held),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                env={"LD_LIBRARY_PATH": library_path} if library_path else {},
                cwd="/",
                start_new_session=True,
            )
        except BaseException:
            ours.close()
            descriptors.close(gone)
            raise
        finally:
            theirs.close()
            descriptors.close(held)
        self._control = ours
        ours.setblocking(False)
        self._loop.add_reader(ours.fileno(), self._receive)
        self._loop.add_reader(gone, self._on_gone, gone)

    def _start(self, message: Mapping[str, Any], spec: ContainerSpec | Command, pipes: Pipes) -> Process:
        name = next(self._names)
        process = self._processes[name] = Process(name, self._signal)
        memory = descriptors.keep(os.memfd_create("container-spec"))
        with open(memory, "wb", closefd=False) as file:
            file.write(encode(spec))
        told, tell = descriptors.pipe()
        os.set_blocking(told, False)
        self._loop.add_reader(told, self._on_told, told, process, bytearray())
        self._send({**message, "id": name}, (memory, tell, *pipes.theirs))
        for fd in (memory, tell):
            descriptors.close(fd)
        pipes.close_theirs()
        return process

    def _on_told(self, fd: int, process: Process, heard: bytearray) -> None:
        data = os.read(fd, _STATUS_BYTES)
        heard += data
        if not data:
            self._loop.remove_reader(fd)
            descriptors.close(fd)
            process.set_started(heard.decode(errors="replace"))

    def _signal(self, name: str, number: int) -> None:
        self._send({"do": "signal", "id": name, "signal": int(number)})

    def _send(self, message: Mapping[str, Any], fds: Sequence[int] = ()) -> None:
        if self._control is None:
            self._fail(message.get("id", ""))
            return
        data = wire.encode(message)
        if not self._unsent:
            try:
                self._control.sendmsg([data], wire.ancillary(fds))
            except BlockingIOError:
                self._loop.add_writer(self._control.fileno(), self._send_rest)
            except OSError:
                return  # the warden is gone; the reader of the socket hears of it
            else:
                return
        self._unsent.append((data, [descriptors.keep(os.dup(fd)) for fd in fds]))

    def _send_rest(self) -> None:
        while self._unsent and self._control is not None:
            data, fds = self._unsent[0]
            try:
                self._control.sendmsg([data], wire.ancillary(fds))
            except BlockingIOError:
                return
            except OSError:
                pass
            self._unsent.popleft()
            for fd in fds:
                descriptors.close(fd)
        if self._control is not None:
            self._loop.remove_writer(self._control.fileno())

    def _receive(self) -> None:
        while self._control is not None:
            try:
                message, _ = wire.receive(self._control)
            except BlockingIOError:
                return
            except OSError:
                message = None
            if message is None:
                self._drop_control()
                return
            self._heard(message)

    def _heard(self, message: Mapping[str, Any]) -> None:
        if "ended" in message:
            process = self._processes.pop(message["ended"], None)
            if process is not None:
                process.set_ended(int(message["status"]))
        elif "failed" in message and not self._standing.done():
            self._standing.set_exception(host.explain(message["failed"]))
        elif "standing" in message and not self._standing.done():
            self._standing.set_result(None)
        elif "fatal" in message:
            _logger.error("The process that holds the containers failed, and they ended with it: %s", message["fatal"])

    def _drop_control(self) -> None:
        if self._control is None:
            return
        self._loop.remove_reader(self._control.fileno())
        self._loop.remove_writer(self._control.fileno())
        self._control.close()
        self._control = None
        while self._unsent:
            for fd in self._unsent.popleft()[1]:
                descriptors.close(fd)
        for name in tuple(self._processes):
            self._fail(name)
        if not self._standing.done():
            self._standing.set_exception(EOFError("the keeper ended"))

    def _fail(self, name: str) -> None:
        process = self._processes.pop(name, None)
        if process is not None:
            process.set_started(f"{errno.ESRCH} the container runtime has ended")
            process.set_ended(-signal.SIGKILL)

    def _on_gone(self, fd: int) -> None:
        self._loop.remove_reader(fd)
        descriptors.close(fd)
        self._gone.set_result(None)


async def check() -> None:
    """Tries for real whether this machine can run containers.

    Raises:
        ConfigurationError: it cannot; names the setting and the fix.
    """
    runtime = LocalRuntime()
    await runtime.start()
    await runtime.close()


def _widen(fd: int) -> None:
    """Lets a container write ahead of a busy event loop, as far as the kernel allows this user."""
    with contextlib.suppress(OSError):
        fcntl.fcntl(fd, _F_SETPIPE_SZ, _PIPE_BYTES)
