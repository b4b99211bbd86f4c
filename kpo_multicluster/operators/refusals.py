"""What a cluster refused leaves a task with the reason."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from kpo_multicluster.auth.access import ClusterAccess
from kpo_multicluster.auth.diagnose import attach_findings
from kpo_multicluster.errors import KpoMulticlusterError
from kpo_multicluster.hooks.kubernetes import KubernetesHook

Step = TypeVar("Step", bound=Callable[..., Any])


def explaining_refusals(step: Step) -> Step:
    """Decorates a method of an operator: to a refusal that leaves it is added why, which may take some seconds.

    Nothing is asked of the cloud before the task has failed, and nothing when it was killed.
    """

    @wraps(step)
    def explaining(operator: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return step(operator, *args, **kwargs)
        except KpoMulticlusterError as error:
            # What is not there was not asked for yet, so it cannot have been refused.
            hook: KubernetesHook | None = vars(operator).get("_cluster_hook")
            access: ClusterAccess | None = None if hook is None else vars(hook).get("access")
            if hook is not None and access is not None and not operator._killed:
                attach_findings(error, hook.cluster_ref, access)
            raise

    return explaining  # type: ignore[return-value]
