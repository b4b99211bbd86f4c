"""The nodes that node groups of an emulated cloud have in a cluster: they join, are drained, and leave."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol, TypeVar

from kpo_multicluster.errors import ConfigurationError
from kpo_multicluster.testing.topology import NodeSpec

# Groups that change at the same time, and nodes of each that come or go at the same time.
_GROUPS_AT_ONCE = 8
_NODES_AT_ONCE = 4

T = TypeVar("T")


class NodeHost(Protocol):
    """A cluster that nodes can join; `EmbeddedCluster` is one."""

    def add_node(self, spec: NodeSpec) -> None:
        """Adds a node, and returns once it takes pods; raises when it cannot, and leaves nothing of it."""
        ...

    def drain_node(self, name: str, *, timeout_seconds: float) -> None:
        """Cordons a node and evicts its pods; returns once they are gone.

        Raises:
            KeyError: there is no such node.
            TimeoutError: some of them were still there when the time was over.
        """
        ...

    def remove_node(self, name: str) -> None:
        """Ends a node with all that runs there.

        Raises:
            KeyError: there is no such node.
        """
        ...


GroupKey = tuple[str, str]


@dataclass(frozen=True)
class _Node:
    name: str
    host: NodeHost


class JoinedNodes:
    """Nodes of groups, each group at a cluster and by a name. Safe to use from any thread.

    Attributes:
        drain_seconds: how long pods that are evicted may take before their node ends anyway.
    """

    def __init__(self) -> None:
        self.drain_seconds = 60.0
        self._lock = threading.Lock()
        self._turns: dict[GroupKey, threading.Lock] = {}
        self._wanted: dict[GroupKey, tuple[NodeHost, Mapping[str, NodeSpec]]] = {}
        self._there: dict[GroupKey, list[_Node]] = {}
        self._pool: ThreadPoolExecutor | None = None

    def of(self, group: GroupKey) -> tuple[str, ...]:
        """Names of the nodes that a group has now."""
        with self._lock:
            return tuple(node.name for node in self._there.get(group, ()))

    def adapt(self, group: GroupKey, host: NodeHost, wanted: Sequence[NodeSpec]) -> Future[None]:
        """Begins to give a group the nodes it is to have; those that it has and are not among them leave.

        Args:
            group: whose they are.
            host: that new ones join.
            wanted: nodes, by their names.

        Returns:
            What is done once they have come and gone, or holds the error that kept them from it.
        """
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(_GROUPS_AT_ONCE, thread_name_prefix="node groups")
            self._wanted[group] = host, {spec.name: spec for spec in wanted}
            return self._pool.submit(self._adapt, group, self._turns.setdefault(group, threading.Lock()))

    def close(self) -> None:
        """Ends every node at once, undrained, once what is under way is over."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(cancel_futures=True)
        with self._lock:
            left = [(group, node) for group, nodes in self._there.items() for node in nodes]
        _for_each(lambda each: self._leave(*each, drain=False), left)

    def _adapt(self, group: GroupKey, turn: threading.Lock) -> None:
        with turn:
            with self._lock:
                # What was wanted last counts, whoever's turn comes first.
                host, wanted = self._wanted[group]
                there = list(self._there.get(group, ()))
            leaving = [node for node in there if node.name not in wanted]
            _for_each(lambda node: self._leave(group, node, drain=True), leaving)
            known = {node.name for node in there}
            self._join(group, host, [spec for name, spec in wanted.items() if name not in known])

    def _join(self, group: GroupKey, host: NodeHost, specs: Iterable[NodeSpec]) -> None:
        def join(spec: NodeSpec) -> None:
            host.add_node(spec)
            with self._lock:
                self._there.setdefault(group, []).append(_Node(spec.name, host))

        _for_each(join, specs)

    def _leave(self, group: GroupKey, node: _Node, *, drain: bool) -> None:
        # Someone may have ended it, or stopped the cluster with all its nodes.
        with suppress(KeyError, ConfigurationError):
            if drain:
                with suppress(TimeoutError):
                    node.host.drain_node(node.name, timeout_seconds=self.drain_seconds)
            node.host.remove_node(node.name)
        with self._lock:
            self._there[group].remove(node)


def _for_each(work: Callable[[T], None], items: Iterable[T]) -> None:
    """Does it for several at once, for all of them even if one fails, whose error is raised in the end."""
    with ThreadPoolExecutor(_NODES_AT_ONCE, thread_name_prefix="nodes") as pool:
        done, _ = wait([pool.submit(work, item) for item in items])
    for each in done:
        each.result()
