"""A lock that a process holds until it ends, and that others can look at without ever holding it themselves.

Source: fcntl(2), "Advisory record locking".
"""

from __future__ import annotations

import fcntl
import os
import struct
from pathlib import Path
from typing import BinaryIO

# `struct flock`: type, whence, start, length, process id.
_RECORD = struct.Struct("hhqqi")


def hold(file: BinaryIO) -> bool:
    """Takes the lock of a file, for as long as this process has it open; false when another process holds it.

    Args:
        file: open for writing, and not opened a second time by this process: closing either would let go of the lock.
    """
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_held(path: Path) -> bool:
    """Whether a process holds the lock of a file; false when there is no such file."""
    asked = _RECORD.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    try:
        with open(path, "rb") as file:
            told = fcntl.fcntl(file, fcntl.F_GETLK, asked)
    except FileNotFoundError:
        return False
    return bool(_RECORD.unpack(told)[0] != fcntl.F_UNLCK)
