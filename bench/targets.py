"""What the results are held against."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bench.arms import BARE, BY_HAND, OURS, UPSTREAM, Arm
from bench.cases import HELLO, HELLO_XCOM, LINES, TICKING, Case
from bench.measure import Results
from bench.spread import Spread
from bench.subject import DAG_TEST, SUPERVISED

MODE_TITLES = {DAG_TEST: "`dag.test()`", SUPERVISED: "process of its own"}
_MEGABYTE = 1e6


@dataclass(frozen=True)
class Target:
    """Something that is wanted of this package.

    Attributes:
        what: is looked at.
        wanted: of it.
        found: in this run.
        met: whether what was found is as wanted.
    """

    what: str
    wanted: str
    found: str
    met: bool


def targets(results: Results) -> list[Target]:
    """All of them."""
    return [*_hello(results), *_requests(results), *_lines(results), *_memory(results)]


def _middle(results: Results, mode: str, case: Case, arm: Arm) -> float:
    return Spread.of(each.marks.seconds for each in results.of(mode, case, arm)).middle


def _hello(results: Results) -> Iterator[Target]:
    for mode in (DAG_TEST, SUPERVISED):
        what = f"`echo hello`, {MODE_TITLES[mode]}"
        ours, theirs, floor = (_middle(results, mode, HELLO, arm) for arm in (OURS, UPSTREAM, BY_HAND))
        yield Target(what, "at least 4 times faster than upstream", f"{theirs / ours:.1f} times", theirs >= 4 * ours)
        yield Target(what, "within 0.25 s of what is written by hand", f"{ours - floor:+.2f} s", ours - floor <= 0.25)
    runs = results.of(SUPERVISED, HELLO, OURS)
    seconds = _middle(results, SUPERVISED, HELLO, OURS)
    yield Target("`execute()`, process of its own", "at most 1.4 s", f"{seconds:.2f} s", seconds <= 1.4)
    loading = Spread.of(run.marks.import_seconds for run in runs).middle
    yield Target("import of the operator", "at most 60 ms", f"{loading * 1000:.0f} ms", loading <= 0.06)
    imported = any(run.marks.kubernetes for run in runs)
    yield Target("`kubernetes`, process of its own", "not imported", "imported" if imported else "not", not imported)


def _requests(results: Results) -> Iterator[Target]:
    for case, what, limit in ((HELLO, "requests", 5), (HELLO_XCOM, "requests with XCom", 6)):
        most = max(run.requests.total() for run in results.of(DAG_TEST, case, OURS))
        yield Target(what, f"at most {limit}", f"{most}", most <= limit)


def _lines(results: Results) -> Iterator[Target]:
    runs = []
    for mode in (SUPERVISED, DAG_TEST):
        runs += results.of(mode, LINES, OURS)
        ours, bare = (_middle(results, mode, LINES, arm) for arm in (OURS, BARE))
        limit = 1.15 * bare + 1
        wanted = f"at most 1.15 times the bare logger and 1 s: {limit:.2f} s"
        yield Target(f"200,000 lines, {MODE_TITLES[mode]}", wanted, f"{ours:.2f} s", ours <= limit)
    lost, repeated = sum(run.lost for run in runs), sum(run.repeated for run in runs)
    yield Target("200,000 lines", "none lost, none twice", f"{lost} lost, {repeated} twice", not (lost or repeated))
    peak = max(run.marks.peak_bytes for run in results.of(SUPERVISED, LINES, OURS)) / _MEGABYTE
    yield Target("200,000 lines, process of its own", "peak under 200 MB", f"{peak:.0f} MB", peak < 200)
    slowest = max(delay for run in results.of(DAG_TEST, TICKING, OURS) for delay in run.delays)
    yield Target("a line written", "logged within 1 s", f"{slowest:.3f} s the latest", slowest <= 1)


def _memory(results: Results) -> Iterator[Target]:
    ours, theirs = (
        Spread.of(run.marks.own_bytes for run in results.of(SUPERVISED, HELLO, arm)).middle / _MEGABYTE
        for arm in (OURS, UPSTREAM)
    )
    found = f"{theirs - ours:.0f} MB smaller"
    yield Target("a task's process", "at least 80 MB smaller than with upstream", found, theirs - ours >= 80)
