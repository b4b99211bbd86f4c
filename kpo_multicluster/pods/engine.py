"""Runs asynchronous steps for a synchronous caller: an event loop in a thread of its own, for Kubernetes I/O only.

The caller's thread drives one step at a time and is handed, in order, what the steps emit. What it does with that
(logging, Airflow calls, user callbacks) never happens on the loop's thread. Waiting is interruptible: a signal handler
may raise, and `stop` may be called from one.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Coroutine, Generator
from functools import partial
from queue import SimpleQueue
from typing import Any, TypeVar, cast

from kpo_multicluster.pods.emitted import LogBatch, PackedBatch

T = TypeVar("T")

# Bytes that may wait for the caller before a step is held back. A logger is slower than a busy container, and a kubelet
# that is held back for long loses what it rotates meanwhile.
_UNREAD_LIMIT = 32 * 2**20
# From here on lines wait compressed, so that of most logs some hundred megabytes find room.
_PACKED_FROM = _UNREAD_LIMIT // 2
# What each thing and each line takes beside its text.
_OVERHEAD = 256
# What was read is reported to the loop so much at a time: each report wakes its thread, which then fights for the GIL
# with the caller's. A step that is held back has more than the rest of it unread, so it never waits for good.
_REPORTED_AT_ONCE = _UNREAD_LIMIT // 4


class EngineStopped(BaseException):
    """`stop` was called while a step ran. A BaseException, so that no `except Exception` takes it for a failure."""


class Engine:
    """An event loop in a thread, from `start` to `close`."""

    def __init__(self, name: str) -> None:
        self._name = name
        # SimpleQueue.put is reentrant, so that a signal handler may wake the very thread it interrupted.
        self._queue: SimpleQueue[tuple[object, Any]] = SimpleQueue()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        # Made with the loop, whose thread alone touches it and what is unread.
        self._room: asyncio.Event | None = None
        self._unread = 0
        self._unreported = 0
        self._stopped = False

    @property
    def stopped(self) -> bool:
        """Whether `stop` was called."""
        return self._stopped

    def start(self) -> None:
        """Starts the loop; harmless when it runs."""
        if self._thread is not None:
            return
        # Made here: a signal handler that raises finds a loop to close, whatever it interrupted.
        if self._loop is None:
            self._room = asyncio.Event()
            self._loop = asyncio.new_event_loop()
        thread = threading.Thread(target=self._main, args=(self._loop,), name=self._name, daemon=True)
        self._thread = thread
        thread.start()

    @staticmethod
    def _main(loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
        finally:
            _cancel_all(loop)
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()

    async def emit(self, item: Any) -> None:
        """Hands `item` to the caller's thread; waits while too many are unread. On the loop's thread only."""
        assert self._room is not None
        while self._unread >= _UNREAD_LIMIT:
            self._room.clear()
            await self._room.wait()
        if self._unread >= _PACKED_FROM and isinstance(item, LogBatch):
            item = item.packed()
        self._unread += _size(item)
        self._queue.put((self, item))

    def drive(self, step: Coroutine[Any, Any, T]) -> Generator[Any, None, T]:
        """Runs a step; yields what is emitted meanwhile and returns the step's result.

        Raises:
            EngineStopped: `stop` was called.
            BaseException: whatever the step raised.
        """
        if self._stopped:
            step.close()
            raise EngineStopped
        self.start()
        loop = self._loop
        assert loop is not None
        done = object()
        loop.call_soon_threadsafe(self._launch, step, done)
        finished = False
        try:
            while True:
                kind, item = self._queue.get()
                if kind is self:
                    self._report_read(loop, _size(item))
                    yield item.unpacked() if isinstance(item, PackedBatch) else item
                elif kind is done:
                    finished = True
                    task: asyncio.Task[T] = item
                    return self._outcome(task)
                if self._stopped:
                    raise EngineStopped
        finally:
            if not finished:
                self._cancel_steps()

    def call(self, step: Coroutine[Any, Any, T], receive: Callable[[Any], None] | None = None) -> T:
        """Runs a step, giving what is emitted meanwhile to `receive`; returns its result.

        Raises:
            EngineStopped: `stop` was called.
            BaseException: whatever the step raised.
        """
        driven = self.drive(step)
        with contextlib.closing(driven):
            while True:
                try:
                    item = next(driven)
                except StopIteration as end:
                    return cast("T", end.value)
                if receive is not None:
                    receive(item)

    def stop(self) -> None:
        """Ends whatever step runs, and refuses new ones. From any thread and from a signal handler; does not block."""
        self._stopped = True
        self._queue.put((None, None))
        self._cancel_steps()

    def close(self, timeout_seconds: float = 5.0, *, last: Callable[[], Awaitable[None]] | None = None) -> bool:
        """Ends the loop and its thread.

        Args:
            timeout_seconds: how long to wait for that.
            last: run on the loop before it ends, such as closing a client.

        Returns:
            False if the thread was still running after that time.
        """
        loop, thread = self._loop, self._thread
        if loop is None:
            return True
        if thread is None or thread.ident is None:
            # Interrupted as it was to start: should it do so yet, it ends at once.
            loop.call_soon_threadsafe(loop.stop)
            return True
        if not loop.is_closed():
            loop.call_soon_threadsafe(lambda: loop.create_task(self._finish(last)))
        thread.join(timeout_seconds)
        if thread.is_alive():
            return False
        self._loop = self._thread = None
        return True

    async def _finish(self, last: Callable[[], Awaitable[None]] | None) -> None:
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        try:
            if last is not None:
                await last()
        finally:
            asyncio.get_running_loop().stop()

    def _launch(self, step: Coroutine[Any, Any, Any], done: object) -> None:
        assert self._loop is not None
        task = self._loop.create_task(step, name="step")
        task.add_done_callback(partial(self._ended, done))

    def _ended(self, done: object, task: asyncio.Task[Any]) -> None:
        # Looked at here: an error that no one waits for any more is not for asyncio to log, in whichever thread.
        if not task.cancelled():
            task.exception()
        self._queue.put((done, task))

    def _report_read(self, loop: asyncio.AbstractEventLoop, size: int) -> None:
        self._unreported += size
        if self._unreported >= _REPORTED_AT_ONCE:
            read, self._unreported = self._unreported, 0
            loop.call_soon_threadsafe(self._release, read)

    def _release(self, read: int) -> None:
        assert self._room is not None
        self._unread -= read
        self._room.set()

    def _cancel_steps(self) -> None:
        loop = self._loop
        if loop is not None and not loop.is_closed():
            # The loop may close in between.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(_cancel_named, loop, "step")

    @staticmethod
    def _outcome(task: asyncio.Task[T]) -> T:
        if task.cancelled():
            raise EngineStopped
        return task.result()


def _size(item: Any) -> int:
    """Bytes that it takes, roughly."""
    if isinstance(item, PackedBatch):
        return _OVERHEAD + len(item.data)
    lines = item.lines if isinstance(item, LogBatch) else ()
    return _OVERHEAD * (1 + len(lines)) + sum(len(line.text) for line in lines)


def _cancel_named(loop: asyncio.AbstractEventLoop, name: str) -> None:
    for task in asyncio.all_tasks(loop):
        if task.get_name() == name:
            task.cancel()


def _cancel_all(loop: asyncio.AbstractEventLoop) -> None:
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
