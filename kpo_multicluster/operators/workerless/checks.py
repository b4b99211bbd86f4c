"""What a task cannot have that no worker runs, each with its reason; refused when the DAG is parsed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from kpo_multicluster.airflow_names import STARTS_IN_TRIGGERER, airflow_version, redact
from kpo_multicluster.cluster import ClusterRef
from kpo_multicluster.errors import ConfigurationError
from kpo_multicluster.operators.checks import holds_template
from kpo_multicluster.operators.workerless.arguments import path_of

# Attributes of an Airflow task: the argument's name, what it is when nothing was given, and why it cannot be had.
_CONCURRENCY: Final = "Airflow counts only what workers run"
_CALLED: Final = "Airflow calls it in workers only"
_AIRFLOW: Final = (
    ("pool", "pool", "default_pool", _CONCURRENCY),
    ("pool_slots", "pool_slots", 1, _CONCURRENCY),
    ("max_active_tis_per_dag", "max_active_tis_per_dag", None, _CONCURRENCY),
    ("max_active_tis_per_dagrun", "max_active_tis_per_dagrun", None, _CONCURRENCY),
    ("_pre_execute_hook", "pre_execute", None, _CALLED),
    ("_post_execute_hook", "post_execute", None, _CALLED),
    (
        "on_success_callback",
        "on_success_callback",
        None,
        "Airflow calls it in workers only; use a task that follows",
    ),
    ("on_execute_callback", "on_execute_callback", None, _CALLED),
    ("on_skipped_callback", "on_skipped_callback", None, _CALLED),
    ("retry_policy", "retry_policy", None, "Airflow asks it in workers only; retries and retry_delay do work"),
    ("outlets", "outlets", None, "Airflow tells of assets only what workers did"),
    ("email", "email", None, "Airflow writes mails from workers only; use on_failure_callback"),
    ("run_as_user", "run_as_user", None, "there is no process to run as someone"),
)
_WORD: Final = re.compile(r"[A-Za-z_]\w*")


def check_version() -> None:
    """Refuses an Airflow that cannot start a pod task in the triggerer.

    Raises:
        ConfigurationError: it is too old.
    """
    if not STARTS_IN_TRIGGERER:
        raise ConfigurationError(
            f"workerless=True needs Airflow 3.3 or newer, which renders a task's templates in the triggerer; this is "
            f"{airflow_version}. deferrable=True frees the worker while the pod runs, on this version too."
        )


def check_workerless(operator: Any, own_execute: Any) -> None:
    """Refuses what works in a worker only, as far as the task itself says it.

    Args:
        operator: with workerless=True.
        own_execute: `execute` as this package has it.

    Raises:
        ConfigurationError: says each such argument and why.
    """
    check_version()
    if isinstance(operator.cluster, ClusterRef):
        # Refuses what must not be stored.
        operator.cluster.to_json()
    kind = operator._made_anew_as()
    if path_of(kind) is None:
        raise _refused(operator, f"its class {kind.__name__} is defined in the DAG file, which triggerers do not read")
    if kind.execute is not own_execute:
        raise _refused(operator, f"{kind.__name__} has an execute() of its own, which only workers call")
    given = [
        f"{argument} ({why})"
        for attribute, argument, default, why in _AIRFLOW
        if (getattr(operator, attribute, None) or None) != default
    ]
    if given:
        raise _refused(operator, f"it has {'; '.join(given)}")
    hidden = sorted(name for name, value in _literals(operator.env_vars) if redact({name: value}) != {name: value})
    if hidden:
        raise _refused(
            operator,
            f"env_vars {', '.join(hidden)} would be stored as they are, and are secret by their names: use secrets=, "
            "or a template such as '{{ conn.warehouse.password }}'",
        )


def check_dag(operator: Any, arguments: Any) -> None:
    """Refuses what a template takes from its DAG file; nothing of that is stored.

    Args:
        operator: of the task.
        arguments: of the task, as they are stored.

    Raises:
        ConfigurationError: names it.
    """
    dag = operator.get_dag()
    if dag is None:
        return
    own = {*(dag.user_defined_macros or ()), *(dag.user_defined_filters or ())}
    if used := own & _words(arguments):
        raise _refused(
            operator,
            f"its templates use {', '.join(sorted(used))} of the DAG's user_defined_macros or user_defined_filters, "
            "which triggerers do not have",
        )


def refuse_mapped(arguments: Mapping[str, Any]) -> None:
    """Refuses a mapped task.

    Args:
        arguments: given to `partial`.

    Raises:
        ConfigurationError: one of them asks for a start in the triggerer.
    """
    if arguments.get("workerless") or arguments.get("start_from_trigger"):
        raise ConfigurationError(
            f"Task {arguments.get('task_id')!r} is mapped, and Airflow starts no mapped task in the triggerer: "
            "leave workerless out and use deferrable=True, or put the task into a mapped task group."
        )


def _refused(operator: Any, why: str) -> ConfigurationError:
    return ConfigurationError(
        f"Task {operator.task_id!r} cannot be workerless: {why}. Leave that out, or use deferrable=True, which frees "
        "the worker while the pod runs."
    )


def _literals(variables: Any) -> Iterator[tuple[str, str]]:
    """Environment variables whose values are no templates."""
    pairs: list[tuple[Any, Any]] = []
    if isinstance(variables, Mapping):
        pairs = list(variables.items())
    elif isinstance(variables, (list, tuple)):
        for entry in variables:
            is_plain = isinstance(entry, Mapping)
            pairs.append(
                (entry.get("name"), entry.get("value"))
                if is_plain
                else (getattr(entry, "name", None), getattr(entry, "value", None))
            )
    for name, value in pairs:
        if isinstance(name, str) and isinstance(value, str) and not holds_template(value):
            yield name, value


def _words(value: Any) -> set[str]:
    """All words of the templates in a value."""
    if isinstance(value, str):
        return set(_WORD.findall(value)) if "{" in value else set()
    entries = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    return set().union(*map(_words, entries))
