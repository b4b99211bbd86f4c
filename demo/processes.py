"""Child processes that never outlive the demo."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

_GRACE_SECONDS = 10.0


def run(
    command: Sequence[str], *, cwd: Path, env: Mapping[str, str], on_line: Callable[[str], None] = lambda line: None
) -> int:
    """Runs a command to its end; gives back its exit code.

    Args:
        command: program and arguments.
        cwd: its working directory.
        env: its whole environment.
        on_line: is given each line of its output, standard error included, as it comes.
    """
    child = subprocess.Popen(
        command,
        cwd=cwd,
        env=dict(env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    )
    with child:
        try:
            assert child.stdout is not None
            for line in child.stdout:
                on_line(line.rstrip("\n"))
            return child.wait()
        finally:
            _end(child)


def _end(child: subprocess.Popen[str]) -> None:
    if child.poll() is not None:
        return
    # Airflow ends a running task, and the task its pod, on this signal.
    child.terminate()
    try:
        child.wait(_GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()


@contextmanager
def ending_on_sigterm() -> Iterator[None]:
    """Lets SIGTERM unwind the program as Ctrl-C does, so that everything it started is ended and removed."""

    def leave(signum: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + signum)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
