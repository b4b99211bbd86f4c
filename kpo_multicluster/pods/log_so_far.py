"""Reads what a container's log holds at this moment, for a run whose end is not waited for."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from kpo_multicluster.api.client import ApiClient
from kpo_multicluster.errors import KpoMulticlusterError, NotFoundError
from kpo_multicluster.pods.emitted import LogBatch, Notice
from kpo_multicluster.pods.logs import LogCursor, LogReader
from kpo_multicluster.pods.resources import pod_path
from kpo_multicluster.pods.status import Pod, container_status, has_started


async def read_so_far(
    api: ApiClient,
    pod: Pod,
    containers: Iterable[str],
    cursors: dict[str, LogCursor],
    emit: Callable[[Any], Awaitable[None]],
) -> None:
    """Emits the lines that containers have written so far, one container after the other.

    Args:
        api: of the cluster.
        pod: whose containers; those that have not started have no log.
        containers: their names.
        cursors: where each log was left; moved on with each batch that was emitted.
        emit: is awaited with a LogBatch each, or a Notice if a log cannot be read.
    """
    for container in containers:
        if not has_started(pod, container):
            continue
        try:
            await _read(api, pod, container, cursors, emit)
        except NotFoundError:
            return
        except KpoMulticlusterError as error:
            await emit(Notice("warning", f"The log of container {container!r} could not be read: {error}"))


async def _read(
    api: ApiClient, pod: Pod, container: str, cursors: dict[str, LogCursor], emit: Callable[[Any], Awaitable[None]]
) -> None:
    reader = LogReader(cursors.get(container))
    restart = int((container_status(pod, container) or {}).get("restartCount") or 0)
    params = {"container": container, **reader.resume(restart), "follow": "false"}
    async with contextlib.aclosing(api.stream(pod_path(pod, "log"), params=params)) as chunks:
        async for chunk in chunks:
            if lines := reader.feed(chunk):
                await emit(LogBatch(container, lines))
                _move(cursors, container, reader)
    if lines := reader.end():
        await emit(LogBatch(container, lines))
        _move(cursors, container, reader)


def _move(cursors: dict[str, LogCursor], container: str, reader: LogReader) -> None:
    cursor = reader.cursor
    if cursor is not None:
        cursors[container] = cursor
