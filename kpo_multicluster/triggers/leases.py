"""What the triggers of one event loop share while they need it: opened for the first, closed after the last."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary

T = TypeVar("T")


class _Shared(Generic[T]):
    """Something in use, or being opened."""

    def __init__(self, opening: asyncio.Task[T]) -> None:
        self.opening = opening
        self.users = 0


class _OnLoop(Generic[T]):
    """What one loop has."""

    def __init__(self) -> None:
        self.shared: dict[Hashable, _Shared[T]] = {}
        self.closing: set[asyncio.Task[None]] = set()


class Leases(Generic[T]):
    """Things of one kind.

    Args:
        close: ends one; not called where it suffices to forget it.
    """

    def __init__(self, close: Callable[[T], Awaitable[None]] | None = None) -> None:
        self._close = close
        self._loops: WeakKeyDictionary[asyncio.AbstractEventLoop, _OnLoop[T]] = WeakKeyDictionary()

    @property
    def keys(self) -> set[Hashable]:
        """Of what is in use on the running loop."""
        return set(self._here.shared)

    @contextlib.asynccontextmanager
    async def lease(self, key: Hashable, opened: Callable[[], Coroutine[Any, Any, T]]) -> AsyncIterator[T]:
        """Something, until its last user on this loop leaves its block.

        Args:
            key: what it is known by.
            opened: makes it, for the first user. Its error is raised in all who wait for it.
        """
        shared = self._here.shared.get(key)
        if shared is None:
            shared = self._here.shared[key] = _Shared(asyncio.create_task(opened(), name="open what is shared"))
        shared.users += 1
        try:
            # One user who is cancelled must not end what others wait for.
            yield await asyncio.shield(shared.opening)
        finally:
            shared.users -= 1
            if not shared.users:
                del self._here.shared[key]
                await self._end(shared.opening)

    async def settle(self) -> None:
        """Waits until all is closed on this loop that is no longer in use."""
        await asyncio.gather(*self._here.closing)

    @property
    def _here(self) -> _OnLoop[T]:
        return self._loops.setdefault(asyncio.get_running_loop(), _OnLoop())

    async def _end(self, opening: asyncio.Task[T]) -> None:
        closing = asyncio.create_task(self._closed(opening), name="close what was shared")
        self._here.closing.add(closing)
        closing.add_done_callback(self._here.closing.discard)
        # A second cancellation must not leave it open.
        await asyncio.shield(closing)

    async def _closed(self, opening: asyncio.Task[T]) -> None:
        opening.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            one = await opening
            if self._close is not None:
                await self._close(one)
