"""Watches one pod for a monitor of it.

One watch connection, opened at the resourceVersion of the pod as created, serves a whole run. Where the role grants no
`watch`, the pod is read at an interval instead.
"""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial

from kpo_multicluster.errors import ForbiddenError, GoneError
from kpo_multicluster.pods.lost_cluster import as_replaced
from kpo_multicluster.pods.monitor import PodMonitor, Warn
from kpo_multicluster.pods.patience import Patience
from kpo_multicluster.pods.resources import pods_path
from kpo_multicluster.pods.submission import read_pod

POLL_SECONDS = 2.0


async def watch_alone(monitor: PodMonitor, warn: Warn) -> None:
    """Observes a pod until it is gone.

    Args:
        monitor: of the pod.
        warn: is awaited with what the user should be told, such as a fall back to polling.

    Raises:
        KpoMulticlusterError: the pod can no longer be observed.
    """
    metadata, loop, patience = monitor.pod["metadata"], asyncio.get_running_loop(), Patience(monitor.api, warn)
    version, stale = str(metadata.get("resourceVersion", "")), 0
    while not monitor.deleted:
        began = loop.time()
        try:
            await patience.insist(partial(_watch, monitor, version))
        except GoneError:
            # Where even what was just listed is too old, this amounts to reading the pod at intervals.
            stale = stale + 1 if loop.time() - began < POLL_SECONDS else 0
            if stale > 1:
                await asyncio.sleep(min(POLL_SECONDS, 0.1 * 2**stale))
            version = await patience.insist(partial(_list, monitor))
        except ForbiddenError as error:
            await warn(
                f"This role may not watch pods ({error.detail or error}): reading the pod every {POLL_SECONDS:g} s "
                "instead. Grant the verb 'watch' on pods to be told of changes at once."
            )
            await _poll(monitor, patience)


def _selecting(monitor: PodMonitor) -> dict[str, str]:
    return {"fieldSelector": f"metadata.name={monitor.pod['metadata']['name']}"}


async def _watch(monitor: PodMonitor, version: str) -> None:
    path = pods_path(monitor.pod["metadata"]["namespace"])
    events = monitor.api.watch(path, resource_version=version, params=_selecting(monitor))
    async with contextlib.aclosing(events):
        async for event in events:
            monitor.saw(event.object, deleted=event.type == "DELETED")
            if monitor.deleted:
                return


async def _list(monitor: PodMonitor) -> str:
    """Looks at the pod anew; gives the version to watch on from.

    A list, as its version is that of the whole collection: the pod's own, as a GET tells it, is that of its last
    change and may be just what is too old to watch from.
    """
    metadata = monitor.pod["metadata"]
    path = pods_path(metadata["namespace"])
    try:
        found = await monitor.api.request("GET", path, params=_selecting(monitor))
    except ForbiddenError:
        pod = await read_pod(monitor.api, metadata["namespace"], metadata["name"])
        monitor.saw(pod or monitor.pod, deleted=pod is None)
        return ""
    items, version = found.get("items") or [], str(found["metadata"].get("resourceVersion", ""))
    last = items[0] if items else as_replaced(monitor.pod, version, monitor.api.access.server)
    monitor.saw(last, deleted=not items)
    return version


async def _poll(monitor: PodMonitor, patience: Patience) -> None:
    while not monitor.deleted:
        await patience.insist(monitor.read)
        await asyncio.sleep(POLL_SECONDS)
