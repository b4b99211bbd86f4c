"""From a node group that was asked for to GPUs that pods can have, stage by stage.

    async for report in until_ready(groups, made.change, nodes=api, wanted=Wanted.of(spec)):
        log.info("%s", report)

The stages: the cloud says that it is there; its nodes are registered; they are Ready and take pods; their GPUs can be
asked for. Each is timed. The one that is missing when time is up is named, with its likely cause.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, Protocol

from kpo_multicluster.errors import ConnectError, ForbiddenError, NodeGroupTimeoutError, ServerError, ThrottledError
from kpo_multicluster.node_groups.group import Change, NodeGroup, Phase
from kpo_multicluster.node_groups.lifecycle import DEFAULT_TIMEOUT_SECONDS, PROVIDER, NodeGroups
from kpo_multicluster.node_groups.nodes import NodeCount, count_nodes
from kpo_multicluster.node_groups.spec import NodeGroupSpec
from kpo_multicluster.node_groups.waiting import Deadline

# The cloud itself is asked again now and then while its nodes are awaited: a group may come to grief late.
_CLOUD_SECONDS = 20.0


class Stage(Enum):
    """What is awaited."""

    PROVIDER = PROVIDER
    REGISTERED = "registered"
    SCHEDULABLE = "schedulable"
    GPU = "gpu"
    READY = "ready"


@dataclass(frozen=True)
class Wanted:
    """What must be there.

    Attributes:
        nodes: how many; 0 asks for no more than that the cloud says the group is there.
        gpus: all nodes together; 0 for a group without.
        resource: that the GPUs are asked for by.
    """

    nodes: int = 1
    gpus: int = 0
    resource: str = "nvidia.com/gpu"

    @classmethod
    def of(cls, spec: NodeGroupSpec) -> Wanted:
        """What a spec promises."""
        if spec.gpu is None:
            return cls(spec.desired_size)
        return cls(spec.desired_size, spec.desired_size * spec.gpu.count, spec.gpu.resource)


@dataclass(frozen=True)
class Report:
    """Where a node group is on its way.

    Attributes:
        stage: that is awaited now; `READY` when none is.
        text: what there is of it, such as "1 of 2 nodes registered".
        stage_seconds: since this stage began.
        total_seconds: since the whole began.
        group: as its cloud tells it.
        spent: seconds that each stage took that is over, by its name.
        warning: what could not be seen, if anything.
    """

    stage: Stage
    text: str
    stage_seconds: float
    total_seconds: float
    group: NodeGroup
    spent: Mapping[str, float] = field(default_factory=dict)
    warning: str | None = None

    @property
    def ready(self) -> bool:
        """Whether nothing is missing any more."""
        return self.stage is Stage.READY

    def __str__(self) -> str:
        """A line of a log."""
        warning = f" {self.warning}" if self.warning else ""
        parts = ", ".join(f"{stage} {seconds:.0f} s" for stage, seconds in self.spent.items()) if self.ready else ""
        after = f"after {self.total_seconds:.0f} s{f': {parts}' if parts else ''}"
        return f"Node group {self.group.name!r}: {self.text} ({after}).{warning}"


class NodeApi(Protocol):
    """What is needed of a client of the cluster's API server; `kpo_multicluster.api.client.ApiClient` is one."""

    async def request(self, method: str, path: str, *, params: Mapping[str, str | int] | None = None) -> dict[str, Any]:
        """One request and its answer."""
        ...


async def until_ready(
    groups: NodeGroups,
    change: Change,
    *,
    nodes: NodeApi | None,
    wanted: Wanted,
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
    clock: Callable[[], float] = time.monotonic,
) -> AsyncGenerator[Report, None]:
    """What there is of a group, each time that changes, until it is ready; the last report says so.

    Args:
        groups: of the cluster.
        change: that is to make it ready, of `ensure` or `scale`.
        nodes: lists the cluster's nodes; None, or one that may not list them, sees no more than what the cloud says.
        wanted: what must be there.
        timeout_seconds: for all of it.
        clock: seconds that only grow.

    Raises:
        NodeGroupFailedError: the cloud gave up, or reports trouble.
        NodeGroupTimeoutError: it took too long; names the stage that is missing.
        NodeGroupError: the group was deleted meanwhile.
        ApiError: the API server refused to list nodes, for another reason than a right that is missing or a fault that
            may pass.
        CredentialError: who asks was refused, by the cloud or the API server.
    """
    began = clock()
    group: NodeGroup | None = None
    async with aclosing(groups.follow(change, timeout_seconds=timeout_seconds)) as seen:
        async for group in seen:
            spent = clock() - began
            if group.phase is not Phase.ACTIVE or wanted.nodes == 0:
                text = f"its cloud says {group.state}"
                stage = Stage.READY if group.phase is Phase.ACTIVE else Stage.PROVIDER
                yield Report(stage, text, spent, spent, group, {PROVIDER: spent} if stage is Stage.READY else {})
    assert group is not None
    if wanted.nodes == 0:
        return
    spent = clock() - began
    if nodes is None:
        text = f"its cloud says {group.state}"
        yield Report(Stage.READY, text, spent, spent, group, {PROVIDER: spent}, _UNSEEN)
        return
    waiting = _Nodes(groups, nodes, wanted, began, clock)
    async with aclosing(waiting.reports(group, timeout_seconds - spent, timeout_seconds)) as reports:
        async for report in reports:
            yield report


_UNSEEN = "Whether its nodes take pods could not be seen, as no API server was given: a pod may still wait for them."
_FORBIDDEN = (
    "Whether its nodes take pods could not be seen, as this identity may not list them: grant it `list` on `nodes` in "
    "a ClusterRole. A pod may still wait for them."
)


class _Nodes:
    """The stages that an API server tells of."""

    def __init__(
        self, groups: NodeGroups, nodes: NodeApi, wanted: Wanted, began: float, clock: Callable[[], float]
    ) -> None:
        self._groups, self._api, self._wanted = groups, nodes, wanted
        self._began, self._clock = began, clock
        self._stage, self._stage_began = Stage.REGISTERED, clock()
        self._spent = {PROVIDER: self._stage_began - began}
        self._cloud_asked = self._stage_began

    async def reports(self, group: NodeGroup, seconds: float, of_seconds: float) -> AsyncGenerator[Report, None]:
        deadline, shown, trouble = Deadline(seconds, self._groups.pace), "", ""
        count = NodeCount()
        while True:
            try:
                count = await self._count(group)
                trouble = ""
            except ForbiddenError:
                yield replace(self._report(Stage.READY, f"its cloud says {group.state}", group), warning=_FORBIDDEN)
                return
            except (ConnectError, ServerError, ThrottledError) as error:
                trouble = f" The last try to list its nodes failed: {error}"
            else:
                stage, text = self._missing(count)
                if text != shown:
                    shown = text
                    deadline.hurry()
                    yield self._report(stage, text, group)
                if stage is Stage.READY:
                    return
            if deadline.passed:
                raise self._late(group, count, of_seconds, trouble)
            await deadline.pause()
            group = await self._cloud_of(group)

    async def _count(self, group: NodeGroup) -> NodeCount:
        key, value = group.node_label
        answer = await self._api.request("GET", "/api/v1/nodes", params={"labelSelector": f"{key}={value}"})
        return count_nodes(answer.get("items") or (), self._wanted.resource)

    async def _cloud_of(self, group: NodeGroup) -> NodeGroup:
        now = self._clock()
        if now - self._cloud_asked < min(_CLOUD_SECONDS, 5 * self._groups.pace.most_seconds):
            return group
        self._cloud_asked = now
        try:
            found = await self._groups.describe(group.name)
        except ConnectError:
            return group
        if found is None or found.phase is Phase.DELETING:
            raise self._groups.deleted(group.name, found)
        if found.phase in (Phase.FAILED, Phase.DEGRADED):
            raise found.failure("become ready")
        return found

    def _missing(self, count: NodeCount) -> tuple[Stage, str]:
        wanted = self._wanted
        if count.registered < wanted.nodes:
            return Stage.REGISTERED, f"{count.registered} of {wanted.nodes} nodes registered"
        if count.schedulable < wanted.nodes:
            return Stage.SCHEDULABLE, f"{count.schedulable} of {wanted.nodes} nodes Ready and taking pods"
        if count.gpus < wanted.gpus:
            return Stage.GPU, f"{count.gpus} of {wanted.gpus} {wanted.resource} allocatable"
        gpus = f", {count.gpus} {wanted.resource} allocatable" if wanted.gpus else ""
        return Stage.READY, f"ready: {count.schedulable} nodes take pods{gpus}"

    def _report(self, stage: Stage, text: str, group: NodeGroup) -> Report:
        now = self._clock()
        if stage is not self._stage:
            self._spent[self._stage.value] = self._spent.get(self._stage.value, 0.0) + now - self._stage_began
            self._stage, self._stage_began = stage, now
        return Report(stage, text, now - self._stage_began, now - self._began, group, dict(self._spent))

    def _late(self, group: NodeGroup, count: NodeCount, seconds: float, trouble: str) -> NodeGroupTimeoutError:
        stage, text = self._missing(count)
        here = self._clock() - self._stage_began
        why = f" ({'; '.join(count.reasons)})" if stage is Stage.SCHEDULABLE and count.reasons else ""
        cause = _cause(stage, self._groups.cloud.kind, self._wanted.resource, count)
        return NodeGroupTimeoutError(
            f"The {group} is not ready after {seconds:.0f} s: its cloud says {group.state}, and for {here:.0f} s {text}"
            f"{why}.{trouble} {cause}",
            stage=stage.value,
        )


def _cause(stage: Stage, kind: str, resource: str, count: NodeCount) -> str:
    if stage is Stage.REGISTERED:
        return f"Machines that run and do not register: {_NOT_JOINING[kind]}"
    if stage is Stage.SCHEDULABLE:
        return (
            "A node that stays so lacks its network plugin, is held by a taint that someone else is to remove, or was "
            "cordoned: see 'kubectl describe node'."
        )
    if stage is Stage.READY:
        return "It became ready at the last moment: give it more time."
    return (
        f"{count.schedulable} nodes are Ready, and {count.gpus} {resource} can be asked for: the NVIDIA device plugin "
        f"does not run there, or finds no driver. {_NO_PLUGIN[kind]}"
    )


_NOT_JOINING = {
    "eks": "check that their role has an access entry of the cluster (or is in aws-auth) and the policies of a worker "
    "node, and that their subnets and security groups let them reach the API server.",
    "gke": "check the serial console of one of them, the roles of their service account, and that its network lets "
    "them reach the API server.",
    "aks": "check that their subnet lets them reach the API server and the registries of Microsoft: see the "
    "provisioning errors of the scale set.",
}
_NO_PLUGIN = {
    "eks": "AMIs of Amazon Linux bring the driver, and not the plugin: install its DaemonSet, and see that it "
    "tolerates the group's taints.",
    "gke": "GKE brings both, unless driver_version='disabled': see the pods nvidia-gpu-device-plugin in kube-system.",
    "aks": "AKS brings the driver, and not the plugin: install its DaemonSet, and see that it tolerates the pool's "
    "taints.",
}
