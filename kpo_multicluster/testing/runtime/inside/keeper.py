"""The two processes that hold all containers of a node, and take everything down with them.

    server ── keeper ── warden (process 1 of a PID namespace) ── containers

The warden starts containers and reports their ends. It ends when the server's end of its socket closes, and the kernel
ends every process of its PID namespace with it. The keeper stays outside: it watches the server, outlives the warden by
the moment it takes to remove the node's directory, and so leaves nothing behind when the server is killed.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import select
import socket
import stat
import sys
import traceback
from collections.abc import Callable
from typing import Any, Final, NoReturn

from . import devices, rootfs, syscalls, warden, wire

# How to get the right to mount: a user namespace (anyone may, where the kernel lets them), or being root already.
_USER_NAMESPACE: Final = "user namespace"
_ROOT: Final = "root"


class StageError(Exception):
    """A step of the set-up was refused.

    Args:
        stage: which.
        number: errno.
    """

    def __init__(self, stage: str, number: int) -> None:
        super().__init__(f"{stage}: {os.strerror(number)}")
        self.stage = stage
        self.number = number


def main() -> None:
    """Runs the keeper; the last argument is JSON.

    It holds `control` (the descriptor of the socket to the server), `held` (a descriptor that is to close when all this
    is over), `directory` (the node's), `server` (its process id), `shown` and `overlay` (see
    `rootfs.survey`).
    """
    config: dict[str, Any] = json.loads(sys.argv[2])
    control = socket.socket(fileno=config["control"])
    for fd in (config["control"], config["held"]):
        os.set_inheritable(fd, False)
    syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)
    failures: list[dict[str, Any]] = []
    for mode in (_USER_NAMESPACE, _ROOT):
        alive, wardens_end = socket.socketpair()
        try:
            _launch(mode, (control, alive, wardens_end), config)
        except StageError as error:
            failures.append({"mode": mode, "stage": error.stage, "errno": error.number})
            alive.close()
            _reap_all()
            continue
        finally:
            wardens_end.close()
        control.close()
        _watch(alive, config["server"])
        alive.close()
        _reap_all()
        break
    else:
        wire.send(control, {"failed": failures})
    remove_tree(config["directory"])


def remove_tree(path: str) -> None:
    """Removes a directory with all that is in it, whatever modes its owner gave it.

    Others may still be at work in it: what they add meanwhile goes too, and what they remove themselves is no matter.
    """
    try:
        mode = os.lstat(path).st_mode
        if not stat.S_ISDIR(mode):
            os.unlink(path)
            return
        if mode & stat.S_IRWXU != stat.S_IRWXU:
            os.chmod(path, stat.S_IRWXU)
        while not _emptied(path):
            pass
    except FileNotFoundError:
        return


def _emptied(path: str) -> bool:
    """Removes what is in a directory and the directory itself; False when something new has come into it."""
    with os.scandir(path) as entries:
        paths = [entry.path for entry in entries]
    for inner in paths:
        remove_tree(inner)
    try:
        os.rmdir(path)
    except OSError as error:
        if error.errno != errno.ENOTEMPTY:
            raise
        return False
    return True


def _launch(mode: str, sockets: tuple[socket.socket, socket.socket, socket.socket], config: dict[str, Any]) -> None:
    """Starts a warden in namespaces of its own, and returns once it stands."""
    report_read, report_write = os.pipe()
    go_read, go_write = os.pipe()
    child = os.fork()
    if not child:
        os.close(report_read)
        os.close(go_write)
        control, keepers_end, alive = sockets
        keepers_end.close()
        _guarded(report_write, lambda: _enter(mode, control, alive, config, (report_write, go_read)))
    os.close(report_write)
    os.close(go_read)
    try:
        _expect(report_read, b"entered")
        if mode == _USER_NAMESPACE:
            _map_ids(child)
        os.write(go_write, b"go")
        _expect(report_read, b"standing")
        os.waitpid(child, 0)
    finally:
        os.close(report_read)
        os.close(go_write)


def _enter(
    mode: str, control: socket.socket, alive: socket.socket, config: dict[str, Any], pipes: tuple[int, int]
) -> NoReturn:
    report, go = pipes
    if mode == _USER_NAMESPACE:
        _stage("user namespace", syscalls.unshare, syscalls.CLONE_NEWUSER)
    os.write(report, b"entered")
    if not os.read(go, 8):
        os._exit(1)
    _stage("mount and PID namespaces", syscalls.unshare, syscalls.CLONE_NEWNS | syscalls.CLONE_NEWPID)
    if os.fork():
        os._exit(0)
    _guarded(report, lambda: _become_warden(control, alive, config, report))


def _become_warden(control: socket.socket, alive: socket.socket, config: dict[str, Any], report: int) -> NoReturn:
    scratch = f"{config['directory']}/root"
    _stage("private mounts", syscalls.mount, "none", "/", "", syscalls.MS_REC | syscalls.MS_PRIVATE)
    _stage("proc", devices.mount_proc, "/proc")
    _stage("tmpfs", syscalls.mount, "tmpfs", scratch, "tmpfs", 0)
    syscalls.unmount(scratch)
    tree = rootfs.survey(config["shown"], overlay=config["overlay"])
    os.write(report, b"standing")
    os.close(report)
    try:
        warden.serve(control, alive, tree, scratch)
    except BaseException:  # noqa: BLE001 - the last words of a process that ends right after
        wire.send(control, {"fatal": traceback.format_exc()[-4000:]})
    os._exit(0)


def _map_ids(child: int) -> None:
    """Gives the child's user namespace this process's ids: all of them as root, else the one there is, as root's."""
    if os.geteuid() == 0:
        try:
            for kind in ("uid_map", "gid_map"):
                with open(f"/proc/self/{kind}", encoding="ascii") as file:
                    rows = [line.split() for line in file]
                _write(f"/proc/{child}/{kind}", "".join(f"{inside} {inside} {count}\n" for inside, _, count in rows))
        except OSError:
            pass
        else:
            return
    try:
        _write(f"/proc/{child}/setgroups", "deny")
        _write(f"/proc/{child}/uid_map", f"0 {os.geteuid()} 1")
        _write(f"/proc/{child}/gid_map", f"0 {os.getegid()} 1")
    except OSError as error:
        raise StageError("id map", error.errno or 0) from error


def _write(path: str, text: str) -> None:
    # One write: the kernel takes a map whole or not at all.
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def _stage(name: str, call: Callable[..., None], *arguments: Any) -> None:
    try:
        call(*arguments)
    except OSError as error:
        raise StageError(name, error.errno or 0) from error


def _guarded(report: int, run: Callable[[], NoReturn]) -> NoReturn:
    """Runs a forked child to its end, which is never in its parent's code."""
    try:
        run()
    except StageError as error:
        os.write(report, f"failed {error.number} {error.stage}".encode())
    except BaseException:  # noqa: BLE001 - the parent must hear of it, and only the parent can say it
        os.write(report, f"failed 0 {traceback.format_exc()[-2000:]}".encode())
    os._exit(1)


def _expect(report: int, word: bytes) -> None:
    heard = os.read(report, 4096)
    if heard == word:
        return
    parts = heard.decode(errors="replace").split(" ", 2)
    if len(parts) == 3:
        raise StageError(parts[2], int(parts[1]))
    raise StageError("a process of the set-up ended", 0)


def _watch(alive: socket.socket, server: int) -> None:
    """Returns once the warden is gone; ends it when the server is, even if other processes hold the server's socket."""
    poll = select.poll()
    poll.register(alive, select.POLLIN)
    # A kernel before 5.3 has no such descriptors; the server's socket closing has to do there.
    with contextlib.suppress(AttributeError, OSError):
        poll.register(os.pidfd_open(server), select.POLLIN)
    if os.getppid() == server:
        poll.poll()


def _reap_all() -> None:
    while True:
        try:
            os.wait()
        except ChildProcessError:
            return
