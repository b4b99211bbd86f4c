"""One attempt of one task at a cluster: the engine, the client, the run, and how to end it from a signal handler."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from kpo_multicluster.auth.access import ClusterAccess
from kpo_multicluster.errors import ForbiddenError, KpoMulticlusterError, PodRunError
from kpo_multicluster.pods.engine import Engine
from kpo_multicluster.pods.logs import LogCursor
from kpo_multicluster.pods.record import RunOutcome
from kpo_multicluster.pods.settings import RunSettings
from kpo_multicluster.pods.status import name_of, uid_of
from kpo_multicluster.raised import airflow_errors

if TYPE_CHECKING:
    from kpo_multicluster.api.client import ApiClient
    from kpo_multicluster.pods.run import PodRun

T = TypeVar("T")

# Airflow sends SIGKILL 5 s after SIGTERM: the pod's deletion is given up before that, so that the task can still say
# which pod may remain.
KILL_SECONDS = 3.5
# A last deletion, after the task's own end was decided.
FAREWELL_SECONDS = 10.0


class PodSession:
    """Steps of a run, driven from the main thread.

    Args:
        access: to the cluster, resolved.
        receive: is given, on the calling thread, what the run emits.
        name: of the engine's thread.
        returned: called on the calling thread when it comes back from the engine's, before anything else it does.

    Attributes:
        settings: of the run; to be set before its first step.
        request: the manifest, from the moment it may have reached the cluster.
        pod: as created or adopted.
        removed: what `kill` achieved: True if the deletion was accepted or nothing had been created.
        kept: whether `kill` was to leave the pod alone.
        cursors: where logs were left, in another process.
        companions_awaited: whether the companions' end was waited for there.
    """

    def __init__(
        self,
        access: ClusterAccess,
        receive: Callable[[Any], None],
        *,
        name: str,
        returned: Callable[[], None] = lambda: None,
    ) -> None:
        self.access = access
        self.settings = RunSettings(base="base")
        self.request: dict[str, Any] | None = None
        self.pod: dict[str, Any] | None = None
        self.removed = True
        self.kept = False
        self.cursors: dict[str, LogCursor] = {}
        self.companions_awaited = False
        self._receive = receive
        self._returned = returned
        self._engine = Engine(name)
        self._api: ApiClient | None = None
        self._run: PodRun | None = None

    def call(self, step: Callable[[PodRun], Coroutine[Any, Any, T]]) -> T:
        """Runs one step of the run to its end.

        Raises:
            EngineStopped: the session was killed.
            KpoMulticlusterError: what the step raises; it is an `AirflowException` too.
        """
        with airflow_errors():
            try:
                return self._engine.call(self._step(step), self._handed_over)
            finally:
                self._returned()

    def _handed_over(self, item: Any) -> None:
        self._returned()
        self._receive(item)

    async def _step(self, step: Callable[[PodRun], Coroutine[Any, Any, T]]) -> T:
        if self._run is None:
            # Imported here, on the engine's thread: the HTTP library has no place in the DAG processor.
            from kpo_multicluster.api.client import ApiClient
            from kpo_multicluster.pods.run import PodRun

            self._api = ApiClient(self.access)
            self._run = PodRun(self._api, self.settings, self._engine.emit)
        return await step(self._run)

    def create(self, manifest: dict[str, Any]) -> dict[str, Any]:
        """Creates the pod.

        Raises:
            KpoMulticlusterError: it was refused or not answered.
        """
        # No longer about a pod of before: what is to be removed on a kill is the new one.
        self.pod, self.request = None, manifest
        self.cursors, self.companions_awaited = {}, False
        try:
            self.pod = self.call(lambda run: run.create(manifest))
        except KpoMulticlusterError as error:
            if not error.in_doubt:
                self.request = None
            raise
        return self.pod

    def adopt(self, pod: dict[str, Any]) -> dict[str, Any]:
        """Goes on with an existing pod."""
        self.pod = self.call(lambda run: run.adopt(pod))
        return self.pod

    def resume(self, outcome: RunOutcome) -> dict[str, Any]:
        """Goes on with the pod of a run that was waited for elsewhere.

        Raises:
            KpoMulticlusterError: it could not be read.
        """
        record = outcome.record
        # From here on the pod is this task's to end.
        self.pod = known = dict(record.pod)
        self.settings, self.cursors = record.settings, dict(record.cursors)
        self.companions_awaited = outcome.companions_awaited
        metadata = known["metadata"]
        try:
            found = self.call(lambda run: run.read(metadata["namespace"], metadata["name"]))
        except ForbiddenError:
            # As it was last seen by who could watch it.
            found = None if outcome.deleted else known
        here = found is not None and uid_of(found) == uid_of(known)
        pod = found if found is not None and here else known
        self.pod = self.call(lambda run: run.adopt(pod, deleted=not here))
        return self.pod

    @property
    def begun(self) -> bool:
        """Whether there is a pod, or may be."""
        return self.pod is not None or self.request is not None

    @property
    def current(self) -> dict[str, Any] | None:
        """The pod as last seen."""
        return self.pod if self._observing is None else self._observing.pod

    @property
    def deleted(self) -> bool:
        """Whether the pod is known to be gone from the cluster."""
        return self._observing is not None and self._observing.monitor.deleted

    @property
    def _observing(self) -> PodRun | None:
        """The run, once it is about the pod: one that was waited for elsewhere is known before."""
        return self._run if self._run is not None and self._run.begun and self.pod is not None else None

    def kill(self, *, delete: bool, grace_seconds: float | None = None) -> None:
        """Ends the run; from the main thread's signal handler. Logs nothing and makes no Airflow call.

        The deletion runs in a fresh thread with a client of its own: the engine's may be stuck, and the main thread is
        in the middle of something.

        Args:
            delete: whether to delete the pod.
            grace_seconds: for the deletion; None for the pod's own.
        """
        self._engine.stop()
        self.kept = not delete
        if self.kept or not self.begun:
            return
        self.removed = self._delete_apart(grace_seconds, KILL_SECONDS)

    def delete_alone(self, *, grace_seconds: float | None = None) -> bool:
        """Deletes the pod when the engine can no longer be used; returns whether the deletion was accepted."""
        if not self.begun:
            return True
        return self._delete_apart(grace_seconds, FAREWELL_SECONDS)

    def _delete_apart(self, grace_seconds: float | None, within_seconds: float) -> bool:
        accepted: list[bool] = []

        def work() -> None:
            try:
                asyncio.run(asyncio.wait_for(self._delete(grace_seconds, within_seconds), within_seconds))
                accepted.append(True)
            except (KpoMulticlusterError, asyncio.TimeoutError, OSError):
                # Said by the one who asks: `accepted` stays empty.
                return

        thread = threading.Thread(target=work, name="delete pod", daemon=True)
        thread.start()
        thread.join(within_seconds + 0.3)
        return bool(accepted)

    async def _delete(self, grace_seconds: float | None, within_seconds: float) -> None:
        from kpo_multicluster.api.client import ApiClient
        from kpo_multicluster.api.retry import RetryPolicy
        from kpo_multicluster.pods.patience import Patience
        from kpo_multicluster.pods.submission import delete_pod, find_submitted

        policy = RetryPolicy(budget_seconds=within_seconds)
        async with ApiClient(self.access, retry=policy, connect_timeout_seconds=within_seconds) as api:
            known = self._api is not None and self._api.accepted
            patience = Patience(
                api, _say_nothing, accepted_seconds=within_seconds, unproven_seconds=within_seconds, accepted=known
            )
            pod = self.pod
            if pod is None and self.request is not None:
                # The request was on its way when the run was stopped: it may or may not have been carried out.
                pod = await patience.insist(partial(find_submitted, api, self.request))
            if pod is not None:
                await patience.insist(partial(delete_pod, api, pod, grace_seconds=grace_seconds))

    def where(self) -> str:
        """The pod and its cluster, for messages."""
        pod = self.pod or self.request
        name = name_of(pod) if pod is not None else "(none)"
        return f"{name} on {self.access.server} ({self.access.source})"

    def killed_error(self) -> PodRunError:
        """What the task ends with after `kill`."""
        if not self.begun:
            return PodRunError("The task was killed before its pod was created.")
        if self.kept:
            return PodRunError(f"The task was killed. Pod {self.where()} was left as it is.")
        if self.removed:
            return PodRunError(f"The task was killed. Pod {self.where()} was told to end.")
        return PodRunError(
            f"The task was killed, but the cluster did not accept the deletion of pod {self.where()} within "
            f"{KILL_SECONDS:g} s: it may still be running. Delete it by hand when the cluster answers again."
        )

    def close(self) -> None:
        """Ends the run, the client and the engine's thread."""

        async def last() -> None:
            if self._run is not None:
                await self._run.close()
            if self._api is not None:
                await self._api.close()

        self._engine.close(1.0 if self._engine.stopped else 5.0, last=last)


async def _say_nothing(_text: str) -> None:
    """For a deletion that may be made in a signal handler."""
