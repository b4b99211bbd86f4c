"""The events of a pod, told as they happen while its start is waited for.

A pod that starts soon costs no request: events are asked for only once it has kept one waiting.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

from kpo_multicluster.api.client import ApiClient
from kpo_multicluster.errors import ForbiddenError, GoneError, KpoMulticlusterError
from kpo_multicluster.pods.emitted import Notice, PodEvent
from kpo_multicluster.pods.resources import events_path
from kpo_multicluster.pods.status import Pod, uid_of

_LIST_AGAIN_SECONDS = 2.0
_UNWATCHED_SECONDS = (15.0, 120.0)


async def list_events(api: ApiClient, pod: Pod) -> tuple[list[dict[str, Any]], str]:
    """The pod's events so far, oldest first, and the resourceVersion of the list.

    Raises:
        KpoMulticlusterError: the list was refused or not answered.
    """
    answer = await api.request("GET", events_path(pod["metadata"]["namespace"]), params=_of(pod))
    return sorted(answer.get("items") or (), key=_time), str(answer.get("metadata", {}).get("resourceVersion", ""))


async def tell_events(
    api: ApiClient, pod: Pod, emit: Callable[[Any], Awaitable[None]], *, after_seconds: float, watched: bool = True
) -> None:
    """Emits each event of the pod once, until cancelled.

    Args:
        api: of the cluster.
        pod: whose events.
        emit: is awaited with a PodEvent each, or a Notice if events cannot be read.
        after_seconds: how long to wait before anything is asked for.
        watched: False lists them at growing intervals, where a connection for each pod would be too much.
    """
    await asyncio.sleep(after_seconds)
    told: set[str] = set()
    pause, longest = _UNWATCHED_SECONDS
    while True:
        try:
            events, version = await list_events(api, pod)
            for event in events:
                await _tell(event, told, emit)
            if not watched:
                await asyncio.sleep(pause)
                pause = min(2 * pause, longest)
                continue
            watch = api.watch(events_path(pod["metadata"]["namespace"]), resource_version=version, params=_of(pod))
            async with contextlib.aclosing(watch) as changes:
                async for change in changes:
                    await _tell(change.object, told, emit)
        except GoneError:
            await asyncio.sleep(_LIST_AGAIN_SECONDS)
        except ForbiddenError as error:
            await emit(
                Notice("warning", f"The pod's events cannot be read: {error}. Grant 'list' and 'watch' on events.")
            )
            return
        except KpoMulticlusterError as error:
            # Events are a courtesy: the watch of the pod itself tells whether the cluster is away.
            await emit(Notice("warning", f"The pod's events are told no longer: {error}"))
            return


def as_event(event: dict[str, Any]) -> PodEvent:
    """The part of an event that is told."""
    return PodEvent(str(event.get("type") or ""), str(event.get("reason") or ""), str(event.get("message") or ""))


async def _tell(event: dict[str, Any], told: set[str], emit: Callable[[Any], Awaitable[None]]) -> None:
    # A repeated event is the same object with a higher count, and the same words: once is enough.
    uid = str(event["metadata"].get("uid"))
    if uid not in told:
        told.add(uid)
        await emit(as_event(event))


def _of(pod: Pod) -> dict[str, str]:
    return {"fieldSelector": f"involvedObject.name={pod['metadata']['name']},involvedObject.uid={uid_of(pod)}"}


def _time(event: dict[str, Any]) -> str:
    return str(event.get("lastTimestamp") or event.get("eventTime") or event["metadata"].get("creationTimestamp") or "")
