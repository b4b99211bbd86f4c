"""What the rules of the three clouds have in common."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeVar

from kpo_multicluster.node_groups.spec import CloudNodes, NodeGroupSpec

Options = TypeVar("Options", bound=CloudNodes)


def options_of(spec: NodeGroupSpec, kind: type[Options]) -> Options:
    """The options of a spec, for one cloud.

    Raises:
        ConfigurationError: it has those for another cloud.
    """
    if not isinstance(spec.options, kind):
        spec.refuse(
            f"has options for {spec.cloud}, and its cluster is one of {kind.cloud.upper()}: give {kind.__name__}(...)"
        )
    return spec.options


def check_name(spec: NodeGroupSpec, allowed: re.Pattern[str], rule: str) -> None:
    """Refuses a name that a cloud does not take.

    Args:
        spec: of the group.
        allowed: matches those that it takes.
        rule: in words.

    Raises:
        ConfigurationError: with the rule.
    """
    if not allowed.fullmatch(spec.name):
        spec.refuse(f"has a name that {spec.cloud.upper()} does not take: {rule}")


def check_largest(spec: NodeGroupSpec, limit: int) -> None:
    """Refuses more nodes than a cloud takes.

    Raises:
        ConfigurationError: with the limit.
    """
    if spec.largest > limit:
        spec.refuse(f"has the max_size {spec.largest}; {spec.cloud.upper()} takes at most {limit} nodes")


def check_choice(spec: NodeGroupSpec, option: str, choices: tuple[str, ...]) -> None:
    """Refuses an option that is given, and none of the choices.

    Raises:
        ConfigurationError: with the choices.
    """
    value = getattr(spec.options, option)
    if value is not None and value not in choices:
        spec.refuse(f"has the {option} {value!r}; it must be one of {', '.join(choices)}")


def given(values: Mapping[str, Any]) -> dict[str, Any]:
    """Of a request's fields, those that say something."""
    return {key: value for key, value in values.items() if value not in (None, {}, [])}
