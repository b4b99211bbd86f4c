"""The cursor against a log as a kubelet serves it: cut anywhere, resumed, compared with the whole."""

from __future__ import annotations

import random
from datetime import datetime, timezone
from typing import NamedTuple

import pytest

from kpo_multicluster.pods.logs import LogCursor, LogReader

SECOND = 1_000_000_000
START = int(datetime(2026, 3, 1, 12, tzinfo=timezone.utc).timestamp())


class Entry(NamedTuple):
    """One stored piece: its time, its text, and whether the line ends with it."""

    stamp: int
    text: str
    full: bool = True


def stamp(nanoseconds: int) -> str:
    seconds, rest = divmod(nanoseconds, SECOND)
    return f"{datetime.fromtimestamp(seconds, timezone.utc):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"


def serve(entries: list[Entry], since: int | None = None) -> bytes:
    """What the kubelet sends: pieces before `since` (whole seconds) left out, a timestamp at each line's start."""
    out, at_start = [], True
    for entry in entries:
        if since is not None and entry.stamp < since * SECOND:
            # The writer knows nothing of what it left out: the next piece is written as a line's start only if the
            # piece before it, sent or not, ended a line.
            at_start = entry.full
            continue
        out.append((stamp(entry.stamp) + " " if at_start else "") + entry.text + ("\n" if entry.full else ""))
        at_start = entry.full
    return "".join(out).encode()


def lines_of(entries: list[Entry]) -> list[str]:
    return "".join(entry.text + ("\n" if entry.full else "") for entry in entries).splitlines()


def since_of(params: dict[str, str]) -> int | None:
    if "sinceTime" not in params:
        return None
    return int(datetime.fromisoformat(params["sinceTime"].replace("Z", "+00:00")).timestamp())


def chunks(data: bytes, rng: random.Random) -> list[bytes]:
    out = []
    while data:
        size = rng.choice([1, 7, 100, 5000])
        out.append(data[:size])
        data = data[size:]
    return out


def random_log(rng: random.Random) -> list[Entry]:
    """Bursts within a second, two streams whose times are not monotone, long lines in pieces, quiet stretches."""
    entries, now = [], START * SECOND + rng.randrange(SECOND)
    for number in range(rng.randrange(1, 60)):
        now += rng.choice([0, 1, 1000, 10_000_000, 400_000_000, 2 * SECOND])
        jitter = rng.choice([0, 0, 0, -50_000, -900_000])
        if rng.random() < 0.15:
            for _ in range(rng.randrange(1, 4)):
                entries.append(Entry(now, f"{number}:" + "x" * 16, full=False))
                now += rng.choice([1, 1000, 700_000_000])
            entries.append(Entry(now, "end"))
        else:
            entries.append(Entry(max(START * SECOND, now + jitter), f"line {number} grüße €"))
    return entries


@pytest.mark.parametrize("seed", range(400))
def test_every_line_once_whatever_the_cuts(seed: int) -> None:
    rng = random.Random(seed)
    entries = random_log(rng)
    reader, seen = LogReader(), []
    for _ in range(rng.randrange(0, 6)):
        data = serve(entries, since_of(dict(reader.resume())))
        for chunk in chunks(data[: rng.randrange(len(data) + 1)], rng):
            seen += reader.feed(chunk)
        if rng.random() < 0.5 and reader.cursor is not None:
            # Another process goes on from what was stored.
            reader = LogReader(LogCursor.from_json(reader.cursor.to_json()))
    for chunk in chunks(serve(entries, since_of(dict(reader.resume()))), rng):
        seen += reader.feed(chunk)
    seen += reader.end()
    assert [line.text for line in seen] == lines_of(entries)
    assert reader.notice is None


def test_a_line_is_given_out_when_its_end_arrives_and_not_before() -> None:
    reader = LogReader()
    reader.resume()
    assert reader.feed(b"2026-03-01T12:00:00.000000001Z he") == []
    assert [line.text for line in reader.feed(b"llo\n2026-03-01T12:00:00.0000")] == ["hello"]


def test_a_last_line_without_line_end_is_given_out_at_the_end() -> None:
    reader = LogReader()
    reader.resume()
    assert reader.feed(b"2026-03-01T12:00:00.5Z no newline") == []
    (line,) = reader.end()
    assert (line.timestamp, line.text) == (START * SECOND + 500_000_000, "no newline")


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"2026-03-01T12:00:00Z x", (START * SECOND, "x")),
        (b"2026-03-01T14:00:00.000000007+02:00 x", (START * SECOND + 7, "x")),
        (b"2026-03-01T12:00:00.1Z ", (START * SECOND + 100_000_000, "")),
        (b"2026-03-01T12:00:00.1Z a  b\r", (START * SECOND + 100_000_000, "a  b")),
        (b"no timestamp here", (None, "no timestamp here")),
        (b"2026-13-01T12:00:00.1Z x", (None, "2026-13-01T12:00:00.1Z x")),
        (b"2026-03-01T12:00:00.1Z \xff\xfe", (START * SECOND + 100_000_000, "\\xff\\xfe")),
    ],
)
def test_a_line_is_parsed(raw: bytes, expected: tuple[int | None, str]) -> None:
    reader = LogReader()
    reader.resume()
    (line,) = reader.feed(raw + b"\n")
    assert (line.timestamp, line.text) == expected


@pytest.mark.parametrize("gone", [False, True])
def test_lines_lost_to_rotation_are_told_and_nothing_is_repeated(gone: bool) -> None:
    first = [Entry(START * SECOND + 400_000_000 + i, f"old {i}") for i in range(50)]
    reader, seen = LogReader(), []
    reader.resume()
    seen += reader.feed(serve(first))
    # The file was rotated: of the old lines the last ten are left, the newest among them or not.
    left = [*first[40:49]] if gone else first[40:]
    rotated = left + [Entry(START * SECOND + 700_000_000 + i, f"new {i}") for i in range(60)]
    params = dict(reader.resume())
    seen += reader.feed(serve(rotated, since_of(params)))
    seen += reader.end()
    assert [line.text for line in seen] == [f"old {i}" for i in range(50)] + [f"new {i}" for i in range(60)]
    # As long as the line that was read last is there, so is all that follows it.
    assert ("rotated" in (reader.notice or "")) == gone
    # And the cursor is sound again.
    more = [*rotated, Entry(START * SECOND + 900_000_000, "last")]
    again = reader.feed(serve(more, since_of(dict(reader.resume()))))
    assert [line.text for line in again] == ["last"]


def test_rotation_that_leaves_less_than_was_seen() -> None:
    first = [Entry(START * SECOND + i, f"old {i}") for i in range(50)]
    reader = LogReader()
    reader.resume()
    reader.feed(serve(first))
    # Another process does not know the latest time of all lines.
    reader = LogReader(reader.cursor)
    reader.resume()
    assert reader.feed(serve([Entry(START * SECOND + 100, "new")])) == []
    assert [line.text for line in reader.end()] == ["new"]


@pytest.mark.parametrize("seed", range(200))
def test_a_log_that_is_rotated_anywhere_is_read_on_in_the_next_file(seed: int) -> None:
    rng = random.Random(seed)
    entries = random_log(rng)
    at = rng.randrange(1, len(entries) + 1)
    # The last line is known by its time, which is that of no other: a runtime takes it anew for each.
    taken = {entry.stamp for entry in entries[:at]}
    shift = next(shift for shift in range(1000) if not any(entry.stamp + shift in taken for entry in entries[at:]))
    files = entries[:at], [entry._replace(stamp=entry.stamp + shift) for entry in entries[at:]]
    reader, seen = LogReader(), []
    reader.resume()
    for chunk in chunks(serve(files[0]), rng):
        seen += reader.feed(chunk)
    reader.file_ended(surely=True)
    for part in range(3):
        # The last stream of these comes to its end, the others are cut.
        data = serve(files[1], since_of(dict(reader.resume())))
        for chunk in chunks(data if part == 2 else data[: rng.randrange(len(data) + 1)], rng):
            seen += reader.feed(chunk)
    seen += reader.end()
    assert [line.text for line in seen] == lines_of(entries)
    # A line's time is that of its first piece.
    starts = [entry.stamp for at, entry in enumerate(files[0]) if at == 0 or files[0][at - 1].full]
    if not files[1] or files[1][0].stamp - starts[-1] < 3 * SECOND:
        assert reader.notice is None


TORN = Entry(START * SECOND + 50, "his", full=False)
REST = Entry(START * SECOND + 60, "tory")


@pytest.mark.parametrize("surely", [True, False])
def test_a_line_that_is_torn_by_a_rotation_is_joined(surely: bool) -> None:
    reader = LogReader()
    reader.resume()
    reader.feed(serve([Entry(START * SECOND, "old"), TORN]))
    reader.file_ended(surely=surely)
    reader.resume()
    given = reader.feed(serve([REST, Entry(START * SECOND + 70, "new")]))
    assert [line.text for line in given] == ["history", "new"]
    assert (reader.notice is None) == surely
    # The cursor is of what the present file has.
    params = dict(reader.resume())
    more = [REST, Entry(START * SECOND + 70, "new"), Entry(START * SECOND + 80, "newer")]
    assert [line.text for line in reader.feed(serve(more, since_of(params)))] == ["newer"]


def test_what_a_cut_left_of_a_line_before_a_rotation_is_given_by_itself() -> None:
    reader = LogReader()
    reader.resume()
    reader.feed(serve([Entry(START * SECOND, "old"), TORN]))
    reader.resume()
    given = reader.feed(serve([Entry(START * SECOND + 70, "new")]))
    assert [line.text for line in given] == ["his", "new"]
    assert reader.notice is not None


def test_what_a_cut_left_of_a_line_is_given_at_the_end_if_no_more_comes() -> None:
    reader = LogReader()
    reader.resume()
    reader.feed(serve([Entry(START * SECOND, "old"), TORN]))
    reader.resume()
    assert [line.text for line in reader.end()] == ["his"]
    assert reader.end() == []


def test_a_file_that_was_rotated_away_unseen_is_told() -> None:
    reader = LogReader()
    reader.resume()
    reader.feed(serve([Entry(START * SECOND, "old")]))
    reader.file_ended(surely=True)
    reader.resume()
    reader.feed(serve([Entry((START + 3) * SECOND, "new")]))
    assert reader.notice is not None


def test_a_restarted_container_has_a_log_of_its_own() -> None:
    reader = LogReader()
    reader.resume(restart=0)
    reader.feed(serve([Entry(START * SECOND, "first life")]))
    assert "sinceTime" not in reader.resume(restart=1)
    assert [line.text for line in reader.feed(serve([Entry(START * SECOND, "second life")]))] == ["second life"]
    assert reader.cursor is not None
    assert reader.cursor.restart == 1


def test_a_cursor_is_four_integers() -> None:
    cursor = LogCursor(START, 3, START * SECOND + 5, 1)
    assert LogCursor.from_json(cursor.to_json()) == cursor
    assert cursor.since_time == "2026-03-01T12:00:00Z"


def test_the_cursor_stays_small_over_a_long_log() -> None:
    reader = LogReader()
    reader.resume()
    for second in range(100):
        reader.feed(serve([Entry((START + second) * SECOND + i, "x") for i in range(100)]))
    assert reader.cursor == LogCursor(START + 98, 200, (START + 99) * SECOND + 99)


@pytest.mark.parametrize("later", [SECOND, 100])
def test_after_a_rotation_a_new_line_is_not_held_back_until_as_many_came_as_were_seen(later: int) -> None:
    reader = LogReader()
    reader.resume()
    reader.feed(serve([Entry(START * SECOND + i, f"old {i}") for i in range(50)]))
    reader.resume()
    given = reader.feed(serve([Entry(START * SECOND + later, "new")]))
    assert [line.text for line in given] == ["new"]
    assert reader.notice is not None


def test_after_a_rotation_that_brought_nothing_new_the_next_line_is_given_out() -> None:
    old = [Entry(START * SECOND + i, f"old {i}") for i in range(3)]
    reader = LogReader()
    reader.resume()
    reader.feed(serve(old))
    reader.resume()
    assert reader.end() == []
    reader.resume()
    assert reader.feed(serve(old[2:])) == []
    reader.resume()
    given = reader.feed(serve([Entry((START + 5) * SECOND, "new")]))
    assert [line.text for line in given] == ["new"]


@pytest.mark.parametrize("together", [True, False])
def test_a_late_line_of_the_other_output_is_no_rotation(together: bool) -> None:
    entries = [Entry((START + 9) * SECOND, "out"), Entry(START * SECOND, "late err")]
    reader = LogReader()
    reader.resume()
    for part in [entries] if together else [entries[:1], entries[1:]]:
        reader.feed(serve(part))
    params = dict(reader.resume())
    entries.append(Entry((START + 10) * SECOND, "new"))
    given = reader.feed(serve(entries, since_of(params)))
    assert [line.text for line in given] == ["new"]
    assert reader.notice is None
