"""What a task notes of itself, right before and right after `execute()`."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

RESULT_VARIABLE = "KPO_BENCH_RESULT"
_STARTED: dict[str, float] = {}


@dataclass(frozen=True)
class Marks:
    """What one task noted.

    Attributes:
        seconds: that `execute()` took.
        cpu_seconds: of processor time that this process spent in it, all threads together.
        began: Unix time at which it began.
        ended: Unix time at which it ended.
        own_bytes: memory that is this process's alone (USS), after it.
        shared_bytes: memory with its share of what others use too (PSS), after it.
        before_bytes: resident memory before it.
        peak_bytes: the most resident memory during it.
        kubernetes: whether the `kubernetes` package was imported by then.
        import_seconds: that importing the operator took when the DAG file was imported.
        result: what it returned.
    """

    seconds: float
    cpu_seconds: float
    began: float
    ended: float
    own_bytes: int
    shared_bytes: int
    before_bytes: int
    peak_bytes: int
    kubernetes: bool
    import_seconds: float
    result: Any

    @classmethod
    def load(cls, path: Path) -> Marks:
        """From the file that a task wrote."""
        return cls(**json.loads(path.read_text()))


def import_operator(path: str) -> Any:
    """Imports an operator, `MODULE:CLASS`, and notes how long that takes."""
    module, _, name = path.partition(":")
    began = time.perf_counter()
    operator = getattr(importlib.import_module(module), name)
    _STARTED.setdefault("import", time.perf_counter() - began)
    return operator


def begin(context: Any) -> None:
    """For `pre_execute`."""
    with contextlib.suppress(OSError):
        # Forgets the peak of what went before: the DAG file's imports, another task of this process.
        Path("/proc/self/clear_refs").write_text("5")
    _STARTED.update(
        resident=_kilobytes("status")["VmRSS"], wall=time.time(), cpu=time.process_time(), clock=time.perf_counter()
    )


def end(context: Any, result: Any = None) -> None:
    """For `post_execute`."""
    clock, cpu, wall = time.perf_counter(), time.process_time(), time.time()
    smaps, status = _kilobytes("smaps_rollup"), _kilobytes("status")
    marks = Marks(
        seconds=clock - _STARTED["clock"],
        cpu_seconds=cpu - _STARTED["cpu"],
        began=_STARTED["wall"],
        ended=wall,
        own_bytes=own_bytes(),
        shared_bytes=1024 * smaps["Pss"],
        before_bytes=1024 * int(_STARTED["resident"]),
        peak_bytes=1024 * status["VmHWM"],
        kubernetes="kubernetes" in sys.modules,
        import_seconds=_STARTED["import"],
        result=result,
    )
    path = Path(os.environ[RESULT_VARIABLE])
    path.write_text(json.dumps(asdict(marks)))


def own_bytes() -> int:
    """Memory that is this process's alone (USS)."""
    smaps = _kilobytes("smaps_rollup")
    return 1024 * (smaps["Private_Clean"] + smaps["Private_Dirty"])


def _kilobytes(file: str) -> dict[str, int]:
    lines = Path(f"/proc/self/{file}").read_text().splitlines()
    fields = (line.split() for line in lines if line.endswith(" kB"))
    return {field[0].rstrip(":"): int(field[1]) for field in fields}
