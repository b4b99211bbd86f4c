"""The product's follower on a cluster's logs: cut anywhere, it gives each line once."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import pytest

from kpo_multicluster.api.client import ApiClient
from kpo_multicluster.pods.emitted import LogBatch, Notice
from kpo_multicluster.pods.follow import LogFollower
from kpo_multicluster.pods.logs import LogCursor
from kpo_multicluster.pods.monitor import PodMonitor
from kpo_multicluster.pods.own_watch import watch_alone

from .clusters import Cluster
from .conftest import Create, Start
from .cuts import Cut, CuttingClient, Relay
from .pods import PYTHON_IMAGE, Object, Pod, container, manifest

_SECONDS = 120


@dataclass
class Followed:
    """What a follower gave.

    Attributes:
        lines: in order.
        notices: what the user is told besides.
        cursor: where it was when it ended, as it is stored.
    """

    lines: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    cursor: list[int] | None = None

    async def take(self, item: LogBatch | Notice) -> None:
        if isinstance(item, LogBatch):
            self.lines += [line.text for line in item.lines]
        else:
            self.notices.append(item.text)


@contextlib.asynccontextmanager
async def following(
    api: ApiClient, pod: Pod, followed: Followed, cursor: LogCursor | None = None
) -> AsyncIterator[asyncio.Task[None]]:
    async def warn(text: str) -> None:
        followed.notices.append(text)

    monitor = PodMonitor(api, pod.seen, watch_alone, warn)
    follower = LogFollower(api, monitor, "base", followed.take, cursor)
    task = asyncio.create_task(follower.run())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await monitor.close()
        followed.cursor = follower.cursor.to_json() if follower.cursor else None


async def follow(cluster: Cluster, pod: Pod, cuts: Sequence[Cut]) -> tuple[Followed, CuttingClient]:
    """Follows a pod's log to its end, with these cuts."""
    followed = Followed()
    async with CuttingClient(cluster.access, cuts) as api, following(api, pod, followed) as task:
        await asyncio.wait_for(task, _SECONDS)
    assert len(api.parameters) > len(cuts), "not every cut was made"
    return followed, api


def python(program: str) -> Object:
    return {**container(), "image": PYTHON_IMAGE, "command": ["python", "-u", "-c", f"import sys, time\n{program}"]}


BURST = "for n in range(1000): print('line', n)\ntime.sleep(2)"


@pytest.mark.pod(python(BURST))
async def test_cut_inside_a_second(cluster: Cluster, pod: Pod) -> None:
    cuts = [Cut("line 5\n"), Cut("line 57", 1), Cut("line 500"), Cut("line 501", -4), Cut("line 999")]
    followed, api = await follow(cluster, pod, cuts)
    assert followed.lines == [f"line {n}" for n in range(1000)]
    assert followed.notices == []
    # All of it was written within two seconds: the cursor counts, as a server knows whole seconds only.
    assert {re.sub(r".*T", "", each.get("sinceTime", "")) != "" for each in api.parameters[1:]} == {True}


LONG = """
print('before')
for part in range(4):
    print(str(part) * 10_000, end='')
    time.sleep(0.7)
print()
print('after')
time.sleep(2)
"""


@pytest.mark.pod(python(LONG))
async def test_cut_inside_a_line_of_40_kb(cluster: Cluster, pod: Pod) -> None:
    """Its pieces are stored over three seconds; only the first has a time that is shown."""
    followed, _ = await follow(cluster, pod, [Cut("before\n", 8000), Cut("before\n", 30_000), Cut("3333333333", 1)])
    assert followed.lines == ["before", "".join(str(part) * 10_000 for part in range(4)), "after"]
    assert followed.notices == []


@pytest.mark.pod(python(LONG))
async def test_cut_between_a_long_line_and_the_next(cluster: Cluster, pod: Pod) -> None:
    await pod.ended()
    followed, _ = await follow(cluster, pod, [Cut("3" * 10_000 + "\n"), Cut("\n", 20)])
    assert followed.lines == ["before", "".join(str(part) * 10_000 for part in range(4)), "after"]


INTERLEAVED = """
for n in range(2000):
    print(n, file=sys.stdout if n % 2 else sys.stderr)
    if n % 100 == 0:
        time.sleep(0.05)
time.sleep(2)
"""


@pytest.mark.pod(python(INTERLEAVED))
async def test_cut_with_both_streams_interleaved(cluster: Cluster, pod: Pod) -> None:
    """Their lines are stored as they are read from two pipes: times need not rise from line to line."""
    cuts = [Cut(f" {n}\n", extra) for n, extra in ((100, 0), (333, 3), (900, 30), (1400, 0), (1990, 0))]
    followed, _ = await follow(cluster, pod, cuts)
    assert followed.lines == (await pod.log()).splitlines()
    assert sorted(followed.lines, key=int) == [str(n) for n in range(2000)]
    assert followed.notices == []


@pytest.mark.pod(container("for n in $(seq 30); do echo $n; sleep 0.1; done"))
async def test_cut_over_several_seconds(cluster: Cluster, pod: Pod) -> None:
    followed, _ = await follow(cluster, pod, [Cut(f" {n}\n") for n in (3, 4, 5, 12, 20, 29, 30)])
    assert followed.lines == [str(n) for n in range(1, 31)]
    assert followed.notices == []


@pytest.mark.pod(container("echo first; sleep 1; printf 'last without end'"))
async def test_cut_as_the_container_ends(cluster: Cluster, pod: Pod) -> None:
    followed, _ = await follow(cluster, pod, [Cut("last wi")])
    assert followed.lines == ["first", "last without end"]


async def test_a_later_follower_goes_on_where_an_earlier_one_was(cluster: Cluster, start: Start) -> None:
    """As after a worker's death or a deferral: all it is given is what was stored."""
    pod = await start("for n in $(seq 40); do echo $n; sleep 0.05; done")
    lines: list[str] = []
    stored: list[int] | None = None
    await pod.began()
    for goal in (7, 19, 33):
        followed = Followed()
        async with ApiClient(cluster.access) as api:
            cursor = LogCursor.from_json(stored) if stored else None
            async with following(api, pod, followed, cursor):
                while len(lines) + len(followed.lines) < goal:
                    await asyncio.sleep(0.01)
        lines += followed.lines
        stored = followed.cursor
    followed = Followed()
    assert stored is not None
    async with ApiClient(cluster.access) as api, following(api, pod, followed, LogCursor.from_json(stored)) as task:
        await asyncio.wait_for(task, _SECONDS)
    assert lines + followed.lines == [str(n) for n in range(1, 41)]
    assert followed.notices == []


async def test_connections_are_cut(cluster: Cluster, start: Start) -> None:
    """Not only the log's: the watch goes the same way."""
    pauses = "case $n in 8|16|32) until [ -e /tmp/$n ]; do sleep 0.1; done;; esac"
    pod = await start(f"for n in $(seq 40); do echo $n; sleep 0.1; {pauses}; done; exit 3")
    await pod.running()
    followed = Followed()
    async with (
        Relay(cluster.access) as relay,
        ApiClient(relay.access) as api,
        following(api, pod, followed) as task,
    ):
        cut = 0
        for goal, pause in ((5, 8), (12, 16), (25, 32)):
            while len(followed.lines) < goal and not task.done():
                await asyncio.sleep(0.01)
            cut += relay.cut()
            await pod.execute("touch", f"/tmp/{pause}")
        await asyncio.wait_for(task, _SECONDS)
    assert cut >= 3
    assert followed.lines == [str(n) for n in range(1, 41)]
    assert followed.notices == []


# More than the 10 MiB at which a kubelet rotates a log. It looks after that now and then.
# The pause lets a reader come to the end of the log once: from then on a kubelet notices a rotation while it reads.
ROTATED = """
import os
print(0, 'x' * 1000)
sys.stdout.flush()
time.sleep(2)
sys.stdout.write(''.join(f"{n} {'x' * 1000}\\n" for n in range(1, 11_000)))
while not os.path.exists('/tmp/go'):
    time.sleep(0.05)
for n in range(11_000, 11_005):
    print(n, 'after')
time.sleep(2)
"""


async def rotated(pod: Pod) -> None:
    async def wait() -> None:
        while (await pod.log(limitBytes=2)) == "0 ":
            await asyncio.sleep(0.2)

    await asyncio.wait_for(wait(), _SECONDS)


async def test_cut_while_the_log_is_rotated(cluster: Cluster, create: Create) -> None:
    """Where what was read is no longer in the log, the follower says so; it goes on behind it."""
    pod = await create(manifest(python(ROTATED)))
    followed = Followed()
    cut = Cut(" 10999 " + "x" * 1000 + "\n", hold=True)
    async with CuttingClient(cluster.access, [cut]) as cutting, following(cutting, pod, followed) as task:
        await asyncio.wait_for(cutting.was_cut.wait(), _SECONDS)
        await rotated(pod)
        # A real node rotates a log some seconds later, as a whole; the embedded one as soon as it is too large.
        kept = (await pod.log(tailLines=1)).startswith("10999 ")
        await pod.execute("touch", "/tmp/go")
        await pod.ended()
        cutting.open_again.set()
        await asyncio.wait_for(task, _SECONDS)
    assert [int(line.split()[0]) for line in followed.lines] == list(range(11_005))
    assert ["rotated" in notice for notice in followed.notices] == ([] if kept else [True])


async def test_a_log_that_is_rotated_is_followed_on(cluster: Cluster, create: Create) -> None:
    pod = await create(manifest(python(ROTATED)))
    followed = Followed()
    async with ApiClient(cluster.access) as api, following(api, pod, followed) as task:
        while len(followed.lines) < 11_000:
            await asyncio.sleep(0.01)
        await rotated(pod)
        await pod.execute("touch", "/tmp/go")
        await asyncio.wait_for(task, _SECONDS)
    assert [int(line.split()[0]) for line in followed.lines] == list(range(11_005))
    assert followed.notices == []
