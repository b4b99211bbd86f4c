"""What deferred pods cost the process that waits for them: `python -m bench.deferred [--many N] [--some N]`.

The triggers are run as a triggerer runs them, each arm's in a process of its own, on the same pods at the same time.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from bench import crowds
from bench.arms import OURS, UPSTREAM, Arm
from bench.chapters import Chapter
from bench.clusters import Cluster, RealCluster, cluster
from bench.crowds import Crowd, Pod
from bench.settings import Settings
from bench.spread import percentile
from bench.subjects import REPOSITORY, BenchError, Process
from bench.tables import table
from bench.targets import Target
from bench.waiter import Order, Reading
from tests.cluster.errors import ClusterError

Say = Callable[[str], None]

# More than one process can wait for at upstream's price.
MANY = 1000
SOME = 100
# The first trigger brings its imports with it; then all others begin.
_FIRST_SECONDS = 6.0
_BEGIN_SECONDS = 12.0
_WAIT_SECONDS = 30.0
_EVENTS_SECONDS = 60.0
_MEGA = 1e-6
_NOTES = f"""\
Triggers in one process, on an event loop as in Airflow's triggerer, where that process has imported what a triggerer
has. Both columns of the real node are of the same pods at the same time. Nothing happens for {_WAIT_SECONDS:g} s, then
one pod after the other ends. Its end is when a bare watch is told of it; on the embedded cluster, where what a kubelet
does is played, when its status is sent to the server. A garbage collection goes through all that Airflow has in memory,
and holds every loop and thread of the process."""


@dataclass(frozen=True)
class Waited:
    """What one arm's waiting for a crowd cost.

    Attributes:
        arm: that waited.
        where: the pods were.
        pods: how many.
        first: measured while the first trigger began.
        begun: while the others did.
        waiting: while nothing happened.
        ending: while the pods ended.
        requests: while nothing happened.
        delays: seconds from each pod's end to its trigger's event.
    """

    arm: Arm
    where: str
    pods: int
    first: Reading
    begun: Reading
    waiting: Reading
    ending: Reading
    requests: Counter[str]
    delays: tuple[float, ...]

    @property
    def requests_a_second(self) -> float:
        """While nothing happens."""
        return self.requests.total() / _WAIT_SECONDS

    @property
    def cpu_a_minute(self) -> float:
        """Processor seconds, while nothing happens."""
        return self.waiting.cpu_seconds * 60 / _WAIT_SECONDS

    @property
    def bytes_a_pod(self) -> float:
        """What memory grew by for each pod after the first."""
        return (self.waiting.resident_bytes - self.first.resident_bytes) / (self.pods - 1)

    @property
    def later(self) -> tuple[Reading, ...]:
        """All but the first trigger's."""
        return self.begun, self.waiting, self.ending

    @property
    def held_seconds(self) -> float:
        """The longest that the loop could not go on, after the first trigger; garbage collections apart."""
        return max(reading.held_seconds for reading in self.later)

    @property
    def collection_seconds(self) -> float:
        """The longest garbage collection, after the first trigger."""
        return max(reading.collection_seconds for reading in self.later)


class Waiter(Process):
    """A process that waits for pods by an arm's triggers."""

    def __init__(self, arm: Arm, kubeconfig: str, directory: Path) -> None:
        python = str(REPOSITORY / arm.environment / "bin" / "python")
        command = (python, "-m", "bench.waiter", arm.name, kubeconfig)
        super().__init__(f"waiting for pods, {arm.title}", command, directory, Settings({}, {}, ""))

    def order(self, do: str, pods: Sequence[Pod] = ()) -> Reading:
        """What it measured since the order before."""
        return Reading(**json.loads(self.tell(do, asdict(Order(do, list(pods))))))

    def events(self, pods: int) -> Reading:
        """Waits for all events."""
        deadline = time.monotonic() + _EVENTS_SECONDS
        reading = self.order("read")
        held, collected = reading.held_seconds, reading.collection_seconds
        while len(reading.events) < pods:
            if time.monotonic() > deadline:
                raise BenchError(f"{self.name}: {len(reading.events)} of {pods} triggers fired")
            time.sleep(0.5)
            reading = self.order("read")
            held, collected = max(held, reading.held_seconds), max(collected, reading.collection_seconds)
        failed = {name: status for name, (_, status) in reading.events.items() if status != "success"}
        if failed:
            raise BenchError(f"{self.name}: not all triggers fired with success: {failed}")
        return Reading(**{**asdict(reading), "held_seconds": held, "collection_seconds": collected})


def wait(crowd: Crowd, arms: Sequence[Arm], directory: Path, say: Say) -> list[Waited]:
    """Has arms wait for a crowd, side by side.

    Raises:
        BenchError: a pod or a trigger did not do what it should.
    """
    with ExitStack() as stack:
        waiters = {
            arm: stack.enter_context(Waiter(arm, crowd.kubeconfigs[arm.name], directory / f"waits-{arm.name}"))
            for arm in arms
        }
        say(f"starting {crowd.size} pods on the {crowd.where}")
        pods = crowd.start()
        for waiter in waiters.values():
            waiter.await_ready()
            waiter.order("wait", pods[:1])
        time.sleep(_FIRST_SECONDS)
        first = {arm: waiter.order("wait", pods[1:]) for arm, waiter in waiters.items()}
        time.sleep(_BEGIN_SECONDS)
        began, begun = time.time(), {arm: waiter.order("read") for arm, waiter in waiters.items()}
        say("waiting for them")
        time.sleep(_WAIT_SECONDS)
        ended, waiting = time.time(), {arm: waiter.order("read") for arm, waiter in waiters.items()}
        ends = crowd.end()
        found = []
        for arm, waiter in waiters.items():
            ending = waiter.events(crowd.size)
            delays = tuple(max(0.0, at - ends[name]) for name, (at, _) in ending.events.items())
            asked = crowd.asked(arm, began, ended)
            found.append(
                Waited(arm, crowd.where, crowd.size, first[arm], begun[arm], waiting[arm], ending, asked, delays)
            )
        return found


def measure(found: Cluster, directory: Path, say: Say, *, many: int = MANY, some: int = SOME) -> Chapter:
    """Measures on an embedded cluster, and on a real one if that is what was found.

    Args:
        found: the cluster.
        directory: for the files of what waits.
        say: is told what is going on.
        many: pods, on an embedded cluster.
        some: pods, on a real node.

    Raises:
        BenchError: a pod or a trigger did not do what it should.
    """
    results: list[Waited] = []
    if many:
        with crowds.embedded((OURS,), many, directory) as crowd:
            results += wait(crowd, (OURS,), directory / "embedded", say)
    if some and isinstance(found, RealCluster):
        with crowds.real(found, some) as hundred:
            results += wait(hundred, (OURS, UPSTREAM), directory / "real", say)
    return Chapter("Deferred pods: the process that waits for them", _NOTES, _table(results), tuple(_targets(results)))


def _table(results: Sequence[Waited]) -> str:
    """The table."""
    rows: list[tuple[str, Callable[[Waited], str]]] = [
        ("requests a second while nothing happens", lambda each: f"{each.requests_a_second:.2f}"),
        ("processor seconds a minute meanwhile", lambda each: f"{each.cpu_a_minute:.2f}"),
        ("connections at most", lambda each: str(max(reading.connections for reading in each.later))),
        ("MB that memory grew by for each pod", lambda each: f"{each.bytes_a_pod * _MEGA:.3f}"),
        ("MB resident, peak", lambda each: f"{each.ending.peak_bytes * _MEGA:.0f}"),
        ("ms from the end to the event, median", lambda each: _milliseconds(statistics.median(each.delays))),
        ("ms from the end to the event, 99 %", lambda each: _milliseconds(percentile(each.delays, 0.99))),
        ("ms the loop was held as the first trigger began", lambda each: _milliseconds(each.first.held_seconds)),
        ("ms the loop was held, later, but for garbage collections", lambda each: _milliseconds(each.held_seconds)),
        ("ms of the longest garbage collection, later", lambda each: _milliseconds(each.collection_seconds)),
    ]
    titles = ["", *(f"{each.arm.title}, {each.pods:,} on the {each.where}" for each in results)]
    return table(titles, [(what, *(value(each) for each in results)) for what, value in rows])


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.0f}"


def _targets(results: Sequence[Waited]) -> Iterator[Target]:
    """What is wanted of this package."""
    theirs = {(each.where, each.pods): each for each in results if each.arm is UPSTREAM}
    for ours in (each for each in results if each.arm is OURS):
        crowd = f"{ours.pods:,} deferred pods, {ours.where}"
        beside = theirs.get((ours.where, ours.pods))
        if beside is not None:
            yield from _beside(crowd, ours, beside)
        grown = ours.bytes_a_pod * _MEGA
        yield Target(f"{crowd}: memory", "under 0.1 MB a pod", f"{grown:.3f} MB", grown < 0.1)
        if ours.pods >= MANY:
            peak = ours.ending.peak_bytes * _MEGA
            yield Target(f"{crowd}: the process", "under 250 MB", f"{peak:.0f} MB", peak < 250)
        middle, late = statistics.median(ours.delays), percentile(ours.delays, 0.99)
        yield Target(f"{crowd}: event, median", "within 0.1 s", f"{middle:.3f} s", middle <= 0.1)
        yield Target(f"{crowd}: event, 99 %", "within 0.5 s", f"{late:.3f} s", late <= 0.5)
        held = ours.held_seconds
        yield Target(
            f"{crowd}: the loop", "never held over 0.1 s, but for garbage collections", f"{held:.3f} s", held <= 0.1
        )


def _beside(crowd: str, ours: Waited, theirs: Waited) -> Iterator[Target]:
    few, many = ours.requests_a_second, theirs.requests_a_second
    found = f"{few:.2f} and {many:.2f} a second"
    yield Target(f"{crowd}: requests", "at least 20 times fewer than upstream", found, 20 * few <= many)
    less, more = ours.cpu_a_minute, theirs.cpu_a_minute
    found = f"{less:.2f} and {more:.2f} s a minute"
    yield Target(f"{crowd}: processor", "at least 5 times less than upstream", found, 5 * less <= more)


def main(arguments: Sequence[str]) -> int:
    """Measures this alone, and prints it."""
    parser = argparse.ArgumentParser(prog="bench.deferred", description=__doc__)
    parser.add_argument("--many", type=int, default=MANY, help="pods on an embedded cluster; default %(default)s")
    parser.add_argument("--some", type=int, default=SOME, help="pods on a real node; default %(default)s")
    options = parser.parse_args(arguments)
    try:
        with tempfile.TemporaryDirectory(prefix="kpo-bench-") as name, ExitStack() as stack:
            scratch = Path(name)
            found = stack.enter_context(cluster((OURS.name, UPSTREAM.name), scratch, _say))
            chapter = measure(found, scratch, _say, many=options.many, some=options.some)
    except (BenchError, ClusterError) as error:
        _say(str(error))
        return 1
    _say(f"\n{chapter.table}\n")
    for each in chapter.targets:
        _say(f"{'met' if each.met else 'MISSED'}: {each.what}: {each.found}, wanted {each.wanted}")
    return 0


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
