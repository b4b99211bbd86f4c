"""What a trigger does yet when a user has ended its task (Airflow 3.3 and newer)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any

KILL_SECONDS = 25.0
"""For all of it: Airflow gives an `on_kill` 30 s, by default."""


async def carried_through(work: Coroutine[Any, Any, None], *, name: str) -> bool:
    """Does some work to its end, though Airflow cancels an `on_kill` again every second while it runs.

    Args:
        work: to do; raises nothing.
        name: of its task, for who looks at the loop.

    Returns:
        False when it was cut off, as time was up.
    """
    task = asyncio.create_task(work, name=name)
    loop = asyncio.get_running_loop()
    end = loop.time() + KILL_SECONDS
    while not task.done() and loop.time() < end:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait({task}, timeout=end - loop.time())
    if task.done():
        return True
    task.cancel()
    return False
