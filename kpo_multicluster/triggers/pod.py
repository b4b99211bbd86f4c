"""Upstream's module of this name: what DAGs import from it."""

from __future__ import annotations

from enum import Enum
from typing import Any

from kpo_multicluster.errors import ConfigurationError


class ContainerState(str, Enum):
    """What a container is doing."""

    WAITING = "waiting"
    RUNNING = "running"
    TERMINATED = "terminated"
    FAILED = "failed"
    UNDEFINED = "undefined"


class KubernetesPodTrigger:
    """Waits for a pod in the triggerer: not in this version.

    Raises:
        ConfigurationError: always.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise ConfigurationError(
            "Deferrable runs are not supported by this version of kpo_multicluster: there is no trigger to wait for a "
            "pod with. Set deferrable=False; the task then waits in its worker."
        )
