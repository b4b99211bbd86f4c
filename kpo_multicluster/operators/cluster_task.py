"""What tasks about a cluster itself have in common: which cluster, and that they end when they are killed."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from functools import cached_property
from typing import Any, TypeVar

from kpo_multicluster.airflow_names import AirflowException, BaseOperator
from kpo_multicluster.cluster import ClusterRef
from kpo_multicluster.errors import ConfigurationError, KpoMulticlusterError
from kpo_multicluster.hooks.kubernetes import KubernetesHook
from kpo_multicluster.operators.checks import check_kind_of

T = TypeVar("T")
_KILLED = "The task was killed."


class ClusterTask(BaseOperator):
    """A task about one cluster.

    Args:
        cluster: made by `eks()`, `gke()`, `aks()` or another such function.
        kubernetes_conn_id: an Airflow connection that names the cluster, in place of `cluster`.

    Raises:
        ConfigurationError: not exactly one of the two is given, or a cluster is none.
    """

    template_fields: Sequence[str] = ("kubernetes_conn_id",)

    def __init__(
        self, *, cluster: ClusterRef | None = None, kubernetes_conn_id: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if cluster is not None:
            check_kind_of("cluster", cluster, ClusterRef, "made by a function of kpo_multicluster.clouds or .cluster")
        if (cluster is None) == (not kubernetes_conn_id):
            raise ConfigurationError(
                f"{type(self).__name__} {self.task_id!r} takes exactly one of cluster= and kubernetes_conn_id=."
            )
        self.cluster = cluster
        self.kubernetes_conn_id = kubernetes_conn_id
        self._running: tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]] | None = None
        self._killed = False

    @cached_property
    def hook(self) -> KubernetesHook:
        """For the cluster.

        Raises:
            ConfigurationError: what names the connection was rendered to nothing.
        """
        if self.cluster is None and not self.kubernetes_conn_id:
            # Without either, a hook takes the cluster that this process runs in.
            raise ConfigurationError(
                f"kubernetes_conn_id of {type(self).__name__} {self.task_id!r} was rendered to nothing, which names no "
                "cluster: see what its template refers to."
            )
        return KubernetesHook(None, self.kubernetes_conn_id, cluster=self.cluster)

    def on_loop(self, work: Coroutine[Any, Any, T]) -> T:
        """Runs something on a loop in this thread.

        Raises:
            AirflowException: the task was killed meanwhile.
        """

        async def run() -> T:
            task = asyncio.current_task()
            assert task is not None
            self._running = asyncio.get_running_loop(), task
            return await work

        try:
            # A kill may come between two of these, or what it removes may end this one otherwise.
            if self._killed:
                raise AirflowException(_KILLED)
            result = asyncio.run(run())
        except (asyncio.CancelledError, KpoMulticlusterError):
            if not self._killed:
                raise
        else:
            if not self._killed:
                return result
        finally:
            self._running = None
            work.close()
        raise AirflowException(_KILLED)

    def on_kill(self) -> None:
        """Ends what runs. Asks Airflow nothing, and logs nothing."""
        self._killed = True
        if self._running is not None:
            loop, task = self._running
            loop.call_soon_threadsafe(task.cancel)
