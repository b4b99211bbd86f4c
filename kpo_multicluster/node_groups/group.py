"""A node group as its cloud tells it, in one form for all clouds, and what a cloud must be able to do with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol

from kpo_multicluster.errors import ConfigurationError, NodeGroupError, NodeGroupFailedError
from kpo_multicluster.node_groups.ownership import Ownership
from kpo_multicluster.node_groups.placement import NODE_LABELS
from kpo_multicluster.node_groups.spec import NodeGroupSpec
from kpo_multicluster.node_groups.taints import Taint


class Phase(Enum):
    """Where a node group is in its life."""

    CREATING = "creating"
    ACTIVE = "active"
    UPDATING = "updating"
    DELETING = "deleting"
    DEGRADED = "degraded"
    FAILED = "failed"


@dataclass(frozen=True)
class Issue:
    """Why a node group, or a change of it, is not as it should be.

    Attributes:
        code: the cloud's own.
        message: the cloud's own.
    """

    code: str
    message: str

    def __str__(self) -> str:
        """Phrase for messages."""
        return f"{self.code}: {self.message}" if self.code and self.message else self.code or self.message


@dataclass(frozen=True)
class NodeGroup:
    """A node group as it is now.

    Attributes:
        name: of it.
        where: its cluster, a phrase for messages.
        phase: where it is in its life.
        state: the cloud's own word for it, such as `CREATE_FAILED`.
        issues: what the cloud says is wrong.
        desired_size: how many nodes it is to have, as far as the cloud tells.
        min_size: that it never goes below, where the cloud keeps that.
        max_size: that it never goes above, likewise.
        labels: of its nodes, that it was given.
        taints: of its nodes: those it was given, and those that its cloud adds.
        tags: of the cloud.
        node_label: key and value by which Kubernetes knows its nodes.
        autoscaled: whether the cloud's own autoscaler decides its size.
        raw: the cloud's own description.
    """

    name: str
    where: str
    phase: Phase
    state: str
    issues: tuple[Issue, ...] = ()
    desired_size: int | None = None
    min_size: int | None = None
    max_size: int | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Taint, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    node_label: tuple[str, str] = ("", "")
    autoscaled: bool = False
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def ownership(self) -> Ownership | None:
        """That it was made here; None if it was not."""
        return Ownership.of(self.tags)

    def __str__(self) -> str:
        """Phrase for messages."""
        return f"node group {self.name!r} of the {self.where}"

    def failure(self, doing: str) -> NodeGroupFailedError:
        """What to raise as it is in trouble.

        Args:
            doing: what was awaited, such as "become ready".
        """
        return failed(self, doing, self.issues)


def seen(
    kind: str, where: str, raw: Mapping[str, Any], name: str, state: str, phase: Phase, issues: tuple[Issue, ...]
) -> NodeGroup:
    """What every cloud tells of a group; sizes, labels, taints and tags are to be added.

    Args:
        kind: of the cloud.
        where: its cluster, a phrase for messages.
        raw: the cloud's own description.
        name: of it.
        state: the cloud's own word for where it is in its life.
        phase: that this means.
        issues: what the cloud says is wrong.
    """
    return NodeGroup(name, where, phase, state, issues, node_label=(NODE_LABELS[kind], name), raw=raw)


def failed(group: NodeGroup, doing: str, issues: tuple[Issue, ...]) -> NodeGroupFailedError:
    """What to raise of a group, or a change of it, that is in trouble.

    Args:
        group: as it is now.
        doing: what was awaited, such as "become ready".
        issues: what the cloud gives as reasons.
    """
    why = "; ".join(str(issue) for issue in issues) or "the cloud gives no reason: see its console and audit log"
    step = next((text for words, text in _STEPS if any(word in _said(issue) for issue in issues for word in words)), "")
    code = issues[0].code if issues else ""
    return NodeGroupFailedError(
        f"The {group} will not {doing}: it is {group.state} ({why}).{f' {step}' if step else ''}", code=code
    )


def _said(issue: Issue) -> str:
    return f"{issue.code} {issue.message}".lower().replace("_", "").replace(" ", "")


_STEPS = (
    (
        ("quota", "limitexceeded", "vcpulimit"),
        "The account's quota for this machine type is used up: have it raised, or free some.",
    ),
    (
        ("stockout", "capacity", "resourcesavailable", "skunotavailable", "allocationfailed", "zonalallocation"),
        "The cloud has no such machine to give at present: try other zones or subnets, another machine type, or later.",
    ),
    (
        ("failedtojoin", "nodecreationfailure"),
        "Machines started and did not join the cluster: check that their role may join it, and that their network "
        "reaches the API server.",
    ),
    (
        ("instancetypedoesnotexist", "vmsizenotsupported"),
        "There is no such machine type there: correct machine_types, or name other subnets or zones.",
    ),
    (("freeaddresses",), "The subnets have no free addresses left: name larger ones."),
)


@dataclass(frozen=True)
class Change:
    """A change that a cloud was asked for. JSON-safe, so that another process may follow it.

    Attributes:
        kind: `create`, `resize` or `delete`.
        name: of the group.
        ticket: by which the cloud knows it; empty where it is followed by the group's state alone.
    """

    kind: str
    name: str
    ticket: str = ""

    def to_json(self) -> dict[str, str]:
        """It as JSON values."""
        return {"kind": self.kind, "name": self.name, "ticket": self.ticket}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Change:
        """From what `to_json` wrote.

        Raises:
            ConfigurationError: it is something else.
        """
        if set(data) != {"kind", "name", "ticket"} or not all(isinstance(value, str) for value in data.values()):
            raise ConfigurationError(f"Not a change of a node group: {sorted(data)}.")
        return cls(**data)


@dataclass(frozen=True)
class Progress:
    """How a change is getting on.

    Attributes:
        ended: whether it is over, as far as the cloud tells.
        issues: why it failed; empty if it did not.
    """

    ended: bool
    issues: tuple[Issue, ...] = ()


class BusyError(NodeGroupError):
    """Another change is under way: ask again later. Never leaves this package while there is time left."""


class ExistsError(NodeGroupError):
    """There is a group of that name by now: look at it. Never leaves this package."""


class Cloud(Protocol):
    """The node groups of one cluster, at its cloud. All methods block, and may be called from any thread.

    What all may raise: `CredentialError` as who asks was refused, `ConnectError` as the cloud cannot be reached or has
    a fault that may pass, `ConfigurationError` as there is no such cluster.
    """

    kind: str
    """`eks`, `gke` or `aks`."""

    where: str
    """The cluster, a phrase for messages."""

    def check(self, spec: NodeGroupSpec) -> None:
        """Refuses a spec that breaks the cloud's rules, without asking the cloud.

        Raises:
            ConfigurationError: with the rule.
        """
        ...

    def find(self, name: str) -> NodeGroup | None:
        """The group of that name; None when there is none."""
        ...

    def all(self) -> list[NodeGroup]:
        """All groups of the cluster."""
        ...

    def differences(self, spec: NodeGroupSpec, group: NodeGroup) -> list[str]:
        """What of a spec a group is not, sizes aside: a phrase each."""
        ...

    def create(self, spec: NodeGroupSpec, tags: Mapping[str, str]) -> Change:
        """Begins to make a group.

        Raises:
            ConfigurationError: the cloud refuses it.
            NodeGroupFailedError: the cloud cannot give what is asked for, by quota or capacity.
            BusyError: another change is under way.
            ExistsError: there is one of that name.
        """
        ...

    def resize(self, group: NodeGroup, desired_size: int) -> Change:
        """Begins to give a group another size.

        Raises:
            ConfigurationError: the cloud refuses it.
            NodeGroupFailedError: the cloud cannot give what is asked for, by quota or capacity.
            BusyError: another change is under way.
        """
        ...

    def delete(self, group: NodeGroup) -> Change:
        """Begins to delete a group. One that is gone by now counts as deleted.

        Raises:
            ConfigurationError: the cloud refuses it.
            BusyError: another change is under way.
        """
        ...

    def progress(self, change: Change) -> Progress:
        """How a change is getting on; one that the cloud does not know any more has ended."""
        ...
