"""Which pod a try goes on with: one that an earlier try left, or a new one; and what becomes of the others."""

from __future__ import annotations

from typing import Any

from kpo_multicluster.airflow_names import Context
from kpo_multicluster.errors import ForbiddenError, KpoMulticlusterError, PodRunError
from kpo_multicluster.operators.enums import OnFinishAction
from kpo_multicluster.operators.objects import PodObject, as_pod
from kpo_multicluster.operators.pod_memory import Remembered, recall, remember
from kpo_multicluster.operators.request import PodRequest
from kpo_multicluster.operators.session import PodSession
from kpo_multicluster.pods.labels import POD_CHECKED_KEY, POD_CHECKED_VALUE
from kpo_multicluster.pods.outcome import choose, succeeded
from kpo_multicluster.pods.status import ended_for_good, is_active, name_of, uid_of


class PodChoice(PodRequest):
    """Finds, creates, marks and deletes pods."""

    on_finish_action: OnFinishAction
    _session: PodSession | None

    @property
    def _steps(self) -> PodSession:
        if self._session is None:
            raise PodRunError("This step belongs to a run: it can be called during execute() only.")
        return self._session

    def find_pod(self, namespace: str, context: Context, *, exclude_checked: bool = True) -> Any:
        """The pod that an earlier try of this task left and that is worth going on with; clears others away.

        Once the run has a pod, that one, whatever became of it, and nothing is cleared away.

        Returns:
            A PodObject, or None.
        """
        selector = self._build_find_pod_label_selector(context, exclude_checked=exclude_checked)
        pods = self._steps.call(lambda run: run.find(namespace, selector))
        own = self._steps.pod
        if own is None:
            return self._settle(pods)
        return next((PodObject(pod) for pod in pods if uid_of(pod) == uid_of(own)), None)

    def log_matching_pod(self, pod: Any, context: Context) -> None:
        """Tells which pod is gone on with."""
        pod = as_pod(pod)
        labels = pod["metadata"].get("labels") or {}
        state = "has ended well meanwhile" if succeeded(pod, self.base_container_name) else "has not ended"
        self.log.info(
            "Going on with pod %s of try %s, which %s; this is try %s.",
            name_of(pod),
            labels.get("try_number", "?"),
            state,
            context["ti"].try_number,
        )

    def get_or_create_pod(self, pod_request_obj: Any, context: Context) -> Any:
        """The pod of an earlier try if there is one to go on with, else a new one.

        Returns:
            A PodObject.
        """
        request = as_pod(pod_request_obj)
        if self.reattach_on_restart:
            found = self._recalled(context) or self._searched(request["metadata"]["namespace"], context)
            if found is not None:
                self.log_matching_pod(pod=found, context=context)
                return self._remembered(PodObject(self._steps.adopt(as_pod(found))), context)
        pod = PodObject(self._steps.create(request))
        self.log.info("Created pod %s on %s (%s).", name_of(pod), self._steps.access.server, self._steps.access.source)
        return self._remembered(pod, context)

    def _recalled(self, context: Context) -> Any:
        """The pod that an earlier try remembered, if it is still that pod and worth going on with."""
        memory = recall(context)
        if memory is None:
            return None
        if memory.cluster not in (None, self._steps.access.fingerprint):
            self.log.warning(
                "An earlier try ran pod %s/%s on another cluster than %s: it is not gone on with.",
                memory.namespace,
                memory.name,
                self._steps.access.server,
            )
            return None
        try:
            pod = self._steps.call(lambda run: run.read(memory.namespace, memory.name))
        except ForbiddenError as error:
            self.log.warning("The pod of an earlier try cannot be read: %s. Grant the verb 'get' on pods.", error)
            return None
        if pod is None or memory.uid not in (None, uid_of(pod)):
            return None
        if (pod["metadata"].get("labels") or {}).get(POD_CHECKED_KEY) == POD_CHECKED_VALUE:
            return None
        return self._settle([pod])

    def _searched(self, namespace: str, context: Context) -> Any:
        try:
            return self.find_pod(namespace, context=context)
        except ForbiddenError as error:
            self.log.warning(
                "Pods of earlier tries cannot be looked for, a new pod is started: %s. Grant the verb 'list' on pods.",
                error,
            )
            return None

    def _remembered(self, pod: PodObject, context: Context) -> PodObject:
        if self.reattach_on_restart:
            metadata, cluster = pod["metadata"], self._steps.access.fingerprint
            remember(context, Remembered(metadata["namespace"], metadata["name"], uid_of(pod), cluster))
        return pod

    def _settle(self, pods: list[dict[str, Any]]) -> Any:
        """The pod to go on with; others are cleared away."""
        left = [PodObject(pod) for pod in pods]
        # Upstream asks for a choice only where there is one: an override need not expect less.
        return self.process_duplicate_label_pods(left) if len(left) > 1 else self._choose(left)

    def process_duplicate_label_pods(self, pod_list: list[Any]) -> Any:
        """Chooses among several pods that earlier tries left, and clears the others away.

        Returns:
            The PodObject to go on with; None if there is none that is worth it.
        """
        return self._choose(pod_list)

    def _choose(self, pods: list[Any]) -> PodObject | None:
        chosen, others = choose([as_pod(pod) for pod in pods], self.base_container_name)
        for other in others:
            self.log.info("Pod %s was left by an earlier try of this task.", name_of(other))
            if not ended_for_good(other, self.base_container_name):
                # on_finish_action is about pods that have finished: two must not do the same work.
                self._delete(as_pod(other), reraise=False)
            elif not self.process_pod_deletion(as_pod(other), reraise=False):
                self.patch_already_checked(as_pod(other), reraise=False)
        return None if chosen is None else as_pod(chosen)

    def process_pod_deletion(self, pod: Any, *, reraise: bool = True) -> bool:
        """Deletes the pod if `on_finish_action` says so; returns whether it did.

        Raises:
            KpoMulticlusterError: the deletion was refused or not answered, and `reraise` is set.
        """
        target = as_pod(pod)
        return not self._is_kept(target) and self._delete(target, reraise=reraise)

    def _is_kept(self, target: PodObject) -> bool:
        """Whether on_finish_action keeps a pod; tells so."""
        action = self.on_finish_action
        kept = {
            OnFinishAction.DELETE_POD: False,
            OnFinishAction.KEEP_POD: True,
            OnFinishAction.DELETE_SUCCEEDED_POD: not succeeded(target, self.base_container_name),
            OnFinishAction.DELETE_ACTIVE_POD: not is_active(target),
        }[action]
        if kept:
            self.log.info("Pod %s is kept, as on_finish_action is %r.", name_of(target), action.value)
        return kept

    def _delete(self, target: PodObject, *, reraise: bool) -> bool:
        try:
            self._steps.call(lambda run: run.delete(target))
        except KpoMulticlusterError as error:
            if reraise:
                raise
            self.log.warning("Pod %s could not be deleted: %s", name_of(target), error)
            return False
        return True

    def _keep_if_finished(self, pod: dict[str, Any] | None) -> bool:
        """Marks a pod that has ended, if on_finish_action keeps it; returns whether it does."""
        if pod is None or not ended_for_good(pod, self.base_container_name) or not self._is_kept(as_pod(pod)):
            return False
        self.patch_already_checked(as_pod(pod), reraise=False)
        return True

    def patch_already_checked(self, pod: Any, *, reraise: bool = True) -> None:
        """Marks the pod, so that no later try goes on with it.

        Raises:
            KpoMulticlusterError: the change was refused or not answered, and `reraise` is set.
        """
        target = as_pod(pod)
        try:
            self._steps.call(lambda run: run.label(target, {POD_CHECKED_KEY: POD_CHECKED_VALUE}))
        except KpoMulticlusterError as error:
            if reraise:
                raise
            self.log.warning("Pod %s could not be marked as done with: %s", name_of(target), error)
