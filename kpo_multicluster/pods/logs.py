"""Log lines of a container, and the cursor that resumes a broken stream without losing or repeating one.

The log is read with `timestamps=true`: each line starts with the time its first piece was written, in RFC 3339 with
nanoseconds. What the cursor must live with, seen on real kubelets: `sinceTime` is cut to whole seconds and inclusive;
timestamps are not monotone between stdout and stderr; a line over 16 KiB is stored in pieces with a timestamp each, so
that one resumed in its middle comes back without its head and without a timestamp; a rotated file forgets old lines.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, NamedTuple

_SECOND = 1_000_000_000


class LogLine(NamedTuple):
    """One complete line, without its line end.

    Attributes:
        timestamp: nanoseconds since the epoch; None for a piece that came without one.
        text: decoded as UTF-8, undecodable bytes escaped.
    """

    timestamp: int | None
    text: str


class _Clock:
    """Parses RFC 3339 timestamps to integer nanoseconds; a second is parsed once."""

    def __init__(self) -> None:
        self._second = b""
        self._epoch = 0

    def nanoseconds(self, stamp: bytes) -> int | None:
        """Nanoseconds since the epoch, or None if `stamp` is no timestamp."""
        if len(stamp) < 20 or stamp[10:11] != b"T":
            return None
        fraction, zone = stamp[19:-1], stamp[-1:]
        if zone != b"Z":
            fraction, zone = stamp[19:-6], stamp[-6:]
        second = stamp[:19] + zone
        if second != self._second:
            text = second.decode("ascii", "replace").replace("Z", "+00:00")
            try:
                self._epoch = int(datetime.fromisoformat(text).timestamp())
            except ValueError:
                return None
            self._second = second
        if not fraction:
            return self._epoch * _SECOND
        digits = fraction[1:]
        if fraction[:1] != b"." or not digits.isdigit() or len(digits) > 9:
            return None
        return self._epoch * _SECOND + int(digits.ljust(9, b"0"))


@dataclass(frozen=True)
class LogCursor:
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
        self._clock = _Clock()
        self._rest = b""
        self._last = cursor.last if cursor else None
        self._restart = cursor.restart if cursor else 0
        self._since = cursor.since if cursor else None
        # Timestamps at or after `_since` given out so far, in stream order.
        self._recent: list[int] = [cursor.last] * cursor.seen if cursor else []
        self._skip = 0
        self._after: int | None = None
        self._skipping = False
        self._held: list[LogLine] = []
        self.notice: str | None = None

    @property
    def cursor(self) -> LogCursor | None:
        """Where to resume; None as long as no line was given out."""
        if self._last is None or self._since is None:
            return None
        return LogCursor(self._since, len(self._recent), self._last, self._restart)

    def resume(self, restart: int = 0) -> Mapping[str, Any]:
        """Query parameters for the next stream; forgets the incomplete line of the one before.

        Args:
            restart: the container's restart count; a new one starts a new log.
        """
        if restart != self._restart:
            self._last, self._since, self._recent, self._restart = None, None, [], restart
            self.first = None
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

    def belongs_to(self, restart: int) -> None:
        """Says that what was read is of another restart than the one given to `resume`."""
        self._restart = restart

    def feed(self, chunk: bytes) -> list[LogLine]:
        """The lines that this chunk completes."""
        head, newline, rest = chunk.rpartition(b"\n")
        if not newline:
            self._rest += chunk
            return []
        raw = (self._rest + head).split(b"\n")
        self._rest = rest
        return self._take([self._parse(line) for line in raw])

    def end(self) -> list[LogLine]:
        """What is left when the log has ended for good: a last line without line end, and lines held back."""
        lines = self._take([self._parse(self._rest)]) if self._rest else []
        self._rest = b""
        if self._held:
            # The log is shorter than what was seen of it: it was rotated away. Go on after the last line.
            lines = self._rotated() + lines
        return lines

    def _parse(self, raw: bytes) -> LogLine:
        stamp, space, text = raw.partition(b" ")
        timestamp = self._clock.nanoseconds(stamp) if space or len(stamp) >= 20 else None
        body = text if timestamp is not None else raw
        return LogLine(timestamp, body.decode("utf-8", "backslashreplace").rstrip("\r"))

    def _take(self, lines: list[LogLine]) -> list[LogLine]:
        if self._skipping:
            lines = self._skip_seen(lines)
        elif self._after is not None:
            lines = self._drop_old(lines)
        if lines:
            self._count(lines)
        return lines

    def _skip_seen(self, lines: list[LogLine]) -> list[LogLine]:
        """Holds back as many timestamped lines as were seen, then checks that the last of them is the one left at."""
        assert self._since is not None
        # The newest line seen is of the second after `_since`.
        unseen = (self._since + 2) * _SECOND
        for position, line in enumerate(lines):
            if line.timestamp is None:
                # Before the first timestamp: the tail of a long line already given out. Later: such a tail again.
                continue
            if line.timestamp >= unseen:
                return self._rotated() + self._drop_old(lines[position:])
            self._held.append(line)
            if len(self._held) == self._skip:
                rest = lines[position + 1 :]
                if line.timestamp != self._last:
                    return self._rotated() + self._drop_old(rest)
                self._skipping = False
                self._recent = [held.timestamp for held in self._held if held.timestamp is not None]
                self._held = []
                return rest
        return []

    def _rotated(self) -> list[LogLine]:
        self._after, self._skipping = self._last, False
        held, self._held, self._recent = self._held, [], []
        self.notice = (
            "The log was rotated while its stream was interrupted: lines written in between may be missing. "
            "Raise the kubelet's containerLogMaxSize if this recurs."
        )
        return self._drop_old(held)

    def _drop_old(self, lines: list[LogLine]) -> list[LogLine]:
        """After a rotation: what is newer than the last line; once one is, everything that follows it."""
        for position, line in enumerate(lines):
            if self._after is None:
                return lines[position:]
            if line.timestamp is not None and line.timestamp > self._after:
                self._after = None
                return lines[position:]
            if line.timestamp is not None:
                self._recent.append(line.timestamp)
        return []

    def _count(self, lines: list[LogLine]) -> None:
        stamps = [line.timestamp for line in lines if line.timestamp is not None]
        if not stamps:
            return
        if self.first is None and self._last is None:
            self.first = stamps[0]
        self._recent.extend(stamps)
        newest = max(stamps)
        since = newest // _SECOND - 1
        if self._since is None or since > self._since:
            self._since = since
            limit = since * _SECOND
            self._recent = [stamp for stamp in self._recent if stamp >= limit]
        # A late line of the other output may be older than all that is asked for again.
        self._last = self._recent[-1]
