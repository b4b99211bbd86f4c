"""What of a spec a node group is not.

Only what the spec states counts: clouds add labels, tags and taints of their own.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from kpo_multicluster.node_groups.group import NodeGroup
from kpo_multicluster.node_groups.spec import NodeGroupSpec
from kpo_multicluster.node_groups.taints import Taint

_NONE: Collection[Any] = ()


class Comparison:
    """Collects differences."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def value(self, name: str, asked: Any, there: Any) -> None:
        """Compares one value, if the spec states it."""
        if asked not in (None, "", 0) and asked != there:
            self.found.append(f"{name}: asked for {asked}, it has {'none' if there in (None, '') else there}")

    def flag(self, name: str, asked: bool, there: bool) -> None:
        """Compares what is stated either way."""
        if asked != there:
            self.found.append(f"{name}: asked for {_said(asked)}, it has {_said(there)}")

    def items(self, name: str, asked: Collection[Any], there: Collection[Any]) -> None:
        """Compares a list in no particular order, if the spec states it."""
        if asked and set(asked) != set(there):
            self.found.append(f"{name}: asked for {_listed(asked)}, it has {_listed(there) or 'none'}")

    def mapping(self, name: str, asked: Mapping[str, str], there: Mapping[str, str]) -> None:
        """Compares what is asked for; the group may have more."""
        lacking = {key: value for key, value in asked.items() if there.get(key) != value}
        if lacking:
            has = [f"{key}={there[key]}" for key in lacking if key in there]
            self.found.append(
                f"{name}: asked for {_listed(f'{key}={value}' for key, value in lacking.items())}, it has "
                f"{_listed(has) or 'none of them'}"
            )

    def marks(self, spec: NodeGroupSpec, group: NodeGroup, implied: Collection[Taint] = _NONE) -> None:
        """Compares labels, taints and tags.

        Args:
            spec: as asked for.
            group: as it is.
            implied: taints that the cloud adds by itself.
        """
        self.mapping("labels", spec.labels, group.labels)
        self.mapping("tags", spec.tags, group.tags)
        asked, there = set(spec.taints) - set(implied), set(group.taints) - set(implied)
        if asked != there:
            self.found.append(f"taints: asked for {_listed(asked) or 'none'}, it has {_listed(there) or 'none'}")


def _listed(values: Any) -> str:
    return ", ".join(sorted(str(value) for value in values))


def _said(value: bool) -> str:
    return "yes" if value else "no"
