"""Waits for a stored run's end on an event loop that many runs share: the same steps as in a worker."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

from kpo_multicluster.errors import ForbiddenError, KpoMulticlusterError
from kpo_multicluster.pods.emitted import Notice
from kpo_multicluster.pods.hub import PodHub
from kpo_multicluster.pods.log_mark import LogMark, read_mark, write_mark
from kpo_multicluster.pods.record import RunOutcome, RunRecord
from kpo_multicluster.pods.run import PodRun
from kpo_multicluster.pods.settings import RunSettings

Emit = Callable[[Any], Awaitable[None]]

# A pod that has run out of time is to end within two seconds of that.
_LAST_WORDS_SECONDS = 1.0
_DELETION_SECONDS = 30.0
_HEARING_SECONDS = 5.0
# Each is a request. A triggerer that is lost has written so much that no one knows of.
_FIRST_NOTE_SECONDS = 1.0
_NOTE_SECONDS = 30.0
# Airflow gives a triggerer that is to stop ten.
_LAST_NOTE_SECONDS = 3.0
# Most pods of a crowd that is created together wait for a while.
_EVENTS_LATER = 6


async def attend(hub: PodHub, record: RunRecord, emit: Emit) -> RunOutcome:
    """Waits until a run is over, has failed to start, was lost, or has run out of time.

    Args:
        hub: of the run's cluster.
        record: of the run.
        emit: is awaited with every LogBatch, Notice and PodEvent.
    """
    run = PodRun(hub.api, _sparing(record), emit, hub.observe)
    await run.adopt(dict(record.pod))
    if not record.live:
        return await _attended(run, record, emit)
    record = await _gone_on_with(run, record, emit)
    noting = asyncio.create_task(_note(run, record, emit), name=f"note {record.where}")
    try:
        return await _attended(run, record, emit)
    except asyncio.CancelledError:
        # It was stopped, and may be replaced. The client is not closed before this is over.
        mark = _mark(run, record, final=True)
        if mark.cursors:
            with contextlib.suppress(KpoMulticlusterError, asyncio.TimeoutError):
                await asyncio.wait_for(write_mark(run.api, run.pod, mark), _LAST_NOTE_SECONDS)
        raise
    finally:
        noting.cancel()
        await asyncio.gather(noting, return_exceptions=True)


async def _attended(run: PodRun, record: RunRecord, emit: Emit) -> RunOutcome:
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


async def _gone_on_with(run: PodRun, record: RunRecord, emit: Emit) -> RunRecord:
    """The record, with where a triggerer of before has left the logs."""
    mark = await read_mark(run.api, record.pod, record.deferred_at)
    if mark is None:
        return record
    text = "Another triggerer goes on with this log where it was left."
    if not mark.final:
        since = datetime.fromtimestamp(mark.at, timezone.utc)
        text = (
            f"The triggerer that wrote this log was lost, and another goes on with it: what it wrote from "
            f"{since:%H:%M:%S} UTC on is written again."
        )
    await emit(Notice("info" if mark.final else "warning", text))
    return replace(record, cursors={**record.cursors, **mark.cursors})


def _mark(run: PodRun, record: RunRecord, *, final: bool) -> LogMark:
    return LogMark(record.deferred_at, {**record.cursors, **run.cursors}, final)


async def _note(run: PodRun, record: RunRecord, emit: Emit) -> None:
    """Notes now and then how far the logs were read, if they went on."""
    noted, seconds, told = dict(record.cursors), _FIRST_NOTE_SECONDS, False
    while True:
        await asyncio.sleep(seconds)
        mark = _mark(run, record, final=False)
        if mark.cursors == noted:
            continue
        seconds = _NOTE_SECONDS
        try:
            await write_mark(run.api, run.pod, mark)
            noted = dict(mark.cursors)
        except KpoMulticlusterError as error:
            if not told:
                text = f"It cannot be noted at the pod how far its log was read: {error}"
                await emit(Notice("warning", f"{text} A triggerer that replaces this one begins the log anew."))
            told = True
            if isinstance(error, ForbiddenError):
                return


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


async def _out_of_time(run: PodRun, record: RunRecord, emit: Emit) -> RunOutcome:
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
