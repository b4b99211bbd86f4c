"""Writes to a log from an event loop: in a thread, as a log's handlers may block."""

from __future__ import annotations

import asyncio
import contextvars
import sys
from collections.abc import Callable
from typing import Any


async def written(write: Callable[[Any], None], item: Any) -> None:
    """Writes something. Who is cancelled meanwhile goes on up to its next wait, and so can note that it was written.

    Args:
        write: blocks; knows by the context whose log it is.
        item: to be written.
    """
    context = contextvars.copy_context()
    # No task, as a loop that ends cancels each of those.
    writing = asyncio.get_running_loop().run_in_executor(None, context.run, write, item)
    try:
        await asyncio.shield(writing)
    except asyncio.CancelledError:
        await asyncio.wait({writing})
        task = asyncio.current_task()
        assert task is not None, "a coroutine runs in one"
        if sys.version_info >= (3, 11):
            # Still the same cancellation: counted twice, a time limit would not know its own.
            task.uncancel()
        task.cancel()
