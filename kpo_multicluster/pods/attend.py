"""Waits for a stored run's end on an event loop that many runs share: the same steps as in a worker."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from kpo_multicluster.errors import KpoMulticlusterError
from kpo_multicluster.pods.emitted import Notice
from kpo_multicluster.pods.hub import PodHub
from kpo_multicluster.pods.record import RunOutcome, RunRecord
from kpo_multicluster.pods.run import PodRun
from kpo_multicluster.pods.settings import RunSettings

# A pod that has run out of time is to end within two seconds of that.
_LAST_WORDS_SECONDS = 1.0
_DELETION_SECONDS = 30.0
_HEARING_SECONDS = 5.0
# Most pods of a crowd that is created together wait for a while.
_EVENTS_LATER = 6


async def attend(hub: PodHub, record: RunRecord, emit: Callable[[Any], Awaitable[None]]) -> RunOutcome:
    """Waits until a run is over, has failed to start, was lost, or has run out of time.

    Args:
        hub: of the run's cluster.
        record: of the run.
        emit: is awaited with every LogBatch, Notice and PodEvent.
    """
    run = PodRun(hub.api, _sparing(record), emit, hub.observe)
    await run.adopt(dict(record.pod))
    steps = asyncio.create_task(_steps(run, record), name=f"run {record.where}")
    try:
        left = None if record.deadline is None else record.deadline - time.time()
        await asyncio.wait({steps}, timeout=None if left is None else max(0.0, left))
        # Steps that ended in the very moment of the deadline are not late.
        outcome = RunOutcome(record, failure=steps.result()) if steps.done() else await _out_of_time(run, record, emit)
        outcome = replace(outcome, deleted=run.monitor.deleted, companions_awaited=record.awaits_companions)
        return outcome.left(run.pod, run.cursors)
    finally:
        steps.cancel()
        await asyncio.gather(steps, return_exceptions=True)
        await run.close()


def _sparing(record: RunRecord) -> RunSettings:
    """What a run that shares its connection with many may ask for beside."""
    settings = replace(record.settings, watch_events=False)
    if settings.tell_events_after_seconds is not None:
        settings = replace(settings, tell_events_after_seconds=_EVENTS_LATER * settings.tell_events_after_seconds)
    return settings if record.live else replace(settings, follow=())


async def _steps(run: PodRun, record: RunRecord) -> KpoMulticlusterError | None:
    cursors = dict(record.cursors)
    # What became of the pod meanwhile is yet to be heard.
    waited = min(time.time() - record.deferred_at, record.settings.schedule_timeout_seconds - _HEARING_SECONDS)
    try:
        await run.until_started(cursors, waited_seconds=max(0.0, waited))
        await run.until_ended(cursors, companions=record.awaits_companions, finished=False)
    except KpoMulticlusterError as error:
        return error
    return None


async def _out_of_time(run: PodRun, record: RunRecord, emit: Callable[[Any], Awaitable[None]]) -> RunOutcome:
    if record.settings.follow and not record.live:
        # Once the pod has ended there may be no one left to ask.
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(run.read_logs(record.settings.follow, dict(record.cursors)), _LAST_WORDS_SECONDS)
    if not record.keep_on_kill:
        deletion = run.delete(run.pod, grace_seconds=record.grace_seconds)
        try:
            await asyncio.wait_for(deletion, _DELETION_SECONDS)
        except (KpoMulticlusterError, asyncio.TimeoutError) as error:
            # The worker tries again.
            await emit(Notice("warning", f"Pod {record.where} has run out of time, and could not be ended: {error}"))
    return RunOutcome(record, timed_out=True)
