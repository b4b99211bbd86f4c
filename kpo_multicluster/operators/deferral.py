"""Deferrable runs: a worker creates the pod, the triggerer waits for it, a worker finishes the run.

What a deferred run does is what a run in one worker does, by the same steps: only where the waiting happens differs.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, ClassVar

from kpo_multicluster.airflow_names import (
    AirflowTaskTimeout,
    Context,
    TaskDeferralError,
    TaskDeferralTimeout,
    restored,
)
from kpo_multicluster.errors import ConfigurationError, KpoMulticlusterError, PodRunError
from kpo_multicluster.operators.enums import OnKillAction
from kpo_multicluster.operators.parsing import check_operator
from kpo_multicluster.operators.session import PodSession
from kpo_multicluster.operators.steps import PodSteps
from kpo_multicluster.pods.labels import ATTEMPT_ANNOTATION
from kpo_multicluster.pods.record import RunOutcome, RunRecord
from kpo_multicluster.pods.status import ended_for_good
from kpo_multicluster.raised import airflow_errors, as_airflow

# The trigger knows the deadline itself; this is for a triggerer that is away when it passes.
_LATE_SECONDS = 60.0


class DeferredSteps(PodSteps):
    """What `KubernetesPodOperator` does with `deferrable=True`."""

    MAX_REDEFER_ATTEMPTS: ClassVar[int] = 3

    deferrable: bool
    poll_interval: float
    logging_interval: float | None
    trigger_kwargs: Mapping[str, Any] | None

    # Set while a run may be deferred.
    _deferring: tuple[dict[str, Any], float | None] | None = None
    _deferred_from: tuple[PodSession, int] | None = None
    _event: Mapping[str, Any]

    def execute(self, context: Context) -> Any:
        """Runs the pod; returns its XCom result if `do_xcom_push` is set."""
        return self.execute_async(context) if self.deferrable else self.execute_sync(context)

    @airflow_errors()
    def execute_async(self, context: Context) -> Any:
        """Creates the pod, or finds that of an earlier try, and defers the task; one that has ended is finished here.

        Raises:
            TaskDeferred: the triggerer waits for the pod now.
            ConfigurationError: what would have to be stored cannot be.
            KpoMulticlusterError: as `execute_sync` does.
        """
        from kpo_multicluster.triggers.clusters import stored_cluster

        check_operator(self)
        # Known to be possible before there is a pod.
        _check_storable("trigger_kwargs", self.trigger_kwargs)
        self._deferring = stored_cluster(self._cluster_hook), self._deadline(context)
        try:
            return self._run(context)
        finally:
            self._deferring = None

    def _deadline(self, context: Context) -> float | None:
        if self.execution_timeout is None:
            return None
        started = getattr(context["ti"], "start_date", None)
        began = time.time() if started is None else started.timestamp()
        return float(began + self.execution_timeout.total_seconds())

    def _hand_over(self, session: PodSession, context: Context, relaunches_left: int) -> None:
        if self._deferring is None or ended_for_good(session.current or {}, self.base_container_name):
            return
        self._deferred_from = session, relaunches_left
        # Overrides of older versions know no context.
        known = inspect.signature(self.invoke_defer_method).parameters
        self.invoke_defer_method(**({"context": context} if "context" in known else {}))

    def invoke_defer_method(self, last_log_time: Any = None, context: Context | None = None) -> None:
        """Defers the task, in the middle of `execute_async()`.

        Args:
            last_log_time: accepted; where logs were left is known.
            context: of the task.

        Raises:
            TaskDeferred: always.
        """
        from kpo_multicluster.triggers.pod import KubernetesPodTrigger

        record = self._record()
        timeout = None
        if record.deadline is not None:
            timeout = timedelta(seconds=max(0.0, record.deadline - time.time()) + _LATE_SECONDS)
        self.defer(
            trigger=KubernetesPodTrigger(record.to_json(), self.trigger_kwargs, self.poll_interval),
            method_name="execute_complete" if self._overrides_reentry() else "trigger_reentry",
            timeout=timeout,
        )

    def _record(self) -> RunRecord:
        if self._deferring is None or self._deferred_from is None:
            raise PodRunError("invoke_defer_method belongs to a run: it can be called during execute_async() only.")
        session, relaunches_left = self._deferred_from
        cluster, deadline = self._deferring
        return RunRecord(
            cluster=cluster,
            server=session.access.server,
            pod=session.current or {},
            settings=session.settings,
            live=self._follows_live(),
            prefix=self.container_name_log_prefix_enabled,
            deferred_at=time.time(),
            deadline=deadline,
            keep_on_kill=self.on_kill_action is OnKillAction.KEEP_POD,
            grace_seconds=self.termination_grace_period,
            relaunches_left=relaunches_left,
        )

    def _follows_live(self) -> bool:
        """Whether the triggerer writes the logs: code of the DAG that is to see each line runs in workers only."""
        seen = self.log_formatter is not None or self._calls.progress(lambda: None) is not None
        return self.logging_interval is not None and not seen

    def _overrides_reentry(self) -> bool:
        return type(self).execute_complete is not DeferredSteps.execute_complete

    @airflow_errors()
    def trigger_reentry(self, context: Context, event: dict[str, Any]) -> Any:
        """Finishes a run, in a worker, after its trigger has fired; returns the result if `do_xcom_push` is set.

        Args:
            context: of the task.
            event: the trigger's.

        Raises:
            ConfigurationError: the event is of another version.
            AirflowTaskTimeout: the task has run out of time.
            KpoMulticlusterError: as `execute_sync` does.
        """
        check_operator(self)
        try:
            outcome = RunOutcome.from_json(event.get("run"))
        except ConfigurationError as error:
            self._end_unattended(context, retried=True)
            raise as_airflow(error) from None
        self._event = event
        # A pod that was lost before its start is created, and waited for, anew.
        self._deferring = dict(outcome.record.cluster), outcome.record.deadline
        try:
            return self._run(context, outcome)
        finally:
            self._deferring = None

    def execute_complete(self, context: Context, event: dict[str, Any], **kwargs: Any) -> Any:
        """`trigger_reentry` by its older name."""
        return self.trigger_reentry(context, event)

    def _take_over(self, session: PodSession, context: Context, outcome: RunOutcome) -> None:
        super()._take_over(session, context, outcome)
        self._tell("on_operator_resuming", session, context, event=self._event)
        follow, cursors = session.settings.follow, session.cursors
        if outcome.timed_out:
            raise AirflowTaskTimeout(f"The task ran longer than its execution_timeout, {self.execution_timeout}.")
        failure = outcome.failure
        if failure is None:
            return
        if isinstance(failure, PodRunError):
            session.call(lambda run: run.read_logs(follow, cursors))
            raise failure
        if not ended_for_good(session.current or {}, self.base_container_name):
            raise failure
        self.log.warning("The pod has ended, though the triggerer could not wait for that: %s", failure)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Called by Airflow when a deferred task goes on, also when its trigger was lost or is out of time."""
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except TaskDeferralTimeout:
            self._end_unattended(context, retried=False)
            raise
        except TaskDeferralError:
            self._end_unattended(context, retried=True)
            raise

    def _end_unattended(self, context: Context, *, retried: bool) -> None:
        """Ends the pod of this try, where no event tells which it is.

        Args:
            context: of the task.
            retried: whether a next try goes on with the pod if there is one.
        """
        ti = context["ti"]
        if retried and self.reattach_on_restart and ti.try_number <= ti.max_tries:
            self.log.warning("The pod was left as it is: the next try of this task will go on with it.")
            return
        if self.on_kill_action is OnKillAction.KEEP_POD:
            self.log.warning("The pod goes on running, as on_kill_action is 'keep_pod'.")
            return
        session = PodSession(self._cluster_hook.access, lambda item: None, name=f"pod {self.task_id}")
        try:
            namespace = self._manifest(context)["metadata"]["namespace"]
            selector = self._build_find_pod_label_selector(context)
            for pod in session.call(lambda run: run.find(namespace, selector)):
                if self._is_of_try(pod["metadata"], ti):
                    session.adopt(pod)
                    session.delete_alone(grace_seconds=self.termination_grace_period)
        except KpoMulticlusterError as error:
            self.log.error("The pod could not be looked for and ended, it may still be running: %s", error)
        finally:
            session.close()

    def _is_of_try(self, metadata: Mapping[str, Any], ti: Any) -> bool:
        """Whether a try created the pod, or went on with it. A later try may have begun, with a pod of its own."""
        if (metadata.get("annotations") or {}).get(ATTEMPT_ANNOTATION) == str(ti.id):
            return True
        number = str((metadata.get("labels") or {}).get("try_number", ""))
        return self.reattach_on_restart and number.isdecimal() and int(number) < ti.try_number


def _check_storable(name: str, value: Any) -> None:
    """Refuses what a triggerer could not be given: it would end there, or the triggerer with it.

    Raises:
        ConfigurationError: it cannot be stored, or not be read again.
    """
    try:
        restored(value)
    except Exception as error:  # noqa: BLE001 - Airflow's are of many kinds
        raise ConfigurationError(
            f"With deferrable=True, {name} is stored in Airflow's database, which is not possible: {error}. Give it "
            "texts, numbers, lists and dictionaries only."
        ) from None
