"""The objects of one cluster, and the history from which watches are served.

As in a real API server: one resourceVersion rises with every change of any object, a watch begins at a version, and
the history it is served from is bounded, so that a version may be too old. Used on one event loop only.
"""

from __future__ import annotations

import asyncio
import bisect
import copy
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

DEFAULT_HISTORY = 1000

ADDED = "ADDED"
MODIFIED = "MODIFIED"
DELETED = "DELETED"


@dataclass(frozen=True)
class Change:
    """One change of one object.

    Attributes:
        version: the resourceVersion it brought about.
        type: `ADDED`, `MODIFIED` or `DELETED`.
        item: the object after it; for `DELETED` its last state, with the new version.
        previous: the object before it; None for `ADDED`.
    """

    version: int
    type: str
    item: dict[str, Any]
    previous: dict[str, Any] | None


class TooOldError(Exception):
    """A version is no longer in the history.

    Attributes:
        asked: the version asked for.
        oldest: the oldest version a watch could begin at.
    """

    def __init__(self, asked: int, oldest: int) -> None:
        super().__init__(f"too old resource version: {asked} ({oldest})")
        self.asked = asked
        self.oldest = oldest


class Subscription:
    """What a watch waits on.

    Attributes:
        changed: set at every change of the resource.
        ended: whether the watch must end as too old, whatever the history holds.
        caught_up: a version up to which it was known to have missed nothing when history was forgotten.
    """

    def __init__(self) -> None:
        self.changed = asyncio.Event()
        self.ended = False
        self.caught_up = 0


class _History:
    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.changes: list[Change] = []
        self.oldest = 0
        self.subscriptions: set[Subscription] = set()

    def append(self, change: Change) -> None:
        self.changes.append(change)
        # Cut in blocks: dropping one element of a long list at a time would cost its length every time.
        if len(self.changes) > 2 * self._limit:
            self.forget(len(self.changes) - self._limit)
        for subscription in self.subscriptions:
            subscription.changed.set()

    def forget(self, count: int) -> None:
        if count > 0:
            self.oldest = self.changes[count - 1].version
            del self.changes[:count]

    def since(self, version: int) -> list[Change]:
        kept = self.changes[-self._limit :]
        oldest = self.oldest if len(kept) == len(self.changes) else self.changes[-self._limit - 1].version
        if version < oldest:
            raise TooOldError(version, oldest)
        return kept[bisect.bisect_right(kept, version, key=lambda change: change.version) :]


class Store:
    """Objects by resource, namespace and name. What is given out is shared: take it as read-only.

    Args:
        history: how many changes of each resource are held for watches.
    """

    def __init__(self, *, history: int = DEFAULT_HISTORY) -> None:
        if history < 1:
            raise ValueError(f"history= is the number of changes to hold, at least 1, not {history}")
        self._version = 0
        self._items: defaultdict[str, dict[tuple[str, str], dict[str, Any]]] = defaultdict(dict)
        self._histories: defaultdict[str, _History] = defaultdict(lambda: _History(history))

    @property
    def version(self) -> int:
        """The version of the latest change of all."""
        return self._version

    def get(self, resource: str, namespace: str, name: str) -> dict[str, Any] | None:
        """An object; None when there is none."""
        return self._items[resource].get((namespace, name))

    def put(self, resource: str, item: dict[str, Any]) -> dict[str, Any]:
        """Creates or replaces an object; gives back what is stored. One that is the same changes nothing."""
        metadata = item["metadata"]
        key = (metadata.get("namespace", ""), metadata["name"])
        previous = self._items[resource].get(key)
        if previous is not None:
            current = previous["metadata"]["resourceVersion"]
            if {**item, "metadata": {**metadata, "resourceVersion": current}} == previous:
                return previous
        stored = self._versioned(item)
        self._items[resource][key] = stored
        self._record(resource, ADDED if previous is None else MODIFIED, stored, previous)
        return stored

    def delete(self, resource: str, namespace: str, name: str) -> dict[str, Any]:
        """Removes an object; gives back its last state.

        Raises:
            KeyError: there is none.
        """
        previous = self._items[resource].pop((namespace, name))
        stored = self._versioned(previous)
        self._record(resource, DELETED, stored, previous)
        return stored

    def objects(self, resource: str, namespace: str = "", *, at: int | None = None) -> list[dict[str, Any]]:
        """Objects sorted by namespace and name.

        Args:
            resource: plural name.
            namespace: empty for all.
            at: as they were at this version; None for now.

        Raises:
            TooOldError: `at` is no longer in the history.
        """
        items = self._items[resource]
        if at is not None:
            items = dict(items)
            for change in reversed(self.changes(resource, at)):
                metadata = change.item["metadata"]
                key = (metadata.get("namespace", ""), metadata["name"])
                if change.previous is None:
                    del items[key]
                else:
                    items[key] = change.previous
        return [items[key] for key in sorted(items) if not namespace or key[0] == namespace]

    def changes(self, resource: str, since: int) -> list[Change]:
        """The changes of a resource after a version, in order.

        Raises:
            TooOldError: some of them are no longer in the history.
        """
        return self._histories[resource].since(since)

    @contextmanager
    def subscribed(self, resource: str) -> Iterator[Subscription]:
        """Tells of every change of a resource, for whoever reads `changes`."""
        subscription = Subscription()
        subscriptions = self._histories[resource].subscriptions
        subscriptions.add(subscription)
        try:
            yield subscription
        finally:
            subscriptions.discard(subscription)

    def compact(self, *, end_watches: bool = False) -> None:
        """Forgets the history: any version before the current one is too old from now on.

        Args:
            end_watches: end those under way as too old, too.
        """
        for history in self._histories.values():
            history.forget(len(history.changes))
            history.oldest = self._version
            for subscription in history.subscriptions:
                if not subscription.changed.is_set():
                    subscription.caught_up = self._version
                if end_watches:
                    subscription.ended = True
                    subscription.changed.set()

    def _versioned(self, item: dict[str, Any]) -> dict[str, Any]:
        self._version += 1
        stored = copy.deepcopy(item)
        stored["metadata"]["resourceVersion"] = str(self._version)
        return stored

    def _record(self, resource: str, kind: str, item: dict[str, Any], previous: dict[str, Any] | None) -> None:
        self._histories[resource].append(Change(self._version, kind, item, previous))
