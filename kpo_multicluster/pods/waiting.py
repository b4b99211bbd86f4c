"""Signs of life of a pod that takes long to start: what it waits for, and since when."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

from kpo_multicluster.pods.emitted import Notice
from kpo_multicluster.pods.status import name_of, waiting_for, waiting_since

# Short starts are told of by nothing, long ones by few lines.
_PAUSE_SECONDS = (15.0, 300.0)


async def tell_waiting(
    pod: Callable[[], dict[str, Any]],
    emit: Callable[[Any], Awaitable[None]],
    *,
    after_seconds: float,
    pause_seconds: tuple[float, float] = _PAUSE_SECONDS,
) -> None:
    """Emits what a pod waits for, at growing intervals, until cancelled. Asks the cluster nothing.

    Args:
        pod: gives it as last seen.
        emit: is awaited with a Notice each.
        after_seconds: until the first.
        pause_seconds: until the second, and between two at the most.
    """
    pause, longest = pause_seconds
    await asyncio.sleep(after_seconds)
    while True:
        await emit(Notice("info", waiting_line(pod())))
        await asyncio.sleep(pause)
        pause = min(2 * pause, longest)


def waiting_line(pod: dict[str, Any]) -> str:
    """What a pod that has not started waits for, and since when by its cluster's clock."""
    since = waiting_since(pod)
    known = f" since {datetime.fromisoformat(since.replace('Z', '+00:00')):%H:%M:%S %Z}" if since else ""
    return f"Pod {name_of(pod)} has not started{known}: {waiting_for(pod).rstrip('.')}."
