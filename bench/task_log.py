"""What a task's log tells of the lines of its pod. The log is Airflow's, one JSON object a line."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from bench.cases import LINE_COUNT

_LINE = re.compile(rb'"event":"(?:\[base\] )?(\d{8}) 0{90}')
_TICK = re.compile(rb'"timestamp":"([^"]+)".*"event":"(?:\[base\] )?tick (\d+) ([\d.]+)')


@dataclass(frozen=True)
class Lines:
    """Which lines of `LINES` a log has.

    Attributes:
        lost: how many of them are not there.
        repeated: how many are there once too often.
    """

    lost: int
    repeated: int


def lines(log: Path) -> Lines:
    """Counts the numbered lines."""
    with log.open("rb") as file:
        seen = Counter(int(found[1]) for text in file if (found := _LINE.search(text)))
    return Lines(lost=LINE_COUNT - len(seen), repeated=seen.total() - len(seen))


def delays(log: Path) -> list[float]:
    """Seconds from the writing of each line of `TICKING` to its being logged."""
    found = {}
    with log.open("rb") as file:
        for text in file:
            if tick := _TICK.search(text):
                logged = datetime.fromisoformat(tick[1].decode().replace("Z", "+00:00")).timestamp()
                found[int(tick[2])] = logged - float(tick[3])
    return list(found.values())
