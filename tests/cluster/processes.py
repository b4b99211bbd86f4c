"""Processes that outlive the command that started them, and can be ended without ever hitting another one.

A process writes its own record, before it becomes the program that was asked for: a starter that is killed in between
leaves no process that no one knows of. The record holds which boot of the machine it was, the process id, and when the
process was started; a process id alone may belong to someone else by the time it is read.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from .errors import ClusterError
from .layout import OWNER_VARIABLE, STATE, STATE_VARIABLE

T = TypeVar("T")

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
# Fields of /proc/PID/stat, counted from the one after the name: proc(5).
_STATE, _PARENT, _STARTED = 0, 1, 19
# In the background of a shell that ends at once: the program is no one's child, and no one has to wait for it.
_RECORD_AND_BECOME = (
    f'{{ read -r boot <{_BOOT_ID} && read -r stat </proc/self/stat && printf "%s %s\\n" "$boot" "$stat" >"$0" && '
    'exec "$@"; } &'
)
_KILL_TIMEOUT_SECONDS = 60.0
_RECORD_TIMEOUT_SECONDS = 10.0
# Nothing else of the starter's environment: a proxy set there, say, is not meant for these programs.
_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
    # Tells whoever looks at a process which clusters it belongs to.
    STATE_VARIABLE: str(STATE),
    OWNER_VARIABLE: os.environ.get(OWNER_VARIABLE, ""),
}


@dataclass(frozen=True)
class Process:
    """One process of this boot of the machine.

    Attributes:
        pid: its id.
        started: when it was started, in clock ticks since the boot.
    """

    pid: int
    started: int

    @property
    def alive(self) -> bool:
        """Whether this very process runs; one that ended and was not yet collected does not."""
        fields = _stat(self.pid)
        return fields is not None and int(fields[_STARTED]) == self.started and fields[_STATE] not in "ZX"

    def send(self, number: signal.Signals) -> None:
        """Send a signal to this process and no other."""
        with self._handle() as handle:
            if handle is not None:
                signal.pidfd_send_signal(handle, number)

    def end(self, number: signal.Signals = signal.SIGKILL, timeout_seconds: float = _KILL_TIMEOUT_SECONDS) -> None:
        """Send a signal that ends the process, and wait until it has ended.

        Raises:
            ClusterError: it has not ended within the time.
        """
        with self._handle() as handle:
            if handle is not None:
                signal.pidfd_send_signal(handle, number)
                if not select.select([handle], [], [], timeout_seconds)[0]:
                    raise ClusterError(
                        f"Process {self.pid} did not end within {timeout_seconds:.0f} s of {number.name}."
                    )

    def children(self) -> list[Process]:
        """The processes this one is the parent of."""
        found = []
        for directory in Path("/proc").iterdir():
            fields = _stat(int(directory.name)) if directory.name.isdigit() else None
            if fields is not None and int(fields[_PARENT]) == self.pid:
                found.append(Process(int(directory.name), int(fields[_STARTED])))
        return found

    @contextlib.contextmanager
    def _handle(self) -> Iterator[int | None]:
        # The handle is opened before the start time is compared: from then on it means this process even if the id
        # is given to another.
        try:
            handle = os.pidfd_open(self.pid)
        except ProcessLookupError:
            yield None
            return
        try:
            yield handle if self.alive else None
        finally:
            os.close(handle)


def launch(command: Sequence[str | Path], *, record: Path, log: Path) -> Process:
    """Start a program in a session of its own.

    Args:
        command: the program, by its path or found on PATH, and its arguments.
        record: the file that the process writes about itself; see `recorded`.
        log: the file that its output is added to.
    """
    record.write_text("")
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    starter = os.posix_spawn(
        "/bin/sh",
        ["sh", "-c", _RECORD_AND_BECOME, str(record), *map(str, command)],
        _ENVIRONMENT,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), flags, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
    )
    os.waitpid(starter, 0)
    process = recorded(record)
    if process is None:
        raise ClusterError(f"{Path(command[0]).name} could not be started. {log} ends with:\n{_end_of(log)}")
    return process


def recorded(record: Path) -> Process | None:
    """The process that wrote a record, or None if there is none of this boot; it may have ended since."""
    if not record.exists():
        return None
    deadline = time.monotonic() + _RECORD_TIMEOUT_SECONDS
    # An empty record is that of a process about to write it, unless its starter was killed just before starting it.
    while not (written := record.read_text()):
        if time.monotonic() > deadline:
            return None
        time.sleep(0.005)
    boot, pid, rest = written.split(maxsplit=2)
    if boot != _BOOT_ID.read_text().strip():
        return None
    return Process(int(pid), int(_after_name(rest)[_STARTED]))


def wait_for(
    check: Callable[[], T | None], *, what: str, needs: Sequence[Process], log: Path, timeout_seconds: float
) -> T:
    """Ask again and again until there is an answer.

    Args:
        check: gives the answer, or None as long as there is none.
        what: is waited for, for the message.
        needs: the processes without which there never will be an answer.
        log: where the reason for a failure would be found.
        timeout_seconds: how long to ask.

    Raises:
        ClusterError: a process has ended, or the time is over; with the end of the log.
    """
    deadline = time.monotonic() + timeout_seconds
    while True:
        answer = check()
        if answer is not None:
            return answer
        if not all(process.alive for process in needs):
            raise ClusterError(f"{what}: its process has ended. {log} ends with:\n{_end_of(log)}")
        if time.monotonic() > deadline:
            raise ClusterError(f"{what}: not within {timeout_seconds:.0f} s. {log} ends with:\n{_end_of(log)}")
        time.sleep(0.05)


def _end_of(log: Path, lines: int = 8, width: int = 400) -> str:
    try:
        written = log.read_text(errors="replace").splitlines()[-lines:]
    except FileNotFoundError:
        return "  (nothing)"
    return "\n".join(f"  {line[:width]}" for line in written) or "  (nothing)"


def _stat(pid: int) -> list[str] | None:
    try:
        return _after_name(Path(f"/proc/{pid}/stat").read_text())
    except (FileNotFoundError, ProcessLookupError):
        return None


def _after_name(stat: str) -> list[str]:
    # The name is the program's own choice and may hold spaces and parentheses.
    return stat.rpartition(")")[2].split()
