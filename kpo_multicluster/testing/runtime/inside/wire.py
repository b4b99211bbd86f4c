"""Messages between the server's process and the warden: one JSON object and file descriptors a datagram."""

from __future__ import annotations

import array
import json
import socket
from collections.abc import Mapping, Sequence
from typing import Any, Final

# Large things travel behind descriptors; a message holds ids, numbers and a line or two of text.
MAX_BYTES: Final = 32 * 1024
_MAX_FDS: Final = 8


def encode(message: Mapping[str, Any]) -> bytes:
    """One message as it travels."""
    return json.dumps(message, separators=(",", ":")).encode()


def ancillary(fds: Sequence[int]) -> list[tuple[int, int, bytes]]:
    """File descriptors as `sendmsg` wants them."""
    return [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds).tobytes())] if fds else []


def send(connection: socket.socket, message: Mapping[str, Any], fds: Sequence[int] = ()) -> None:
    """Sends one message; the descriptors stay the caller's to close."""
    connection.sendmsg([encode(message)], ancillary(fds))


def receive(connection: socket.socket) -> tuple[dict[str, Any] | None, list[int]]:
    """Receives one message and the descriptors that came with it; None once the other side is gone."""
    flags = socket.MSG_CMSG_CLOEXEC
    data, control, _, _ = connection.recvmsg(MAX_BYTES, socket.CMSG_SPACE(_MAX_FDS * array.array("i").itemsize), flags)
    fds = array.array("i")
    for level, kind, payload in control:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(payload[: len(payload) - len(payload) % fds.itemsize])
    if not data:
        return None, list(fds)
    message: dict[str, Any] = json.loads(data)
    return message, list(fds)
