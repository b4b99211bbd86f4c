"""Writing to a log from an event loop: what becomes of it when who writes is cancelled."""

from __future__ import annotations

import asyncio
import sys
import threading

import pytest

from kpo_multicluster.triggers.writing import written


class SlowLog:
    """A log whose handler blocks until it is let go."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.began = asyncio.Event()
        self._goes_on = threading.Event()
        self._loop = asyncio.get_running_loop()

    def write(self, line: str) -> None:
        self._loop.call_soon_threadsafe(self.began.set)
        assert self._goes_on.wait(30)
        self.lines.append(line)

    def let_go(self) -> None:
        self._goes_on.set()


async def test_who_is_cancelled_can_note_what_was_written_and_then_ends() -> None:
    log, noted = SlowLog(), []

    async def write() -> None:
        for line in ("one", "two"):
            await written(log.write, line)
            noted.append(line)
            await asyncio.sleep(0)

    writer = asyncio.create_task(write())
    await log.began.wait()
    writer.cancel()
    await asyncio.sleep(0)
    log.let_go()
    with pytest.raises(asyncio.CancelledError):
        await writer
    assert (noted, log.lines) == (["one"], ["one"])


@pytest.mark.skipif(sys.version_info < (3, 11), reason="before Python 3.11 a time limit has a task of its own")
async def test_a_time_limit_that_falls_into_a_write_is_known_as_one() -> None:
    log = SlowLog()

    async def write() -> None:
        # A limit cancels the task in which it stands: told twice of that, the task would be ended with it.
        if sys.version_info >= (3, 11):
            async with asyncio.timeout(None) as limit:
                limit.reschedule(0)
                await written(log.write, "one")
                await asyncio.sleep(30)

    writer = asyncio.create_task(write())
    await log.began.wait()
    await asyncio.sleep(0.01)
    log.let_go()
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(asyncio.shield(writer), 30)
    assert log.lines == ["one"]
