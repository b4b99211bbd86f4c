"""The process that starts containers and tells of their ends: process 1 of the node's PID namespace."""

from __future__ import annotations

import errno
import json
import os
import select
import signal
import socket
from collections.abc import Callable, Mapping
from typing import Any, Final, NoReturn

from . import container, rootfs, syscalls, wire

_JOINED: Final = ("mnt", "ipc", "uts")


class Warden:
    """The processes started here, by the ids that the server gave them.

    Attributes:
        pids: of running containers and commands, by id.
    """

    def __init__(self, control: socket.socket, tree: rootfs.HostTree, scratch: str) -> None:
        self._control = control
        self._tree = tree
        self._scratch = scratch
        self._ids: dict[int, str] = {}
        self._all_ids = _has_all_ids()
        self._own_pid_namespace = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        self.pids: dict[str, int] = {}

    def handle(self, message: Mapping[str, Any], fds: list[int]) -> None:
        """Does what one message asks."""
        kind = message["do"]
        if kind == "signal":
            pid = self.pids.get(message["id"])
            if pid is not None:
                os.kill(pid, message["signal"])
        elif kind == "remove":
            self._start(message["id"], lambda: _remove(message["path"]))
        elif kind == "run":
            self._run(message, fds)
        elif kind == "exec":
            self._exec(message, fds)

    def reap(self) -> None:
        """Reports every child that has ended."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            name = self._ids.pop(pid, None)
            if name is not None:
                del self.pids[name]
                wire.send(self._control, {"ended": name, "status": os.waitstatus_to_exitcode(status)})

    def _run(self, message: Mapping[str, Any], fds: list[int]) -> None:
        def body() -> NoReturn:
            spec = _take_over(fds)
            container.become_container(spec, self._tree, self._scratch, all_ids=self._all_ids)

        try:
            # The namespace is that of the next child; the one after belongs here again.
            syscalls.unshare(syscalls.CLONE_NEWPID)
            self._start(message["id"], lambda: _told(fds[1], body))
        except OSError as error:
            self._refuse(message["id"], fds[1], f"fork: {os.strerror(error.errno or 0).lower()}", error.errno or 0)
        finally:
            syscalls.setns(self._own_pid_namespace, syscalls.CLONE_NEWPID)

    def _exec(self, message: Mapping[str, Any], fds: list[int]) -> None:
        target = self.pids.get(message["in"])
        try:
            namespace = os.open(f"/proc/{target}/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._refuse(message["id"], fds[1], "container is not running", errno.ESRCH)
            return

        def body() -> NoReturn:
            spec = _take_over(fds)
            spec["joined"] = _join(f"/proc/{target}/ns")
            os.setsid()
            if spec["tty"]:
                container.take_terminal()
            container.become_command(spec, all_ids=self._all_ids)

        try:
            syscalls.setns(namespace, syscalls.CLONE_NEWPID)
            self._start(message["id"], lambda: _told(fds[1], body))
        except OSError:
            # The container's first process has just ended, and its namespace takes no new ones.
            self._refuse(message["id"], fds[1], "container is not running", errno.ESRCH)
        finally:
            os.close(namespace)
            syscalls.setns(self._own_pid_namespace, syscalls.CLONE_NEWPID)

    def _refuse(self, name: str, status: int, text: str, number: int) -> None:
        os.write(status, f"{number} {text}".encode())
        wire.send(self._control, {"ended": name, "status": 1})

    def _start(self, name: str, body: Callable[[], None]) -> None:
        pid = os.fork()
        if not pid:
            try:
                body()
            finally:
                os._exit(1)
        self._ids[pid] = name
        self.pids[name] = pid


def serve(control: socket.socket, alive: socket.socket, tree: rootfs.HostTree, scratch: str) -> None:
    """Serves until the server or the keeper is gone."""
    wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    warden = Warden(control, tree, scratch)
    poll = select.poll()
    for source in (control.fileno(), alive.fileno(), wake_read):
        poll.register(source, select.POLLIN)
    wire.send(control, {"standing": True})
    while True:
        ready = {fd for fd, _ in poll.poll()}
        if alive.fileno() in ready:
            return
        if wake_read in ready:
            os.read(wake_read, 512)
            warden.reap()
        if control.fileno() in ready:
            message, fds = wire.receive(control)
            if message is None:
                return
            try:
                warden.handle(message, fds)
            finally:
                for fd in fds:
                    os.close(fd)


def _has_all_ids() -> bool:
    with open("/proc/self/uid_map", encoding="ascii") as file:
        return sum(int(line.split()[2]) for line in file) > 1


def _take_over(fds: list[int]) -> dict[str, Any]:
    """Makes the descriptors of a message this process's: what to run, and its stdin, stdout and stderr."""
    with open(fds[0], "rb", closefd=False) as file:
        file.seek(0)
        spec: dict[str, Any] = json.load(file)
    for number, fd in enumerate(fds[2:5]):
        os.dup2(fd, number)
    return spec


def _told(status: int, body: Callable[[], NoReturn]) -> None:
    """Runs a child's way to its command, and tells of the failure when it does not get there."""
    try:
        body()
    except container.StartError as error:
        number, text = error.number, str(error)
    except OSError as error:
        number = error.errno or 0
        text = f"{error.filename or 'container'}: {os.strerror(number).lower()}"
    except Exception as error:  # noqa: BLE001 - told to the server, which has the words for it
        number, text = 0, f"{type(error).__name__}: {error}"
    os.write(status, f"{number} {text}".encode())
    os._exit(128)


def _join(namespaces: str) -> bool:
    """Enters a container's namespaces; True when it has a user namespace of its own."""
    own = os.stat("/proc/self/ns/user").st_ino
    user = os.open(f"{namespaces}/user", os.O_RDONLY | os.O_CLOEXEC)
    fds = [os.open(f"{namespaces}/{name}", os.O_RDONLY | os.O_CLOEXEC) for name in _JOINED]
    for fd in fds:
        syscalls.setns(fd, 0)
    separate = os.fstat(user).st_ino != own
    if separate:
        syscalls.setns(user, 0)
    return separate


def _remove(path: str) -> None:
    from .keeper import remove_tree

    remove_tree(path)
    os._exit(0)
