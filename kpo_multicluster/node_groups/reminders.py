"""Signs of life of a node group that takes long: what is awaited, and for how long."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import replace

from kpo_multicluster.node_groups.readiness import Report

_PAUSE_SECONDS = (60.0, 300.0)


async def reminded(
    reports: AsyncIterator[Report],
    *,
    pause_seconds: tuple[float, float] = _PAUSE_SECONDS,
    clock: Callable[[], float] = time.monotonic,
) -> AsyncGenerator[Report, None]:
    """The reports as they come; where none comes for long the last one again, at growing intervals.

    Args:
        reports: of a group.
        pause_seconds: until the first repetition, and between two at the most.
        clock: seconds that only grow.
    """
    shortest, longest = pause_seconds
    last: Report | None = None
    since, pause = clock(), shortest

    async def following() -> Report | None:
        return await anext(reports, None)

    upcoming = asyncio.create_task(following(), name="report")
    try:
        while True:
            await asyncio.wait({upcoming}, timeout=pause)
            if upcoming.done():
                last = upcoming.result()
                if last is None:
                    return
                yield last
                since, pause = clock(), shortest
                upcoming = asyncio.create_task(following(), name="report")
            elif last is not None:
                yield _later(last, clock() - since)
                pause = min(2 * pause, longest)
    finally:
        upcoming.cancel()
        await asyncio.gather(upcoming, return_exceptions=True)


def _later(report: Report, seconds: float) -> Report:
    return replace(
        report,
        text=f"{report.text}, for {seconds:.0f} s now",
        stage_seconds=report.stage_seconds + seconds,
        total_seconds=report.total_seconds + seconds,
    )
