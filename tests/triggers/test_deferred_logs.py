"""The logs of deferred tasks: by whom they are written, and how one triggerer goes on where another has left."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from kpo_multicluster.cluster import ClusterRef
from kpo_multicluster.pods.log_mark import MARK_ANNOTATION
from kpo_multicluster.testing.cluster import EmbeddedCluster

from ..operators.conftest import FakeTaskInstance
from .conftest import GATE, PATIENCE_SECONDS, Defer, numbers, open_gate, running, until

Lines = Callable[[], list[str]]


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine is given the time for a last note."""
    monkeypatch.setattr("kpo_multicluster.pods.attend._LAST_NOTE_SECONDS", PATIENCE_SECONDS)


async def test_logs_are_followed_live_where_an_interval_is_set(
    cluster: EmbeddedCluster, defer: Defer, ref: ClusterRef, lines: Lines
) -> None:
    deferred = await asyncio.to_thread(defer, f"seq 1 5; {GATE}; seq 6 10", logging_interval=5)
    async with running(deferred.trigger()) as (trigger,):
        await until(lambda: numbers(lines()) == [1, 2, 3, 4, 5])
        await open_gate(ref, deferred)
        event = await trigger.event()
    await asyncio.to_thread(deferred.resume, event)
    assert numbers(lines()) == list(range(1, 11))


def marked(cluster: EmbeddedCluster) -> bool:
    """Whether it was noted at a pod how far its log was read."""
    return any(MARK_ANNOTATION in (pod["metadata"].get("annotations") or {}) for pod in cluster.pods())


async def test_a_triggerer_goes_on_with_the_log_that_another_has_left(
    cluster: EmbeddedCluster, defer: Defer, ref: ClusterRef, lines: Lines
) -> None:
    deferred = await asyncio.to_thread(defer, f"seq 1 5; {GATE}; seq 6 10", logging_interval=5)
    async with running(deferred.trigger()) as (trigger,):
        await until(lambda: numbers(lines()) == [1, 2, 3, 4, 5])
        await trigger.end()
    assert marked(cluster)
    async with running(deferred.trigger()) as (trigger,):
        await open_gate(ref, deferred)
        event = await trigger.event()
    await asyncio.to_thread(deferred.resume, event)
    assert numbers(lines()) == list(range(1, 11))
    assert len([line for line in lines() if "goes on with this log where it was left" in line]) == 1


async def test_a_triggerer_that_was_lost_is_told_of_in_the_log_that_another_goes_on_with(
    cluster: EmbeddedCluster, defer: Defer, ref: ClusterRef, lines: Lines
) -> None:
    deferred = await asyncio.to_thread(defer, f"seq 1 5; {GATE}; seq 6 10", logging_interval=5)
    async with running(deferred.trigger()) as (trigger,):
        await until(lambda: marked(cluster))
        # Nothing that it does at its end has an effect.
        with cluster.faults.answer("^patch ", 403, times=None):
            await trigger.end()
    async with running(deferred.trigger()) as (trigger,):
        await open_gate(ref, deferred)
        event = await trigger.event()
    await asyncio.to_thread(deferred.resume, event)
    assert numbers(lines())[:5] == [1, 2, 3, 4, 5]
    assert numbers(lines())[-5:] == [6, 7, 8, 9, 10]
    assert len([line for line in lines() if "was lost, and another goes on with it" in line]) == 1


async def test_another_try_has_a_whole_log_of_its_own(
    cluster: EmbeddedCluster, defer: Defer, ref: ClusterRef, lines: Lines
) -> None:
    deferred = await asyncio.to_thread(defer, f"seq 1 5; {GATE}", logging_interval=5)
    async with running(deferred.trigger()) as (trigger,):
        await until(lambda: numbers(lines()) == [1, 2, 3, 4, 5])
        await trigger.end()
    again = await asyncio.to_thread(defer, logging_interval=5, ti=FakeTaskInstance("task", try_number=2))
    assert again.pod_name == deferred.pod_name
    async with running(again.trigger()) as (trigger,):
        await open_gate(ref, deferred)
        await asyncio.to_thread(again.resume, await trigger.event())
    assert numbers(lines()) == [1, 2, 3, 4, 5] * 2


async def test_a_role_that_may_not_note_how_far_a_log_was_read_is_told_so(
    cluster: EmbeddedCluster, defer: Defer, ref: ClusterRef, lines: Lines
) -> None:
    deferred = await asyncio.to_thread(defer, f"seq 1 5; {GATE}", logging_interval=5)
    with cluster.faults.answer("^patch ", 403, times=None):
        async with running(deferred.trigger()) as (trigger,):
            await until(lambda: any("cannot be noted at the pod" in line for line in lines()))
            await open_gate(ref, deferred)
            event = await trigger.event()
        await asyncio.to_thread(deferred.resume, event)
    assert numbers(lines()) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("arguments", [{"get_logs": False}, {"get_logs": False, "logging_interval": 1}])
def test_no_logs_are_read_where_none_are_wanted(
    cluster: EmbeddedCluster, defer: Defer, lines: Lines, arguments: dict[str, Any]
) -> None:
    defer("seq 1 5", **arguments).finish()
    assert numbers(lines()) == []
    assert cluster.requests.counts()["log"] == 0


def test_a_formatter_sees_each_line_although_an_interval_is_set(
    cluster: EmbeddedCluster, defer: Defer, lines: Lines
) -> None:
    defer("seq 1 3", logging_interval=1, log_formatter=lambda name, line: f"[{name}] {line}0").finish()
    assert numbers(lines()) == [10, 20, 30]
