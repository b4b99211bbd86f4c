"""Looks through one cluster for what runs have left behind, and removes it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass

from kpo_multicluster.api.client import ApiClient
from kpo_multicluster.auth.access import ClusterAccess
from kpo_multicluster.auth.connections import Connections
from kpo_multicluster.cluster import ClusterRef
from kpo_multicluster.errors import KpoMulticlusterError
from kpo_multicluster.node_groups.clouds import KINDS, open_cloud
from kpo_multicluster.node_groups.lifecycle import NodeGroups
from kpo_multicluster.reaping.groups import node_groups_of
from kpo_multicluster.reaping.leftovers import Judged, Leftover, ReapRule, RunState, judge, remove, runs_of
from kpo_multicluster.reaping.pods import pods_of

AskStates = Callable[[list[str]], Awaitable[Mapping[str, RunState]]]


async def nothing_known(runs: list[str]) -> Mapping[str, RunState]:
    """The states of runs, where there is no one to ask."""
    return {}


@dataclass(frozen=True)
class Place:
    """Where to look.

    Attributes:
        where: the cluster, a phrase for messages.
        groups: its node groups; None leaves them out.
        access: gives the way to its API server, for its pods; may block. None leaves them out.
        namespace: of the pods; None for all.
    """

    where: str
    groups: NodeGroups | None = None
    access: Callable[[], ClusterAccess] | None = None
    namespace: str | None = None


def place_in(
    ref: ClusterRef,
    connections: Connections,
    *,
    node_groups: bool | None,
    access: Callable[[], ClusterAccess] | None,
    namespace: str | None,
) -> Place:
    """Where to look on a cluster. May block.

    Args:
        ref: of the cluster.
        connections: where Airflow connections are looked up; in the calling thread, before this returns.
        node_groups: look for node groups; None if the cluster is one of a cloud.
        access: as of `Place`.
        namespace: likewise.

    Raises:
        ConfigurationError: the ref cannot work, or is of a kind without node groups.
        MissingExtraError: the cloud's library is not installed.
        CredentialError: there are no credentials.
    """
    if not (ref.kind in KINDS if node_groups is None else node_groups):
        return Place(f"cluster from {ref.source}", None, access, namespace)
    cloud = open_cloud(ref, connections)
    return Place(cloud.where, NodeGroups(cloud), access, namespace)


@dataclass(frozen=True)
class Reaped:
    """What was found.

    Attributes:
        judged: all that was made here, and what becomes of it.
        troubles: why some of it could not be looked for.
    """

    judged: tuple[Judged, ...]
    troubles: tuple[KpoMulticlusterError, ...] = ()

    @property
    def errors(self) -> list[KpoMulticlusterError]:
        """Everything that went wrong."""
        return [*self.troubles, *(one.error for one in self.judged if one.error is not None)]


async def reap(
    place: Place,
    rule: ReapRule,
    *,
    states: AskStates = nothing_known,
    delete: bool = False,
    now: float | None = None,
) -> Reaped:
    """What was made here on a cluster, and what becomes of it.

    Where node groups cannot be listed, pods are looked through all the same, and the reverse.

    Args:
        place: where to look.
        rule: what no one needs any more.
        states: is asked for the states of runs, by `dag_id/run_id`.
        delete: begin to remove that; otherwise only tell.
        now: Unix time in seconds; default the present.

    Raises:
        CredentialError: the states of runs are not told to who asks.
        ConnectError: they cannot be asked for.
    """
    found: list[Leftover] = []
    troubles: list[KpoMulticlusterError] = []
    async with AsyncExitStack() as stack:
        if place.groups is not None:
            try:
                found += await node_groups_of(place.groups)
            except KpoMulticlusterError as error:
                troubles.append(error)
        if place.access is not None:
            try:
                api = await stack.enter_async_context(ApiClient(await asyncio.to_thread(place.access)))
                found += await pods_of(api, where=place.where, namespace=place.namespace)
            except KpoMulticlusterError as error:
                troubles.append(error)
        known = await states(runs_of(found))
        judged = judge(found, rule, states=known, now=now)
        if delete:
            judged = await remove(judged)
    return Reaped(tuple(judged), tuple(troubles))
