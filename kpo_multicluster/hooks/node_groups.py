"""Node groups as Airflow's tasks and triggers wait for them."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kpo_multicluster.errors import ConfigurationError
from kpo_multicluster.hooks.connections import AirflowConnections
from kpo_multicluster.hooks.kubernetes import KubernetesHook

if TYPE_CHECKING:
    from kpo_multicluster.node_groups.lifecycle import NodeGroups
    from kpo_multicluster.node_groups.readiness import NodeApi, Report

_VERSION = 1


@dataclass(frozen=True)
class NodeGroupWait:
    """What is awaited of a node group; JSON-safe.

    Attributes:
        name: of the group.
        change: under way, as `Change.to_json` writes it.
        deadline: Unix time in seconds.
        gone: await that it is gone; otherwise that it is ready.
        nodes: that must be there.
        gpus: that must be there, of all nodes.
        resource: by which GPUs are asked for.
        see_nodes: ask the cluster's API server for its nodes.
        undo_run: a user who ends the task ends the group with it, if it was made for this run.
        result: that the task returns then.
    """

    name: str
    change: Mapping[str, str]
    deadline: float
    gone: bool = False
    nodes: int = 0
    gpus: int = 0
    resource: str = "nvidia.com/gpu"
    see_nodes: bool = True
    undo_run: str | None = None
    result: Mapping[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """It as JSON values."""
        return {"version": _VERSION, **vars(self), "change": dict(self.change)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any] | None) -> NodeGroupWait:
        """From what `to_json` wrote.

        Raises:
            ConfigurationError: another version wrote it.
        """
        given = dict(data or {})
        if given.pop("version", None) != _VERSION or not set(given) <= set(cls.__dataclass_fields__):
            raise ConfigurationError(
                "The record of a deferred task is of another version of kpo-multicluster: clear the task."
            )
        return cls(**given)

    @property
    def seconds(self) -> float:
        """What is left."""
        return max(0.0, self.deadline - time.time())


def open_groups(hook: KubernetesHook) -> NodeGroups:
    """The node groups of a hook's cluster. May block, and asks Airflow for connections in the calling thread.

    Raises:
        ConfigurationError: the cluster has none, or its reference cannot work.
        CredentialError: there are no credentials.
    """
    from kpo_multicluster.node_groups.clouds import open_cloud
    from kpo_multicluster.node_groups.lifecycle import NodeGroups

    return NodeGroups(open_cloud(hook.cluster_ref, AirflowConnections()))


async def until(groups: NodeGroups, wait: NodeGroupWait, nodes: NodeApi | None) -> AsyncGenerator[Report, None]:
    """What there is of a group, each time that changes and now and then, until it is as awaited; nothing while it goes.

    Args:
        groups: of the cluster.
        wait: what is awaited.
        nodes: lists the cluster's nodes; None sees no more than the cloud says.

    Raises:
        NodeGroupError: it will not be as awaited, or not in time.
        CredentialError: who asks was refused.
    """
    from kpo_multicluster.node_groups.group import Change
    from kpo_multicluster.node_groups.readiness import Wanted, until_ready
    from kpo_multicluster.node_groups.reminders import reminded

    change = Change.from_json(wait.change)
    if wait.gone:
        await groups.until_gone(change, timeout_seconds=wait.seconds)
        return
    wanted = Wanted(wait.nodes, wait.gpus, wait.resource)
    ready = until_ready(groups, change, nodes=nodes, wanted=wanted, timeout_seconds=wait.seconds)
    async with aclosing(ready), aclosing(reminded(ready)) as reports:
        async for report in reports:
            yield report
