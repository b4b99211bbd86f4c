"""What is refused when a DAG is parsed: arguments that cannot work, each by its name.

A template field may hold what is yet to be rendered: that is let pass, and checked when the task runs.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Set
from dataclasses import replace
from typing import Any, Final

from kpo_multicluster.callbacks import KubernetesPodOperatorCallback
from kpo_multicluster.errors import ConfigurationError
from kpo_multicluster.operators.checks import check_kind_of, check_one_of, check_seconds
from kpo_multicluster.pods.convert import is_model
from kpo_multicluster.pods.manifest import PodArguments, check_arguments

_TRUTH_VALUES: Final = (
    "random_name_suffix",
    "get_logs",
    "hostnetwork",
    "log_events_on_failure",
    "log_events_on_startup",
    "log_pod_spec_on_failure",
    "do_xcom_push",
    "container_name_log_prefix_enabled",
    "server_side_deadline",
    "workerless",
)
_OPTIONAL_TRUTH_VALUES: Final = ("in_cluster", "automount_service_account_token")
_SECONDS: Final = (
    "startup_timeout_seconds",
    "schedule_timeout_seconds",
    "startup_check_interval_seconds",
    "base_container_status_polling_interval",
    "poll_interval",
)
_OPTIONAL_SECONDS: Final = (
    "logging_interval",
    "sidecar_drain_seconds",
    "termination_grace_period",
    "active_deadline_seconds",
)
_OPTIONAL_TEXTS: Final = ("kubernetes_conn_id", "config_file", "cluster_context")
_CALLABLES: Final = ("log_formatter", "progress_callback")
# Kubernetes API, core/v1: Container.imagePullPolicy, PodSpec.dnsPolicy, Container.terminationMessagePolicy.
_API_CHOICES: Final = {
    "image_pull_policy": ("Always", "IfNotPresent", "Never"),
    "dnspolicy": ("ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"),
    "termination_message_policy": ("File", "FallbackToLogsOnError"),
}
_CALLBACKS: Final = frozenset(name for name in vars(KubernetesPodOperatorCallback) if not name.startswith("_"))
# A text without one of these stays a text when it is rendered, also where rendering gives Python objects.
_RENDERED: Final = "{[("


def check_operator(operator: Any) -> None:
    """Refuses what an operator cannot run with.

    Raises:
        ConfigurationError: an argument is of a wrong type, or says what cannot be; the message names it.
    """
    checks: list[tuple[Collection[str], Callable[[str, Any], object]]] = [
        (_TRUTH_VALUES, lambda name, value: check_kind_of(name, value, bool, "True or False")),
        (_OPTIONAL_TRUTH_VALUES, lambda name, value: _optional(name, value, bool, "True, False or None")),
        (_SECONDS, check_seconds),
        (_OPTIONAL_SECONDS, lambda name, value: value is None or check_seconds(name, value)),
        (_OPTIONAL_TEXTS, lambda name, value: _optional(name, value, str, "a text")),
        (_CALLABLES, _check_callable),
        (_API_CHOICES, _check_api_choice),
    ]
    templated = frozenset(operator.template_fields)
    for names, check in checks:
        for name in names:
            value = getattr(operator, name)
            if not (name in templated and _is_pending(value)):
                check(name, value)
    _check_callbacks(operator.callbacks)
    _check_pod(operator._pod_arguments(), templated)


def _optional(name: str, value: Any, kind: type, expected: str) -> None:
    check_kind_of(name, value, (kind, type(None)), expected)


def _check_callable(name: str, value: Any) -> None:
    if value is not None and not callable(value):
        raise ConfigurationError(f"{name} must be a function, not {type(value).__name__}.")


def _check_api_choice(name: str, value: Any) -> None:
    if value:
        check_one_of(name, value, _API_CHOICES[name])


def _check_callbacks(classes: Any) -> None:
    for entry in classes:
        if not any(callable(getattr(entry, name, None)) for name in _CALLBACKS):
            raise ConfigurationError(
                f"callbacks must be a class with methods of KubernetesPodOperatorCallback, or a list of such classes, "
                f"not {entry!r}. The methods: {', '.join(sorted(_CALLBACKS))}."
            )


def _check_pod(arguments: PodArguments, templated: Collection[str]) -> None:
    later = {name for name in templated if holds_result(getattr(arguments, name, None))}
    # Whether a None was meant is another question: here everything that is not a default is looked at.
    unknown: dict[str, Any] = dict.fromkeys(later & vars(arguments).keys())
    checked = replace(arguments, **unknown, given=None)
    check_arguments(checked, {name for name in templated if not _stays_text(getattr(checked, name, None))})


def _is_pending(value: Any) -> bool:
    """Whether a value is yet to be rendered: a template, another task's result, or a function of the context."""
    if isinstance(value, str):
        return "{" in value
    return callable(value) or _is_result(value)


def _is_result(value: Any) -> bool:
    return callable(getattr(value, "resolve", None)) and not isinstance(value, os.PathLike)


def holds_result(value: Any) -> bool:
    """Whether a value is, or holds at any depth, another task's result or a function of the context."""
    if callable(value) or _is_result(value):
        return True
    if isinstance(value, Mapping):
        return any(map(holds_result, value.values()))
    if isinstance(value, (list, tuple, Set)):
        return any(map(holds_result, value))
    return is_model(value) and any(holds_result(getattr(value, name, None)) for name in value.attribute_map)


def _stays_text(value: Any) -> bool:
    return isinstance(value, str) and not any(mark in value for mark in _RENDERED)
