"""The Airflow names this package uses; the one place where Airflow's versions differ (3.1 to 3.3).

Imported by the Airflow edge only.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

from airflow import __version__ as airflow_version
from airflow.sdk import BaseHook, BaseOperator, BaseOperatorLink, Context
from airflow.sdk.log import mask_secret

try:
    from airflow.sdk.exceptions import (
        AirflowException,
        AirflowNotFoundException,
        AirflowSkipException,
        AirflowTaskTimeout,
        TaskDeferralError,
        TaskDeferralTimeout,
        TaskDeferred,
    )
except ImportError:  # before 3.3
    from airflow.exceptions import (  # type: ignore[attr-defined, no-redef]
        AirflowException,
        AirflowNotFoundException,
        AirflowSkipException,
        AirflowTaskTimeout,
        TaskDeferralError,
        TaskDeferralTimeout,
        TaskDeferred,
    )

try:
    from airflow.sdk import conf
except ImportError:  # before 3.2
    from airflow.configuration import conf  # type: ignore[assignment]

STARTS_IN_TRIGGERER = tuple(int(part) for part in airflow_version.split(".")[:2]) >= (3, 3)
"""Whether a triggerer is given the templates of a task that starts there, and ends it."""

__all__ = [
    "STARTS_IN_TRIGGERER",
    "AirflowException",
    "AirflowNotFoundException",
    "AirflowSkipException",
    "AirflowTaskTimeout",
    "BaseHook",
    "BaseOperator",
    "BaseOperatorLink",
    "Context",
    "TaskDeferralError",
    "TaskDeferralTimeout",
    "TaskDeferred",
    "airflow_connection",
    "airflow_version",
    "conf",
    "given_arguments",
    "init_arguments",
    "mask_secret",
    "mask_secret_async",
    "pod_mutation_hooks",
    "redact",
    "restored",
    "tell_timing",
]


def init_arguments(operator: BaseOperator) -> dict[str, Any]:
    """The arguments an operator was really given, by the task or by `default_args`, and those its classes passed on."""
    given: dict[str, Any] = vars(operator).get("_BaseOperator__init_kwargs") or {}
    return dict(given)


def airflow_connection(conn_id: str, hook: type[BaseHook] = BaseHook) -> Any:
    """The connection of that id, which a hook's class may look up in a way of its own.

    Raises:
        AirflowNotFoundException: there is none.
    """
    try:
        return hook.get_connection(conn_id)
    except ImportError as error:  # before 3.2, outside of a task: there is no supervisor that could be asked
        if "SUPERVISOR_COMMS" not in str(error):
            raise
    raise AirflowNotFoundException(f"The conn_id `{conn_id}` isn't defined")


def given_arguments(operator: BaseOperator) -> frozenset[str]:
    """Names of the arguments an operator was really given, and not as None."""
    return frozenset(name for name, value in init_arguments(operator).items() if value is not None)


def redact(value: Any) -> Any:
    """A value as it may be shown: what Airflow knows as secret, or holds for secret by its key, is hidden."""
    from airflow.sdk._shared.secrets_masker import redact

    return redact(value)


async def mask_secret_async(secret: str) -> None:
    """As `mask_secret`, on an event loop that may itself be in the middle of a call to Airflow."""
    try:
        from airflow.sdk.log import amask_secret
    except ImportError:  # before 3.3
        mask_secret(secret)
    else:
        await amask_secret(secret)


def restored(value: Any) -> Any:
    """A value as it comes out of a trigger's row.

    Raises:
        Exception: it cannot be stored, or not be read again where it was; Airflow has many kinds.
    """
    deserialize: Callable[[Any], Any]
    serialize: Callable[[Any], Any]
    try:
        from airflow.sdk.serde import deserialize, serialize
    except ImportError:  # before 3.2
        from airflow.serialization.serialized_objects import BaseSerialization

        # As a rule it makes text of what it does not know.
        serialize, deserialize = partial(BaseSerialization.serialize, strict=True), BaseSerialization.deserialize
    return deserialize(serialize(value))


def pod_mutation_hooks() -> list[Callable[..., object]]:
    """The `pod_mutation_hook`s that someone registered: Airflow's own, which does nothing, left out."""
    from airflow import settings

    plugins: Any
    try:
        plugins = settings.get_policy_plugin_manager()
    except AttributeError:  # before 3.3
        plugins = settings.POLICY_PLUGIN_MANAGER
    if plugins is None:  # Airflow's settings are not initialized: no one can have registered any
        return []
    hooks = plugins.hook.pod_mutation_hook.get_hookimpls()
    return [hook.function for hook in hooks if not hook.function.__module__.startswith("airflow.policies")]


def tell_timing(name: str, seconds: float, tags: dict[str, str]) -> None:
    """Tells Airflow's metrics how long something took."""
    try:
        from airflow.sdk.observability.stats import Stats
    except ImportError:  # before 3.2
        from airflow.stats import Stats  # type: ignore[no-redef, import-not-found, unused-ignore]

    Stats.timing(name, timedelta(seconds=seconds), tags=tags)
