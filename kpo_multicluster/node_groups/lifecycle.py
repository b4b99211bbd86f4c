"""The life of node groups: made, followed, given another size, removed.

    groups = NodeGroups(open_cloud(ref))
    made = await groups.ensure(spec, run="my_dag/manual__2026-01-01T00:00:00+00:00")
    group = await groups.until_active(made.change)
    ...
    gone = await groups.delete("gpu")
    if gone is not None:
        await groups.until_gone(gone)

Each step may be taken in another process than the one before it: what passes between them is JSON. Calls of clouds
block, so each has a thread of its own for as long as it lasts.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import NoReturn

from kpo_multicluster.errors import (
    ConfigurationError,
    ConnectError,
    NodeGroupError,
    NodeGroupMismatchError,
    NodeGroupTimeoutError,
)
from kpo_multicluster.node_groups.group import BusyError, Change, Cloud, ExistsError, NodeGroup, Phase, Progress, failed
from kpo_multicluster.node_groups.ownership import Ownership
from kpo_multicluster.node_groups.spec import NodeGroupSpec
from kpo_multicluster.node_groups.waiting import PACE, Deadline, Pace, to_its_end

DEFAULT_TIMEOUT_SECONDS = 30 * 60.0
_OUTAGE_SECONDS = 5 * 60.0
PROVIDER = "provider"
"""The first stage of a node group's way to readiness: its cloud says that it is there."""


@dataclass(frozen=True)
class Ensured:
    """A node group that is there, or on its way.

    Attributes:
        change: to follow until it is active.
        created: whether it was not there before.
        owned: whether it was made here, for this run if one was given: who made a group may remove it.
    """

    change: Change
    created: bool
    owned: bool


class NodeGroups:
    """The node groups of one cluster.

    Args:
        cloud: of the cluster.
        pace: how often it is asked.
        wall_clock: Unix time in seconds.
    """

    def __init__(self, cloud: Cloud, *, pace: Pace = PACE, wall_clock: Callable[[], float] = time.time) -> None:
        self.cloud = cloud
        self.pace = pace
        self._wall_clock = wall_clock

    async def describe(self, name: str) -> NodeGroup | None:
        """The group of that name; None when there is none.

        Raises:
            ConfigurationError: there is no such cluster.
            CredentialError: who asks was refused.
            ConnectError: the cloud cannot be reached.
        """
        return await asyncio.to_thread(self.cloud.find, name)

    async def all(self) -> list[NodeGroup]:
        """All groups of the cluster.

        Raises:
            ConfigurationError: there is no such cluster.
            CredentialError: who asks was refused.
            ConnectError: the cloud cannot be reached.
        """
        return await asyncio.to_thread(self.cloud.all)

    async def ensure(
        self,
        spec: NodeGroupSpec,
        *,
        run: str | None = None,
        expires_after_seconds: float | None = None,
        timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
    ) -> Ensured:
        """Sees to it that a group is there or on its way; asking again changes nothing.

        A group of that name is adopted if it is what the spec says; one that was made here is given more nodes where it
        has fewer than it should, one that was not is left as it is. One that is being deleted is waited for.

        Args:
            spec: of the group.
            run: what it is made for, such as the id of a DAG and of its run: with this, `reap` can tell when no one
                needs it any more.
            expires_after_seconds: from now, after which no one needs it.
            timeout_seconds: for other changes of the cluster to end.

        Raises:
            ConfigurationError: the spec cannot be, by the rules of its cloud.
            NodeGroupMismatchError: there is one of that name that differs.
            NodeGroupFailedError: there is one of that name that is in trouble, or the cloud cannot give such machines.
            NodeGroupTimeoutError: other changes of the cluster took too long.
            CredentialError: who asks was refused.
            ConnectError: the cloud cannot be reached, or the cluster is not up.
        """
        self.cloud.check(spec)
        now = self._wall_clock()
        ends = None if expires_after_seconds is None else now + expires_after_seconds
        tags = Ownership(now, run, ends).tags()
        deadline = Deadline(timeout_seconds, self.pace)
        while True:
            group = await self.describe(spec.name)
            if group is not None and group.phase is not Phase.DELETING:
                return await self._adopt(spec, group, run, deadline)
            waited_for: object = f"the {group} is being deleted" if group is not None else ""
            if group is None:
                try:
                    return Ensured(await to_its_end(self.cloud.create, spec, tags), created=True, owned=True)
                # It exists when it was made by a try whose answer was lost, or by someone else at this moment.
                except (ExistsError, BusyError) as busy:
                    waited_for = busy
            await self._wait_for(waited_for, deadline, f"The node group {spec.name!r} was not made")

    async def scale(self, name: str, desired_size: int, *, timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS) -> Change:
        """Begins to give a group another size, 0 included; of one that has it already changes nothing.

        Args:
            name: of the group.
            desired_size: in nodes.
            timeout_seconds: for other changes of the cluster to end.

        Raises:
            ConfigurationError: there is no such group, its cloud's autoscaler decides its size, or it cannot have this.
            NodeGroupFailedError: the cloud cannot give such machines.
            NodeGroupTimeoutError: other changes of the cluster took too long.
            CredentialError: who asks was refused.
            ConnectError: the cloud cannot be reached.
        """
        if desired_size < 0:
            raise ConfigurationError(f"The node group {name!r} cannot have {desired_size} nodes: give 0 or more.")
        group = await self.describe(name)
        if group is None or group.phase is Phase.DELETING:
            state = "is being deleted" if group is not None else "is not there"
            raise ConfigurationError(f"The node group {name!r} of the {self.cloud.where} {state}: make it first.")
        if group.autoscaled:
            raise ConfigurationError(
                f"The size of the {group} is decided by its cloud's autoscaler. Make it without autoscale to decide it "
                "here."
            )
        return await self._resize(group, desired_size, Deadline(timeout_seconds, self.pace))

    async def delete(
        self,
        name: str,
        *,
        run: str | None = None,
        force: bool = False,
        timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
    ) -> Change | None:
        """Begins to remove a group; None when there is none, which is as well.

        Args:
            name: of the group.
            run: that it was made for; one that was made for another is left alone.
            force: remove it whoever made it.
            timeout_seconds: for other changes of the cluster to end.

        Raises:
            NodeGroupError: it was not made here, or for another run.
            NodeGroupTimeoutError: other changes of the cluster took too long.
            ConfigurationError: there is no such cluster, or the cloud refuses.
            CredentialError: who asks was refused.
            ConnectError: the cloud cannot be reached, for five minutes.
        """
        deadline = Deadline(timeout_seconds, self.pace)
        while True:
            try:
                group = await self.describe(name)
                if group is None:
                    return None
                if group.phase is Phase.DELETING:
                    return Change("delete", name)
                if not force:
                    _check_owned(group, run)
                return await to_its_end(self.cloud.delete, group)
            except BusyError as busy:
                outcome = f"The node group {name!r} of the {self.cloud.where} was not deleted"
                await self._wait_for(busy, deadline, outcome)
            except ConnectError:
                # A teardown mostly has no other try, and what it leaves there costs money.
                if deadline.elapsed_seconds >= min(deadline.seconds, _OUTAGE_SECONDS):
                    raise
                await deadline.pause()

    # -- following -----------------------------------------------------------------------------------------------------

    async def follow(
        self, change: Change, *, timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS
    ) -> AsyncGenerator[NodeGroup, None]:
        """The group as it changes, until it is active; the last one given is.

        Args:
            change: of `ensure` or `scale`.
            timeout_seconds: for it to become active.

        Raises:
            NodeGroupFailedError: the cloud gave up, or reports trouble.
            NodeGroupTimeoutError: it took too long.
            NodeGroupError: it was deleted meanwhile.
            CredentialError: who asks was refused.
        """
        shown: NodeGroup | None = None
        async with aclosing(self._looks(change, timeout_seconds)) as looks:
            async for progress, group in looks:
                if group is None or group.phase is Phase.DELETING:
                    raise self.deleted(change.name, group)
                if progress.issues:
                    raise failed(group, _AIMS[change.kind], progress.issues)
                if group.phase in (Phase.FAILED, Phase.DEGRADED):
                    raise group.failure(_AIMS[change.kind])
                active = progress.ended and group.phase is Phase.ACTIVE
                if active or shown is None or (group.phase, group.issues) != (shown.phase, shown.issues):
                    shown = group
                    yield group
                if active:
                    return

    async def until_active(self, change: Change, *, timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS) -> NodeGroup:
        """The group, once it is active.

        Raises:
            NodeGroupFailedError: the cloud gave up, or reports trouble.
            NodeGroupTimeoutError: it took too long.
            NodeGroupError: it was deleted meanwhile.
            CredentialError: who asks was refused.
        """
        async with aclosing(self.follow(change, timeout_seconds=timeout_seconds)) as seen:
            return [group async for group in seen][-1]

    async def until_gone(self, change: Change, *, timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS) -> None:
        """Returns once a group is gone.

        Args:
            change: of `delete`.
            timeout_seconds: for it to go.

        Raises:
            NodeGroupFailedError: the cloud could not remove it.
            NodeGroupTimeoutError: it took too long.
            CredentialError: who asks was refused.
        """
        async with aclosing(self._looks(change, timeout_seconds)) as looks:
            async for progress, group in looks:
                if group is None:
                    return
                if progress.issues:
                    raise failed(group, _AIMS["delete"], progress.issues)
                if group.state == "DELETE_FAILED" or (not change.ticket and group.state in _FAILED_STATES):
                    raise group.failure(_AIMS["delete"])

    def deleted(self, name: str, group: NodeGroup | None) -> NodeGroupError:
        """What to raise of a group that someone deleted while it was awaited."""
        state = "gone" if group is None else "being deleted"
        return NodeGroupError(
            f"The node group {name!r} of the {self.cloud.where} is {state}: someone deleted it while it was awaited."
        )

    # -- inside --------------------------------------------------------------------------------------------------------

    async def _looks(
        self, change: Change, timeout_seconds: float
    ) -> AsyncGenerator[tuple[Progress, NodeGroup | None], None]:
        """What the cloud says of a change and its group, again and again.

        Raises:
            NodeGroupTimeoutError: time is up.
            CredentialError: who asks was refused.
        """
        deadline, trouble = Deadline(timeout_seconds, self.pace), ""
        group: NodeGroup | None = None
        while True:
            try:
                progress = await asyncio.to_thread(self.cloud.progress, change)
                group = await self.describe(change.name)
            except ConnectError as error:
                # Half an hour of waiting must not end with one bad minute of the cloud's.
                trouble = f" Asking failed: {error}"
            else:
                trouble = ""
                yield progress, group
            if deadline.passed:
                raise self._late(change, group, deadline, trouble)
            await deadline.pause()

    async def _adopt(self, spec: NodeGroupSpec, group: NodeGroup, run: str | None, deadline: Deadline) -> Ensured:
        if group.phase in (Phase.FAILED, Phase.DEGRADED):
            raise group.failure("do as it is")
        differences = self.cloud.differences(spec, group)
        made = group.ownership
        short = not group.autoscaled and (group.desired_size or 0) < spec.desired_size
        if short and made is None:
            differences.append(f"desired_size: asked for {spec.desired_size}, it has {group.desired_size}")
        if differences:
            raise NodeGroupMismatchError(
                f"There is a {group} that differs from what is asked for: {'; '.join(differences)}. Ask for what is "
                "there, name the new one otherwise, or delete the old one.",
                differences=tuple(differences),
            )
        change = Change("create", spec.name)
        if short:
            change = await self._resize(group, spec.desired_size, deadline)
        owned = made is not None and (run is None or made.run == run)
        return Ensured(change, created=False, owned=owned)

    async def _resize(self, group: NodeGroup, desired_size: int, deadline: Deadline) -> Change:
        found: NodeGroup | None = group
        while found is not None:
            if found.desired_size == desired_size:
                return Change("resize", found.name)
            try:
                return await to_its_end(self.cloud.resize, found, desired_size)
            except BusyError as busy:
                await self._wait_for(busy, deadline, f"The {group} was not scaled")
            found = await self.describe(group.name)
        raise ConfigurationError(f"The {group} is gone: make it again.")

    async def _wait_for(self, what: object, deadline: Deadline, outcome: str) -> None:
        if deadline.passed:
            raise NodeGroupTimeoutError(
                f"{outcome} within {deadline.seconds:.0f} s, as another change is under way: {what}", stage=PROVIDER
            )
        await deadline.pause()

    def _late(self, change: Change, group: NodeGroup | None, deadline: Deadline, trouble: str) -> NodeGroupTimeoutError:
        what = str(group) if group is not None else f"node group {change.name!r} of the {self.cloud.where}"
        state = f"; it is {group.state}" if group is not None else ""
        issues = "; ".join(str(issue) for issue in group.issues) if group is not None else ""
        return NodeGroupTimeoutError(
            f"The {what} did not {_AIMS[change.kind]} within {deadline.seconds:.0f} s{state}"
            f"{f' ({issues})' if issues else ''}.{trouble} See in the cloud's console what holds it up: machines that "
            "do not start, or do not join the cluster.",
            stage=PROVIDER,
        )


_AIMS = {"create": "become active", "resize": "get its size", "delete": "go"}
# Of GKE and AKS. Their operations tell more; without one, this is how a deletion ended that someone else began.
_FAILED_STATES = ("ERROR", "Failed")


def _check_owned(group: NodeGroup, run: str | None) -> None:
    made = group.ownership
    if made is None:
        _refuse(f"The {group} was not made by kpo-multicluster, so it is not deleted: use force, or delete it by hand.")
    if run is not None and made.run != run:
        _refuse(f"The {group} was made for {made.run or 'no run in particular'}, not for {run}, so it is not deleted.")


def _refuse(message: str) -> NoReturn:
    raise NodeGroupError(message)
