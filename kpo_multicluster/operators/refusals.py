"""What a cluster refused leaves a task with the reason."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

from kpo_multicluster.auth.access import ClusterAccess
from kpo_multicluster.auth.diagnose import attach_findings
from kpo_multicluster.errors import KpoMulticlusterError
from kpo_multicluster.hooks.kubernetes import KubernetesHook

Operator = TypeVar("Operator")
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def explaining_refusals(
    step: Callable[Concatenate[Operator, Arguments], Result],
) -> Callable[Concatenate[Operator, Arguments], Result]:
    """Decorates a method of an operator: to a refusal that leaves it is added why, which may take some seconds.

    Nothing is asked of the cloud before the task has failed, and nothing when it was killed.
    """

    @wraps(step)
    def explaining(operator: Operator, /, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        try:
            return step(operator, *args, **kwargs)
        except KpoMulticlusterError as error:
            # What is not there was not asked for yet, so it cannot have been refused.
            hook: KubernetesHook | None = vars(operator).get("_cluster_hook")
            access: ClusterAccess | None = None if hook is None else vars(hook).get("access")
            if hook is not None and access is not None and not vars(operator).get("_killed"):
                attach_findings(error, hook.cluster_ref, access)
            raise

    return explaining
