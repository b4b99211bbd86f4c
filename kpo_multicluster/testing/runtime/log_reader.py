"""Reading a container's log with the options of `GET pods/NAME/log`, with the results a kubelet gives.

A kubelet works on stored lines, and that shows in what clients get: pieces of one long line are joined, and only the
first has a timestamp; where `sinceTime` begins inside such a line, its rest comes without its head; `tailLines` counts
pieces; `sinceTime` reaches the node in whole seconds and includes that second.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import AsyncIterator
from datetime import datetime, timezone
from typing import Final

from kpo_multicluster.testing.interfaces import LogOptions
from kpo_multicluster.testing.runtime.logs import TIME_BYTES, ContainerLog

_CHUNK_BYTES: Final = 256 * 1024
_FULL: Final = ord("F")
# `TIME stdout F text`: both stream names have six letters.
_TAG_AT: Final = TIME_BYTES + 8
_TEXT_AT: Final = _TAG_AT + 2
_RFC3339: Final = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.\d+)?(Z|z|[+-]\d\d:\d\d)")


def since_seconds_of(text: str) -> int:
    """Whole seconds since the epoch of an RFC 3339 time.

    Raises:
        ValueError: it is none.
    """
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise ValueError(f"sinceTime {text!r} is not an RFC 3339 time such as 2026-01-31T12:00:00Z")
    date, clock, zone = match.groups()
    return int(datetime.fromisoformat(f"{date}T{clock}{'+00:00' if zone in 'Zz' else zone}").timestamp())


async def read_log(log: ContainerLog, options: LogOptions) -> AsyncIterator[bytes]:
    """The log's bytes as a client gets them, in batches of any size.

    Ends at the log's present end, or with `follow` when the container has ended.
    """
    generation = log.generation
    output = _Output(options)
    try:
        fd = _open(log, generation)
    except FileNotFoundError:
        return  # removed with its pod since it was asked for
    rest = b""
    try:
        if options.tail_lines is not None:
            os.lseek(fd, _tail_start(fd, options.tail_lines), os.SEEK_SET)
        while not output.done:
            data = os.read(fd, _CHUNK_BYTES)
            if data:
                *lines, rest = (rest + data).split(b"\n")
                batch = output.take(lines)
                if batch:
                    yield batch
                # A client that takes all it is given must not keep the loop from others.
                await asyncio.sleep(0)
            elif not options.follow:
                return
            elif generation < log.generation:
                read_to_end = fd
                generation, fd = _next(log, generation)
                os.close(read_to_end)
            elif log.closed:
                return
            else:
                await log.changed()
    finally:
        os.close(fd)


class _Output:
    """Turns stored lines into what a client gets."""

    def __init__(self, options: LogOptions) -> None:
        self._timestamps = options.timestamps
        self._since = _since(options)
        self._bytes_left = options.limit_bytes
        self._lines_left = None if options.follow else options.tail_lines
        self._at_line_start = True
        self.done = self._lines_left == 0

    def take(self, lines: list[bytes]) -> bytes:
        if self._lines_left is not None:
            lines = lines[: self._lines_left]
            self._lines_left -= len(lines)
            self.done = self._lines_left == 0
        batch = b"".join(self._shown(lines))
        if self._bytes_left is not None:
            batch = batch[: self._bytes_left]
            self._bytes_left -= len(batch)
            self.done = self.done or self._bytes_left == 0
        return batch

    def _shown(self, lines: list[bytes]) -> list[bytes]:
        shown: list[bytes] = []
        for line in lines:
            full = line[_TAG_AT] == _FULL
            if line >= self._since:
                if self._timestamps and self._at_line_start:
                    shown.append(line[: TIME_BYTES + 1])
                shown.append(line[_TEXT_AT:])
                if full:
                    shown.append(b"\n")
            # Also for what was left out: this is how a long line comes to be shown without its head.
            self._at_line_start = full or len(line) == _TEXT_AT
        return shown


def _since(options: LogOptions) -> bytes:
    """The least stored line to be shown, as bytes to compare with; empty when all are."""
    since = b""
    if options.since_seconds is not None:
        seconds, rest = divmod(time.time_ns(), 1_000_000_000)
        since = _time(seconds - options.since_seconds, rest)
    if options.since_time is not None:
        since = max(since, _time(since_seconds_of(options.since_time), 0))
    return since


def _time(seconds: int, nanoseconds: int) -> bytes:
    text = datetime.fromtimestamp(max(seconds, 0), timezone.utc).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{nanoseconds:09d}Z".encode()


def _open(log: ContainerLog, generation: int) -> int:
    return os.open(log.path(generation), os.O_RDONLY | os.O_CLOEXEC)


def _next(log: ContainerLog, generation: int) -> tuple[int, int]:
    """The oldest file after a generation that has not been removed yet."""
    for following in range(generation + 1, log.generation):
        try:
            return following, _open(log, following)
        except FileNotFoundError:
            continue
    return log.generation, _open(log, log.generation)


def _tail_start(fd: int, count: int) -> int:
    """Where the last `count` stored lines begin."""
    end = os.lseek(fd, 0, os.SEEK_END)
    if count <= 0:
        return end
    position, seen = end, 0
    while position:
        start = max(0, position - _CHUNK_BYTES)
        block = os.pread(fd, position - start, start)
        found = block.count(b"\n")
        if seen + found > count:
            at = len(block)
            for _ in range(count - seen + 1):
                at = block.rindex(b"\n", 0, at)
            return start + at + 1
        seen += found
        position = start
    return 0
