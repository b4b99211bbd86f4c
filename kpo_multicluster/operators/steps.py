"""The steps of a pod task under the names they have upstream, in upstream's order; all on the main thread.

A step may be overridden: it then takes effect. A pod is a `PodObject`, which reads like a `V1Pod`; an override may pass
a `V1Pod` on.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Any

from kpo_multicluster.airflow_names import AirflowSkipException, Context, TaskDeferred
from kpo_multicluster.errors import KpoMulticlusterError, PodLostError, PodRunError, XComError
from kpo_multicluster.operators.callback_calls import CallbackCalls
from kpo_multicluster.operators.enums import LossCause, OnKillAction, XComTransport
from kpo_multicluster.operators.links import push_link
from kpo_multicluster.operators.objects import PodObject, as_pod, readable, v1_pod
from kpo_multicluster.operators.parsing import check_operator
from kpo_multicluster.operators.pod_choice import PodChoice
from kpo_multicluster.operators.refusals import explaining_refusals
from kpo_multicluster.operators.session import PodSession
from kpo_multicluster.operators.timings import timings_told
from kpo_multicluster.operators.xcom import push_result, result_from_message, result_from_sidecar
from kpo_multicluster.pods.engine import EngineStopped
from kpo_multicluster.pods.outcome import judge
from kpo_multicluster.pods.record import RunOutcome
from kpo_multicluster.pods.status import ended_for_good, has_started, name_of, termination, uid_of
from kpo_multicluster.pods.task_log import TaskLog
from kpo_multicluster.raised import airflow_errors, as_airflow

# A cluster that takes pods away again and again is a matter for Airflow's own retries.
_RELAUNCHES = 3


class PodSteps(PodChoice):
    """What `KubernetesPodOperator` does; its arguments are the attributes used here."""

    callbacks: Sequence[Any]
    progress_callback: Any
    log_pod_spec_on_failure: bool
    relaunch_on: Container[LossCause]
    log_events_on_failure: bool
    termination_grace_period: int | None
    on_kill_action: OnKillAction
    skip_on_exit_code: Container[int]
    container_name_log_prefix_enabled: bool
    log_formatter: Any
    pod_request_obj: Any
    _built_request: PodObject | None
    pod: PodObject | None
    remote_pod: PodObject | None
    _calls: CallbackCalls
    _task_log: TaskLog
    _killed: bool
    _failure: PodRunError | None

    # -- a run ---------------------------------------------------------------------------------------------------

    def execute(self, context: Context) -> Any:
        """Runs the pod; returns its XCom result if `do_xcom_push` is set."""
        return self.execute_sync(context)

    @airflow_errors()
    def execute_sync(self, context: Context) -> Any:
        """Runs the pod in this process.

        Raises:
            ConfigurationError: an argument cannot work, as it was rendered.
            PodRunError: the pod failed, could not start, or was lost; the message says why.
            KpoMulticlusterError: the cluster could not be reached or refused a request.
            AirflowSkipException: the base container ended with one of `skip_on_exit_code`.
        """
        # What was a template when the DAG was parsed is known now.
        check_operator(self)
        return self._run(context)

    @explaining_refusals
    def _run(self, context: Context, resumed: RunOutcome | None = None) -> Any:
        """Runs the pod, or finishes a run that was waited for elsewhere."""
        self._calls = CallbackCalls(self.callbacks, lambda: self.client, self.progress_callback)
        self._task_log = TaskLog(
            self.log,
            prefix=self.container_name_log_prefix_enabled,
            formatter=self.log_formatter,
            progress=self._calls.progress(lambda: self.remote_pod),
        )
        session = PodSession(
            self._cluster_hook.access,
            self._task_log.receive,
            name=f"pod {self.task_id}",
            # A credential may have been renewed meanwhile: no log line may show it.
            returned=self._cluster_hook.credential_mask.tell_airflow,
        )
        self._session = session
        try:
            if self._killed:
                raise session.killed_error()
            result = self._attend(session, context, resumed)
            if self._killed:
                # The signal came when no step ran any more; a task that was killed has not succeeded.
                raise session.killed_error()
            return result
        except EngineStopped:
            raise session.killed_error() from None
        except TaskDeferred:
            if self._killed:
                raise session.killed_error() from None
            raise
        finally:
            session.close()

    def _attend(self, session: PodSession, context: Context, resumed: RunOutcome | None) -> Any:
        self.pod = self.remote_pod = None
        given = self._given_request()
        result, left = None, _RELAUNCHES if given is None else 0
        while True:
            self._failure = None
            try:
                if resumed is None:
                    self._begin(session, context, given)
                    self._announce_pod(session, context)
                    self._hand_over(session, context, left)
                else:
                    outcome, left, resumed = resumed, resumed.record.relaunches_left, None
                    self._take_over(session, context, outcome)
                result = self._accompany(session, context)
            except PodRunError as error:
                if session.pod is None:
                    raise
                if left and self._worth_relaunching(session, error):
                    left -= 1
                    continue
                self._failure = error
            except KpoMulticlusterError as error:
                self._leave(session, context, error)
                raise
            except (EngineStopped, TaskDeferred):
                raise
            except BaseException:
                # A time limit, a fault in user code called from here, an interrupt: the pod must not outlive the task.
                self._end_with_task(session)
                raise
            break
        self._see(session)
        with timings_told(as_pod(self.remote_pod), self.base_container_name, context["ti"]):
            self.post_complete_action(pod=self.pod, remote_pod=self.remote_pod, context=context, result=result)
        return result

    def _given_request(self) -> PodObject | None:
        """A request that an override of `execute` has made, which is taken as it is."""
        given = self.pod_request_obj
        return None if given is None or given is self._built_request else as_pod(given)

    def _begin(self, session: PodSession, context: Context, given: PodObject | None) -> None:
        """Up to a pod that is the run's."""
        request = self._announced(given or self._manifest(context), context)
        self.pod_request_obj = self._built_request = request
        session.settings = self._run_settings(request)
        # What an override changes in a model is to be created so.
        wanted = v1_pod(request) if self._overrides("get_or_create_pod") else request
        pod = as_pod(self.get_or_create_pod(pod_request_obj=wanted, context=context))
        if session.pod is None or uid_of(session.pod) != uid_of(pod):
            pod = self._adopted(session, pod)
        self.pod = self.remote_pod = pod

    def _adopted(self, session: PodSession, pod: PodObject) -> PodObject:
        """A pod that an override made or found by means of its own; it may have returned no more than the request."""
        if not uid_of(pod):
            metadata = pod["metadata"]
            found = session.call(lambda run: run.read(metadata["namespace"], metadata["name"]))
            if found is None:
                raise PodRunError(
                    f"{type(self).__name__}.get_or_create_pod returned pod {name_of(pod)}, which is not there."
                )
            pod = PodObject(found)
        return PodObject(session.adopt(pod))

    def _overrides(self, step: str) -> bool:
        return getattr(type(self), step) is not getattr(PodSteps, step)

    def _worth_relaunching(self, session: PodSession, error: PodRunError) -> bool:
        """Whether a pod was lost in a way of `relaunch_on` before it could do anything; it is cleared away then."""
        self._see(session)
        lost = as_pod(self.remote_pod)
        wanted = isinstance(error, PodLostError) and LossCause(error.cause) in self.relaunch_on
        if not wanted or has_started(lost, self.base_container_name):
            return False
        self.log.warning("%s It had not started: as relaunch_on says, another is created.", error)
        session.call(lambda run: run.delete(lost))
        session.pod = session.request = None
        return True

    def _manifest(self, context: Context) -> PodObject:
        if self._overrides("build_pod_request_obj"):
            return as_pod(self.build_pod_request_obj(context))
        return self._build(context)

    def _announced(self, request: PodObject, context: Context) -> PodObject:
        if not self._calls.implementing("on_pod_manifest_created"):
            return request
        model = v1_pod(request)
        self._calls.call("on_pod_manifest_created", pod_request=model, operator=self, context=context)
        return as_pod(model)

    def _announce_pod(self, session: PodSession, context: Context) -> None:
        metadata = as_pod(self.pod)["metadata"]
        # Pushed now, so that they are there when the run fails.
        context["ti"].xcom_push(key="pod_name", value=metadata["name"])
        context["ti"].xcom_push(key="pod_namespace", value=metadata["namespace"])
        push_link(self, context["ti"])
        self._tell("on_pod_creation", session, context)

    def _hand_over(self, session: PodSession, context: Context, relaunches_left: int) -> None:
        """Where a task is deferred, from here on no worker waits for its pod."""

    def _take_over(self, session: PodSession, context: Context, outcome: RunOutcome) -> None:
        """Goes on with a run that was waited for elsewhere."""
        self.pod = self.remote_pod = PodObject(session.resume(outcome))

    def _accompany(self, session: PodSession, context: Context) -> Any:
        """From the pod's creation to its result."""
        pod = as_pod(self.pod)
        self.await_pod_start(pod=pod)
        self.await_init_containers_completion(pod=pod)
        self._tell("on_pod_starting", session, context)
        self.await_pod_completion(pod=pod)
        self._ensure_ended(session)
        self._tell("on_pod_completion", session, context)
        self._tell("on_pod_teardown", session, context)
        return self._result_of(as_pod(self.remote_pod)) if self.do_xcom_push else None

    def _tell(self, method: str, session: PodSession, context: Context, **more: Any) -> None:
        self._see(session)
        self._calls.call(method, pod=self.remote_pod, operator=self, context=context, **more)

    def _see(self, session: PodSession) -> None:
        if session.current is not None:
            self.remote_pod = PodObject(session.current)

    def _ensure_ended(self, session: PodSession) -> None:
        """Waits for the end where an override of `await_pod_completion` did not."""
        base = self.base_container_name
        if not session.deleted and not ended_for_good(session.current or {}, base):
            session.call(lambda run: run.monitor.wait(lambda pod: ended_for_good(pod, base)))

    def _leave(self, session: PodSession, context: Context, error: KpoMulticlusterError) -> None:
        """After an error of ours, with a pod that may be well: left for the next try; without one it must end."""
        if not session.begun:
            return
        ti = context["ti"]
        if self.reattach_on_restart and ti.try_number <= ti.max_tries:
            self.log.warning("Pod %s was left as it is: the next try of this task will go on with it.", session.where())
            return
        if self._keep_if_finished(session.current):
            return
        self.log.warning("No further try of this task will go on with pod %s: ending it.", session.where())
        if not session.delete_alone(grace_seconds=self.termination_grace_period):
            self.log.error("Pod %s could not be deleted and may still be running: %s", session.where(), error)

    def _end_with_task(self, session: PodSession) -> None:
        if not session.begun:
            return
        if self.on_kill_action is OnKillAction.KEEP_POD:
            self.log.warning("Pod %s goes on running, as on_kill_action is 'keep_pod'.", session.where())
        elif not session.delete_alone(grace_seconds=self.termination_grace_period):
            self.log.error("Pod %s could not be deleted and may still be running.", session.where())

    def on_kill(self) -> None:
        """Ends the pod when the task is killed; called in the signal handler of the main thread."""
        self._killed = True
        if self._session is not None:
            delete = self.on_kill_action is OnKillAction.DELETE_POD
            self._session.kill(delete=delete, grace_seconds=self.termination_grace_period)

    # -- steps that may be overridden ----------------------------------------------------------------------------

    def await_pod_start(self, pod: Any) -> None:
        """Waits until the base container has started.

        Raises:
            PodStartError: it cannot, or did not in time.
        """
        cursors = self._steps.cursors
        self._steps.call(lambda run: run.until_started(cursors))

    def await_init_containers_completion(self, pod: Any) -> None:
        """Does nothing: the base container starts only after they have ended, and their logs are read meanwhile."""

    def await_pod_completion(self, pod: Any) -> None:
        """Waits until the base container has ended for good, writing its log meanwhile."""
        cursors, companions = self._steps.cursors, not self._steps.companions_awaited
        self._steps.call(lambda run: run.until_ended(cursors, companions=companions))

    @airflow_errors()
    def extract_xcom(self, pod: Any, *, ignore_kill_failure: bool = True) -> Any:
        """The run's result, read from the XCom sidecar, which ends with it.

        Raises:
            XComError: there is none to be read, or it is not JSON.
        """
        target = as_pod(pod)
        if self.xcom_transport is XComTransport.TERMINATION_MESSAGE:
            return result_from_message(target, self.base_container_name)
        return result_from_sidecar(self._steps, target)

    def post_complete_action(self, *, pod: Any, remote_pod: Any, context: Context, result: Any, **kwargs: Any) -> None:
        """What is done when the run is over, whatever came of it.

        Raises:
            PodRunError: the run failed.
            AirflowSkipException: with one of `skip_on_exit_code`.
        """
        try:
            self.cleanup(pod=pod, remote_pod=remote_pod, xcom_result=result, context=context)
        finally:
            self._calls.call("on_pod_cleanup", pod=remote_pod, operator=self, context=context)

    def cleanup(self, pod: Any, remote_pod: Any, xcom_result: Any = None, context: Context | None = None) -> None:
        """Removes or marks the pod, and raises what the run ended with if it failed.

        Raises:
            PodRunError: the run failed.
            AirflowSkipException: with one of `skip_on_exit_code`.
        """
        remote = as_pod(remote_pod)
        failure = self._failure_of(remote)
        try:
            if failure is not None:
                self._tell_of_failure(xcom_result, context)
        finally:
            # Whatever became of that, the pod must not outlive the task.
            if not self.process_pod_deletion(remote, reraise=False):
                # Kept: a later try must start a new one.
                self.patch_already_checked(remote, reraise=False)
        ended = termination(remote, self.base_container_name)
        if ended is not None and ended.exit_code in self.skip_on_exit_code:
            raise AirflowSkipException(f"Pod {name_of(remote)} ended with exit code {ended.exit_code}: skipped.")
        if failure is not None:
            raise self._with_last_lines(failure)

    # -- parts ---------------------------------------------------------------------------------------------------

    def _tell_of_failure(self, result: Any, context: Context | None) -> None:
        """What is left of a run that failed; what goes wrong here is told, and never told instead of the failure."""
        try:
            if self.do_xcom_push and context is not None:
                push_result(context["ti"], result, multiple_outputs=self.multiple_outputs)
        except XComError as error:
            self.log.warning("The result of the failed run could not be pushed: %s", error)
        if self.log_events_on_failure:
            self._log_events()
        try:
            if self.log_pod_spec_on_failure:
                self._log_request(context)
        except KpoMulticlusterError as error:
            self.log.warning("The manifest of the pod could not be made again to be shown: %s", error)

    def _result_of(self, pod: PodObject) -> Any:
        failure = self._failure_of(pod)
        try:
            return self.extract_xcom(pod=pod)
        except KpoMulticlusterError as error:
            if failure is None:
                raise
            # The run's own failure is the one to tell.
            self.log.warning("The result of the failed run could not be read: %s", error)
            return None

    def _failure_of(self, pod: PodObject) -> PodRunError | None:
        if self._failure is None:
            session = self._steps
            companions = session.settings.companions
            failure = judge(pod, self.base_container_name, companions=companions, deleted=session.deleted)
            if failure is not None:
                as_airflow(failure)
            self._failure = failure
        return self._failure

    def _with_last_lines(self, failure: PodRunError) -> PodRunError:
        if lines := self._task_log.tail.get(self.base_container_name):
            failure.args = ("\n".join([str(failure), "Last lines of its log:", *lines]),)
        return failure

    def _log_request(self, context: Context | None) -> None:
        request = self.pod_request_obj
        if request is None and context is not None:
            # Another process made it.
            request = self._manifest(context)
            request["metadata"]["name"] = as_pod(self.pod)["metadata"]["name"]
        if request is not None:
            self.log.info("The pod as it was requested:\n%s", readable(as_pod(request)))

    def _log_events(self) -> None:
        try:
            events = self._steps.call(lambda run: run.events())
        except KpoMulticlusterError as error:
            self.log.warning("The pod's events could not be read: %s", error)
            return
        for event in events:
            self._task_log.receive(event)
