"""What became of each task, as a table and as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

_TITLES = ("DAG", "task", "cluster", "node", "seconds", "state", "result")
_RIGHT = _TITLES.index("seconds")
_RESULT_WIDTH = 60


@dataclass(frozen=True)
class Row:
    """One task.

    Attributes:
        dag_id: of its DAG.
        task_id: of the task; with its index if it is mapped.
        state: as Airflow has it, or what was found wrong with where the task ran.
        cluster: where its pod ran; empty if it ran none.
        pod: its pod's name; empty if it ran none. Not in the table, as it is gone.
        node: that its pod was given; empty where no one tells.
        seconds: how long the task took, without Airflow's start-up.
        result: its XCom, else the last line its pod printed, else why it failed.
        server: address of the API server its pod was created at.
        ok: whether all is as it should be; None for a task that was not run.
    """

    dag_id: str
    task_id: str
    state: str
    cluster: str = ""
    pod: str = ""
    node: str = ""
    seconds: float | None = None
    result: Any = None
    server: str = ""
    ok: bool | None = None

    def cells(self) -> tuple[str, ...]:
        """The row of the table."""
        seconds = "" if self.seconds is None else f"{self.seconds:.2f}"
        return (self.dag_id, self.task_id, self.cluster, self.node, seconds, self.state, _shortened(self.result))


def table(rows: Sequence[Row]) -> str:
    """The rows, aligned."""
    lines = [_TITLES, *(row.cells() for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(_TITLES))]
    lines.insert(1, tuple("-" * width for width in widths))
    return "\n".join(_aligned(line, widths) for line in lines)


def to_json(rows: Sequence[Row]) -> str:
    """The rows as a JSON list."""
    return json.dumps([asdict(row) for row in rows], indent=2, default=str) + "\n"


def _aligned(line: Sequence[str], widths: Sequence[int]) -> str:
    cells = [
        cell.rjust(width) if column == _RIGHT else (cell or "-").ljust(width)
        for column, (cell, width) in enumerate(zip(line, widths, strict=True))
    ]
    return "  ".join(cells).rstrip()


def _shortened(result: Any) -> str:
    if result is None:
        return ""
    text = result if isinstance(result, str) else json.dumps(result, default=str)
    first, *rest = text.split("\n", 1)
    return first if len(first) <= _RESULT_WIDTH and not rest else first[: _RESULT_WIDTH - 4] + " ..."
