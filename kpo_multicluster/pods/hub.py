"""One watch for all the pods of a namespace that someone waits for, however many they are.

The watch selects the pods of every pod task by the label they all carry, also those of other Airflows: of those that no
one here waits for, nothing is kept. The watch tells only what changes from its start on, so each pod that is newly
waited for is looked up once: a few by a GET each, many by one list.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
from collections.abc import Awaitable, Collection, Iterable
from typing import Any

from kpo_multicluster.api.client import ApiClient
from kpo_multicluster.api.retry import RetryPolicy
from kpo_multicluster.errors import (
    ApiError,
    ConnectError,
    CredentialError,
    ForbiddenError,
    GoneError,
    KpoMulticlusterError,
    NotFoundError,
)
from kpo_multicluster.pods.digest import digest
from kpo_multicluster.pods.lost_cluster import as_replaced, is_behind
from kpo_multicluster.pods.monitor import PodMonitor, Warn
from kpo_multicluster.pods.own_watch import POLL_SECONDS, watch_alone
from kpo_multicluster.pods.resources import pod_path, pods_path
from kpo_multicluster.pods.status import uid_of

_LABEL = "kubernetes_pod_operator"
SELECTOR = f"{_LABEL}=True"
OUTAGE_SECONDS = 120.0
# A connection for a whole namespace may be tried more often than one for each pod. An outage that lasts longer is told.
_RETRY = RetryPolicy(budget_seconds=5.0, first_delay_seconds=0.1, max_delay_seconds=1.0)
_AGAIN_SECONDS = 1.0
# Longer than it takes to fail from the start. A watch that held for so long worked, also if it had nothing to tell.
_WORKED_SECONDS = 30.0
# Pods that begin to be waited for together are looked up together.
_GATHER_SECONDS = 0.05
_FEW = 4
_PAGE = 250


class PodHub:
    """The shared watches of one cluster, on one event loop.

    Args:
        api: of the cluster; its owner closes it, after the last of `observe` has ended.
    """

    def __init__(self, api: ApiClient) -> None:
        self.api = api
        self._namespaces: dict[str, _NamespaceWatch] = {}

    async def observe(self, monitor: PodMonitor, warn: Warn) -> None:
        """Observes a pod for its monitor until it is gone; the first in a namespace opens the watch, the last ends it.

        Raises:
            KpoMulticlusterError: the pods of that namespace can no longer be observed.
        """
        namespace = monitor.pod["metadata"]["namespace"]
        watch = self._namespaces.get(namespace)
        if watch is None or watch.failed:
            watch = self._namespaces[namespace] = _NamespaceWatch(self.api, namespace)
        try:
            await watch.observe(monitor, warn)
        finally:
            if watch.idle and self._namespaces.get(namespace) is watch:
                del self._namespaces[namespace]
                watch.stop()
        if not monitor.deleted:
            # It is there, but without the label that all pods of tasks carry.
            await watch_alone(monitor, warn)


class _Waiting:
    """Someone who waits for a pod."""

    def __init__(self, monitor: PodMonitor, warn: Warn) -> None:
        self.monitor = monitor
        self.warn = warn
        self.uid = uid_of(monitor.pod)
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def saw(self, pod: dict[str, Any], *, deleted: bool = False) -> None:
        self.monitor.saw(digest(pod), deleted=deleted)
        if self.monitor.deleted:
            self.leave()

    def leave(self) -> None:
        if not self.over.done():
            self.over.set_result(None)

    def fail(self, error: KpoMulticlusterError) -> None:
        if not self.over.done():
            self.over.set_exception(error)


class _NamespaceWatch:
    """One watch, and the look-ups beside it, as long as anyone waits."""

    def __init__(self, api: ApiClient, namespace: str) -> None:
        self.failed = False
        self._api = api
        self._namespace = namespace
        self._waiting: dict[str, list[_Waiting]] = {}
        self._wanted: set[str] = set()
        self._wake = asyncio.Event()
        # Set while the watch's place is known: only what is read after that leaves no gap before it.
        self._placed = asyncio.Event()
        self._version = ""
        self._polling: str | None = None
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def idle(self) -> bool:
        return not self._waiting

    async def observe(self, monitor: PodMonitor, warn: Warn) -> None:
        waiting = _Waiting(monitor, warn)
        same = self._waiting.setdefault(waiting.uid, [])
        same.append(waiting)
        self._want([waiting.uid])
        if not self._tasks:
            loop = asyncio.get_running_loop()
            self._tasks = [
                loop.create_task(self._guarded(self._watch()), name=f"watch {self._namespace}"),
                loop.create_task(self._guarded(self._look_up()), name=f"look up {self._namespace}"),
            ]
        try:
            if self._polling is not None:
                await warn(self._polling)
            await waiting.over
        finally:
            same.remove(waiting)
            if not same:
                del self._waiting[waiting.uid]

    def stop(self) -> None:
        for task in self._tasks:
            task.cancel()

    async def _guarded(self, work: Awaitable[None]) -> None:
        """Whatever ends the work ends all waiting with it: no one may wait for what is no longer watched."""
        try:
            await work
        except KpoMulticlusterError as error:
            failure = error
        except Exception as error:  # noqa: BLE001 - told to everyone who waits
            failure = KpoMulticlusterError(f"The watch of namespace {self._namespace!r} failed: {error!r}.")
            failure.__cause__ = error
        # Whoever comes next begins anew.
        self.failed = True
        for waiting in self._all():
            waiting.fail(failure)
        self.stop()

    def _all(self) -> list[_Waiting]:
        return [waiting for same in self._waiting.values() for waiting in same]

    def _want(self, uids: Iterable[str]) -> None:
        self._wanted.update(uids)
        self._wake.set()

    # -- the watch -----------------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        loop, outage = asyncio.get_running_loop(), _Outage()
        while True:
            self._placed.clear()
            placed_at = math.inf
            try:
                self._version = await self._place()
                self._placed.set()
                placed_at = loop.time()
                self._want(self._waiting)
                await self._follow(self._version, outage)
            except GoneError:
                # What was missed is looked up. A server for which every version is too old is not flooded.
                await asyncio.sleep(_AGAIN_SECONDS if outage.again() else 0)
            except ForbiddenError as error:
                await self._poll(error)
            except (ConnectError, ApiError, CredentialError) as error:
                if loop.time() - placed_at > _WORKED_SECONDS:
                    outage.passed()
                await self._tell(outage.first(error))
                if outage.over():
                    raise
                await asyncio.sleep(random.uniform(0, _AGAIN_SECONDS))

    async def _place(self) -> str:
        """The version of the collection; empty for one's own, from which a watch tells of all that is there first."""
        query: dict[str, str | int | bool] = {"labelSelector": SELECTOR, "limit": 1}
        try:
            answer = await self._api.request("GET", pods_path(self._namespace), params=query, retry=_RETRY)
        except ForbiddenError:
            return ""
        return str(answer["metadata"].get("resourceVersion", ""))

    async def _follow(self, version: str, outage: _Outage) -> None:
        events = self._api.watch(
            pods_path(self._namespace), resource_version=version, params={"labelSelector": SELECTOR}, retry=_RETRY
        )
        async with contextlib.aclosing(events):
            async for event in events:
                outage.passed()
                uid = uid_of(event.object)
                for waiting in self._waiting.get(uid, ()):
                    waiting.saw(event.object)
                    if event.type == "DELETED":
                        # Gone, or no longer labelled as the watch selects.
                        self._want([uid])

    async def _poll(self, error: ForbiddenError) -> None:
        self._polling = (
            f"This role may not watch pods ({error.detail or error}): reading the pods every {POLL_SECONDS:g} s "
            "instead. Grant the verb 'watch' on pods to be told of changes at once."
        )
        await self._tell(self._polling)
        while True:
            await asyncio.sleep(POLL_SECONDS)
            self._want(self._waiting)

    async def _tell(self, text: str | None) -> None:
        if text is not None:
            await asyncio.gather(*(waiting.warn(text) for waiting in self._all()), return_exceptions=True)

    # -- look-ups ------------------------------------------------------------------------------------------------

    async def _look_up(self) -> None:
        outage = _Outage()
        while True:
            await self._wake.wait()
            await asyncio.sleep(_GATHER_SECONDS)
            await self._placed.wait()
            self._wake.clear()
            wanted, self._wanted = self._wanted, set()
            try:
                await self._read(wanted & self._waiting.keys())
                outage.passed()
            except (ConnectError, ApiError, CredentialError):
                if outage.over():
                    raise
                self._want(wanted)
                await asyncio.sleep(random.uniform(0, _AGAIN_SECONDS))

    async def _read(self, wanted: Collection[str]) -> None:
        left = list(wanted)
        if len(left) > _FEW:
            # No right to list: one by one.
            with contextlib.suppress(ForbiddenError):
                left = await self._read_list(left)
        for start in range(0, len(left), _FEW):
            await asyncio.gather(*map(self._read_one, left[start : start + _FEW]))

    async def _read_list(self, wanted: Collection[str]) -> list[str]:
        """Looks pods up by one list, in pages; gives those that are not in it."""
        missing = set(wanted)
        query: dict[str, str | int | bool] = {"labelSelector": SELECTOR, "limit": _PAGE}
        while True:
            page = await self._api.request("GET", pods_path(self._namespace), params=query, retry=_RETRY)
            for pod in page.get("items") or ():
                uid = uid_of(pod)
                for waiting in self._waiting.get(uid, ()) if uid in missing else ():
                    waiting.saw(pod)
                missing.discard(uid)
            if not page["metadata"].get("continue") or not missing:
                return list(missing)
            query["continue"] = page["metadata"]["continue"]

    async def _read_one(self, uid: str) -> None:
        same = self._waiting.get(uid)
        if not same:
            return
        known = same[0].monitor.pod
        try:
            pod = await self._api.request("GET", pod_path(known), retry=_RETRY)
        except NotFoundError:
            pod, known = None, await self._as_missed(known)
        except ForbiddenError as error:
            if self._polling is None:  # there is still the watch
                return
            for waiting in list(same):
                waiting.fail(error)
            return
        for waiting in list(same):
            waiting.saw(pod or known, deleted=pod is None)
            if pod is not None and (pod["metadata"].get("labels") or {}).get(_LABEL) != "True":
                waiting.leave()

    async def _as_missed(self, known: dict[str, Any]) -> dict[str, Any]:
        """A pod that is not there, with why, if that can be told."""
        # What is newer than the watch's place is nothing special: only a cluster that is behind it even now is.
        if not is_behind(self._version, known):
            return known
        self._version = await self._place()
        return as_replaced(known, self._version, self._api.access.server)


class _Outage:
    """How long it has not worked."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._last = 0.0
        self._said = False

    def passed(self) -> None:
        """It works."""
        self._since, self._said = None, False

    def over(self) -> bool:
        """Whether it has not worked for too long."""
        now = asyncio.get_running_loop().time()
        self._since = self._since if self._since is not None else now
        return now - self._since >= OUTAGE_SECONDS

    def first(self, error: KpoMulticlusterError) -> str | None:
        """What to tell of an error, if it is the first since it last worked."""
        if self._said:
            return None
        self._said = True
        return f"The pods cannot be observed: {error} Trying again for {OUTAGE_SECONDS:g} s."

    def again(self) -> bool:
        """Whether this happened less than a moment ago, too."""
        now = asyncio.get_running_loop().time()
        again, self._last = now - self._last < POLL_SECONDS, now
        return again
