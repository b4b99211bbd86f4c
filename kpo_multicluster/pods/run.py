"""One run: a pod from its request to its removal, as steps on one event loop.

The steps are the same in a worker, where another thread drives them, and in a triggerer. What happens meanwhile (log
lines, events, notices) is given to `emit`.

Requests of a plain run: LIST (`find`), POST (`create`), WATCH (from the first wait on), LOG, DELETE.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import Any

from kpo_multicluster.api.client import ApiClient, ExecResult
from kpo_multicluster.errors import (
    ConflictError,
    NotFoundError,
    PodRunError,
    PodStartError,
    PodStartTimeoutError,
)
from kpo_multicluster.pods.emitted import Notice, PodEvent
from kpo_multicluster.pods.events import as_event, list_events, tell_events
from kpo_multicluster.pods.followers import LogFollowers
from kpo_multicluster.pods.log_so_far import read_so_far
from kpo_multicluster.pods.logs import LogCursor
from kpo_multicluster.pods.monitor import Observe, PodMonitor
from kpo_multicluster.pods.outcome import doubt, judge
from kpo_multicluster.pods.own_watch import watch_alone
from kpo_multicluster.pods.patience import Patience
from kpo_multicluster.pods.resources import pod_path, pods_path
from kpo_multicluster.pods.settings import RunSettings
from kpo_multicluster.pods.status import (
    container_names,
    ended_for_good,
    has_started,
    hopeless_containers,
    is_scheduled,
    is_terminal,
    name_of,
    uid_of,
    waiting_for,
)
from kpo_multicluster.pods.submission import create_pod, delete_pod
from kpo_multicluster.pods.waiting import tell_waiting
from kpo_multicluster.pods.xcom import SIDECAR_NAME


class PodRun:
    """The steps of one run.

    Args:
        api: of the cluster; belongs to the event loop the steps run on.
        settings: of the run.
        emit: is awaited with every LogBatch and Notice.
        observe: how the pod is watched.
    """

    def __init__(
        self,
        api: ApiClient,
        settings: RunSettings,
        emit: Callable[[Any], Awaitable[None]],
        observe: Observe = watch_alone,
    ) -> None:
        self.api = api
        self.settings = settings
        self._emit = emit
        self._observe = observe
        self._monitor: PodMonitor | None = None
        self._followers: LogFollowers | None = None
        self._read_to: dict[str, LogCursor] = {}
        self._patience = Patience(api, self._warn)
        self._told_of: set[str] = set()

    @property
    def begun(self) -> bool:
        """Whether it is about a pod yet."""
        return self._monitor is not None

    @property
    def monitor(self) -> PodMonitor:
        """Of the pod this run is about.

        Raises:
            PodRunError: there is none yet.
        """
        if self._monitor is None:
            raise PodRunError("This run has no pod yet: create or adopt one first.")
        return self._monitor

    @property
    def _logs(self) -> LogFollowers:
        assert self._followers is not None, "there is one as soon as there is a pod"
        return self._followers

    @property
    def pod(self) -> dict[str, Any]:
        """As last seen."""
        return self.monitor.pod

    async def find(self, namespace: str, selector: str) -> list[dict[str, Any]]:
        """Pods of earlier attempts, by label selector.

        Raises:
            KpoMulticlusterError: the list was refused or not answered.
        """
        answer = await self._request("GET", pods_path(namespace), params={"labelSelector": selector})
        return list(answer.get("items") or ())

    async def read(self, namespace: str, name: str) -> dict[str, Any] | None:
        """One pod by name, or None if there is none.

        Raises:
            KpoMulticlusterError: the request was refused or not answered.
        """
        try:
            return await self._request("GET", pod_path({"metadata": {"namespace": namespace, "name": name}}))
        except NotFoundError:
            return None

    async def _request(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        return await self._patience.insist(partial(self.api.request, method, path, **options))

    async def create(self, manifest: dict[str, Any]) -> dict[str, Any]:
        """Creates the pod. The request may be repeated: one that was carried out unheard is recognised and adopted.

        Raises:
            ConflictError: another pod has that name.
            KpoMulticlusterError: the request was refused or not answered.
        """
        return await self.adopt(await create_pod(self.api, manifest, self._patience))

    async def adopt(self, pod: dict[str, Any], *, deleted: bool = False) -> dict[str, Any]:
        """Makes this run be about an existing pod, and no longer about another.

        Args:
            pod: as it was last seen.
            deleted: whether it is known to be gone since.
        """
        await self.close()
        self._monitor = PodMonitor(
            self.api,
            pod,
            self._observe,
            self._warn,
            confirmation_seconds=self.settings.node_confirmation_seconds,
        )
        self._monitor.deleted = deleted
        self._read_to = {}
        self._followers = LogFollowers(self.api, self._monitor, self._emit)
        return pod

    async def until_started(
        self, cursors: dict[str, LogCursor] | None = None, *, waited_seconds: float = 0.0
    ) -> dict[str, Any]:
        """Waits until the base container has started; follows init containers' logs meanwhile.

        Args:
            cursors: where logs were left.
            waited_seconds: since the pod's creation, elsewhere.

        Raises:
            PodStartError: it never can, or did not in time; says what it waited for.
            PodLostError: the pod is gone.
        """
        settings, monitor = self.settings, self.monitor
        inits = container_names(monitor.pod, "initContainers")
        await self._logs.follow([name for name in settings.follow if name in inits], cursors or {})
        async with self._telling_signs():
            failure = await self._start_failure(waited_seconds)
        await self._tell_of_strangers()
        if failure is not None:
            # What an init container said last tells why it failed.
            await self._logs.drain(settings.log_drain_seconds)
            raise failure
        await self._logs.settle(settings.log_drain_seconds)
        return monitor.pod

    async def _start_failure(self, waited_seconds: float) -> PodRunError | None:
        """Waits until the base container has started; gives what is to be raised if it has not."""
        settings, monitor = self.settings, self.monitor
        if not await self._reach(is_scheduled, max(0.0, settings.schedule_timeout_seconds - waited_seconds)):
            return self._too_late("schedule_timeout_seconds", settings.schedule_timeout_seconds)
        if not await self._reach(lambda pod: has_started(pod, settings.base), settings.startup_timeout_seconds):
            return self._too_late("startup_timeout_seconds", settings.startup_timeout_seconds)
        if has_started(monitor.pod, settings.base):
            return None
        hopeless = self._hopeless(monitor.pod)
        if hopeless:
            return PodStartError(f"Pod {name_of(monitor.pod)} cannot start: {hopeless}.")
        return judge(monitor.pod, settings.base, deleted=monitor.deleted)

    @contextlib.asynccontextmanager
    async def _telling_signs(self) -> AsyncIterator[None]:
        """Within it, a pod that takes long to start is told of."""
        after = self.settings.tell_events_after_seconds
        if after is None:
            yield
            return
        events = tell_events(self.api, self.pod, self._emit, after_seconds=after, watched=self.settings.watch_events)
        waiting = tell_waiting(lambda: self.pod, self._emit, after_seconds=after)
        telling = [asyncio.create_task(events, name="events"), asyncio.create_task(waiting, name="waiting")]
        try:
            yield
        finally:
            for task in telling:
                task.cancel()
            await asyncio.gather(*telling, return_exceptions=True)

    async def _reach(
        self, reached: Callable[[dict[str, Any]], bool], timeout_seconds: float, *, needed: set[str] | None = None
    ) -> bool:
        """Waits until `reached(pod)` holds, or can no longer; False if the time is up first."""

        def settled(pod: dict[str, Any]) -> bool:
            return reached(pod) or is_terminal(pod) or self._hopeless(pod, needed) is not None

        if await self.monitor.wait(settled, timeout_seconds=timeout_seconds):
            return True
        # A pod that started while the cluster could not be heard is not late.
        await self._patience.insist(self.monitor.look)
        return self.monitor.deleted or settled(self.pod)

    def _hopeless(self, pod: dict[str, Any], needed: set[str] | None = None) -> str | None:
        """Why the pod can never start, if it cannot; or why some of its containers cannot."""
        needed = self._own(pod) if needed is None else needed
        return next((why for name, why in hopeless_containers(pod) if name in needed), None)

    def _own(self, pod: dict[str, Any]) -> set[str]:
        """Containers without which the run cannot be: not those that others put in beside the init containers."""
        return {self.settings.base, *self.settings.companions, SIDECAR_NAME, *container_names(pod, "initContainers")}

    async def _tell_of_strangers(self) -> None:
        """Tells of other containers that cannot start, of each once."""
        known = self._own(self.pod) | self._told_of
        for name, why in hopeless_containers(self.pod):
            if name not in known:
                self._told_of.add(name)
                await self._warn(f"{why[0].upper()}{why[1:]}. It is none of this task's own: the run goes on without.")

    def _too_late(self, parameter: str, seconds: float) -> PodStartTimeoutError:
        pod = self.pod
        return PodStartTimeoutError(
            f"Pod {name_of(pod)} did not start within {seconds:g} s ({parameter}): {waiting_for(pod)}. "
            f"Raise {parameter} if the cluster needs longer, for example to add a node."
        )

    async def until_ended(
        self, cursors: dict[str, LogCursor] | None = None, *, companions: bool = True, finished: bool = True
    ) -> dict[str, Any]:
        """Waits until the base container has ended for good, following the logs beside.

        Args:
            cursors: where logs were left.
            companions: whether to wait for the companions as well.
            finished: whether this is the last that is told of it; otherwise another process goes on with the run.

        Raises:
            PodStartError: a companion never can start.
            KpoMulticlusterError: the pod can no longer be observed.
        """
        settings, monitor = self.settings, self.monitor
        await self._logs.follow(settings.follow, cursors or {})
        await monitor.wait(lambda pod: ended_for_good(pod, settings.base))
        hopeless = await self._await_companions() if companions else None
        await self._logs.drain(settings.log_drain_seconds)
        await self._tell_of_strangers()
        if hopeless is not None and judge(monitor.pod, settings.base, deleted=monitor.deleted) is None:
            # What it does when it is found before the base container has started.
            raise PodStartError(f"Pod {name_of(monitor.pod)} has failed: {hopeless}.")
        if finished and (why := doubt(monitor.pod, settings.base)) is not None:
            await self._warn(why)
        return monitor.pod

    async def _await_companions(self) -> str | None:
        """Waits for the companions' end; gives why one of them can never start, if one cannot."""
        patience, loop, monitor = self.settings.sidecar_drain_seconds, asyncio.get_running_loop(), self.monitor
        ended_at = loop.time()

        def running(pod: dict[str, Any]) -> list[str]:
            # A pod that an earlier try left may be without a container that was added since.
            awaited = container_names(pod, "containers") - {name for name, _ in hopeless_containers(pod)}
            return [name for name in self.settings.companions if name in awaited and not ended_for_good(pod, name)]

        while left := running(monitor.pod):
            # One that still has something to say is let finish.
            heard_at = max(ended_at, *(self._logs.heard_at(name) or ended_at for name in left))
            seconds = None if patience is None else heard_at + patience - loop.time()
            if seconds is not None and seconds <= 0:
                break
            if await monitor.wait(lambda pod: not running(pod), timeout_seconds=seconds):
                left = []
                break
        if left:
            await self._warn(
                f"Container {self.settings.base!r} has ended; {', '.join(map(repr, left))} still ran "
                f"{patience:g} s later, or after the last line of its log. Raise sidecar_drain_seconds to wait longer."
            )
        return self._hopeless(monitor.pod, set(self.settings.companions))

    async def _warn(self, text: str) -> None:
        await self._emit(Notice("warning", text))

    @property
    def cursors(self) -> dict[str, LogCursor]:
        """Where each log was left."""
        return {**({} if self._followers is None else self._followers.cursors), **self._read_to}

    async def read_logs(self, containers: Iterable[str], cursors: dict[str, LogCursor]) -> None:
        """Emits what containers have written so far, for a run whose end is not waited for.

        Args:
            containers: their names; those that have not started, or that are not there, have no log.
            cursors: where logs were left.
        """
        self._read_to = dict(cursors)
        await read_so_far(self.api, self.pod, containers, self._read_to, self._emit)

    async def exec(self, container: str, command: Sequence[str]) -> ExecResult:
        """Runs a command in a container of the pod; waits until that has started.

        Raises:
            PodStartError: it never can, or did not within `startup_timeout_seconds`.
            ExecError: it could not be run to its end.
            KpoMulticlusterError: the request was refused or not answered.
        """
        seconds = self.settings.startup_timeout_seconds
        if not await self._reach(lambda pod: has_started(pod, container), seconds, needed={container}):
            raise PodStartTimeoutError(
                f"Container {container!r} of pod {name_of(self.pod)} did not start within {seconds:g} s "
                f"(startup_timeout_seconds): {waiting_for(self.pod)}."
            )
        if (hopeless := self._hopeless(self.pod, {container})) is not None:
            raise PodStartError(f"Pod {name_of(self.pod)} has failed: {hopeless}.")
        path = pod_path(self.pod, "exec")
        return await self._patience.insist(partial(self.api.exec, path, command, container=container))

    async def events(self) -> list[PodEvent]:
        """The pod's events so far, oldest first.

        Raises:
            KpoMulticlusterError: the list was refused or not answered.
        """
        events, _ = await self._patience.insist(partial(list_events, self.api, self.pod))
        return [as_event(event) for event in events]

    async def label(self, pod: dict[str, Any], labels: dict[str, str]) -> None:
        """Adds labels to a pod, if it is still there.

        Raises:
            KpoMulticlusterError: the change was refused or not answered.
        """
        body = {"metadata": {"uid": uid_of(pod), "labels": labels}}
        # A uid that differs is a conflict: another pod under the same name, which is none of ours.
        with contextlib.suppress(NotFoundError, ConflictError):
            await self._request("PATCH", pod_path(pod), body=body, content_type="application/merge-patch+json")

    async def delete(self, pod: dict[str, Any], *, grace_seconds: float | None = None) -> None:
        """Asks for a pod's deletion, pinned by its uid; one that is already gone is fine.

        Raises:
            KpoMulticlusterError: the request was refused or not answered.
        """
        await self._patience.insist(partial(delete_pod, self.api, pod, grace_seconds=grace_seconds))

    async def close(self) -> None:
        """Ends the watch and the followers; the API client stays open."""
        if self._followers is not None:
            await self._followers.close()
        if self._monitor is not None:
            await self._monitor.close()
