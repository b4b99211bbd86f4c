"""The node groups of a cluster that were made here, known by their tags."""

from __future__ import annotations

from functools import partial

from kpo_multicluster.node_groups.group import Phase
from kpo_multicluster.node_groups.lifecycle import DEFAULT_TIMEOUT_SECONDS, NodeGroups
from kpo_multicluster.reaping.leftovers import Leftover

KIND = "node group"


async def node_groups_of(groups: NodeGroups, *, timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS) -> list[Leftover]:
    """All node groups that were made here.

    Args:
        groups: of the cluster.
        timeout_seconds: for other changes of the cluster to end when one is removed.

    Raises:
        ConfigurationError: there is no such cluster.
        CredentialError: who asks was refused.
        ConnectError: the cloud cannot be reached.
    """
    return [
        Leftover(
            KIND,
            group.name,
            group.where,
            group.state,
            made.created_at,
            # One that another run has made anew meanwhile is left alone.
            partial(groups.delete, group.name, run=made.run, timeout_seconds=timeout_seconds),
            run=made.run,
            expires_at=made.expires_at,
            leaving=group.phase is Phase.DELETING,
        )
        for group in await groups.all()
        if (made := group.ownership) is not None
    ]
