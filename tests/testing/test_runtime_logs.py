"""Container logs: how output is stored, and what a client of the log subresource gets of it."""

from __future__ import annotations

import asyncio
import fcntl
import os
import time
from pathlib import Path
from typing import Any

import pytest

from kpo_multicluster.testing.interfaces import STDERR, STDOUT, LogOptions
from kpo_multicluster.testing.runtime import descriptors
from kpo_multicluster.testing.runtime.log_reader import read_log, since_seconds_of
from kpo_multicluster.testing.runtime.logs import MAX_PIECE_BYTES, ContainerLog, LogPump

SECOND = 1_000_000_000
F_SETPIPE_SZ = 1031
START = 1_700_000_000 * SECOND  # 2023-11-14T22:13:20Z


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> int:
        self.now += 1
        return self.now

    def at(self, seconds: float) -> None:
        self.now = START + round(seconds * SECOND)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def log(tmp_path: Path, clock: Clock) -> ContainerLog:
    return ContainerLog(tmp_path, "base", clock=clock)


def ended(log: ContainerLog) -> ContainerLog:
    for stream in (STDOUT, STDERR):
        log.finish(stream)
    log.close()
    return log


async def read(log: ContainerLog, **options: Any) -> str:
    return b"".join([batch async for batch in read_log(log, LogOptions(**options))]).decode()


async def test_lines_are_stored_with_time_stream_and_tag(log: ContainerLog) -> None:
    log.write(STDOUT, b"one\ntw")
    log.write(STDERR, "fählt\n".encode())
    log.write(STDOUT, b"o\n")
    ended(log)
    assert log.path(0).read_text().splitlines() == [
        "2023-11-14T22:13:20.000000001Z stdout F one",
        "2023-11-14T22:13:20.000000002Z stderr F fählt",
        "2023-11-14T22:13:20.000000003Z stdout F two",
    ]
    assert await read(log) == "one\nfählt\ntwo\n"


async def test_a_character_split_between_two_writes_stays_whole(log: ContainerLog) -> None:
    data = "日本\n".encode()
    log.write(STDOUT, data[:4])
    log.write(STDOUT, data[4:])
    assert await read(ended(log)) == "日本\n"


async def test_a_last_line_without_newline_is_kept_without_one(log: ContainerLog) -> None:
    log.write(STDOUT, b"done\nprompt> ")
    assert await read(log) == "done\n"
    assert await read(ended(log)) == "done\nprompt> "


async def test_carriage_return_before_newline_is_dropped(log: ContainerLog) -> None:
    log.write(STDOUT, b"windows\r\nbar 1\rbar 2\n")
    assert await read(ended(log)) == "windows\nbar 1\rbar 2\n"


@pytest.mark.parametrize(
    ("length", "tags"), [(16384, "F"), (16385, "PF"), (40000, "PPF"), (32768, "PF"), (0, "F")], ids=str
)
async def test_long_lines_are_cut_and_joined_again(log: ContainerLog, length: int, tags: str) -> None:
    line = bytes(97 + at % 26 for at in range(length)) + b"\n"
    for start in range(0, len(line), 5000):
        log.write(STDOUT, line[start : start + 5000])
    ended(log)
    stored = log.path(0).read_bytes().splitlines()
    assert "".join(chr(entry[38]) for entry in stored) == tags
    assert max(len(entry) for entry in stored) <= 40 + MAX_PIECE_BYTES
    assert await read(log) == line.decode()


async def test_only_the_first_piece_of_a_line_has_a_timestamp(log: ContainerLog) -> None:
    log.write(STDOUT, b"x" * 40000 + b"\nnext\n")
    text = await read(ended(log), timestamps=True)
    assert text == f"2023-11-14T22:13:20.000000001Z {'x' * 40000}\n2023-11-14T22:13:20.000000004Z next\n"


async def test_what_interrupts_a_long_line_lands_inside_it(log: ContainerLog) -> None:
    log.write(STDOUT, b"x" * 20000)
    log.write(STDERR, b"oops\n")
    log.write(STDOUT, b"\n")
    text = await read(ended(log), timestamps=True)
    head = f"2023-11-14T22:13:20.000000001Z {'x' * MAX_PIECE_BYTES}oops\n"
    assert text == f"{head}2023-11-14T22:13:20.000000003Z {'x' * (20000 - MAX_PIECE_BYTES)}\n"


async def test_since_time_is_whole_seconds_and_inclusive(log: ContainerLog, clock: Clock) -> None:
    for seconds in (0.5, 1.0, 1.9, 2.0):
        clock.at(seconds)
        log.write(STDOUT, f"{seconds}\n".encode())
    ended(log)
    assert await read(log, since_time="2023-11-14T22:13:21Z") == "1.0\n1.9\n2.0\n"
    assert await read(log, since_time="2023-11-14T22:13:21.95Z") == "1.0\n1.9\n2.0\n"
    assert await read(log, since_time="2023-11-14T23:13:22+01:00") == "2.0\n"
    assert await read(log, since_time="2023-11-14T22:13:23Z") == ""


async def test_since_time_inside_a_long_line_gives_its_rest_headless(log: ContainerLog, clock: Clock) -> None:
    clock.at(0)
    log.write(STDOUT, b"a" * (MAX_PIECE_BYTES + 1))
    clock.at(1)
    log.write(STDOUT, b"b\nnext\n")
    text = await read(ended(log), since_time="2023-11-14T22:13:21Z", timestamps=True)
    assert text == "ab\n2023-11-14T22:13:21.000000002Z next\n"


async def test_since_seconds_counts_back_from_now(tmp_path: Path) -> None:
    now = time.time_ns()
    moments = [now - 100 * SECOND, now - 2 * SECOND]
    log = ContainerLog(tmp_path, "base", clock=lambda: moments.pop(0))
    log.write(STDOUT, b"old\nyoung\n")
    assert await read(ended(log), since_seconds=50) == "young\n"


@pytest.mark.parametrize("text", ["yesterday", "2023-11-14", "2023-11-14T22:13:21", "2023-13-14T22:13:21Z"])
def test_a_wrong_since_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"2023|yesterday|month"):
        since_seconds_of(text)


@pytest.mark.parametrize("count", [0, 1, 3, 9_999, 10_000, 20_000])
async def test_tail_lines(log: ContainerLog, count: int) -> None:
    lines = [f"line {number} {'.' * (number % 90)}" for number in range(10_000)]
    log.write(STDOUT, "\n".join(lines).encode() + b"\n")
    ended(log)
    wanted = lines[-count:] if count else []
    assert (await read(log, tail_lines=count)).splitlines() == wanted
    assert (await read(log, tail_lines=count, follow=True)).splitlines() == wanted


async def test_tail_lines_counts_pieces(log: ContainerLog) -> None:
    log.write(STDOUT, b"a" * MAX_PIECE_BYTES + b"b\nlast\n")
    assert await read(ended(log), tail_lines=2) == "b\nlast\n"


@pytest.mark.parametrize("limit", [1, 5, 6, 20, 1000])
async def test_limit_bytes_cuts_exactly(log: ContainerLog, limit: int) -> None:
    log.write(STDOUT, b"first\nsecond\nthird\n")
    assert await read(ended(log), limit_bytes=limit) == "first\nsecond\nthird\n"[:limit]


async def test_follow_gives_each_line_within_milliseconds_and_ends_with_the_container(tmp_path: Path) -> None:
    log = ContainerLog(tmp_path, "base")
    latencies = []
    batches = read_log(log, LogOptions(follow=True))
    for number in range(20):
        written = time.perf_counter()
        asyncio.get_running_loop().call_soon(log.write, STDOUT, f"{number}\n".encode())
        assert await asyncio.wait_for(anext(batches), 60) == f"{number}\n".encode()
        latencies.append(time.perf_counter() - written)
    asyncio.get_running_loop().call_soon(ended, log)
    with pytest.raises(StopAsyncIteration):
        await asyncio.wait_for(anext(batches), 60)
    # The best of them: what other programs take of a busy machine is not looked at.
    assert min(latencies) < 0.02


async def test_follow_that_is_given_up_leaves_no_descriptor(tmp_path: Path) -> None:
    log = ContainerLog(tmp_path, "base")
    before = len(os.listdir("/proc/self/fd"))
    task = asyncio.create_task(read(log, follow=True))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert len(os.listdir("/proc/self/fd")) <= before
    log.close()


async def test_rotation_leaves_the_newest_file_to_readers_and_everything_to_followers(tmp_path: Path) -> None:
    log = ContainerLog(tmp_path, "base", max_bytes=2000)
    follower = asyncio.create_task(read(log, follow=True))
    for number in range(100):
        log.write(STDOUT, f"line {number}\n".encode())
        await asyncio.sleep(0)
    assert log.generation > 1
    newest = await read(log)
    assert newest.startswith("line ")
    assert len(newest.splitlines()) < 50
    ended(log)
    assert (await follower).splitlines() == [f"line {number}" for number in range(100)]
    assert len(list(tmp_path.iterdir())) <= 5
    log.remove()
    assert not list(tmp_path.iterdir())


async def test_a_follower_that_falls_behind_goes_on_with_the_oldest_file_left(tmp_path: Path) -> None:
    log = ContainerLog(tmp_path, "base", max_bytes=500)
    batches = read_log(log, LogOptions(follow=True))
    log.write(STDOUT, b"line 0\n")
    assert await anext(batches) == b"line 0\n"
    for number in range(1, 200):
        log.write(STDOUT, f"line {number}\n".encode())
    ended(log)
    lines = b"".join([batch async for batch in batches]).decode().splitlines()
    assert lines[-1] == "line 199"
    assert lines != [f"line {number}" for number in range(1, 200)]
    assert lines == sorted(lines, key=lambda line: int(line.split()[1]))


async def test_a_pump_that_is_stopped_takes_what_is_in_the_pipes(tmp_path: Path) -> None:
    log = ContainerLog(tmp_path, "base")
    reader, writer = descriptors.pipe()
    for fd in (reader, writer):
        os.set_blocking(fd, False)
    fcntl.fcntl(writer, F_SETPIPE_SZ, 1024 * 1024)
    block = b"x" * 1023 + b"\n"
    for _ in range(1000):
        os.write(writer, block)
    # Someone goes on holding its other end, as what outlives a container may.
    LogPump(log, {STDOUT: reader}).stop()
    assert log.closed
    assert await read(log) == block.decode() * 1000
    descriptors.close(writer)


async def test_a_log_removed_before_it_is_read_is_empty(log: ContainerLog) -> None:
    log.write(STDOUT, b"gone\n")
    batches = read_log(log, LogOptions())
    log.remove()
    assert [batch async for batch in batches] == []


async def test_many_lines_take_little_time_and_memory(tmp_path: Path) -> None:
    log = ContainerLog(tmp_path, "base")
    block = b"".join(b"%07d %s\n" % (number, b"." * 91) for number in range(2000))
    began = time.process_time()
    for _ in range(100):
        log.write(STDOUT, block)
    ended(log)
    sizes = [len(batch) async for batch in read_log(log, LogOptions(timestamps=True))]
    spent = time.process_time() - began
    assert sum(sizes) == 100 * (len(block) + 2000 * 31)
    assert max(sizes) < 600_000
    assert spent < 20, f"{spent:.2f} s for 200,000 lines"
