"""A child process that never outlives the demo."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

_GRACE_SECONDS = 10.0


class Session:
    """A program that is asked by lines and answers by lines, while in the `with` block.

    Args:
        command: program and arguments.
        cwd: its working directory; made if it is not there.
        env: its whole environment.
        ended: what a line of its output has where an answer ends; the exit code follows.
    """

    def __init__(self, command: Sequence[str], *, cwd: Path, env: Mapping[str, str], ended: str) -> None:
        self._command, self._cwd, self._env, self._ended = command, cwd, dict(env), ended
        self._child: subprocess.Popen[str] | None = None

    def __enter__(self) -> Session:
        self._child = subprocess.Popen(
            self._command,
            cwd=self._cwd,
            env=self._env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            bufsize=1,
        )
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        # One that waits for a line ends by itself. Airflow ends a running task, and the task its pod, on SIGTERM.
        if kind is not None:
            child.terminate()
        try:
            child.communicate(timeout=_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            child.communicate()

    def ask(self, line: str, on_line: Callable[[str], None]) -> int:
        """Writes a line, and reads the answer to its end; gives back the exit code, the program's own if it ended.

        Args:
            line: without its end.
            on_line: is given each line of the output, standard error included, as it comes.
        """
        child = self._child
        assert child is not None
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(f"{line}\n")
        for answer in child.stdout:
            text, ended, code = answer.rstrip("\n").partition(self._ended)
            if text or not ended:
                on_line(text)
            if ended:
                return int(code)
        return child.wait()


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
