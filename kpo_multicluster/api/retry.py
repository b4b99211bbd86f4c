"""How long a call is tried again, and how the tries are spaced.

Delays grow exponentially and are drawn with full jitter, so that many clients cut off by the same fault do not come
back at the same moment. A server's `Retry-After` is a lower bound of the delay.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

_EXPONENT_LIMIT = 32


@dataclass(frozen=True)
class RetryPolicy:
    """How long one call is tried again after faults that may pass.

    Attributes:
        budget_seconds: after this long no further try begins; 0 means one try.
        first_delay_seconds: upper bound of the first delay; it doubles with each try.
        max_delay_seconds: upper bound of all delays that no `Retry-After` asked for.
    """

    budget_seconds: float = 120.0
    first_delay_seconds: float = 0.2
    max_delay_seconds: float = 10.0


NO_RETRY = RetryPolicy(budget_seconds=0.0)


def _draw(upper_seconds: float) -> float:
    return random.uniform(0.0, upper_seconds)


@dataclass(frozen=True)
class Clock:
    """Time as retries see it; a test gives its own.

    Attributes:
        now: monotonic seconds.
        sleep: waits that many seconds.
        draw: a delay between 0 and the given upper bound.
    """

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
    draw: Callable[[float], float] = _draw


class Backoff:
    """Spaces the tries of one call, and keeps its budget.

    Args:
        policy: the bounds.
        clock: measures and waits.
    """

    def __init__(self, policy: RetryPolicy, clock: Clock) -> None:
        self._policy = policy
        self._clock = clock
        self._began = clock.now()
        self._failures = 0

    @property
    def tries(self) -> int:
        """How many tries there were, the one under way included."""
        return self._failures + 1

    @property
    def elapsed_seconds(self) -> float:
        """Since the call, or the budget's last restart."""
        return self._clock.now() - self._began

    def restart_budget(self) -> None:
        """Something got through: the budget counts from now, while the delays go on growing."""
        self._began = self._clock.now()

    def reset(self) -> None:
        """All is well again: as if the call began now."""
        self.restart_budget()
        self._failures = 0

    async def pause(self, *, at_least_seconds: float = 0.0, limit_seconds: float | None = None) -> bool:
        """Waits before the next try.

        Args:
            at_least_seconds: what the server asked for.
            limit_seconds: a budget below the policy's.

        Returns:
            False, at once, when the next try would begin beyond the budget.
        """
        policy = self._policy
        growth = 2.0 ** min(self._failures, _EXPONENT_LIMIT)
        delay = max(
            at_least_seconds, self._clock.draw(min(policy.max_delay_seconds, policy.first_delay_seconds * growth))
        )
        budget = policy.budget_seconds if limit_seconds is None else min(policy.budget_seconds, limit_seconds)
        if self.elapsed_seconds + delay >= budget:
            return False
        self._failures += 1
        await self._clock.sleep(delay)
        return True
