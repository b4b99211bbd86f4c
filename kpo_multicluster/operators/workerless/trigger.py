"""`WorkerlessPodTrigger` runs a pod task from its start to its end in the triggerer (Airflow 3.3 and newer).

It makes the task anew, and does what a worker, a trigger and another worker do of a deferred one, each by its own code.
What a worker does may block: that is done in threads, few at a time, as a pod's beginning and end take a moment each.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any, Final, TypeVar

from airflow.triggers.base import BaseTrigger, TaskFailedEvent, TaskSkippedEvent, TaskSuccessEvent, TriggerEvent

from kpo_multicluster.airflow_names import AirflowSkipException, TaskDeferred
from kpo_multicluster.errors import ConfigurationError, KpoMulticlusterError
from kpo_multicluster.triggers.clusters import hub_of, stored_cluster
from kpo_multicluster.triggers.killed import carried_through

T = TypeVar("T")

_AT_ONCE: Final = 16


class _Threads:
    """Those in which runs begin and end; there are any only while there are runs."""

    def __init__(self) -> None:
        self._users = 0
        self._pool: ThreadPoolExecutor | None = None

    @contextmanager
    def used(self) -> Iterator[None]:
        """Within it, `pool` is there."""
        self._users += 1
        try:
            yield
        finally:
            self._users -= 1
            if not self._users and self._pool is not None:
                self._pool.shutdown(wait=False)
                self._pool = None

    @property
    def pool(self) -> ThreadPoolExecutor:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="workerless")
        return self._pool


# A triggerer has one event loop.
_threads = _Threads()


class WorkerlessPodTrigger(BaseTrigger):
    """Runs a pod task, and ends it.

    Nothing is refused when it is made: a triggerer does not outlive every error there. It always fires: Airflow would
    have a worker fail a task whose trigger does not.

    Args:
        given: the task, as `workerless.start_of` stored it.
        others: of another version.
    """

    def __init__(self, given: str = "", **others: Any) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.given = given
        self.others = others
        # Unix time by which Airflow itself ends the wait; Airflow sets it.
        self.timeout_after: Any = None
        self._context: dict[str, Any] | None = None
        self._operator: Any = None
        self._waiting: BaseTrigger | None = None
        self._preparing = threading.Lock()
        self._fired = False

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """The class and what it was given."""
        return f"{__name__}.WorkerlessPodTrigger", {**self.others, "given": self.given}

    def render_template_fields(self, context: Any, jinja_env: Any = None) -> None:
        """Keeps the context: templates are rendered later, as that may ask Airflow and so block."""
        self._context = context

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Runs the task; yields the one event, which ends it."""
        try:
            with _threads.used():
                event = await self._end()
        except (asyncio.CancelledError, GeneratorExit, KeyboardInterrupt, SystemExit):
            raise
        except AirflowSkipException as skipped:
            self.log.info("Skipped: %s", skipped)
            event = TaskSkippedEvent()
        except BaseException as error:
            # Of Airflow's, some are no Exception; none may leave a trigger.
            known = isinstance(error, KpoMulticlusterError)
            self.log.error("The task failed: %s", error, exc_info=None if known else error)
            event = TaskFailedEvent()
        self._fired = True
        yield event

    async def _end(self) -> TriggerEvent:
        ended = await self._in_thread(self._prepare)
        if ended is not None:
            return ended
        operator, context = self._operator, self._context
        stored = await self._in_thread(lambda: stored_cluster(operator._cluster_hook))
        async with hub_of(stored) as hub:
            # One credential for all that run on a cluster, rather than one for each.
            vars(operator._cluster_hook)["access"] = hub.api.access
            step = partial(operator.execute_async, context)
            while (deferred := await self._in_thread(partial(_until_deferred, step))) is not None:
                event = await self._fired_by(deferred.trigger)
                step = partial(getattr(operator, deferred.method_name), context, event=event.payload)
        return TaskSuccessEvent()

    async def _fired_by(self, trigger: BaseTrigger) -> TriggerEvent:
        # Not taken back when this is cut off: what is waited for is then what `on_kill` ends.
        self._waiting = trigger
        events = trigger.run()
        try:
            event = await anext(events)
        finally:
            await events.aclose()  # type: ignore[attr-defined]
        self._waiting = None
        return event

    def _prepare(self) -> TriggerEvent | None:
        """Makes the task and renders its templates; gives the event if this very try has ended before."""
        with self._preparing:
            return self._prepared() if self._operator is None else None

    def _prepared(self) -> TriggerEvent | None:
        from kpo_multicluster.operators.workerless.steps import END_KEY, End, task_of
        from kpo_multicluster.operators.workerless.task_instance import TriggererTaskInstance, context_in_triggerer

        given, of_airflow = self._context, self.task_instance
        if given is None or of_airflow is None:
            raise ConfigurationError(
                "Airflow has started the trigger without a context: the DAG's newest version has no workerless task of "
                "this id. Clear the task."
            )
        operator = task_of(self.given, of_airflow.dag_id, of_airflow.task_id)
        operator._in_triggerer = True
        limit, until = operator.execution_timeout, self.timeout_after
        started = None if limit is None or until is None else until.timestamp() - limit.total_seconds()
        ti = TriggererTaskInstance(of_airflow, given.get("dag"), retries=operator.retries or 0, started=started)
        of_airflow.task = operator
        end = End.from_json(ti.xcom_pull(key=END_KEY))
        if end is not None and end.attempt == str(ti.id):
            self.log.info("This try had ended (%s) when its triggerer was lost. %s", end.state, end.why)
            return {"success": TaskSuccessEvent, "skipped": TaskSkippedEvent}.get(end.state, TaskFailedEvent)()
        if end is not None:
            ti.forget(end.keys)
        context = context_in_triggerer(given, ti, operator)
        operator.render_template_fields(context)
        context["dag"] = operator.dag
        # Airflow keeps it as long as this runs, and with it a copy of the whole DAG.
        given.clear()
        ti.forget_dag()
        self._operator, self._context = operator, context
        return None

    async def _in_thread(self, work: Callable[[], T]) -> T:
        # What is logged belongs to this trigger by the context that goes with the call.
        call = partial(contextvars.copy_context().run, work)
        future = asyncio.get_running_loop().run_in_executor(_threads.pool, call)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            # A triggerer that ends, or a user who ends the task: `on_kill` is called next for the latter alone.
            future.cancel()
            future.add_done_callback(_looked_at)
            if self._operator is not None:
                self._operator.stop_in_triggerer()
            raise

    async def on_kill(self) -> None:
        """Ends the pod of a task that a user has ended; Airflow cancels this again every second while it runs."""
        if self._fired:
            return
        if self._waiting is not None:
            # It tells itself what becomes of the pod.
            await self._waiting.on_kill()
            return
        if self._operator is None:
            # No pod of this trigger's; whether another triggerer has made one before is found out.
            await carried_through(self._find_out(), name="prepare the kill")
        if self._operator is not None and self._context is not None:
            kill = asyncio.to_thread(self._operator.kill_in_triggerer, self._context)
            if not await carried_through(kill, name="kill"):
                self.log.error("The pod of the task could not be ended in time and may still be running.")

    async def _find_out(self) -> None:
        try:
            await asyncio.to_thread(self._prepare)
        except Exception as error:  # noqa: BLE001 - told, whatever it is: no one else will
            self.log.error("The pod of the ended task, if there is one, may still be running: %s", error)


def _until_deferred(step: Callable[[], Any]) -> TaskDeferred | None:
    try:
        step()
    except TaskDeferred as deferred:
        return deferred
    return None


def _looked_at(future: asyncio.Future[Any]) -> None:
    # The end of what no one waits for any more is not for asyncio to log.
    if not future.cancelled():
        future.exception()
