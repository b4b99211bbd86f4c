"""Turns on an event loop that many share: what a thousand begin or end at the same moment is spread over rounds of it.

What each of them does takes about a millisecond. All in one round of the loop would hold up everyone else on it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from weakref import WeakKeyDictionary

# In one round of the loop, which then sees to all others.
_TURNS_A_ROUND = 8


class Turns:
    """Lets those who wait for their turn go on in the order they came, a few in each round of the loop."""

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def take(self) -> None:
        """Returns when it is the caller's turn, in the next round of the loop if no one else waits."""
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        if not self._waiting:
            loop.call_soon(self._give)
        self._waiting.append(turn)
        await turn

    def _give(self) -> None:
        given = 0
        while self._waiting and given < _TURNS_A_ROUND:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                given += 1
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._give)


_turns: WeakKeyDictionary[asyncio.AbstractEventLoop, Turns] = WeakKeyDictionary()


def turns() -> Turns:
    """Those of the running event loop."""
    return _turns.setdefault(asyncio.get_running_loop(), Turns())
