"""How clouds are waited for: deadlines, pauses, and calls that must not be left half done."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")
_GROWTH, _JITTER = 1.3, 0.2


@dataclass(frozen=True)
class Pace:
    """How often a cloud is asked.

    Attributes:
        first_seconds: until it is asked again, at first.
        most_seconds: what this grows to.
    """

    first_seconds: float = 3.0
    most_seconds: float = 15.0


PACE = Pace()
"""How often a cloud is asked by default."""


class Deadline:
    """The end of a wait, and the pauses in it.

    Args:
        seconds: from now on.
        pace: of the pauses.
        clock: seconds that only grow.
    """

    def __init__(self, seconds: float, pace: Pace, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds = seconds
        self._pace, self._clock = pace, clock
        self._began = clock()
        self._pause = pace.first_seconds

    @property
    def elapsed_seconds(self) -> float:
        """Since it was made."""
        return self._clock() - self._began

    @property
    def passed(self) -> bool:
        """Whether it is over."""
        return self.elapsed_seconds >= self.seconds

    def hurry(self) -> None:
        """Asks often again: something has changed."""
        self._pause = self._pace.first_seconds

    async def pause(self) -> None:
        """Waits until it is time to ask again, at most until the end."""
        drawn = self._pause * random.uniform(1 - _JITTER, 1 + _JITTER)
        self._pause = min(self._pause * _GROWTH, self._pace.most_seconds)
        await asyncio.sleep(max(0.0, min(drawn, self.seconds - self.elapsed_seconds)))


async def to_its_end(call: Callable[..., T], *arguments: object) -> T:
    """A blocking call that changes something, in a thread; whoever is cancelled meanwhile still waits for its end.

    Otherwise a group could be made after its deletion was asked for.

    Raises:
        Exception: what the call raises.
    """
    task = asyncio.ensure_future(asyncio.to_thread(call, *arguments))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():
            try:
                await asyncio.wait({task})
            except asyncio.CancelledError:
                continue
        if not task.cancelled():
            task.exception()  # told to no one, but not as one that nobody looked at
        raise
