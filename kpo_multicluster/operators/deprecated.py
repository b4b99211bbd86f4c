"""Arguments by which older DAGs say what newer ones say otherwise."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

from kpo_multicluster.errors import ConfigurationError
from kpo_multicluster.operators.checks import check_choice, check_kind_of
from kpo_multicluster.operators.enums import OnFinishAction

# Of Airflow's own argument `resources`, which has nothing to do with a pod.
_AIRFLOW_RESOURCES = frozenset({"cpus", "ram", "disk", "gpus"})


def finish_action(action: Any, is_delete_operator_pod: bool | None) -> OnFinishAction:
    """What becomes of the pod, by `on_finish_action` or by the older `is_delete_operator_pod`.

    Raises:
        ConfigurationError: either is of a wrong type, or they contradict each other.
    """
    chosen = check_choice("on_finish_action", action, OnFinishAction)
    if is_delete_operator_pod is None:
        return chosen
    check_kind_of("is_delete_operator_pod", is_delete_operator_pod, bool, "True, False or None")
    replacement = OnFinishAction.DELETE_POD if is_delete_operator_pod else OnFinishAction.KEEP_POD
    if chosen not in (OnFinishAction.DELETE_POD, replacement):
        raise ConfigurationError(
            f"is_delete_operator_pod={is_delete_operator_pod} contradicts on_finish_action={chosen.value!r}: leave out "
            "is_delete_operator_pod."
        )
    _warn(f"is_delete_operator_pod is deprecated: use on_finish_action={replacement.value!r}.")
    return replacement


def line_callback(callback: Callable[[str], None] | None) -> Callable[[str], None] | None:
    """The argument `progress_callback`."""
    if callback is not None:
        _warn("progress_callback is deprecated: give callbacks= a class with a progress_callback method.")
    return callback


def of_container(resources: Any, container_resources: Any) -> tuple[Any, Any]:
    """What Airflow itself, and what the container, is to get as resources.

    Raises:
        ConfigurationError: both arguments speak of the container.
    """
    if resources is None or (isinstance(resources, Mapping) and resources.keys() <= _AIRFLOW_RESOURCES):
        return resources, container_resources
    if container_resources is not None:
        raise ConfigurationError("resources is the older name of container_resources: leave it out.")
    _warn("resources is deprecated: use container_resources.")
    return None, resources


def reattaches(durable: bool | None, reattach_on_restart: bool | None) -> bool:
    """Whether a try goes on with the pod of an earlier one.

    Raises:
        ConfigurationError: either is of a wrong type.
    """
    for name, value in {"durable": durable, "reattach_on_restart": reattach_on_restart}.items():
        check_kind_of(name, value, (bool, type(None)), "True, False or None")
    if durable is not None:
        return durable
    return True if reattach_on_restart is None else reattach_on_restart


def _warn(text: str) -> None:
    # Said of the line that makes the operator: over this module, the operator and Airflow's wrapper of it.
    warnings.warn(text, DeprecationWarning, stacklevel=5)
