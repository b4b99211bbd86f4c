"""What is told of a node group that takes long."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from kpo_multicluster.errors import NodeGroupError
from kpo_multicluster.node_groups.group import NodeGroup, Phase
from kpo_multicluster.node_groups.readiness import Report, Stage
from kpo_multicluster.node_groups.reminders import reminded

OFTEN = (0.001, 0.002)
NEVER = (3600.0, 3600.0)
GROUP = NodeGroup("gpu", "cluster 'ml'", Phase.ACTIVE, "ACTIVE")


def report(text: str, stage: Stage = Stage.REGISTERED) -> Report:
    return Report(stage, text, 5.0, 100.0, GROUP)


async def test_the_last_report_comes_again_with_the_time_that_has_passed() -> None:
    release = asyncio.Event()

    async def reports() -> AsyncGenerator[Report, None]:
        yield report("0 of 2 nodes registered")
        await release.wait()
        yield report("ready: 2 nodes take pods", Stage.READY)

    told: list[Report] = []
    minutes = itertools.count(0, 60)
    async with aclosing(reminded(reports(), pause_seconds=OFTEN, clock=lambda: next(minutes))) as found:
        async for one in found:
            told.append(one)
            if len(told) == 3:
                release.set()
    assert str(told[0]) == "Node group 'gpu': 0 of 2 nodes registered (after 100 s)."
    assert str(told[1]) == "Node group 'gpu': 0 of 2 nodes registered, for 60 s now (after 160 s)."
    assert told[1].stage_seconds == 65.0
    assert not any(one.ready for one in told[:-1])
    assert told[-1] == report("ready: 2 nodes take pods", Stage.READY)


async def test_reports_that_come_soon_are_told_once() -> None:
    async def reports() -> AsyncGenerator[Report, None]:
        for text in "abc":
            yield report(text)

    async with aclosing(reminded(reports(), pause_seconds=NEVER)) as found:
        assert [one.text async for one in found] == ["a", "b", "c"]


async def test_what_ends_the_reports_ends_these() -> None:
    async def reports() -> AsyncGenerator[Report, None]:
        yield report("0 of 2 nodes registered")
        raise NodeGroupError("it is gone")

    found = reminded(reports(), pause_seconds=NEVER)
    await anext(found)
    with pytest.raises(NodeGroupError, match="it is gone"):
        await anext(found)


async def test_a_caller_that_is_cancelled_leaves_nothing_behind() -> None:
    closed, begun = asyncio.Event(), asyncio.Event()

    async def reports() -> AsyncGenerator[Report, None]:
        try:
            yield report("0 of 2 nodes registered")
            begun.set()
            await asyncio.Event().wait()
        finally:
            closed.set()

    async def follow() -> None:
        inner = reports()
        async with aclosing(inner), aclosing(reminded(inner, pause_seconds=NEVER)) as found:
            async for _ in found:
                continue

    task = asyncio.create_task(follow(), name="follow")
    await asyncio.wait_for(begun.wait(), 30)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()
    assert closed.is_set()
    assert asyncio.all_tasks() == {asyncio.current_task()}
