"""Runs everything, in turn, and keeps what was measured."""

from __future__ import annotations

import os
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from bench import task_log
from bench.arms import ARMS, BARE, BY_HAND, ROUNDS, STEPS, Arm, Step
from bench.cases import HELLO, LINES, RESULT, TICKING, Case
from bench.clusters import Cluster
from bench.marks import Marks
from bench.settings import Settings
from bench.subject import DAG_TEST
from bench.subjects import REPOSITORY, BenchError, Ran, Subject

Say = Callable[[str], None]


@dataclass(frozen=True)
class Measured:
    """One task.

    Attributes:
        marks: what it noted of itself.
        whole_seconds: from the moment it was to start to the end of its `execute()`.
        requests: what it asked the API server for.
        machine_seconds: of all processors, by all that ran on the machine meanwhile.
        lost: lines of its pod that are not in its log.
        repeated: lines of its pod that are in its log once too often.
        delays: seconds from each line's writing to its being logged.
    """

    marks: Marks
    whole_seconds: float
    requests: Counter[str]
    machine_seconds: float
    lost: int = 0
    repeated: int = 0
    delays: tuple[float, ...] = ()


@dataclass
class Results:
    """All tasks, in the order in which they ran."""

    _found: dict[tuple[str, str, str], list[Measured]] = field(default_factory=lambda: defaultdict(list))

    def add(self, mode: str, case: Case, arm: Arm, measured: Measured) -> None:
        """Keeps one more."""
        self._found[mode, case.name, arm.name].append(measured)

    def of(self, mode: str, case: Case, arm: Arm) -> list[Measured]:
        """Those of one arm and case."""
        return self._found[mode, case.name, arm.name]


class Bench:
    """Runs tasks on a cluster; in a `with` block.

    Args:
        cluster: where.
        directory: for the files of what runs them.
        say: is told what is going on.
    """

    def __init__(self, cluster: Cluster, directory: Path, say: Say) -> None:
        self._cluster = cluster
        self._directory = directory
        self._say = say
        self._stack = ExitStack()
        self._subjects: dict[tuple[str, str], Subject] = {}

    def __enter__(self) -> Bench:
        with ExitStack() as stack:
            for mode in dict.fromkeys(step.mode for step in STEPS):
                for arms in _processes():
                    settings = Settings(
                        {arm.name: arm.operator for arm in arms}, self._cluster.kubeconfigs, self._cluster.namespace
                    )
                    python = REPOSITORY / arms[0].environment / "bin" / "python"
                    directory = self._directory / f"{mode}-{arms[0].name}"
                    subject = stack.enter_context(Subject(mode, python, settings, directory))
                    self._subjects.update({(mode, arm.name): subject for arm in arms})
            for subject in dict.fromkeys(self._subjects.values()):
                subject.await_ready()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *raised: object) -> None:
        self._stack.close()

    def run(self) -> Results:
        """Runs all steps in rounds, so that what changes on the machine meanwhile meets every arm.

        A kubelet looks at its containers once a second, and clears a pod away right after such a look. So the same
        task takes up to a second more or less, depending on how long after that it starts. Each round starts its tasks
        at another point of that second.

        Raises:
            BenchError: a task failed.
        """
        self._warm_up()
        results = Results()
        for number in range(ROUNDS):
            self._run(DAG_TEST, HELLO, BY_HAND)
            for step in STEPS:
                if number < step.rounds:
                    self._round(step, number, results)
        return results

    def _warm_up(self) -> None:
        """Fills the caches of the node, of Airflow and of Python; nothing of it is measured."""
        self._say("warming up")
        for step in STEPS:
            if step.case is HELLO:
                for arm in step.arms:
                    self._run(step.mode, HELLO, arm)

    def _round(self, step: Step, number: int, results: Results) -> None:
        first = number % len(step.arms)
        told = []
        for arm in (*step.arms[first:], *step.arms[:first]):
            time.sleep(number / ROUNDS)
            measured = self._run(step.mode, step.case, arm)
            results.add(step.mode, step.case, arm, measured)
            told.append(f"{arm.title} {measured.marks.seconds:.2f} s")
        self._say(f"round {number + 1}: {step.mode}, {step.case.name}: {', '.join(told)}")

    def _run(self, mode: str, case: Case, arm: Arm) -> Measured:
        before = _machine_seconds()
        ran = self._subjects[mode, arm.name].run(arm.name, case.name)
        spent = _machine_seconds() - before
        if case.xcom and ran.marks.result != RESULT:
            raise BenchError(f"{mode}: {arm.name}, {case.name}: the result is {ran.marks.result!r}, not {RESULT!r}")
        measured = self._measured(case, arm, ran, spent)
        ran.log.unlink()
        if arm is not BARE:
            self._cluster.settle()
        return measured

    def _measured(self, case: Case, arm: Arm, ran: Ran, machine_seconds: float) -> Measured:
        requests = self._cluster.requests(arm.name, ran.marks.began, ran.marks.ended)
        lines = task_log.lines(ran.log) if case is LINES else task_log.Lines(0, 0)
        delays = tuple(task_log.delays(ran.log)) if case is TICKING else ()
        return Measured(ran.marks, ran.whole_seconds, requests, machine_seconds, lines.lost, lines.repeated, delays)


def _processes() -> Iterable[list[Arm]]:
    """The arms that share a process: an operator with nothing but itself, and those that are written by hand."""
    by_module: dict[str, list[Arm]] = defaultdict(list)
    for arm in ARMS:
        by_module[arm.operator.partition(":")[0]].append(arm)
    return by_module.values()


def _machine_seconds() -> float:
    """Processor seconds that the machine has spent on anything, since it was started."""
    ticks = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:8]]
    idle = ticks[3] + ticks[4]
    return (sum(ticks) - idle) / os.sysconf("SC_CLK_TCK")
