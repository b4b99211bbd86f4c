"""Runs `python -m demo` beside the tests, and reads documents."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
# How the clouds call the nodes that the examples make.
NODES = {"eks": "i-0", "gke": "gke-gpu-train-", "aks": "aks-train-"}


@dataclass(frozen=True)
class Finished:
    """A demo that has ended: its exit code, what it said, and its rows by DAG and task."""

    code: int
    said: str
    rows: Mapping[tuple[str, str], Mapping[str, Any]]

    def row(self, dag_id: str, task_id: str) -> Mapping[str, Any]:
        assert (dag_id, task_id) in self.rows, self.said
        return self.rows[dag_id, task_id]


class Demo:
    """`python -m demo`, as `make demo` runs it, going on beside the tests until its outcome is asked for.

    Args:
        directory: for what it writes; its temporary files are in `scratch` below.
        arguments: of the command line.
        environ: is set in its environment.
    """

    def __init__(self, directory: Path, *arguments: str, environ: Mapping[str, str] | None = None) -> None:
        self.scratch = directory / "scratch"
        self.scratch.mkdir()
        self._json = directory / "rows.json"
        self._said = directory / "said.txt"
        with self._said.open("w") as said:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "demo", *arguments, "--json", str(self._json)],
                cwd=ROOT,
                env={**os.environ, **(environ or {}), "TMPDIR": str(self.scratch)},
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
            )
        self._finished: Finished | None = None

    def said(self) -> str:
        return self._said.read_text()

    def finished(self) -> Finished:
        if self._finished is None:
            code = self.process.wait()
            rows = json.loads(self._json.read_text()) if self._json.exists() else []
            by_task = {(row["dag_id"], row["task_id"]): row for row in rows}
            assert len(by_task) == len(rows)
            self._finished = Finished(code, self.said(), by_task)
        return self._finished

    def left_behind(self) -> list[str]:
        """Its temporary files and the processes of its session's environment that are still there."""
        marker = f"TMPDIR={self.scratch}".encode()
        left = [str(path) for path in self.scratch.iterdir()]
        for environ in Path("/proc").glob("[0-9]*/environ"):
            try:
                if marker in environ.read_bytes().split(b"\0"):
                    left.append(f"process {environ.parent.name}: {(environ.parent / 'cmdline').read_bytes()!r}")
            except OSError:  # it has ended, or is another user's
                continue
        return left

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait()


def code_blocks(document: str, language: str) -> list[str]:
    """The fenced blocks of one language in a Markdown document of the repository."""
    text = (ROOT / document).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
