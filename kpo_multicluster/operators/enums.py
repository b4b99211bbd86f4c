"""Choices of the operator, with upstream's names and values."""

from __future__ import annotations

from enum import Enum


class OnFinishAction(str, Enum):
    """What becomes of the pod when the task has finished."""

    KEEP_POD = "keep_pod"
    DELETE_POD = "delete_pod"
    DELETE_SUCCEEDED_POD = "delete_succeeded_pod"
    DELETE_ACTIVE_POD = "delete_active_pod"


class OnKillAction(str, Enum):
    """What becomes of the pod when the task is killed."""

    DELETE_POD = "delete_pod"
    KEEP_POD = "keep_pod"


class PodEventType(Enum):
    """Types of events that Kubernetes records."""

    WARNING = "Warning"
    NORMAL = "Normal"


class XComTransport(str, Enum):
    """How a run's result is read."""

    EXEC = "exec"
    TERMINATION_MESSAGE = "termination-message"


class LossCause(str, Enum):
    """Why a pod was lost, for `relaunch_on`."""

    EVICTED = "evicted"
    PREEMPTED = "preempted"
    NODE_LOST = "node_lost"
    DELETED = "deleted"
