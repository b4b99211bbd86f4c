"""The results as tables, in Markdown that is legible as it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from bench.arms import BARE, BY_HAND, OURS, RAW, UNREAD, UPSTREAM, Arm
from bench.cases import HELLO, HELLO_XCOM, LINES, TICKING, Case
from bench.measure import Measured, Results
from bench.spread import Spread, percentile
from bench.subject import DAG_TEST, SUPERVISED
from bench.targets import MODE_TITLES, Target

_MEGA = 1e-6
_MILLI = 1e3


def table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table with aligned columns."""
    widths = [max(len(row[column]) for row in (titles, *rows)) for column in range(len(titles))]
    ruler = ["-" * width for width in widths]
    aligned = ([cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in (titles, ruler, *rows))
    return "\n".join(f"| {' | '.join(cells)} |" for cells in aligned)


def sections(results: Results) -> Iterator[tuple[str, str]]:
    """Heading and table of each thing that was measured."""
    yield "Seconds of `execute()` for `echo hello`", _hello(results)
    yield "Requests for `echo hello`", _requests(results)
    yield "A task's process for `echo hello`", _process(results)
    yield "200,000 log lines of 100 bytes", _lines(results)
    yield "From a line's writing to its being logged", _delays(results)


def verdicts(targets: Sequence[Target]) -> str:
    """What was wanted, and whether it was met."""
    rows = [(each.what, each.wanted, each.found, "met" if each.met else "**missed**") for each in targets]
    return table(("", "wanted", "found", ""), rows)


def _seconds(results: Results, mode: str, case: Case, arm: Arm) -> Spread:
    return Spread.of(run.marks.seconds for run in results.of(mode, case, arm))


def _hello(results: Results) -> str:
    rows: list[tuple[str, ...]] = []
    for mode, case, what in (
        (DAG_TEST, HELLO, MODE_TITLES[DAG_TEST]),
        (DAG_TEST, HELLO_XCOM, f"{MODE_TITLES[DAG_TEST]}, with XCom"),
        (SUPERVISED, HELLO, MODE_TITLES[SUPERVISED]),
    ):
        ours, theirs, floor = (_seconds(results, mode, case, arm) for arm in (OURS, UPSTREAM, BY_HAND))
        rows.append(
            (
                what,
                ours.text(),
                theirs.text(),
                floor.text(),
                f"{theirs.middle / ours.middle:.1f}",
                f"{ours.middle - floor.middle:+.2f}",
            )
        )
    whole = [
        Spread.of(run.whole_seconds for run in results.of(SUPERVISED, HELLO, arm)) for arm in (OURS, UPSTREAM, BY_HAND)
    ]
    ratio, more = whole[1].middle / whole[0].middle, whole[0].middle - whole[2].middle
    started = f"{MODE_TITLES[SUPERVISED]}, from its start"
    rows.append((started, *(spread.text() for spread in whole), f"{ratio:.1f}", f"{more:+.2f}"))
    return table(("", OURS.title, UPSTREAM.title, BY_HAND.title, "times faster", "over by hand"), rows)


def _requests(results: Results) -> str:
    rows = []
    for case, suffix in ((HELLO, ""), (HELLO_XCOM, ", with XCom")):
        for arm in (OURS, UPSTREAM, BY_HAND):
            counts = _typical(results.of(DAG_TEST, case, arm))
            told = ", ".join(f"{count} {what}" for what, count in sorted(counts.items()))
            rows.append((arm.title + suffix, str(counts.total()), told))
    return table(("", "requests", "of these"), rows)


def _typical(runs: Sequence[Measured]) -> Counter[str]:
    """The requests of the run that made the most."""
    return max((run.requests for run in runs), key=lambda counts: counts.total())


def _process(results: Results) -> str:
    def row(what: str, value: Callable[[Measured], float], digits: int, factor: float) -> tuple[str, ...]:
        ours, theirs = (Spread.of(value(run) for run in results.of(SUPERVISED, HELLO, arm)) for arm in (OURS, UPSTREAM))
        less = f"{(theirs.middle - ours.middle) * factor:.{digits}f}"
        return what, ours.text(digits, factor), theirs.text(digits, factor), less

    rows = [
        row("seconds to import the operator, after `airflow.sdk`", lambda run: run.marks.import_seconds, 3, 1),
        row("MB that are its own (USS)", lambda run: run.marks.own_bytes, 0, _MEGA),
        row("MB with its share of common ones (PSS)", lambda run: run.marks.shared_bytes, 0, _MEGA),
        row("MB resident, peak", lambda run: run.marks.peak_bytes, 0, _MEGA),
    ]
    imported = [
        "yes" if any(run.marks.kubernetes for run in results.of(SUPERVISED, HELLO, arm)) else "no"
        for arm in (OURS, UPSTREAM)
    ]
    rows.append(("`kubernetes` imported", *imported, ""))
    return table(("", OURS.title, UPSTREAM.title, "less"), rows)


def _lines(results: Results) -> str:
    rows = []
    for mode, arms in ((DAG_TEST, (OURS, UPSTREAM, BARE, RAW, UNREAD)), (SUPERVISED, (OURS, UPSTREAM, BARE))):
        bare = _seconds(results, mode, LINES, BARE)
        for arm in arms:
            runs, seconds = results.of(mode, LINES, arm), _seconds(results, mode, LINES, arm)
            follows = arm in (OURS, UPSTREAM)
            rows.append(
                (
                    f"{arm.title}, {MODE_TITLES[mode]}",
                    seconds.text(),
                    f"{seconds.middle / bare.middle:.2f}",
                    Spread.of(run.marks.cpu_seconds for run in runs).text(),
                    f"{Spread.of(run.machine_seconds for run in runs).middle:.1f}",
                    Spread.of(run.lost for run in runs).text(0) if follows else "",
                    Spread.of(run.repeated for run in runs).text(0) if follows else "",
                    Spread.of(run.marks.peak_bytes for run in runs).text(0, _MEGA),
                    Spread.of(run.marks.peak_bytes - run.marks.before_bytes for run in runs).text(0, _MEGA),
                )
            )
    titles = ("", "seconds", "times bare", "processor s", "machine's", "lost", "twice", "peak MB", "MB over before")
    return table(titles, rows)


def _delays(results: Results) -> str:
    rows = []
    for arm in (OURS, UPSTREAM, BY_HAND):
        found = [delay for run in results.of(DAG_TEST, TICKING, arm) for delay in run.delays]
        rows.append(
            (
                arm.title,
                str(len(found)),
                *(f"{percentile(found, share) * _MILLI:.0f}" for share in (0.5, 0.99, 1.0)),
            )
        )
    return table(("", "lines", "median ms", "99 % ms", "latest ms"), rows)
