"""Runs a command that prints a credential: bounded in time and output, with nothing of it left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import BinaryIO

from kpo_multicluster.auth.tls import memory_file

OUTPUT_LIMIT_BYTES = 1 << 20
_LOOK_SECONDS = 0.25


@dataclass(frozen=True)
class Finished:
    """How a command ended.

    Attributes:
        exit_code: negative for the signal that ended it, as `subprocess` has it.
        stdout: at most `OUTPUT_LIMIT_BYTES` of it.
        stderr: likewise, its end.
        stopped: why it was killed, such as "did not answer within 60 s"; None when it ended by itself.
    """

    exit_code: int
    stdout: bytes = field(repr=False)
    stderr: bytes = field(repr=False)
    stopped: str | None = None


def run(argv: Sequence[str], *, env: Mapping[str, str], timeout_seconds: float) -> Finished:
    """Runs a command without a terminal or standard input.

    Its output goes to anonymous memory rather than pipes, so a child that it leaves in the background, still holding
    them, delays nothing. It leads a process group of its own, which is killed whole when the time is up, when it
    prints without end, and when the caller is interrupted.

    Args:
        argv: the command, its path first.
        env: its whole environment.
        timeout_seconds: until it is killed.

    Raises:
        OSError: it could not be started.
    """
    with _scratch_file() as stdout, _scratch_file() as stderr:
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, env=env, start_new_session=True
        )
        try:
            stopped = _wait(process, (stdout, stderr), timeout_seconds)
        finally:
            # Only while it is not reaped is its process id, which names the group, sure to be its own.
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        return Finished(process.returncode, _head(stdout), _tail(stderr), stopped)


def _wait(process: subprocess.Popen[bytes], outputs: Sequence[BinaryIO], timeout_seconds: float) -> str | None:
    deadline = time.monotonic() + timeout_seconds
    while True:
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            return f"did not answer within {timeout_seconds:g} s"
        try:
            process.wait(min(remaining, _LOOK_SECONDS))
        except subprocess.TimeoutExpired:
            if any(os.fstat(output.fileno()).st_size > OUTPUT_LIMIT_BYTES for output in outputs):
                return f"printed more than {OUTPUT_LIMIT_BYTES} bytes"
        else:
            return None


def _scratch_file() -> BinaryIO:
    try:
        return open(memory_file(b""), "w+b", buffering=0)
    except OSError:
        return tempfile.TemporaryFile(buffering=0)  # has no name; only this user's processes could open it


def _head(file: BinaryIO) -> bytes:
    return os.pread(file.fileno(), OUTPUT_LIMIT_BYTES, 0)


def _tail(file: BinaryIO) -> bytes:
    size = os.fstat(file.fileno()).st_size
    return os.pread(file.fileno(), OUTPUT_LIMIT_BYTES, max(0, size - OUTPUT_LIMIT_BYTES))
