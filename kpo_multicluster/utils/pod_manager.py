"""Upstream's module of this name: the choices, phases and exceptions it is imported for."""

from __future__ import annotations

from typing import Any, ClassVar

from kpo_multicluster.errors import ConfigurationError
from kpo_multicluster.exceptions import (
    PodCommandException,
    PodLaunchFailedException,
    PodLaunchTimeoutException,
    PodNotFoundException,
    XComRetrievalError,
)
from kpo_multicluster.operators.enums import OnFinishAction, OnKillAction
from kpo_multicluster.pods.xcom import EMPTY_RESULT as EMPTY_XCOM_RESULT

__all__ = [
    "EMPTY_XCOM_RESULT",
    "OnFinishAction",
    "OnKillAction",
    "PodCommandException",
    "PodLaunchFailedException",
    "PodLaunchTimeoutException",
    "PodManager",
    "PodNotFoundException",
    "PodPhase",
    "XComRetrievalError",
]

NO_POD_MANAGER = (
    "There is no PodManager in kpo_multicluster: a run is made of the operator's own steps. Override await_pod_start, "
    "await_pod_completion, extract_xcom or process_pod_deletion of the operator; ask the cluster through its client."
)


class PodPhase:
    """Phases of a pod (core/v1 PodStatus)."""

    PENDING: ClassVar[str] = "Pending"
    RUNNING: ClassVar[str] = "Running"
    SUCCEEDED: ClassVar[str] = "Succeeded"
    FAILED: ClassVar[str] = "Failed"
    UNKNOWN: ClassVar[str] = "Unknown"

    terminal_states: ClassVar[set[str]] = {SUCCEEDED, FAILED}


class PodManager:
    """Upstream's engine, which is not this package's.

    Raises:
        ConfigurationError: always; says what takes its place.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise ConfigurationError(NO_POD_MANAGER)
