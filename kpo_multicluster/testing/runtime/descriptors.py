"""File descriptors that this process keeps to itself when it forks.

A forked child that holds a copy of a pipe's writing end keeps its reader from ever seeing the end. Programs that are
executed get no copies anyway; what is opened here is also closed in children that go on as Python, such as the workers
of an executor or of `multiprocessing`.
"""

from __future__ import annotations

import contextlib
import os
import socket
import weakref

_fds: set[int] = set()
_sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()


def keep(fd: int) -> int:
    """Makes a descriptor one of those kept; returns it."""
    _fds.add(fd)
    return fd


def pipe() -> tuple[int, int]:
    """A pipe; its reading and its writing end."""
    reader, writer = os.pipe()
    return keep(reader), keep(writer)


def socket_pair() -> tuple[socket.socket, socket.socket]:
    """Two sockets connected to each other, which keep messages and their order."""
    pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    _sockets.update(pair)
    return pair


def close(fd: int) -> None:
    """Closes a descriptor."""
    _fds.discard(fd)
    os.close(fd)


def _close_in_child() -> None:
    for fd in _fds:
        with contextlib.suppress(OSError):
            os.close(fd)
    _fds.clear()
    for kept in tuple(_sockets):
        # Not `close`: the object's own end, whenever that comes, must not close a number that then is another's.
        with contextlib.suppress(OSError):
            os.close(kept.detach())
    _sockets.clear()


os.register_at_fork(after_in_child=_close_in_child)
