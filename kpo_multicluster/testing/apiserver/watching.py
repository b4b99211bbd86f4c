"""Watches: from a version on, every change of what is selected, as a real server reports it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

from kpo_multicluster.testing.apiserver.listing import integer, selection
from kpo_multicluster.testing.apiserver.resources import Resource
from kpo_multicluster.testing.apiserver.selectors import Matches
from kpo_multicluster.testing.apiserver.status import (
    StatusError,
    expired,
    forbidden_value,
    invalid,
    quoted,
)
from kpo_multicluster.testing.store import ADDED, DELETED, Change, Store, Subscription, TooOldError

# Real servers pick a time between this and its double, so that clients do not all come back at once.
DEFAULT_TIMEOUT_SECONDS = 1800.0
# A watch that is about to end tells where it got to, this long before.
_LAST_BOOKMARK_SECONDS = 2.0
_END_OF_INITIAL_EVENTS = {"k8s.io/initial-events-end": "true"}

Event = dict[str, Any]


@dataclass(frozen=True)
class WatchOptions:
    """What a watch asks for.

    Attributes:
        resource: watched.
        namespace: empty for all.
        matches: of the label and field selectors.
        since: version to begin after; None to begin with what is there.
        initial_events: whether the end of what is there is marked.
        bookmarks: whether the client takes bookmarks.
        timeout_seconds: after which the watch ends in good order.
        bookmark_seconds: how often a bookmark is due.
    """

    resource: Resource
    namespace: str
    matches: Matches
    since: int | None
    initial_events: bool
    bookmarks: bool
    timeout_seconds: float
    bookmark_seconds: float


def watch_options(
    resource: Resource, namespace: str, query: Mapping[str, str], bookmark_seconds: float
) -> WatchOptions:
    """What the query of a watch asks for.

    Raises:
        StatusError: 400, 422 or 500, an option is malformed.
    """
    version, match = query.get("resourceVersion", ""), query.get("resourceVersionMatch", "")
    initial_events = query.get("sendInitialEvents", "").lower() in ("1", "true")
    if initial_events and match != "NotOlderThan":
        detail = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
        raise invalid("ListOptions", "", [forbidden_value("resourceVersionMatch", detail)], group="meta.k8s.io")
    if version and not version.isdecimal():
        why = f"strconv.ParseUint: parsing {quoted(version)}: invalid syntax"
        raise StatusError(500, "", f"resourceVersion: Invalid value: {quoted(version)}: {why}")
    return WatchOptions(
        resource=resource,
        namespace=namespace,
        matches=selection(resource, query),
        since=None if version in ("", "0") or initial_events else int(version),
        initial_events=initial_events,
        bookmarks=query.get("allowWatchBookmarks", "").lower() in ("1", "true"),
        timeout_seconds=float(integer(query, "timeoutSeconds") or DEFAULT_TIMEOUT_SECONDS),
        bookmark_seconds=bookmark_seconds,
    )


async def watch_events(store: Store, options: WatchOptions) -> AsyncIterator[Event]:
    """The events of a watch, until its time is over or its version is too old."""
    watch = _Watch(store, options)
    with store.subscribed(options.resource.plural) as subscription:
        for event in watch.begin():
            yield event
        while not watch.over:
            subscription.changed.clear()
            for event in watch.news(subscription):
                yield event
            if not watch.over:
                await watch.wait(subscription)


class _Watch:
    def __init__(self, store: Store, options: WatchOptions) -> None:
        self._store = store
        self._options = options
        self._version = store.version if options.since is None else options.since
        self._told = self._version
        # The first bookmark after a watch that began with what was there marks where that ended.
        self._unmarked = options.since is None
        now = time.monotonic()
        self._end = now + options.timeout_seconds
        self._next_bookmark = self._after(now)
        self.over = False

    def begin(self) -> list[Event]:
        options = self._options
        if options.since is not None:
            return []
        self._told = 0
        items = self._store.objects(options.resource.plural, options.namespace)
        events = [{"type": ADDED, "object": item} for item in items if options.matches(item)]
        if options.initial_events and options.bookmarks:
            events.append(self._bookmark())
        return events

    def news(self, subscription: Subscription) -> list[Event]:
        try:
            if subscription.ended:
                raise TooOldError(self._version, self._store.version)
            self._version = max(self._version, subscription.caught_up)
            changes = self._store.changes(self._options.resource.plural, self._version)
        except TooOldError as error:
            self.over = True
            return [{"type": "ERROR", "object": expired(str(error)).body}]
        events = [event for change in changes if (event := self._event(change)) is not None]
        if changes:
            self._version = changes[-1].version
        now = time.monotonic()
        if self._options.bookmarks and now >= self._next_bookmark:
            self._next_bookmark = self._after(now)
            # Nothing new anywhere is nothing to tell.
            if self._store.version > self._told:
                events.append(self._bookmark())
        self.over = now >= self._end
        return events

    async def wait(self, subscription: Subscription) -> None:
        until = min(self._end, self._next_bookmark) if self._options.bookmarks else self._end
        try:
            await asyncio.wait_for(subscription.changed.wait(), max(0.0, until - time.monotonic()))
        except asyncio.TimeoutError:
            return

    def _after(self, now: float) -> float:
        due, last = now + self._options.bookmark_seconds, self._end - _LAST_BOOKMARK_SECONDS
        if due <= last:
            return due
        return last if last > now else self._end + 1

    def _bookmark(self) -> Event:
        # The store is at rest between awaits: no change up to its version is still to be told.
        self._version = self._told = max(self._version, self._store.version)
        metadata: Event = {"resourceVersion": str(self._version)}
        if self._unmarked:
            metadata["annotations"] = _END_OF_INITIAL_EVENTS
            self._unmarked = False
        resource = self._options.resource
        shell: Event = {"kind": resource.kind, "apiVersion": "v1", "metadata": metadata}
        if resource.plural == "pods":
            shell |= {"spec": {"containers": None}, "status": {}}
        return {"type": "BOOKMARK", "object": shell}

    def _event(self, change: Change) -> Event | None:
        options = self._options
        if options.namespace and change.item["metadata"].get("namespace") != options.namespace:
            return None
        before = change.previous is not None and options.matches(change.previous)
        after = change.type != DELETED and options.matches(change.item)
        if before and not after:
            # An object that left the selection is told as deleted, as it was while it was in it.
            last = change.item if change.type == DELETED else _with_version(change.previous, change.version)
            return {"type": DELETED, "object": last}
        if after:
            return {"type": change.type if before else ADDED, "object": change.item}
        return None


def _with_version(item: dict[str, Any] | None, version: int) -> dict[str, Any]:
    item = item or {}
    return {**item, "metadata": {**item["metadata"], "resourceVersion": str(version)}}
