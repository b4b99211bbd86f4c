"""Watches: events of a collection, followed across cuts.

Protocol: `watch=1` on a list request answers with JSON objects, one a line, until `timeoutSeconds` are over; a BOOKMARK
tells how far the server is without an event; an ERROR event ends the watch, for good or as any other cut.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass
from typing import Any

from kpo_multicluster.api.connection import Call, Connection, Params
from kpo_multicluster.api.faults import LIBRARY_ERRORS, Fault, FaultError, next_part
from kpo_multicluster.api.retry import Backoff, RetryPolicy
from kpo_multicluster.api.status import error_of_status
from kpo_multicluster.errors import ServerError, ThrottledError

# A connection that lasted this long did not die at once.
_SETTLED_SECONDS = 1.0
_SLACK_BOUNDS_SECONDS = (1.0, 30.0)


@dataclass(frozen=True)
class WatchEvent:
    """What happened to one object.

    Attributes:
        type: ADDED, MODIFIED or DELETED.
        object: as it is now; of a deleted one its last state.
    """

    type: str
    object: dict[str, Any]


async def watch_events(
    connection: Connection,
    path: str,
    *,
    resource_version: str,
    params: Params,
    timeout_seconds: int,
    reconnect: bool,
    policy: RetryPolicy,
) -> AsyncGenerator[WatchEvent, None]:
    """The events of a collection; `ApiClient.watch` says what the arguments mean."""
    low, high = _SLACK_BOUNDS_SECONDS
    # The server ends the watch in time; one that has not is no longer there.
    idle_seconds = timeout_seconds + min(high, max(low, timeout_seconds / 10))
    call = connection.call("GET", path, policy=policy, answer_seconds=idle_seconds)
    pauses = Backoff(policy, connection.clock)
    while True:
        response = await connection.open(
            call, params=_query(params, resource_version, timeout_seconds), idle_seconds=idle_seconds
        )
        opened = connection.clock.now()
        reader = _EventReader(call, resource_version)
        cut: BaseException | None = None
        try:
            while part := await next_part(response):
                for event in reader.feed(part):
                    yield event
        except (FaultError, *LIBRARY_ERRORS) as error:
            cut = error
        finally:
            response.close()
        if not reconnect:
            if cut is not None:
                raise connection.lost(cut, call)
            return
        resource_version = reader.resource_version
        settled = connection.clock.now() - opened >= _SETTLED_SECONDS
        await _pause(connection, call, pauses, cut, settled=settled, moved=reader.moved)


async def _pause(
    connection: Connection, call: Call, pauses: Backoff, cut: BaseException | None, *, settled: bool, moved: bool
) -> None:
    """Before the next connection: nothing after the server's timeout, more and more while each dies at once."""
    if settled:
        pauses.reset()
        if cut is None:
            return
    elif moved:
        pauses.restart_budget()
    if not await pauses.pause():
        ended = cut or FaultError(Fault("the watch ends as soon as it is opened"))
        raise connection.lost(ended, call, tries=f" ({pauses.tries} times in a row)")


def _query(params: Params, resource_version: str, timeout_seconds: int) -> Params:
    query = {**params, "watch": "1", "allowWatchBookmarks": True, "timeoutSeconds": timeout_seconds}
    return {**query, "resourceVersion": resource_version} if resource_version else query


class _EventReader:
    """Turns the answer to one watch into events, and keeps the place to go on from.

    A line may be of any length and be split anywhere; one that the end of the answer cut short is sent again.
    """

    def __init__(self, call: Call, resource_version: str) -> None:
        self.resource_version = resource_version
        self.moved = False
        self._call = call
        self._pending: list[bytes] = []

    def feed(self, part: bytes) -> Iterator[WatchEvent]:
        first, *rest = part.split(b"\n")
        self._pending.append(first)
        for start in rest:
            line = b"".join(self._pending)
            self._pending = [start]
            event = self._read(line) if line else None
            if event is not None:
                yield event

    def _read(self, line: bytes) -> WatchEvent | None:
        try:
            event = json.loads(line)
            kind, obj = event["type"], event["object"]
            version = obj.get("metadata", {}).get("resourceVersion")
        except (ValueError, KeyError, TypeError, AttributeError):
            raise FaultError(Fault("the watch was answered with something that is no event")) from None
        if kind == "ERROR":
            error = error_of_status(obj, request=self._call.request)
            if isinstance(error, ServerError | ThrottledError):
                # It may pass, as it may where it is the answer to a request.
                raise FaultError(Fault(f"the server ended the watch: {error.status} {error.reason}: {error.detail}"))
            raise error
        if version:
            self.resource_version = version
            self.moved = True
        return None if kind == "BOOKMARK" else WatchEvent(kind, obj)
