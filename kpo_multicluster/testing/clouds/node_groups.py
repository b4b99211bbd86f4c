"""Node groups of an emulated cloud: what they are asked to become, and what they become in time.

Each change (create, resize, delete) is under way for as long as the pace says, by the cloud's own clock, and then ends
well or in trouble. A cloud puts these stages into its own words. Where a cluster was named for them, nodes join it and
leave it; a change ends once they have. Anything else that is to happen is up to two hooks.
"""

from __future__ import annotations

import itertools
import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

from kpo_multicluster.testing.clouds.joined_nodes import JoinedNodes, NodeHost
from kpo_multicluster.testing.topology import NodeSpec

HOOK_FAILED = "NodeCreationFailure"
LEAVE_FAILED = "NodeTerminationFailure"


class Stage(Enum):
    """Where a node group is in its life; one that is gone has none."""

    CREATING = "creating"
    ACTIVE = "active"
    UPDATING = "updating"
    DELETING = "deleting"
    CREATE_FAILED = "create failed"
    DELETE_FAILED = "delete failed"
    DEGRADED = "degraded"


class ChangeKind(Enum):
    """What a change does."""

    CREATE = "create"
    RESIZE = "resize"
    DELETE = "delete"


@dataclass(frozen=True)
class Trouble:
    """Why a group is not as it should be.

    Attributes:
        code: of the cloud's own, such as `AsgInstanceLaunchFailures`, `GCE_STOCKOUT` or `QuotaExceeded`.
        message: in words.
        degrades: a group in this trouble is there, and degraded; otherwise its change has failed.
    """

    code: str
    message: str
    degrades: bool = False


@dataclass(frozen=True)
class Pace:
    """How long changes take, in seconds of the cloud's clock."""

    create_seconds: float = 0.0
    resize_seconds: float = 0.0
    delete_seconds: float = 0.0

    def of(self, kind: ChangeKind) -> float:
        """How long a change of this kind takes."""
        return {
            ChangeKind.CREATE: self.create_seconds,
            ChangeKind.RESIZE: self.resize_seconds,
            ChangeKind.DELETE: self.delete_seconds,
        }[kind]


@dataclass(frozen=True)
class NodeGroup:
    """A node group as it is now.

    Attributes:
        cluster: that it is of: an ARN, a path or a resource id.
        name: of it.
        count: how many nodes it is to have; of GKE in each zone.
        spec: what it was asked to be, in the cloud's own form.
        stage: where it is.
        troubles: why, when it is not well.
        created_at: Unix time in seconds.
        changed_at: Unix time in seconds at which it came into its stage.
        uid: tells it from others of its name, before and after; eight hex digits.
    """

    cluster: str
    name: str
    count: int
    spec: Mapping[str, Any] = field(repr=False)
    stage: Stage = Stage.CREATING
    troubles: tuple[Trouble, ...] = ()
    created_at: float = 0.0
    changed_at: float = 0.0
    uid: str = field(default_factory=lambda: secrets.token_hex(4))


@dataclass(frozen=True)
class Change:
    """A change of a group, under way or ended.

    Attributes:
        id: of the change.
        kind: of it.
        cluster: of the group.
        group: its name.
        began_at: Unix time in seconds.
        due_at: Unix time in seconds.
        ended_at: Unix time in seconds; None while it is under way.
        trouble: that it ends in; None if it ends well. Not to be told before it ended.
    """

    id: str
    kind: ChangeKind
    cluster: str
    group: str
    began_at: float
    due_at: float
    ended_at: float | None = None
    trouble: Trouble | None = None


Hook = Callable[[NodeGroup], None]
Plan = Callable[[NodeGroup], Sequence[NodeSpec]]


def _nothing(_: NodeGroup) -> None:
    pass


class NodeGroups:
    """The node groups of one cloud. Safe to use from any thread.

    What is due happens when someone looks, or when `advance` is called; an emulator that runs looks all the time.

    Args:
        clock: Unix time in seconds.

    Attributes:
        pace: how long changes take from now on.
        on_active: is given a group whose nodes are to be there: `count` of them, after it was made or resized. Its
            error is the group's trouble. It must not call the cloud.
        on_deleting: is given a group whose nodes are to go, as its deletion begins.
        joined: the nodes that joined clusters.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.pace = Pace()
        self.on_active: Hook = _nothing
        self.on_deleting: Hook = _nothing
        self._clock = clock
        self._numbers = itertools.count(1)
        self._lock = threading.RLock()
        self._advancing = threading.Lock()
        self._groups: dict[tuple[str, str], NodeGroup] = {}
        self._changes: dict[str, Change] = {}
        self._troubles: list[tuple[ChangeKind, Trouble, str | None]] = []
        self.joined = JoinedNodes()
        self._hosts: dict[str, tuple[NodeHost, Plan]] = {}
        self._coming_and_going: dict[str, Future[None]] = {}

    # -- what is there -------------------------------------------------------------------------------------------------

    def of(self, cluster: str) -> tuple[NodeGroup, ...]:
        """The groups of a cluster."""
        with self._lock:
            return tuple(group for group in self._groups.values() if group.cluster == cluster)

    def find(self, cluster: str, name: str) -> NodeGroup | None:
        """A group; None when there is none of that name, or it is gone."""
        with self._lock:
            return self._groups.get((cluster, name))

    def change(self, change_id: str) -> Change | None:
        """A change that was begun at some time."""
        with self._lock:
            return self._changes.get(change_id)

    def changes(self) -> tuple[Change, ...]:
        """All changes that were ever begun, in order."""
        with self._lock:
            return tuple(self._changes.values())

    def under_way(self, cluster: str, name: str | None = None) -> Change | None:
        """A change that has not ended: of one group, or of any of the cluster's."""
        with self._lock:
            return next(
                (
                    change
                    for change in self._changes.values()
                    if change.ended_at is None and change.cluster == cluster and name in (None, change.group)
                ),
                None,
            )

    # -- what is asked -------------------------------------------------------------------------------------------------

    def create(self, cluster: str, name: str, count: int, spec: Mapping[str, Any]) -> Change:
        """Begins to make a group.

        Raises:
            KeyError: there is one of that name.
        """
        now = self._clock()
        with self._lock:
            if (cluster, name) in self._groups:
                raise KeyError(name)
            self._groups[cluster, name] = NodeGroup(cluster, name, count, spec, created_at=now, changed_at=now)
            return self._begin(ChangeKind.CREATE, cluster, name)

    def resize(self, cluster: str, name: str, count: int, spec: Mapping[str, Any] | None = None) -> Change:
        """Begins to give a group another number of nodes.

        Args:
            cluster: that it is of.
            name: of it.
            count: of nodes.
            spec: what it is asked to be from now on; None for what it was.

        Raises:
            KeyError: there is no such group.
        """
        with self._lock:
            group = self._groups[cluster, name]
            self._put(replace(group, count=count, spec=group.spec if spec is None else spec, stage=Stage.UPDATING))
            return self._begin(ChangeKind.RESIZE, cluster, name)

    def delete(self, cluster: str, name: str) -> Change:
        """Begins to delete a group.

        Raises:
            KeyError: there is no such group.
        """
        with self._lock:
            self._put(replace(self._groups[cluster, name], stage=Stage.DELETING, troubles=()))
            # What was under way for it has no say any more.
            for change in self._changes.values():
                if change.ended_at is None and (change.cluster, change.group) == (cluster, name):
                    self._changes[change.id] = replace(change, ended_at=self._clock())
            made = self._begin(ChangeKind.DELETE, cluster, name)
            group = self._groups[cluster, name]
            if made.trouble is None:
                self._adapt_nodes(made, group)
        self.on_deleting(group)
        return made

    # -- nodes ---------------------------------------------------------------------------------------------------------

    def join(self, cluster: str, host: NodeHost, plan: Plan) -> None:
        """Lets the nodes of a cluster's groups join from now on; they leave as their group shrinks or is deleted.

        Args:
            cluster: whose groups they are of.
            host: that they join.
            plan: gives the nodes that a group is to have; those that it has keep their names.
        """
        with self._lock:
            self._hosts[cluster] = host, plan

    def nodes_of(self, cluster: str, name: str) -> tuple[str, ...]:
        """Names of the nodes of a group that have joined."""
        return self.joined.of((cluster, name))

    def close(self) -> None:
        """Ends all nodes that have joined, at once."""
        self.joined.close()

    def _adapt_nodes(self, change: Change, group: NodeGroup) -> Future[None] | None:
        """Lets nodes come and go for a change; None where no cluster was named for them, or it is over already."""
        with self._lock:
            if group.cluster not in self._hosts or self._changes[change.id].ended_at is not None:
                return None
            if change.id not in self._coming_and_going:
                host, plan = self._hosts[group.cluster]
                wanted = () if change.kind is ChangeKind.DELETE else plan(group)
                self._coming_and_going[change.id] = self.joined.adapt((group.cluster, group.name), host, wanted)
            return self._coming_and_going[change.id]

    # -- trouble -------------------------------------------------------------------------------------------------------

    def fail_next(self, kind: ChangeKind, trouble: Trouble, *, group: str | None = None) -> None:
        """Lets the next change of a kind end in trouble, of one group or of any."""
        with self._lock:
            self._troubles.append((kind, trouble, group))

    def degrade(self, cluster: str, name: str, *troubles: Trouble) -> None:
        """Puts a group that is well into trouble; without any it is well again.

        Raises:
            KeyError: there is no such group.
        """
        with self._lock:
            stage = Stage.DEGRADED if troubles else Stage.ACTIVE
            self._put(replace(self._groups[cluster, name], stage=stage, troubles=troubles))

    # -- time ----------------------------------------------------------------------------------------------------------

    def advance(self, *, wait: bool = True) -> None:
        """Lets happen what is due by now.

        Args:
            wait: for nodes that come and go, and for another thread that does so at this moment; otherwise leave it to
                it, and changes whose nodes are under way for the next time.
        """
        if not self._advancing.acquire(blocking=wait):
            return
        try:
            for change in self._due():
                group = self._groups.get((change.cluster, change.group))
                nodes = self._adapt_nodes(change, group) if group is not None and change.trouble is None else None
                if wait or nodes is None or nodes.done():
                    self._end(change, group, nodes)
        finally:
            self._advancing.release()

    def clear(self) -> None:
        """Forgets everything, without a hook being called."""
        with self._lock:
            for held in (self._groups, self._changes, self._troubles, self._coming_and_going):
                held.clear()

    def _begin(self, kind: ChangeKind, cluster: str, name: str) -> Change:
        now, trouble = self._clock(), None
        for planned in self._troubles:
            if planned[0] is kind and planned[2] in (None, name):
                self._troubles.remove(planned)
                trouble = planned[1]
                break
        number = f"{next(self._numbers):08x}-0000-4000-8000-000000000000"
        made = Change(number, kind, cluster, name, now, now + self.pace.of(kind), trouble=trouble)
        self._changes[made.id] = made
        return made

    def _due(self) -> list[Change]:
        now = self._clock()
        with self._lock:
            return [change for change in self._changes.values() if change.ended_at is None and change.due_at <= now]

    def _end(self, change: Change, group: NodeGroup | None, nodes: Future[None] | None) -> None:
        key = change.cluster, change.group
        trouble = change.trouble
        if group is not None and trouble is None:
            trouble = self._trouble_with_nodes(change, group, nodes)
        with self._lock:
            # Deleted meanwhile, it has no say any more.
            if self._changes.get(change.id) != change:
                return
            self._changes[change.id] = replace(change, ended_at=self._clock(), trouble=trouble)
            if group is None:
                return
            if change.kind is ChangeKind.DELETE and trouble is None:
                del self._groups[key]
                return
            self._put(replace(self._groups[key], stage=_stage(change.kind, trouble), troubles=_all(trouble)))

    def _trouble_with_nodes(self, change: Change, group: NodeGroup, nodes: Future[None] | None) -> Trouble | None:
        """What kept nodes from coming or going, if anything; waits for them."""
        try:
            if nodes is not None:
                nodes.result()
            if change.kind is not ChangeKind.DELETE:
                self.on_active(replace(group, stage=Stage.ACTIVE, troubles=()))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the group's trouble
            if change.kind is ChangeKind.DELETE:
                return Trouble(LEAVE_FAILED, f"Instances could not be terminated: {error}")
            return Trouble(HOOK_FAILED, f"Instances failed to join the kubernetes cluster: {error}")
        return None

    def _put(self, group: NodeGroup) -> None:
        self._groups[group.cluster, group.name] = replace(group, changed_at=self._clock())


def _stage(kind: ChangeKind, trouble: Trouble | None) -> Stage:
    if trouble is None:
        return Stage.ACTIVE
    if trouble.degrades or kind is ChangeKind.RESIZE:
        return Stage.DEGRADED
    return Stage.CREATE_FAILED if kind is ChangeKind.CREATE else Stage.DELETE_FAILED


def _all(trouble: Trouble | None) -> tuple[Trouble, ...]:
    return () if trouble is None else (trouble,)
