"""The steps of a pod task under the names they have upstream, in upstream's order; all on the main thread.

A step may be overridden: it then takes effect. Pods are JSON objects as the API server sends them.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Any

from kpo_multicluster.airflow_names import AirflowSkipException, Context
from kpo_multicluster.auth.registry import resolve
from kpo_multicluster.errors import KpoMulticlusterError, PodRunError, XComError
from kpo_multicluster.operators.enums import OnFinishAction, OnKillAction
from kpo_multicluster.operators.request import Pod, PodRequest
from kpo_multicluster.operators.session import PodSession
from kpo_multicluster.operators.task_log import TaskLog
from kpo_multicluster.pods.engine import EngineStopped
from kpo_multicluster.pods.labels import POD_CHECKED_KEY
from kpo_multicluster.pods.outcome import choose, judge, succeeded
from kpo_multicluster.pods.status import is_terminal, name_of, termination
from kpo_multicluster.pods.xcom import RESULT_COMMAND, SIDECAR_NAME, parse_result


class PodSteps(PodRequest):
    """What `KubernetesPodOperator` does; its arguments are the attributes used here."""

    reattach_on_restart: bool
    log_events_on_failure: bool
    termination_grace_period: int | None
    on_finish_action: OnFinishAction
    on_kill_action: OnKillAction
    skip_on_exit_code: Container[int]
    container_name_log_prefix_enabled: bool
    log_formatter: Any
    _session: PodSession | None
    _task_log: TaskLog
    _killed: bool
    _failure: PodRunError | None

    # -- a run ---------------------------------------------------------------------------------------------------

    def execute(self, context: Context) -> Any:
        """Runs the pod; returns its XCom result if `do_xcom_push` is set."""
        return self.execute_sync(context)

    def execute_sync(self, context: Context) -> Any:
        """Runs the pod in this process.

        Raises:
            PodRunError: the pod failed, could not start, or was lost; the message says why.
            KpoMulticlusterError: the cluster could not be reached or refused a request.
            AirflowSkipException: the base container ended with one of `skip_on_exit_code`.
        """
        self._failure = None
        self._ref = self._cluster_ref()
        self._task_log = self._new_task_log()
        session = PodSession(resolve(self._ref), self._task_log.receive, name=f"pod {self.task_id}")
        self._session = session
        try:
            if self._killed:
                raise session.killed_error()
            return self._attend(session, context)
        except EngineStopped:
            raise session.killed_error() from None
        finally:
            session.close()

    def _attend(self, session: PodSession, context: Context) -> Any:
        request = self._request(context, session.access.namespace)
        session.settings = self._run_settings(request)
        pod = self.get_or_create_pod(request, context)
        result: Any = None
        try:
            # Pushed now, so that they are there when the run fails.
            context["ti"].xcom_push(key="pod_name", value=pod["metadata"]["name"])
            context["ti"].xcom_push(key="pod_namespace", value=pod["metadata"]["namespace"])
            self.await_pod_start(pod)
            self.await_init_containers_completion(pod)
            self.await_pod_completion(pod)
            result = self._result_of(session.current or pod)
        except PodRunError as error:
            self._failure = error
        except KpoMulticlusterError as error:
            self._leave(session, context, error)
            raise
        except EngineStopped:
            raise
        except BaseException:
            # A time limit, a fault in user code called from here, an interrupt: the pod must not outlive the task.
            self._end_with_task(session)
            raise
        self.post_complete_action(pod=pod, remote_pod=session.current or pod, context=context, result=result)
        return result

    def _leave(self, session: PodSession, context: Context, error: KpoMulticlusterError) -> None:
        """After an error of ours, with a pod that may be well: left for the next try; ended if there is none."""
        ti = context["ti"]
        if self.reattach_on_restart and ti.try_number <= ti.max_tries:
            self.log.warning("Pod %s was left as it is: the next try of this task will go on with it.", session.where())
            return
        self.log.warning("No further try of this task will go on with pod %s: ending it.", session.where())
        if not session.delete_alone(grace_seconds=self.termination_grace_period):
            self.log.error("Pod %s could not be deleted and may still be running: %s", session.where(), error)

    def _end_with_task(self, session: PodSession) -> None:
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

    def find_pod(self, namespace: str, context: Context, *, exclude_checked: bool = True) -> Pod | None:
        """The pod that an earlier try of this task left and that is worth going on with; clears others away."""
        selector = self._build_find_pod_label_selector(context, exclude_checked=exclude_checked)
        pods = self._steps.call(lambda run: run.find(namespace, selector))
        chosen, others = choose(pods, self.base_container_name)
        for other in others:
            self.log.info("Pod %s was left by an earlier try of this task.", name_of(other))
            if not self.process_pod_deletion(other, reraise=False):
                self.patch_already_checked(other, reraise=False)
        return chosen

    def log_matching_pod(self, pod: Pod, context: Context) -> None:
        """Tells which pod is gone on with."""
        labels = pod["metadata"].get("labels") or {}
        state = "has ended well meanwhile" if succeeded(pod, self.base_container_name) else "is still running"
        self.log.info(
            "Going on with pod %s of try %s, which %s; this is try %s.",
            name_of(pod),
            labels.get("try_number", "?"),
            state,
            context["ti"].try_number,
        )

    def get_or_create_pod(self, pod_request_obj: Pod, context: Context) -> Pod:
        """The pod of an earlier try if there is one to go on with, else a new one."""
        if self.reattach_on_restart:
            pod = self._find_earlier(pod_request_obj, context)
            if pod is not None:
                self.log_matching_pod(pod, context)
                return self._steps.adopt(pod)
        pod = self._steps.create(pod_request_obj)
        self.log.info("Created pod %s on %s (%s).", name_of(pod), self._steps.access.server, self._steps.access.source)
        return pod

    def _find_earlier(self, request: Pod, context: Context) -> Pod | None:
        return self.find_pod(request["metadata"]["namespace"], context)

    def await_pod_start(self, pod: Pod) -> None:
        """Waits until the base container has started.

        Raises:
            PodStartError: it cannot, or did not in time.
        """
        self._steps.call(lambda run: run.until_started())

    def await_init_containers_completion(self, pod: Pod) -> None:
        """Does nothing: the base container starts only after they have ended, and their logs are read meanwhile."""

    def await_pod_completion(self, pod: Pod) -> None:
        """Waits until the base container has ended for good, writing its log meanwhile."""
        self._steps.call(lambda run: run.until_ended())

    def extract_xcom(self, pod: Pod, *, ignore_kill_failure: bool = True) -> Any:
        """The run's result, read from the XCom sidecar, which ends with it.

        Raises:
            XComError: there is none to be read, or it is not JSON.
        """
        if termination(pod, SIDECAR_NAME) is not None:
            raise XComError(
                f"The XCom sidecar of pod {name_of(pod)} had ended before the result was read: it is lost. "
                "It ends with the pod's activeDeadlineSeconds, or when something kills it."
            )
        answer = self._steps.call(lambda run: run.exec(SIDECAR_NAME, RESULT_COMMAND))
        return parse_result(answer.stdout)

    def post_complete_action(self, *, pod: Pod, remote_pod: Pod, context: Context, result: Any, **kwargs: Any) -> None:
        """What is done when the run is over, whatever came of it."""
        self.cleanup(pod=pod, remote_pod=remote_pod, xcom_result=result, context=context)

    def cleanup(
        self, pod: Pod, remote_pod: Pod, xcom_result: Any | None = None, context: Context | None = None
    ) -> None:
        """Removes or marks the pod, and raises what the run ended with if it failed.

        Raises:
            PodRunError: the run failed.
            AirflowSkipException: with one of `skip_on_exit_code`.
        """
        failure = self._failure_of(remote_pod)
        if failure is not None:
            if xcom_result is not None and context is not None:
                context["ti"].xcom_push(key="return_value", value=xcom_result)
            if self.log_events_on_failure:
                self._log_events()
        if not self.process_pod_deletion(remote_pod, reraise=False):
            # Kept: a later try must start a new one.
            self.patch_already_checked(remote_pod, reraise=False)
        if failure is None:
            return
        ended = termination(remote_pod, self.base_container_name)
        if ended is not None and ended.exit_code in self.skip_on_exit_code:
            raise AirflowSkipException(f"Pod {name_of(remote_pod)} ended with exit code {ended.exit_code}: skipped.")
        raise self._with_last_lines(failure)

    def process_pod_deletion(self, pod: Pod, *, reraise: bool = True) -> bool:
        """Deletes the pod if `on_finish_action` says so; returns whether it did.

        Raises:
            KpoMulticlusterError: the deletion was refused or not answered, and `reraise` is set.
        """
        action, done = self.on_finish_action, succeeded(pod, self.base_container_name)
        wanted = {
            OnFinishAction.DELETE_POD: True,
            OnFinishAction.KEEP_POD: False,
            OnFinishAction.DELETE_SUCCEEDED_POD: done,
            OnFinishAction.DELETE_ACTIVE_POD: not is_terminal(pod),
        }[action]
        if not wanted:
            self.log.info("Pod %s is kept, as on_finish_action is %r.", name_of(pod), action.value)
            return False
        try:
            self._steps.call(lambda run: run.delete(pod))
        except KpoMulticlusterError as error:
            if reraise:
                raise
            self.log.warning("Pod %s could not be deleted: %s", name_of(pod), error)
            return False
        return True

    def patch_already_checked(self, pod: Pod, *, reraise: bool = True) -> None:
        """Marks the pod, so that no later try goes on with it.

        Raises:
            KpoMulticlusterError: the change was refused or not answered, and `reraise` is set.
        """
        try:
            self._steps.call(lambda run: run.label(pod, {POD_CHECKED_KEY: "True"}))
        except KpoMulticlusterError as error:
            if reraise:
                raise
            self.log.warning("Pod %s could not be marked as done with: %s", name_of(pod), error)

    # -- parts ---------------------------------------------------------------------------------------------------

    @property
    def _steps(self) -> PodSession:
        if self._session is None:
            raise PodRunError("This step belongs to a run: it can be called during execute() only.")
        return self._session

    def _new_task_log(self) -> TaskLog:
        return TaskLog(self.log, prefix=self.container_name_log_prefix_enabled, formatter=self.log_formatter)

    def _result_of(self, pod: Pod) -> Any:
        if not self.do_xcom_push:
            return None
        failure = self._failure_of(pod)
        try:
            return self.extract_xcom(pod)
        except KpoMulticlusterError as error:
            if failure is None:
                raise
            # The run's own failure is the one to tell.
            self.log.warning("The result of the failed run could not be read: %s", error)
            return None

    def _failure_of(self, pod: Pod) -> PodRunError | None:
        if self._failure is None:
            self._failure = judge(
                pod,
                self.base_container_name,
                companions=self._steps.settings.companions,
                deleted=self._steps.deleted,
            )
        return self._failure

    def _with_last_lines(self, failure: PodRunError) -> PodRunError:
        lines = self._task_log.tail.get(self.base_container_name)
        if lines:
            failure.args = ("\n".join([str(failure), "Last lines of its log:", *lines]),)
        return failure

    def _log_events(self) -> None:
        try:
            events = self._steps.call(lambda run: run.events())
        except KpoMulticlusterError as error:
            self.log.warning("The pod's events could not be read: %s", error)
            return
        for event in events:
            write = self.log.warning if event.get("type") == "Warning" else self.log.info
            write("Pod event: %s - %s", event.get("reason"), event.get("message"))
