"""Checks of single arguments of the operator."""

from __future__ import annotations

import math
from collections.abc import Collection, Container, Iterable, Mapping
from datetime import timedelta
from enum import Enum
from typing import Any, Literal, TypeVar

from kpo_multicluster.cluster import ClusterRef
from kpo_multicluster.errors import ConfigurationError
from kpo_multicluster.operators.enums import LossCause

Choice = TypeVar("Choice", bound=Enum)
_NO_NAMES = (bytes, bytearray, Mapping)


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
        raise _not_among(name, plain, [choice.value for choice in choices]) from None


def check_one_of(name: str, value: Any, known: Collection[str]) -> None:
    """Refuses a text that is none of those known.

    Raises:
        ConfigurationError: with those there are.
    """
    if value not in known:
        raise _not_among(name, value, known)


def _not_among(name: str, value: Any, known: Collection[str]) -> ConfigurationError:
    return ConfigurationError(f"{name} must be one of {', '.join(map(repr, known))}, not {value!r}.")


def check_seconds(name: str, value: Any) -> float:
    """A duration.

    Raises:
        ConfigurationError: it is no number of seconds, or negative.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
        raise ConfigurationError(f"{name} must be a number of seconds, 0 or more, not {value!r}.")
    return value


def holds_template(text: str) -> bool:
    """Whether a text is yet to be rendered. A single brace is none of a template: keys are often JSON."""
    return "{{" in text or "{%" in text


def rendered_seconds(name: str, value: Any) -> float:
    """A duration, also as the text that a template was rendered to.

    Raises:
        ConfigurationError: it is no number of seconds, or negative.
    """
    try:
        return check_seconds(name, float(value) if isinstance(value, str) else value)
    except ValueError:
        return check_seconds(name, value)


def rendered_count(name: str, value: Any) -> int:
    """How many of something, also as the text that a template was rendered to.

    Raises:
        ConfigurationError: it is no whole number, or negative.
    """
    if isinstance(value, str) and value.strip().isdecimal():
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    raise ConfigurationError(f"{name} must be a whole number, 0 or more, not {value!r}.")


def names_of_containers(
    name: str, value: Iterable[str] | str | Literal[True] | None
) -> tuple[str, ...] | Literal[True]:
    """Container names from one name, several, or True for all; empty for none.

    Raises:
        ConfigurationError: it is something else.
    """
    if value is True:
        return True
    if value is None:
        return ()
    if isinstance(value, str):
        return (value,) if value else ()
    names = None if isinstance(value, _NO_NAMES) or not isinstance(value, Iterable) else tuple(value)
    if names is None or not all(isinstance(entry, str) for entry in names):
        raise ConfigurationError(f"{name} must be a container's name, several, or True for all of them, not {value!r}.")
    return names


def exit_codes(value: object) -> Container[int]:
    """The codes to skip on, from one, or anything that contains them; None for none.

    Raises:
        ConfigurationError: it is something else.
    """
    if value is None:
        return []
    codes = [value] if isinstance(value, int) else value
    if isinstance(codes, Container) and not isinstance(codes, (str, *_NO_NAMES)) and _are_codes(codes):
        return codes
    raise ConfigurationError(f"skip_on_exit_code must be an exit code, or several, as integers, not {value!r}.")


def _are_codes(codes: Container[object]) -> bool:
    if not isinstance(codes, Collection) or isinstance(codes, range):
        return True
    return all(isinstance(code, int) and not isinstance(code, bool) for code in codes)


def check_relaunch(causes: Iterable[str] | None, random_name_suffix: bool) -> frozenset[LossCause]:
    """The causes for which a lost pod is created anew.

    Raises:
        ConfigurationError: one is unknown, or the new pod would have the old one's name.
    """
    if causes is not None and not isinstance(causes, Iterable):
        raise ConfigurationError(f"relaunch_on must be a cause, or several, not {causes!r}.")
    named = [causes] if isinstance(causes, str) else list(causes or ())
    chosen = frozenset(check_choice("relaunch_on", cause, LossCause) for cause in named)
    if chosen and not random_name_suffix:
        raise ConfigurationError(
            "relaunch_on needs random_name_suffix=True: a new pod cannot have the name of one that is still going away."
        )
    return chosen


def check_deferral(deferrable: Any, cluster: Any, trigger_kwargs: Any) -> None:
    """Refuses to defer what could not be stored.

    Raises:
        ConfigurationError: an argument is of a wrong type, or a cluster's secrets are given inline.
    """
    check_kind_of("deferrable", deferrable, bool, "True or False")
    if not isinstance(trigger_kwargs, str):  # that may be a template
        check_kind_of("trigger_kwargs", trigger_kwargs, (Mapping, type(None)), "a dictionary")
    if deferrable and isinstance(cluster, ClusterRef) and not cluster.portable:
        names = ", ".join(sorted(cluster.secrets))
        raise ConfigurationError(
            f"deferrable=True stores in Airflow's database which cluster is meant, and cluster= holds {names} inline, "
            "which must not be stored. Name where it is kept instead: a kubeconfig's path, a connection "
            "(kubernetes_conn_id), or an environment variable ('env:NAME')."
        )


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
