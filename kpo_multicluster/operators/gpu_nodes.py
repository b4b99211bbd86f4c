"""`gpu_nodes()`: nodes that are there for the tasks within it, and gone after them, whatever becomes of these.

    with gpu_nodes(cluster=gpu, spec=spec):
        KubernetesPodOperator(task_id="train", image="train:1", cluster=gpu)

The pods of its tasks are sent to them.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Any

from kpo_multicluster.airflow_names import BaseOperator
from kpo_multicluster.cluster import ClusterRef
from kpo_multicluster.errors import ConfigurationError
from kpo_multicluster.node_groups.placement import Placement, placement_of
from kpo_multicluster.node_groups.spec import NodeGroupSpec
from kpo_multicluster.operators.checks import holds_template
from kpo_multicluster.operators.node_groups import CreateNodeGroupOperator, DeleteNodeGroupOperator
from kpo_multicluster.operators.pod import KubernetesPodOperator

if TYPE_CHECKING:
    from typing_extensions import Self


class GpuNodes:
    """A node group for the tasks within its `with` block; made by `gpu_nodes`.

    Attributes:
        placement: what a pod needs to run on its nodes.
        create: the setup task.
        delete: the teardown task; tasks after the block may be put behind it to begin when the nodes are gone.
        done: an empty task behind the teardown, which makes the run fail when that does. As a teardown does not count
            by itself, the block's last tasks are those of the run, too, and tell how it ended.
    """

    def __init__(
        self,
        placement: Placement,
        create: CreateNodeGroupOperator,
        delete: DeleteNodeGroupOperator,
        done: BaseOperator,
    ) -> None:
        self.placement = placement
        self.create = create
        self.delete = delete
        self.done = done
        self._teardown: AbstractContextManager[object] = delete
        self._before: set[str] = set()

    def pod_arguments(self) -> dict[str, Any]:
        """The arguments of `KubernetesPodOperator` that put a pod on these nodes, with all GPUs of one.

        For tasks that `with` does not reach: mapped and decorated ones.
        """
        return self.placement.arguments()

    def __enter__(self) -> Self:
        self._before = set(self._dag().task_ids)
        self._teardown.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._teardown.__exit__(kind, error, trace)
        if error is not None:
            return
        inside = [task for task in self._dag().tasks if task.task_id not in self._before]
        for task in inside:
            if isinstance(task, KubernetesPodOperator):
                self._place(task)

    def _dag(self) -> Any:
        return self.create.dag

    def _place(self, task: KubernetesPodOperator) -> None:
        """Puts a pod on the nodes; what the task asks for itself goes before."""
        task.node_selector = {**self.placement.node_selector, **(task.node_selector or {})}
        asked: list[Any] = list(task.tolerations or [])
        missing: list[Any] = [dict(one) for one in self.placement.tolerations if one not in asked]
        task.tolerations = [*asked, *missing]
        if task.container_resources is None and self.placement.limits:
            task.container_resources = {"limits": dict(self.placement.limits)}


def gpu_nodes(
    *,
    cluster: ClusterRef | None = None,
    spec: NodeGroupSpec | Mapping[str, Any],
    kubernetes_conn_id: str | None = None,
    task_id: str | None = None,
    expires_after_seconds: float | None = 24 * 3600.0,
    **arguments: Any,
) -> GpuNodes:
    """Nodes for the tasks within a `with` block: a setup task makes them, a teardown task removes them.

    Pods of `KubernetesPodOperator` within the block are given the node selector, the tolerations and the GPUs of a
    node. The teardown runs whether these succeed or fail, also when the run is marked failed by hand; when it fails, a
    third task, empty, makes the run of the DAG fail as well. A setup that fails removes what it half made. A run that
    is ended from outside may leave the group: `kpo-multicluster reap` removes it.

    Args:
        cluster: made by `eks()`, `gke()` or `aks()`.
        spec: of the group; without templates, as where the pods are to go must be known when the DAG is parsed.
        kubernetes_conn_id: an Airflow connection that names the cluster, in place of `cluster`.
        task_id: that of the three tasks begins with this; default the group's name.
        expires_after_seconds: after which `kpo-multicluster reap` removes the group, unless it is told that its run is
            still under way.
        **arguments: of both tasks, such as `deferrable`, `see_nodes`, `timeout_seconds`, `retries`.

    Raises:
        ConfigurationError: the spec cannot be.
    """
    from airflow.providers.standard.operators.empty import EmptyOperator

    made = NodeGroupSpec.from_json(spec)
    if holds_template(made.name):
        raise ConfigurationError("The name of a node group in gpu_nodes() is no template: pods are put there by it.")
    start = task_id or made.name
    where: dict[str, Any] = {"cluster": cluster, "kubernetes_conn_id": kubernetes_conn_id, **arguments}
    create = CreateNodeGroupOperator(
        task_id=f"{start}_create",
        spec=made,
        adopt=False,
        expires_after_seconds=expires_after_seconds,
        **where,
    )
    delete = DeleteNodeGroupOperator(task_id=f"{start}_delete", name=made.name, **where)
    done = EmptyOperator(task_id=f"{start}_done")
    create.as_setup()  # type: ignore[no-untyped-call]
    # With on_failure_fail_dagrun a teardown would be all that tells how a run ended: tasks before it do not count then.
    delete.as_teardown(setups=create)
    delete.set_downstream(done)
    return GpuNodes(placement_of(made), create, delete, done)
