"""What is known of one pod while it is watched: the single source of truth on how far a run has come.

Who watches it is another matter: a watch of its own (`own_watch`), or one that is shared by many pods (`hub`).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import Any

from kpo_multicluster.api.client import ApiClient
from kpo_multicluster.errors import ForbiddenError, KpoMulticlusterError, NotFoundError
from kpo_multicluster.pods.lost_node import as_lost, confirmation_seconds
from kpo_multicluster.pods.resources import pod_path
from kpo_multicluster.pods.settings import RunSettings
from kpo_multicluster.pods.status import name_of, uid_of

Warn = Callable[[str], Awaitable[None]]
Observe = Callable[["PodMonitor", Warn], Awaitable[None]]


class PodMonitor:
    """Keeps `pod` up to date until closed. A pod is known by its uid: another one under the same name is a loss.

    Args:
        api: of the cluster.
        pod: as created or found.
        observe: tells `saw` what becomes of the pod, until it is gone or the monitor is closed; its error ends every
            wait.
        warn: is awaited with what the user should be told, such as a fall back to polling.
        confirmation_seconds: beyond its grace period, for the node to confirm the end of a pod that is deleted.

    Attributes:
        api: of the cluster.
        pod: as last seen.
        deleted: whether the pod is gone from the cluster, or its node for good.
    """

    def __init__(
        self,
        api: ApiClient,
        pod: dict[str, Any],
        observe: Observe,
        warn: Warn,
        *,
        confirmation_seconds: float = RunSettings.node_confirmation_seconds,
    ) -> None:
        self.api = api
        self.pod = pod
        self.deleted = False
        self._observe = observe
        self._warn = warn
        self._uid = uid_of(pod)
        self._confirmation_seconds = confirmation_seconds
        self._heard = time.monotonic()
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to observe the pod; harmless when it is observed."""
        if self._task is None:
            self._task = asyncio.create_task(self._observed(), name=f"watch {name_of(self.pod)}")

    async def close(self) -> None:
        """No longer observes the pod."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task

    async def wait(self, reached: Callable[[dict[str, Any]], bool], *, timeout_seconds: float | None = None) -> bool:
        """Waits until `reached(pod)` holds or the pod is gone. One that is there already costs no request.

        Returns:
            False if `timeout_seconds` passed first.

        Raises:
            KpoMulticlusterError: the pod can no longer be observed.
        """
        loop = asyncio.get_running_loop()
        deadline = None if timeout_seconds is None else loop.time() + timeout_seconds
        while not (self.deleted or reached(self.pod)):
            self.start()
            left = None if deadline is None else deadline - loop.time()
            if left is not None and left <= 0:
                return False
            expected = self._confirmation_left()
            if expected is not None and expected <= 0:
                await self._ask_for_the_last_time()
                continue
            await self.next_change(min((wait for wait in (left, expected) if wait is not None), default=None))
        return True

    async def next_change(self, timeout_seconds: float | None = None) -> None:
        """Returns at the next change of the pod, or when the time is up.

        Raises:
            KpoMulticlusterError: the pod can no longer be observed.
        """
        task = self._task
        if task is None or task.done():
            if task is not None and not task.cancelled() and (error := task.exception()) is not None:
                raise error
            return
        changed = asyncio.ensure_future(self._changed.wait())
        try:
            await asyncio.wait({changed, task}, timeout=timeout_seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            changed.cancel()

    async def look(self) -> None:
        """Reads the pod anew, where what was seen last may be out of date: the watch may have been cut.

        Raises:
            KpoMulticlusterError: the cluster did not answer.
        """
        # Without the right to read there is still the watch.
        with contextlib.suppress(ForbiddenError):
            await self.read()

    async def read(self) -> None:
        """Reads the pod.

        Raises:
            KpoMulticlusterError: the cluster did not answer, or refused.
        """
        try:
            self.saw(await self.api.request("GET", pod_path(self.pod)))
        except NotFoundError:
            self.saw(self.pod, deleted=True)

    def saw(self, pod: dict[str, Any], *, deleted: bool = False) -> None:
        """Takes the pod as it was just seen.

        Args:
            pod: as it was seen; what is older than what is known already is left aside.
            deleted: whether it is gone.
        """
        if self.deleted:
            return
        if uid_of(pod) != self._uid:
            deleted = True
        elif not _is_older(pod, self.pod):
            if pod["metadata"].get("resourceVersion") != self.pod["metadata"].get("resourceVersion"):
                self._heard = time.monotonic()
            self.pod = _with_first_deletion(pod, self.pod)
        self.deleted = deleted
        self._changed.set()
        self._changed = asyncio.Event()

    def _confirmation_left(self) -> float | None:
        expected = confirmation_seconds(self.pod, self._confirmation_seconds)
        return None if expected is None else self._heard + expected - time.monotonic()

    async def _ask_for_the_last_time(self) -> None:
        """Gives the pod's node up, unless something has become of the pod after all."""
        heard = self._heard
        try:
            await self.look()
        except KpoMulticlusterError:
            # It is the cluster that has not been heard.
            self._heard = time.monotonic()
            return
        if self._heard == heard and not self.deleted:
            self.saw(as_lost(self.pod, round(time.monotonic() - heard)), deleted=True)

    async def _observed(self) -> None:
        await self._observe(self, self._warn)


def _is_older(pod: dict[str, Any], known: dict[str, Any]) -> bool:
    """Whether a watch that lags behind tells what a read has overtaken.

    Resource versions of one object are numbers that grow; where a server has others, the order of arrival is all there
    is.
    """
    versions = [str(seen["metadata"].get("resourceVersion", "")) for seen in (pod, known)]
    return all(version.isdecimal() for version in versions) and int(versions[0]) < int(versions[1])


def _with_first_deletion(pod: dict[str, Any], before: dict[str, Any]) -> dict[str, Any]:
    """The pod, with the time at which its deletion was asked for.

    A kubelet removes a pod by a deletion of its own, without grace, whose time is written over that of the first.
    """
    first = before["metadata"].get("deletionTimestamp")
    if first is None or pod["metadata"].get("deletionGracePeriodSeconds") != 0:
        return pod
    kept = {key: before["metadata"].get(key) for key in ("deletionTimestamp", "deletionGracePeriodSeconds")}
    return {**pod, "metadata": {**pod["metadata"], **kept}}
