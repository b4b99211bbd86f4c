"""The engine between two threads: order, back-pressure, errors, and its end from a signal handler."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import random
import signal
import string
import threading
import time
from collections.abc import Iterator
from types import FrameType

import pytest

from kpo_multicluster.pods.emitted import LogBatch
from kpo_multicluster.pods.engine import Engine, EngineStopped
from kpo_multicluster.pods.logs import LogLine


@pytest.fixture
def engine() -> Iterator[Engine]:
    before = set(threading.enumerate())
    engine = Engine("test engine")
    yield engine
    assert engine.close()
    assert set(threading.enumerate()) == before


def test_a_step_runs_on_another_thread_and_returns(engine: Engine) -> None:
    async def step() -> str:
        return threading.current_thread().name

    assert engine.call(step()) == "test engine"


def test_what_is_emitted_arrives_in_order_on_the_calling_thread(engine: Engine) -> None:
    async def step() -> str:
        for number in range(1000):
            await engine.emit(number)
        return "done"

    received: list[tuple[int, str]] = []
    result = engine.call(step(), lambda item: received.append((item, threading.current_thread().name)))
    assert result == "done"
    assert received == [(number, threading.current_thread().name) for number in range(1000)]


@pytest.mark.parametrize(("lines", "length"), [(0, 0), (1, 2_000_000), (500, 100), (20_000, 50)])
def test_a_step_waits_for_a_slow_caller_and_goes_on_when_it_has_read(engine: Engine, lines: int, length: int) -> None:
    # As the engine counts: each line, and each batch, takes more than its text. Random text is hardly packed.
    size = 256 + lines * (256 + length)
    text = "".join(random.Random(23).choices(string.printable.strip(), k=length * lines))
    parts = [LogLine(None, text[at : at + length]) for at in range(0, len(text), length or 1)]
    batch = LogBatch("base", parts) if lines else None
    count, emitted = 5 * 32 * 2**20 // size, 0

    async def step() -> None:
        nonlocal emitted
        for _ in range(count):
            await engine.emit(batch)
            emitted += size

    driven, received = engine.drive(step()), 1
    assert next(driven) == batch
    deadline = time.monotonic() + 60
    while emitted < 32 * 2**20 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.5)
    ahead = emitted
    assert ahead <= 4 * 32 * 2**20
    for item in driven:
        received += 1
        assert item == batch
        assert emitted - received * size <= ahead + 8 * 2**20 + 2 * size
    assert received == count


def test_a_log_is_read_far_ahead_of_a_slow_caller(engine: Engine) -> None:
    stamps = [f"2026-03-01T12:00:{number // 10_000:02d}.{number % 10_000:09d}Z" for number in range(400_000)]
    lines = [LogLine(stamp, f"epoch {number}: loss 0.{number:08d} ü{{}}") for number, stamp in enumerate(stamps)]
    lines[100_000] = lines[-1] = LogLine(None, " the rest of a long line ")
    lines[100_001] = LogLine(stamps[100_001], "")
    batches = [LogBatch("base", lines[at : at + 1000]) for at in range(0, len(lines), 1000)]
    done = threading.Event()

    async def step() -> None:
        for batch in batches:
            await engine.emit(batch)
        done.set()

    driven = engine.drive(step())
    received = [next(driven)]
    assert done.wait(60), "held back, by less than what fits"
    received += driven
    assert received == batches


def test_what_earlier_steps_emitted_leaves_room_for_later_ones(engine: Engine) -> None:
    received: list[int] = []

    async def step(first: int) -> None:
        for number in range(first, first + 7):
            await engine.emit(number)

    for first in range(0, 700, 7):
        engine.call(step(first), received.append)
    assert received == list(range(700))


def test_what_a_background_task_emits_between_steps_is_kept(engine: Engine) -> None:
    tasks = []

    async def background() -> None:
        for number in range(10):
            await engine.emit(number)

    async def first() -> None:
        tasks.append(asyncio.create_task(background()))

    async def second() -> None:
        await tasks[0]

    received: list[int] = []
    engine.call(first(), received.append)
    engine.call(second(), received.append)
    assert received == list(range(10))


def test_an_error_of_the_step_reaches_the_caller(engine: Engine) -> None:
    async def step() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        engine.call(step())


def test_an_error_of_the_caller_ends_the_step(engine: Engine) -> None:
    ended = threading.Event()

    async def step() -> None:
        try:
            while True:
                await engine.emit("line")
        finally:
            ended.set()

    def receive(item: str) -> None:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        engine.call(step(), receive)
    assert ended.wait(5)


def test_stop_from_a_signal_handler_wakes_the_waiting_thread(engine: Engine) -> None:
    cancelled = threading.Event()

    async def step() -> None:
        threading.Timer(0.05, os.kill, [os.getpid(), signal.SIGUSR1]).start()
        try:
            await asyncio.sleep(60)
        finally:
            cancelled.set()

    def on_signal(number: int, frame: FrameType | None) -> None:
        engine.stop()

    previous = signal.signal(signal.SIGUSR1, on_signal)
    try:
        with pytest.raises(EngineStopped):
            engine.call(step())
    finally:
        signal.signal(signal.SIGUSR1, previous)
    assert cancelled.wait(5)
    with pytest.raises(EngineStopped):
        engine.call(asyncio.sleep(0))


def test_an_exception_from_a_signal_handler_ends_the_step(engine: Engine) -> None:
    cancelled = threading.Event()

    class TimeLimit(BaseException):
        pass

    async def step() -> None:
        threading.Timer(0.05, os.kill, [os.getpid(), signal.SIGUSR1]).start()
        try:
            await asyncio.sleep(60)
        finally:
            cancelled.set()

    def on_signal(number: int, frame: FrameType | None) -> None:
        raise TimeLimit

    previous = signal.signal(signal.SIGUSR1, on_signal)
    try:
        with pytest.raises(TimeLimit):
            engine.call(step())
    finally:
        signal.signal(signal.SIGUSR1, previous)
    assert cancelled.wait(5)
    assert engine.call(asyncio.sleep(0, "still serves")) == "still serves"


def test_close_ends_background_tasks_and_runs_the_last_step() -> None:
    engine, log = Engine("closing"), []

    async def background() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            log.append("background ended")

    async def first() -> None:
        engine.tasks = [asyncio.create_task(background())]  # type: ignore[attr-defined]
        await asyncio.sleep(0)

    async def last() -> None:
        log.append("last")

    engine.call(first())
    assert engine.close(last=last)
    assert log == ["background ended", "last"]
    assert engine.close()


def test_close_gives_up_on_a_loop_that_is_stuck() -> None:
    engine, release = Engine("stuck"), threading.Event()

    async def step() -> None:
        asyncio.get_running_loop().call_later(0.01, release.wait)

    engine.call(step())
    time.sleep(0.1)
    try:
        assert not engine.close(0.1)
    finally:
        release.set()
    thread = next((t for t in threading.enumerate() if t.name == "stuck"), None)
    with contextlib.suppress(AttributeError):
        thread.join(5)  # type: ignore[union-attr]
    assert thread is None or not thread.is_alive()


def test_an_error_of_a_step_that_no_one_waits_for_is_not_logged(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    async def step() -> None:
        try:
            await engine.emit("started")
            await asyncio.sleep(60)
        finally:
            raise OSError("the connection was closed")

    driven = engine.drive(step())
    assert next(driven) == "started"
    driven.close()
    engine.call(asyncio.sleep(0.01))
    del driven
    gc.collect()
    engine.call(asyncio.sleep(0))
    assert caplog.records == []
