"""Watches one pod: the single source of truth on how far a run has come.

One watch connection, opened at the resourceVersion of the pod as created, serves a whole run. Where the role grants no
`watch`, the pod is read at an interval instead. A pod is known by its uid: another pod under the same name is a loss.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar

from kpo_multicluster.api.client import ApiClient
from kpo_multicluster.errors import CredentialError, ForbiddenError, GoneError, NotFoundError, UnauthorizedError
from kpo_multicluster.pods.resources import pod_path, pods_path
from kpo_multicluster.pods.status import name_of, uid_of

T = TypeVar("T")

POLL_SECONDS = 2.0
# For a token service that is away, or an API server that cannot ask the one who knows the token.
REFUSED_SECONDS = 120.0


class PodMonitor:
    """Keeps `pod` up to date until closed.

    Args:
        api: of the cluster.
        pod: as created or found.
        warn: is awaited with what the user should be told, such as a fall back to polling.

    Attributes:
        pod: as last seen.
        deleted: whether the pod is gone from the cluster.
    """

    def __init__(self, api: ApiClient, pod: dict[str, Any], warn: Callable[[str], Awaitable[None]]) -> None:
        self.pod = pod
        self.deleted = False
        self._api = api
        self._warn = warn
        self._uid = uid_of(pod)
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Opens the watch; harmless when it is open."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name=f"watch {name_of(self.pod)}")

    async def close(self) -> None:
        """Ends the watch."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task

    async def wait(self, reached: Callable[[dict[str, Any]], bool], *, timeout_seconds: float | None = None) -> bool:
        """Waits until `reached(pod)` holds or the pod is gone.

        Returns:
            False if `timeout_seconds` passed first.

        Raises:
            KpoMulticlusterError: the pod can no longer be observed.
        """
        self.start()
        loop = asyncio.get_running_loop()
        deadline = None if timeout_seconds is None else loop.time() + timeout_seconds
        while not (self.deleted or reached(self.pod)):
            left = None if deadline is None else deadline - loop.time()
            if left is not None and left <= 0:
                return False
            await self.next_change(left)
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
            await self._read()

    def _saw(self, pod: dict[str, Any], *, deleted: bool = False) -> None:
        if uid_of(pod) != self._uid:
            deleted = True
        else:
            self.pod = _with_first_deletion(pod, self.pod)
        self.deleted = self.deleted or deleted
        self._changed.set()
        self._changed = asyncio.Event()

    async def _run(self) -> None:
        metadata, loop = self.pod["metadata"], asyncio.get_running_loop()
        version, stale = str(metadata.get("resourceVersion", "")), 0
        while not self.deleted:
            began = loop.time()
            try:
                await self._patiently(partial(self._watch, metadata["namespace"], metadata["name"], version))
            except GoneError:
                # Where even what was just listed is too old, this amounts to reading the pod at intervals.
                stale = stale + 1 if loop.time() - began < POLL_SECONDS else 0
                if stale > 1:
                    await asyncio.sleep(min(POLL_SECONDS, 0.1 * 2**stale))
                version = await self._patiently(partial(self._list, metadata["namespace"], metadata["name"]))
            except ForbiddenError as error:
                await self._warn(
                    f"This role may not watch pods ({error.detail or error}): reading the pod every {POLL_SECONDS:g} s "
                    "instead. Grant the verb 'watch' on pods to be told of changes at once."
                )
                await self._poll()

    async def _patiently(self, observe: Callable[[], Awaitable[T]]) -> T:
        """Asks again for a while where a credential cannot be had or is refused: the pod is well all the same."""
        loop, said = asyncio.get_running_loop(), False
        deadline = loop.time() + REFUSED_SECONDS
        while True:
            began = loop.time()
            try:
                return await observe()
            except (CredentialError, UnauthorizedError) as error:
                if loop.time() - began > POLL_SECONDS:
                    # It worked in between.
                    said, deadline = False, loop.time() + REFUSED_SECONDS
                if loop.time() >= deadline:
                    raise
                if not said:
                    await self._warn(f"The pod cannot be observed: {error} Trying again for {REFUSED_SECONDS:g} s.")
                    said = True
                await asyncio.sleep(POLL_SECONDS)

    async def _watch(self, namespace: str, name: str, version: str) -> None:
        events = self._api.watch(
            pods_path(namespace), resource_version=version, params={"fieldSelector": f"metadata.name={name}"}
        )
        async with contextlib.aclosing(events):
            async for event in events:
                self._saw(event.object, deleted=event.type == "DELETED")
                if self.deleted:
                    return

    async def _list(self, namespace: str, name: str) -> str:
        """Looks at the pod anew; gives the version to watch on from.

        A list, as its version is that of the whole collection: the pod's own, as a GET tells it, is that of its last
        change and may be just what is too old to watch from.
        """
        try:
            found = await self._api.request(
                "GET", pods_path(namespace), params={"fieldSelector": f"metadata.name={name}"}
            )
        except ForbiddenError:
            await self._read()
            return ""
        items = found.get("items") or []
        self._saw(items[0] if items else self.pod, deleted=not items)
        return str(found["metadata"].get("resourceVersion", ""))

    async def _poll(self) -> None:
        while not self.deleted:
            await self._patiently(self._read)
            await asyncio.sleep(POLL_SECONDS)

    async def _read(self) -> None:
        try:
            self._saw(await self._api.request("GET", pod_path(self.pod)))
        except NotFoundError:
            self._saw(self.pod, deleted=True)


def _with_first_deletion(pod: dict[str, Any], before: dict[str, Any]) -> dict[str, Any]:
    """The pod, with the time at which its deletion was asked for.

    A kubelet removes a pod by a deletion of its own, without grace, whose time is written over that of the first.
    """
    first = before["metadata"].get("deletionTimestamp")
    if first is None or pod["metadata"].get("deletionGracePeriodSeconds") != 0:
        return pod
    kept = {key: before["metadata"].get(key) for key in ("deletionTimestamp", "deletionGracePeriodSeconds")}
    return {**pod, "metadata": {**pod["metadata"], **kept}}
