"""Checks of operator arguments, made when the DAG is parsed."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from enum import Enum
from typing import Any, Literal, TypeVar

from kpo_multicluster.errors import ConfigurationError
from kpo_multicluster.operators.enums import LossCause

Choice = TypeVar("Choice", bound=Enum)


def check_kind_of(name: str, value: object, kind: type | tuple[type, ...], expected: str) -> None:
    """Refuses a value of another type.

    Raises:
        ConfigurationError: it is one.
    """
    if not isinstance(value, kind):
        raise ConfigurationError(f"{name} must be {expected}, not {type(value).__name__}.")


def check_choice(name: str, value: Any, choices: type[Choice]) -> Choice:
    """The member of an enumeration that `value` names.

    Raises:
        ConfigurationError: it names none; says which there are.
    """
    # An enumeration of the same values that is not ours, such as upstream's, is known by its value.
    plain = value.value if isinstance(value, Enum) else value
    try:
        return choices(plain)
    except ValueError:
        known = ", ".join(repr(choice.value) for choice in choices)
        raise ConfigurationError(f"{name} must be one of {known}, not {plain!r}.") from None


def check_seconds(name: str, value: Any) -> float:
    """A duration.

    Raises:
        ConfigurationError: it is no number of seconds, or negative.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0:
        raise ConfigurationError(f"{name} must be a number of seconds, 0 or more, not {value!r}.")
    return value


def names_of_containers(
    name: str, value: Iterable[str] | str | Literal[True] | None
) -> tuple[str, ...] | Literal[True]:
    """Container names from one name, several, or True for all; empty for none.

    Raises:
        ConfigurationError: it is something else.
    """
    if value is True:
        return True
    if not value:
        return ()
    names = (value,) if isinstance(value, str) else tuple(value)
    if not all(isinstance(entry, str) for entry in names):
        raise ConfigurationError(f"{name} must be a container's name, several, or True for all of them.")
    return names


def check_relaunch(causes: Iterable[str] | None, random_name_suffix: bool) -> frozenset[LossCause]:
    """The causes for which a lost pod is created anew.

    Raises:
        ConfigurationError: one is unknown, or the new pod would have the old one's name.
    """
    named = [causes] if isinstance(causes, str) else list(causes or ())
    chosen = frozenset(check_choice("relaunch_on", cause, LossCause) for cause in named)
    if chosen and not random_name_suffix:
        raise ConfigurationError(
            "relaunch_on needs random_name_suffix=True: a new pod cannot have the name of one that is still going away."
        )
    return chosen


def check_deadline(server_side_deadline: bool, execution_timeout: timedelta | None) -> None:
    """Refuses a deadline that nothing says the length of.

    Raises:
        ConfigurationError: there is no execution_timeout to derive it from.
    """
    if server_side_deadline and execution_timeout is None:
        raise ConfigurationError(
            "server_side_deadline=True derives the pod's deadline from execution_timeout: set that as well, or give "
            "active_deadline_seconds instead."
        )
