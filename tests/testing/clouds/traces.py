"""What a process leaves that it should not: child processes, and files in its directory for temporary ones."""

from __future__ import annotations

import ctypes
import os
import struct
import threading
from pathlib import Path

_CREATED = 0x00000100 | 0x00000080  # IN_CREATE, IN_MOVED_TO
_EVENT = struct.Struct("iIII")
_SAMPLE_SECONDS = 0.02


def children() -> dict[int, str]:
    """The child processes of this one, and their commands."""
    found: dict[int, str] = {}
    for task in Path("/proc/self/task").iterdir():
        try:
            pids = (task / "children").read_text().split()
        except OSError:  # the thread has ended
            continue
        for pid in pids:
            try:
                found[int(pid)] = Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ").strip()
            except OSError:  # the process has ended
                found[int(pid)] = "?"
    return found


class Traces:
    """Watches while in the `with` block.

    Args:
        directory: for temporary files.

    Attributes:
        files: names of the files that came into that directory.
        processes: commands of the child processes that came.
    """

    def __init__(self, directory: Path) -> None:
        self.files: list[str] = []
        self.processes: dict[int, str] = {}
        self._directory = directory
        self._over = threading.Event()
        self._before = set(children())
        self._thread = threading.Thread(target=self._sample)
        self._inotify = -1

    def __enter__(self) -> Traces:
        libc = ctypes.CDLL(None, use_errno=True)
        self._inotify = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        assert self._inotify >= 0
        assert libc.inotify_add_watch(self._inotify, os.fsencode(self._directory), _CREATED) >= 0
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        try:
            while True:
                self._read(os.read(self._inotify, 65536))
        except BlockingIOError:
            pass
        finally:
            os.close(self._inotify)

    def _sample(self) -> None:
        while not self._over.wait(_SAMPLE_SECONDS):
            for pid, what in children().items():
                # One that has ended has no command any more, and is still there until it is waited for.
                if pid not in self._before and (what not in ("", "?") or pid not in self.processes):
                    self.processes[pid] = what

    def _read(self, events: bytes) -> None:
        while events:
            *_, length = _EVENT.unpack_from(events)
            name = events[_EVENT.size : _EVENT.size + length]
            self.files.append(name.rstrip(b"\0").decode())
            events = events[_EVENT.size + length :]
