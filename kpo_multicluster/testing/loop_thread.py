"""An event loop in a thread of its own, which lives as long as an asynchronous context does."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Any, Generic, TypeVar

from kpo_multicluster.errors import ConfigurationError

CALL_SECONDS = 60.0
_START_SECONDS = 60.0

_P = TypeVar("_P")
_T = TypeVar("_T")


class LoopThread(Generic[_P]):
    """Enters a context on a loop in a new thread, and leaves it when told to.

    Args:
        name: what runs, for messages.
        live: the context; what it gives is at hand as `parts` meanwhile.
    """

    def __init__(self, name: str, live: Callable[[], AbstractAsyncContextManager[_P]]) -> None:
        self._name = name
        self._live = live
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._task: asyncio.Task[None] | None = None
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None
        self.parts: _P | None = None

    def start(self) -> None:
        """Starts the thread; returns once the context is entered.

        Raises:
            ConfigurationError: it was started before; and whatever the context raises.
        """
        if self._thread is not None:
            raise ConfigurationError(f"The {self._name} was started before: make a new one.")
        ready: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._thread = threading.Thread(target=self._run, args=(ready,), name=self._name, daemon=True)
        self._thread.start()
        try:
            ready.result(_START_SECONDS)
        except concurrent.futures.TimeoutError:
            self._abandon()
            raise ConfigurationError(f"The {self._name} did not start within {_START_SECONDS:g} s.") from None
        except BaseException:
            self._abandon()
            raise

    def stop(self) -> None:
        """Leaves the context and ends the thread. Harmless when it is not running.

        Raises:
            BaseException: what the context raised while it was left.
        """
        if self._thread is None or self._thread is threading.current_thread():
            return
        self._join()
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def running(self) -> _P:
        """What the context gave.

        Raises:
            ConfigurationError: it is not running.
        """
        if self.parts is None:
            raise self._not_running()
        return self.parts

    def _not_running(self) -> ConfigurationError:
        return ConfigurationError(f"The {self._name} is not running: use it in a with block, or call start() first.")

    def call(self, work: Coroutine[Any, Any, _T], timeout_seconds: float = CALL_SECONDS) -> _T:
        """Runs a coroutine on the loop and waits for it.

        Raises:
            ConfigurationError: it is not running; and whatever the coroutine raises.
        """
        if self.parts is None or self._loop is None:
            work.close()
            raise self._not_running()
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout_seconds)

    def _abandon(self) -> None:
        """Ends the thread wherever it is on its way into the context."""
        if self._loop is not None and self._task is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended by itself
                self._loop.call_soon_threadsafe(self._task.cancel)
        self._join()

    def _join(self) -> None:
        if self._loop is not None and self._stopping is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended by itself
                self._loop.call_soon_threadsafe(self._stopping.set)
        if self._thread is not None:
            self._thread.join()

    def _run(self, ready: concurrent.futures.Future[None]) -> None:
        loop = asyncio.new_event_loop()
        try:
            loop.run_until_complete(self._stay(loop, ready))
        except BaseException as error:  # noqa: BLE001 - handed to the thread that starts or stops this one
            if ready.done():
                self._failure = error
            else:
                ready.set_exception(error)
        finally:
            _wind_up(loop)

    async def _stay(self, loop: asyncio.AbstractEventLoop, ready: concurrent.futures.Future[None]) -> None:
        self._loop, self._stopping, self._task = loop, asyncio.Event(), asyncio.current_task()
        async with self._live() as parts:
            self.parts = parts
            ready.set_result(None)
            try:
                await self._stopping.wait()
            finally:
                self.parts = None


def _wind_up(loop: asyncio.AbstractEventLoop) -> None:
    """Ends what is left on a loop, then the loop."""

    async def cancel_all() -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            if task is not None:
                task.cancel()
        await asyncio.gather(*filter(None, tasks), return_exceptions=True)

    try:
        loop.run_until_complete(cancel_all())
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()
