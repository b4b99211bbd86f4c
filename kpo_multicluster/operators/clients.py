"""The cluster of a pod task, and clients for it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from kpo_multicluster.airflow_names import BaseOperator
from kpo_multicluster.cluster import ClusterRef
from kpo_multicluster.errors import ConfigurationError
from kpo_multicluster.hooks.kubernetes import KubernetesHook
from kpo_multicluster.operators.callback_calls import implementing

if TYPE_CHECKING:
    from kubernetes.client import CoreV1Api

# By these a hook of another package, such as upstream's, says which cluster it is for.
_SHAPE = ("conn_id", "cluster_context", "config_file", "config_dict", "in_cluster", "disable_verify_ssl")


class PodClients(BaseOperator):
    """Where a pod task runs."""

    cluster: ClusterRef | None
    in_cluster: bool | None
    config_file: str | None
    cluster_context: str | None
    kubernetes_conn_id: str | None
    callbacks: Sequence[Any]

    # They hold locks and connections, and Airflow deep-copies operators.
    shallow_copy_attrs: Sequence[str] = ("hook", "client", "_cluster_hook", "_session")

    @cached_property
    def hook(self) -> KubernetesHook:
        """Says which cluster the task runs on. Overriding it takes effect.

        An override returns a `kpo_multicluster.hooks.kubernetes.KubernetesHook`, or upstream's.
        """
        return KubernetesHook(
            kubernetes_conn_id=self.kubernetes_conn_id,
            in_cluster=self.in_cluster,
            config_file=self.config_file,
            cluster_context=self.cluster_context,
            cluster=self.cluster,
        )

    @cached_property
    def client(self) -> CoreV1Api:
        """A client of the official library for callbacks and for code of one's own; the run itself does not use it."""
        client = self.hook.core_v1_client
        for tell in implementing(self.callbacks, "on_sync_client_creation"):
            tell(client=client, operator=self)
        return client

    def explain_cluster(self) -> str:
        """Which cluster the task means, each value with where it comes from, one a line; nothing secret.

        Raises:
            ConfigurationError: the arguments or the connection cannot be made a cluster of.
        """
        return self._cluster_hook.explain_cluster()

    @cached_property
    def _cluster_hook(self) -> KubernetesHook:
        """The hook as one of ours, whichever package an override took it from."""
        hook: Any = self.hook
        if isinstance(hook, KubernetesHook):
            return hook
        if not all(hasattr(hook, name) for name in _SHAPE):
            kind = type(hook)
            raise ConfigurationError(
                f"The property hook of {type(self).__name__} returned a {kind.__module__}.{kind.__qualname__}, which "
                "does not say which cluster it is for. Return a kpo_multicluster.hooks.kubernetes.KubernetesHook."
            )
        return KubernetesHook(**{name: getattr(hook, name) for name in _SHAPE})
