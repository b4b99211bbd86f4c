"""`KubernetesPodTrigger` waits in the triggerer for pods of deferred tasks, a thousand of them on one watch.

It takes the record of a run from the worker that created the pod, and gives the outcome to the one that finishes it.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping
from enum import Enum
from functools import partial
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from kpo_multicluster.errors import ConfigurationError, KpoMulticlusterError, PodRunError, PodStartTimeoutError
from kpo_multicluster.pods.failures import failure_to_json
from kpo_multicluster.pods.outcome import judge
from kpo_multicluster.pods.record import RunOutcome, RunRecord
from kpo_multicluster.pods.status import name_of
from kpo_multicluster.pods.task_log import TaskLog
from kpo_multicluster.triggers.clusters import explain, hub_of, placed
from kpo_multicluster.triggers.killed import carried_through
from kpo_multicluster.triggers.turns import turns
from kpo_multicluster.triggers.writing import written


class ContainerState(str, Enum):
    """What a container is doing."""

    WAITING = "waiting"
    RUNNING = "running"
    TERMINATED = "terminated"
    FAILED = "failed"
    UNDEFINED = "undefined"


class KubernetesPodTrigger(BaseTrigger):
    """Waits until a deferred task's pod has ended, and fires one event.

    Nothing is refused when it is made: a triggerer does not outlive every error there. What cannot be understood is
    told by the event.

    Args:
        run: the record of the run, as `RunRecord.to_json` wrote it.
        trigger_kwargs: added to the event, under keys that it does not use itself.
        poll_interval: accepted; a pod is watched, so nothing is asked at intervals.
        others: of another version, or of upstream's trigger.
    """

    def __init__(
        self,
        run: Mapping[str, Any] | None = None,
        trigger_kwargs: Mapping[str, Any] | None = None,
        poll_interval: float = 2,
        **others: Any,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.run_record = run
        self.trigger_kwargs = trigger_kwargs
        self.poll_interval = poll_interval
        self.others = others
        self._fired = False

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """The class and what it was given."""
        given = {
            "run": self.run_record,
            "trigger_kwargs": self.trigger_kwargs,
            "poll_interval": self.poll_interval,
        }
        return f"{__name__}.KubernetesPodTrigger", {**self.others, **given}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Waits; yields the one event."""
        try:
            event = await self._event()
        except (asyncio.CancelledError, GeneratorExit, KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001 - of Airflow's, some are no Exception; none may leave a trigger
            event = self._failed(error)
        self._fired = True
        yield TriggerEvent(event)  # type: ignore[no-untyped-call]

    async def _event(self) -> dict[str, Any]:
        await turns().take()
        record = RunRecord.from_json(self.run_record)
        try:
            async with hub_of(record.cluster) as hub:
                from kpo_multicluster.pods.attend import attend

                # All who waited for the same cluster to be opened come here in one moment.
                await turns().take()
                log = TaskLog(self.log, prefix=record.prefix, formatter=None)

                outcome = await attend(hub, record, partial(written, log.receive))
                if outcome.failure is not None:
                    placed(outcome.failure)
                    await explain(outcome.failure, record.cluster, hub)
        except KpoMulticlusterError as error:
            outcome = RunOutcome(record, failure=placed(error))
        await turns().take()
        return self._told(outcome)

    def _told(self, outcome: RunOutcome) -> dict[str, Any]:
        pod, settings = dict(outcome.record.pod), outcome.record.settings
        failure = outcome.failure
        if outcome.timed_out:
            status, message = "timeout", f"Pod {name_of(pod)} reached the execution_timeout of its task."
        else:
            failure = failure or judge(pod, settings.base, companions=settings.companions, deleted=outcome.deleted)
            status, message = _status(failure), str(failure or "The base container has ended well.")
        return self._payload(pod, status, message, outcome.to_json())

    def _failed(self, error: BaseException) -> dict[str, Any]:
        """For what no one foresaw, and for a record that cannot be read."""
        if not isinstance(error, ConfigurationError):
            self.log.error("The trigger failed", exc_info=error)
            text = f"The trigger failed on host {socket.gethostname()}: {type(error).__name__}: {error}"
            error = KpoMulticlusterError(text)
        record = self.run_record if isinstance(self.run_record, Mapping) else {}
        pod = record.get("pod")
        known = pod if isinstance(pod, Mapping) and isinstance(pod.get("metadata"), Mapping) else {"metadata": {}}
        return self._payload(known, "error", str(error), {"record": dict(record), "failure": failure_to_json(error)})

    def _payload(self, pod: Mapping[str, Any], status: str, message: str, run: dict[str, Any]) -> dict[str, Any]:
        extra = self.trigger_kwargs if isinstance(self.trigger_kwargs, Mapping) else {}
        metadata = pod["metadata"]
        return {
            **extra,
            "status": status,
            "name": metadata.get("name", ""),
            "namespace": metadata.get("namespace", ""),
            "message": message,
            "run": run,
        }

    async def on_kill(self) -> None:
        """Deletes the pod of a task that a user has ended (Airflow 3.3 and newer)."""
        if self._fired:
            return
        try:
            record = RunRecord.from_json(self.run_record)
        except ConfigurationError as error:
            self.log.error("The pod of the ended task cannot be deleted: %s", error)
            return
        if record.keep_on_kill:
            self.log.warning("Pod %s goes on running, as on_kill_action is 'keep_pod'.", record.where)
            return
        if not await carried_through(self._delete(record), name=f"delete {record.where}"):
            self.log.error("Pod %s could not be deleted in time and may still be running.", record.where)

    async def _delete(self, record: RunRecord) -> None:
        try:
            async with hub_of(record.cluster) as hub:
                from kpo_multicluster.pods.submission import delete_pod

                await delete_pod(hub.api, dict(record.pod), grace_seconds=record.grace_seconds)
        except Exception as error:  # noqa: BLE001 - told, whatever it is: no one else will
            self.log.error("Pod %s could not be deleted and may still be running: %s", record.where, error)
        else:
            self.log.info("The task was ended by a user. Pod %s was told to end.", record.where)


def _status(failure: KpoMulticlusterError | None) -> str:
    if failure is None:
        return "success"
    if isinstance(failure, PodStartTimeoutError):
        return "timeout"
    return "failed" if isinstance(failure, PodRunError) else "error"
