"""What an examination found."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

_WIDTH = 112
WITHIN_SECONDS = 10.0
"""How long an examination takes at most, unless told otherwise."""
STEPS = ("connection", "credentials", "endpoint", "tls", "authentication", "permissions")
"""Names of the steps, in their order."""


class Outcome(str, Enum):
    """What came of a step."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    NOT_REACHED = "not reached"


@dataclass(frozen=True)
class Step:
    """One step of the way to a cluster.

    Attributes:
        name: one of `STEPS`.
        outcome: what came of it.
        found: what there was to see; nothing secret.
        next_step: what to do; empty if there is nothing to be done.
        seconds: it took.
    """

    name: str
    outcome: Outcome
    found: str = ""
    next_step: str = ""
    seconds: float = 0.0

    def lasting(self, seconds: float) -> Step:
        """The same step, which took so long."""
        return replace(self, seconds=seconds)


@dataclass(frozen=True)
class Examination:
    """The whole of it.

    Attributes:
        steps: all of them, those that were not reached too.
        cluster: the cluster's reference without its secrets, if it came to be known.
    """

    steps: tuple[Step, ...]
    cluster: Mapping[str, Any] = field(default_factory=dict)

    @property
    def well(self) -> bool:
        """Whether the cluster can be used; there may be warnings."""
        return self.first_failure is None

    @property
    def first_failure(self) -> Step | None:
        """The step that failed."""
        return next((step for step in self.steps if step.outcome is Outcome.FAILED), None)

    def step(self, name: str) -> Step:
        """The step of that name."""
        return next(step for step in self.steps if step.name == name)

    def as_json(self) -> dict[str, Any]:
        """As JSON values."""
        steps = [
            {
                "name": step.name,
                "outcome": step.outcome.value,
                "found": step.found,
                "next_step": step.next_step,
                "seconds": round(step.seconds, 3),
            }
            for step in self.steps
        ]
        return {"well": self.well, "cluster": dict(self.cluster), "steps": steps}

    def __str__(self) -> str:
        return "\n".join(_shown(step) for step in self.steps)


def _shown(step: Step) -> str:
    took = f"{step.seconds:.2f} s" if step.outcome is not Outcome.NOT_REACHED else ""
    lines = [f"{step.name:<15}{step.outcome.value:<12}{took}".rstrip()]
    lines += _paragraphs(step.found, "    ")
    lines += _paragraphs(step.next_step, "    -> ")
    return "\n".join(lines)


def _paragraphs(text: str, start: str) -> list[str]:
    lines: list[str] = []
    for line in text.splitlines():
        # What is aligned, such as YAML, stays as it is.
        if line[:1] == " " or "  " in line:
            lines.append(f"{' ' * len(start)}{line}")
            continue
        indent = start if not lines else " " * len(start)
        lines += textwrap.wrap(
            line,
            _WIDTH,
            initial_indent=indent,
            subsequent_indent=" " * len(start),
            break_long_words=False,
            break_on_hyphens=False,
        )
    return lines
