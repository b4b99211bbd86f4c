"""Removes node groups that were made here and that no one needs any more.

Nothing is touched that does not bear the tags of `Ownership`, and no group of a run that may still be under way, unless
it is older than it may ever be.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Collection
from dataclasses import dataclass, field

from kpo_multicluster.errors import KpoMulticlusterError
from kpo_multicluster.node_groups.group import NodeGroup, Phase
from kpo_multicluster.node_groups.lifecycle import DEFAULT_TIMEOUT_SECONDS, NodeGroups


@dataclass(frozen=True)
class ReapRule:
    """Which groups no one needs any more. One whose own end has passed never is needed.

    Attributes:
        older_than_seconds: since it was made; None for no limit.
        ended_runs: what was made for one of these.
    """

    older_than_seconds: float | None = None
    ended_runs: Collection[str] = field(default_factory=frozenset)

    def reason(self, group: NodeGroup, now: float) -> str | None:
        """Why a group is to go; None for one that is to stay, or was not made here.

        Args:
            group: as its cloud tells it.
            now: Unix time in seconds.
        """
        made = group.ownership
        if made is None:
            return None
        if made.run is not None and made.run in self.ended_runs:
            return f"its run {made.run} has ended"
        if made.expires_at is not None and made.expires_at <= now:
            return f"its time ended {_span(now - made.expires_at)} ago"
        age = now - made.created_at
        if self.older_than_seconds is not None and age > self.older_than_seconds:
            return f"it is {_span(age)} old"
        return None


@dataclass(frozen=True)
class Reaped:
    """What became of a group that was made here.

    Attributes:
        group: as it was.
        age_seconds: since it was made.
        reason: why it is to go; None for one that is to stay.
        deleted: whether its deletion has begun.
        error: why that could not be.
    """

    group: NodeGroup
    age_seconds: float
    reason: str | None = None
    deleted: bool = False
    error: KpoMulticlusterError | None = None

    def __str__(self) -> str:
        """A line for people."""
        made = self.group.ownership
        run = f"made for {made.run}" if made is not None and made.run else "made for no run in particular"
        line = f"{self.group}: {self.group.state}, {_span(self.age_seconds)} old, {run}"
        if self.reason is None:
            return f"{line}; stays"
        if self.error is not None:
            return f"{line}; to go, as {self.reason}; NOT DELETED: {self.error}"
        return f"{line}; {'deleting' if self.deleted else 'to go'}, as {self.reason}"


async def reap(
    groups: NodeGroups,
    rule: ReapRule,
    *,
    delete: bool = False,
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
    now: float | None = None,
) -> AsyncGenerator[Reaped, None]:
    """The groups of a cluster that were made here, and what becomes of each.

    A group that cannot be deleted does not keep the others from being deleted.

    Args:
        groups: of the cluster.
        rule: which of them are to go.
        delete: begin to delete those; otherwise only tell.
        timeout_seconds: for other changes of the cluster to end, for each group.
        now: Unix time in seconds; default the present.

    Raises:
        ConfigurationError: there is no such cluster.
        CredentialError: who asks was refused.
        ConnectError: the cloud cannot be reached.
    """
    present = time.time() if now is None else now
    for group in await groups.all():
        made = group.ownership
        if made is None:
            continue
        age, reason = max(0.0, present - made.created_at), rule.reason(group, present)
        if reason is None or not delete or group.phase is Phase.DELETING:
            yield Reaped(group, age, reason, deleted=group.phase is Phase.DELETING)
            continue
        try:
            await groups.delete(group.name, run=made.run, timeout_seconds=timeout_seconds)
        except KpoMulticlusterError as error:
            yield Reaped(group, age, reason, error=error)
        else:
            yield Reaped(group, age, reason, deleted=True)


def _span(seconds: float) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
