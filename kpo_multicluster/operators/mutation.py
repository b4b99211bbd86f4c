"""Airflow's `pod_mutation_hook`, by which an administrator changes every pod before it is created."""

from __future__ import annotations

from kpo_multicluster.airflow_names import pod_mutation_hooks
from kpo_multicluster.errors import ConfigurationError
from kpo_multicluster.exceptions import PodMutationHookException
from kpo_multicluster.operators.objects import PodObject, as_pod, v1_pod


class PodMutationHookError(ConfigurationError, PodMutationHookException):
    """A `pod_mutation_hook` failed."""


def mutated(pod: PodObject) -> PodObject:
    """The pod after the hooks that are registered; the very same where there is none.

    Raises:
        PodMutationHookError: a hook failed.
    """
    hooks = pod_mutation_hooks()
    if not hooks:
        return pod
    model = v1_pod(pod)
    for hook in hooks:
        try:
            hook(pod=model)
        except Exception as error:
            raise PodMutationHookError(
                f"pod_mutation_hook of {hook.__module__} failed for pod {pod['metadata']['name']}: {error!r}. "
                "It is set in airflow_local_settings or by a plugin of this Airflow."
            ) from error
    return as_pod(model)
