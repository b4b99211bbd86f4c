"""Exceptions by the names that code written for the upstream operator catches.

Which of them an error of this package is, when a task raises it: `kpo_multicluster.raised`.
"""

from __future__ import annotations

from kpo_multicluster.airflow_names import AirflowException


class PodMutationHookException(AirflowException):
    """A `pod_mutation_hook` failed."""


class PodReconciliationError(AirflowException):
    """Descriptions of a pod cannot be merged. Not raised: what cannot be merged is a `ConfigurationError`."""


class KubernetesApiError(AirflowException):
    """The API server refused a request or gave no answer."""


class KubernetesApiPermissionError(AirflowException):
    """The API server said that the task's identity may not do what it asked for (403)."""


class KubernetesApiException(AirflowException):
    """The same as `KubernetesApiError`; upstream has both."""


class PodReattachFailure(AirflowException):
    """An earlier try's pod cannot be found. Not raised, nor by upstream: a new pod is started."""


class PodCredentialsExpiredFailure(AirflowException):
    """The credentials were refused and could not be renewed."""


class FoundMoreThanOnePodFailure(AirflowException):
    """Earlier tries left several pods. Not raised: one is gone on with and the others are cleared away."""


class PodLaunchFailedException(AirflowException):
    """The pod can never start."""


class PodLaunchTimeoutException(AirflowException):
    """The pod did not start within its time."""


class PodNotFoundException(AirflowException):
    """The pod was deleted by someone else."""


class PodCommandException(AirflowException):
    """A command could not be run in a container."""


class XComRetrievalError(AirflowException):
    """The run's result could not be read."""
