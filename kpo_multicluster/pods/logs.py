"""Log lines of a container, and the cursor that resumes a broken stream without losing or repeating one.

The log is read with `timestamps=true`: each line starts with the time its first piece was written, in RFC 3339 with
nanoseconds. What the cursor must live with, seen on real kubelets: `sinceTime` is cut to whole seconds and inclusive;
timestamps are not monotone between stdout and stderr; a line over 16 KiB is stored in pieces with a timestamp each, so
that one resumed in its middle comes back without its head and without a timestamp; a rotated file forgets old lines,
and one that is rotated in the middle of a line has its first piece only, and the next file the rest as its first line.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from functools import lru_cache
from typing import Any, NamedTuple

_SECOND = 1_000_000_000
_SECOND_LENGTH = len("2026-03-01T12:00:00")
# A kubelet looks for logs to rotate every 10 s, or as often as it is told to, but no more often than this
# (`containerLogMonitorInterval`): two lines that are closer are in the same file, or in one and the next.
_ROTATION_NANOSECONDS = 3 * _SECOND


class LogLine(NamedTuple):
    """One complete line, without its line end.

    A log may have a hundred thousand lines a second: what is not needed of each is not made of each.

    Attributes:
        stamp: when it was written, always as `2026-03-01T12:00:00.000000007Z`; None for a piece that came without time.
        text: decoded as UTF-8, undecodable bytes escaped.
    """

    stamp: str | None
    text: str

    @property
    def timestamp(self) -> int | None:
        """Nanoseconds since the epoch."""
        return None if self.stamp is None else _nanoseconds(self.stamp)


@lru_cache(maxsize=256)
def _epoch(second: str) -> int:
    """Seconds since the epoch of `2026-03-01T12:00:00` and a zone; none is UTC.

    Raises:
        ValueError: it is no time.
    """
    time = datetime.fromisoformat(second.removesuffix("Z"))
    return int((time if time.tzinfo is not None else time.replace(tzinfo=timezone.utc)).timestamp())


def _nanoseconds(stamp: str) -> int:
    return _epoch(stamp[:_SECOND_LENGTH]) * _SECOND + int(stamp[20:29])


def _uniform(stamp: str) -> str | None:
    """A time of RFC 3339 as `LogLine` has it, or None if it is none."""
    if len(stamp) < 20 or stamp[10] != "T":
        return None
    split = -1 if stamp[-1] == "Z" else -6
    fraction, zone = stamp[_SECOND_LENGTH:split], stamp[split:]
    if fraction and not (fraction[0] == "." and fraction[1:].isdecimal() and len(fraction) <= 10):
        return None
    try:
        return f"{_second(_epoch(stamp[:_SECOND_LENGTH] + zone))}.{fraction[1:]:0<9}Z"
    except ValueError:
        return None


class LogCursor(NamedTuple):
    """Where a log was left, small enough to be stored.

    Attributes:
        since: whole second since the epoch to resume from, one before that of the newest line.
        seen: complete lines at or after `since` that were already given out, in stream order.
        last: timestamp in nanoseconds of the last line given out.
        restart: the container's restart count the log belongs to.
    """

    since: int
    seen: int
    last: int
    restart: int = 0

    @property
    def since_time(self) -> str:
        """For the `sinceTime` query parameter."""
        return datetime.fromtimestamp(self.since, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")

    def to_json(self) -> list[int]:
        """Four integers."""
        return [self.since, self.seen, self.last, self.restart]

    @classmethod
    def from_json(cls, data: Iterable[int]) -> LogCursor:
        """From what `to_json` wrote."""
        since, seen, last, restart = data
        return cls(since, seen, last, restart)


class LogReader:
    """Turns the chunks of one or more streams of a container's log into lines, each given out once.

    Call `resume` before each stream, `feed` with its chunks and `end` after its clean end. Within an unbroken stream
    nothing is filtered.

    Attributes:
        first: timestamp of the first line given out of the present log; None before it, and with a cursor from outside.
        notice: what the user should be told; to be cleared by who tells it.
    """

    def __init__(self, cursor: LogCursor | None = None) -> None:
        self.first: int | None = None
        self._rest = b""
        # What timestamps of the second last seen begin with, up to their fraction.
        self._start = ""
        self._restart = cursor.restart if cursor else 0
        self._last = _stamp(cursor.last) if cursor else None
        # The oldest second that is asked for again; lines given out so far, by second, from then on.
        self._since = _second(cursor.since) if cursor else None
        self._recent: dict[str, int] = {_second(cursor.last // _SECOND): cursor.seen} if cursor else {}
        # The latest time of all lines given out; it need not be that of the last.
        self._newest: str | None = None
        self._skip = 0
        self._after: str | None = None
        self._skipping = False
        self._held: list[LogLine] = []
        # What a stream before left of a line; and, since the last line was given out, whether one gave all of its file,
        # surely, and whether there was nothing left of what was seen.
        self._head: LogLine | None = None
        self._file_ended = self._surely = self._rotated = False
        self.notice: str | None = None

    @property
    def cursor(self) -> LogCursor | None:
        """Where to resume; None as long as no line was given out."""
        if self._last is None or self._since is None:
            return None
        return LogCursor(_epoch(self._since), sum(self._recent.values()), _nanoseconds(self._last), self._restart)

    def resume(self, restart: int = 0) -> Mapping[str, Any]:
        """Query parameters for the next stream; forgets the incomplete line of the one before.

        Args:
            restart: the container's restart count; a new one starts a new log.
        """
        if restart != self._restart:
            self._last, self._since, self._recent, self._restart = None, None, {}, restart
            self.first = self._newest = None
            self._on_track()
        elif self._rest and self._head is None and not self._skipping and self._after is None:
            (head,) = self._parse(self._rest)
            self._head = head if head.stamp and head.text else None
        self._rest = b""
        self._held = []
        cursor = self.cursor
        self._skip = cursor.seen if cursor else 0
        self._skipping = self._skip > 0
        self._after = None if self._skipping else self._last
        params: dict[str, Any] = {"follow": "true", "timestamps": "true"}
        if cursor is not None:
            params["sinceTime"] = cursor.since_time
        return params

    def file_ended(self, *, surely: bool) -> None:
        """Says that the stream gave all of the file it was reading, although the log goes on: it was rotated.

        Args:
            surely: whether that is known, not just likely.
        """
        self._file_ended, self._surely = True, surely

    def belongs_to(self, restart: int) -> None:
        """Says that what was read is of another restart than the one given to `resume`."""
        self._restart = restart

    def feed(self, chunk: bytes) -> list[LogLine]:
        """The lines that this chunk completes."""
        head, newline, rest = chunk.rpartition(b"\n")
        if not newline:
            self._rest += chunk
            return []
        complete = self._rest + head if self._rest else head
        self._rest = rest
        return self._take(self._parse(complete))

    def end(self) -> list[LogLine]:
        """What is left when the log has ended for good: a last line without line end, and lines held back."""
        lines = self._take(self._parse(self._rest)) if self._rest else []
        self._rest = b""
        if self._held:
            # The log is shorter than what was seen of it: it was rotated away. Go on after the last line.
            lines = self._lost_track() + lines
        if self._rotated:
            self._tell_of_rotation()
        if self._head is not None:
            lines = [self._head._replace(stamp=None), *lines]
        self._on_track()
        return lines

    def _parse(self, complete: bytes) -> list[LogLine]:
        """Lines out of what ends with one, or is the last."""
        text = complete.decode("utf-8", "backslashreplace")
        raw, made, start = text.split("\n"), tuple.__new__, self._start
        if "\r" in text:
            raw = [line.rstrip("\r") for line in raw]
        lines = []
        for line in raw:
            # Most are of the second of the one before them.
            if line[:20] == start and line[29:31] == "Z " and line[20:29].isdecimal():
                lines.append(made(LogLine, (line[:30], line[31:])))
                continue
            stamp, space, rest = line.partition(" ")
            uniform = _uniform(stamp) if space or len(stamp) >= 20 else None
            lines.append(LogLine(uniform, line if uniform is None else rest))
            if uniform is not None and uniform == stamp:
                start = stamp[:20]
        self._start = start
        return lines

    def _take(self, lines: list[LogLine]) -> list[LogLine]:
        if self._skipping:
            lines = self._skip_seen(lines)
        elif self._after is not None:
            lines = self._drop_old(lines)
        elif self._head is not None and lines:
            lines = self._continued(lines)
        if lines:
            self._count(lines)
            self._on_track()
        return lines

    def _on_track(self) -> None:
        """The present file has all that comes next."""
        self._head = None
        self._file_ended = self._surely = self._rotated = False

    def _skip_seen(self, lines: list[LogLine]) -> list[LogLine]:
        """Holds back as many timestamped lines as were seen, then checks that the last of them is the one left at."""
        assert self._since is not None
        # The newest line seen is of the second after `_since`.
        unseen = _second(_epoch(self._since) + 2)
        for position, line in enumerate(lines):
            if line.stamp is None:
                # Before the first timestamp: the tail of a long line already given out. Later: such a tail again.
                continue
            if line.stamp >= unseen or (not self._held and self._newest is not None and line.stamp > self._newest):
                # Were anything of what was seen still there, it would come first.
                return self._lost_track() + self._drop_old(lines[position:])
            self._held.append(line)
            if len(self._held) == self._skip:
                rest = lines[position + 1 :]
                if line.stamp != self._last:
                    return self._lost_track() + self._drop_old(rest)
                self._skipping = False
                self._on_track()
                self._recent = _by_second(self._held)
                # A cursor from outside tells only the last, which need not be the newest.
                self._newest = max(self._newest or "", *(held.stamp or "" for held in self._held))
                self._held = []
                return rest
        return []

    def _lost_track(self) -> list[LogLine]:
        """Gives up looking for all of what was seen, and gives what of it turns out to be new."""
        self._skipping = False
        held, self._held, self._recent = self._held, [], {}
        left_at = max((at for at, line in enumerate(held) if line.stamp == self._last), default=None)
        if left_at is not None:
            # Older lines were rotated away, but the one left at was not, and with it nothing that follows it.
            self._on_track()
            self._remember(held[: left_at + 1])
            return held[left_at + 1 :]
        self._rotated = True
        if not self._surely:
            self._after = self._last
        return self._drop_old(held)

    def _drop_old(self, lines: list[LogLine]) -> list[LogLine]:
        """After a rotation: what is newer than the last line; once one is, everything that follows it."""
        for position, line in enumerate(lines):
            if self._after is None or (line.stamp is not None and line.stamp > self._after):
                self._after = None
                self._remember(lines[:position])
                return self._continued(lines[position:])
        self._remember(lines)
        return []

    def _continued(self, lines: list[LogLine]) -> list[LogLine]:
        """What comes after all that was seen, with the head of its first line if that is in the file before."""
        (head, self._head), (rotated, self._rotated) = (self._head, None), (self._rotated, False)
        first = lines[0]
        if rotated and not (self._surely and self._follows_closely(first, head)):
            self._tell_of_rotation()
        if head is None or first.stamp == head.stamp:
            return lines
        if self._file_ended:
            return [first._replace(text=head.text + first.text), *lines[1:]]
        # A stream that was cut may have left any part of a line. Without a time, it is none of this file's lines.
        return [head._replace(stamp=None), *lines]

    def _follows_closely(self, line: LogLine, head: LogLine | None) -> bool:
        """Whether no file was rotated away between what was seen last and this line."""
        before = self._last if head is None else head.stamp
        after = line.timestamp
        return after is not None and before is not None and after - _nanoseconds(before) < _ROTATION_NANOSECONDS

    def _tell_of_rotation(self) -> None:
        self.notice = (
            "The log was rotated before all of it was read: lines written in between may be missing. "
            "Raise the kubelet's containerLogMaxSize if this recurs."
        )

    def _remember(self, lines: list[LogLine]) -> None:
        """Counts lines, save those that are older than all that is asked for again, late ones of the other output."""
        for second, count in _by_second(lines).items():
            if self._since is None or second >= self._since:
                self._recent[second] = self._recent.get(second, 0) + count

    def _count(self, lines: list[LogLine]) -> None:
        # Of times that are all written alike, a later one is the greater text.
        newest = max((stamp for stamp, _ in lines if stamp is not None), default=None)
        if newest is None:
            return
        if self.first is None and self._last is None:
            self.first = next(line.timestamp for line in lines if line.stamp is not None)
        if self._newest is None or newest > self._newest:
            self._newest = newest
        since = _before(newest[:_SECOND_LENGTH])
        if self._since is None or since > self._since:
            self._since = since
            self._recent = {second: count for second, count in self._recent.items() if second >= since}
        self._remember(lines)
        for stamp, _ in reversed(lines):
            if stamp is not None and stamp >= self._since:
                self._last = stamp
                break


@lru_cache(maxsize=256)
def _before(second: str) -> str:
    return _second(_epoch(second) - 1)


def _second(epoch: int) -> str:
    return f"{datetime.fromtimestamp(epoch, timezone.utc):%Y-%m-%dT%H:%M:%S}"


def _stamp(nanoseconds: int) -> str:
    second, fraction = divmod(nanoseconds, _SECOND)
    return f"{_second(second)}.{fraction:09d}Z"


def _by_second(lines: list[LogLine]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for stamp, _ in lines:
        if stamp is not None:
            second = stamp[:_SECOND_LENGTH]
            counts[second] = counts.get(second, 0) + 1
    return counts
