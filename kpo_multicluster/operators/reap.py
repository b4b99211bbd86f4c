"""`ReapOperator`: removes what runs of DAGs have left behind on a cluster, for a DAG that runs every night."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kpo_multicluster.airflow_names import Context
from kpo_multicluster.errors import ConfigurationError, KpoMulticlusterError
from kpo_multicluster.hooks.connections import AirflowConnections
from kpo_multicluster.hooks.dag_runs import states_for_task
from kpo_multicluster.operators.checks import check_kind_of, rendered_seconds
from kpo_multicluster.operators.cluster_task import ClusterTask
from kpo_multicluster.raised import airflow_errors

if TYPE_CHECKING:
    from kpo_multicluster.reaping.leftovers import RunState
    from kpo_multicluster.reaping.reap import Place


class ReapOperator(ClusterTask):
    """Removes the node groups and pods of a cluster that runs of DAGs have left behind.

    To go is what was made here for a run that this Airflow knows to have ended, and of what it does not know the run
    of, that whose own end has passed or that is older than a given age. Nothing else is ever touched; what a task has
    kept on purpose goes by its age alone. Its XCom is a list of what was removed.

    Args:
        older_than_seconds: since it was made, for what belongs to a run that this Airflow does not know, and for pods
            that were kept; None leaves these alone. (templated)
        node_groups: look for node groups; default if the cluster is one of a cloud.
        pods: look for pods.
        namespace: to look for pods in; None for all. (templated)
        delete: remove it; False only logs what would be removed.
        **kwargs: of `ClusterTask`, `cluster` or `kubernetes_conn_id`, and of every operator.

    Raises:
        ConfigurationError: no cluster is named, there is nothing to look for, or an argument is of a wrong type.
    """

    template_fields: Sequence[str] = (*ClusterTask.template_fields, "older_than_seconds", "namespace")

    def __init__(
        self,
        *,
        older_than_seconds: float | str | None = None,
        node_groups: bool | None = None,
        pods: bool = True,
        namespace: str | None = None,
        delete: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if node_groups is False and not pods:
            raise ConfigurationError(f"ReapOperator {self.task_id!r} has nothing to look for: leave out pods=False.")
        for name, value in {"node_groups": node_groups, "pods": pods, "delete": delete}.items():
            check_kind_of(name, value, (bool, type(None)) if name == "node_groups" else bool, "True or False")
        self.older_than_seconds = older_than_seconds
        self.node_groups = node_groups
        self.pods = pods
        self.namespace = namespace
        self.delete = delete

    @airflow_errors()
    def execute(self, context: Context) -> list[dict[str, Any]]:
        """Looks through the cluster, and removes.

        Raises:
            ConfigurationError: an argument was rendered to what it cannot be.
            KpoMulticlusterError: something could not be looked for or removed; all else was.
        """
        from kpo_multicluster.reaping.leftovers import ReapRule
        from kpo_multicluster.reaping.reap import reap

        async def states(runs: list[str]) -> Mapping[str, RunState]:
            # On this thread, which alone may ask Airflow; there is nothing that could wait for the loop meanwhile.
            return states_for_task(context["ti"], runs)

        limit = self.older_than_seconds
        rule = ReapRule(None if limit is None else rendered_seconds("older_than_seconds", limit))
        found = self.on_loop(reap(self._place(), rule, states=states, delete=self.delete))
        for one in found.judged:
            self.log.info("%s", one)
        for trouble in found.troubles:
            self.log.error("%s", trouble)
        if found.errors:
            raise KpoMulticlusterError(
                f"{len(found.errors)} of what was to be done failed, all else was done: {found.errors[0]}"
            )
        if not found.judged:
            self.log.info("There is nothing that was made here.")
        return [one.to_json() for one in found.judged if one.removed and one.reason is not None]

    def _place(self) -> Place:
        from kpo_multicluster.reaping.reap import place_in

        hook = self.hook
        return place_in(
            hook.cluster_ref,
            AirflowConnections(),
            node_groups=self.node_groups,
            access=(lambda: hook.access) if self.pods else None,
            namespace=self.namespace,
        )
