"""What tasks about node groups have in common: which cluster, how they wait, and what becomes of them when killed."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack, aclosing
from functools import cached_property
from typing import TYPE_CHECKING, Any

from kpo_multicluster.airflow_names import Context, conf
from kpo_multicluster.errors import ConfigurationError, KpoMulticlusterError
from kpo_multicluster.hooks.node_groups import NodeGroupWait, open_groups, until
from kpo_multicluster.operators.checks import check_kind_of, check_seconds
from kpo_multicluster.operators.cluster_task import ClusterTask
from kpo_multicluster.pods.failures import failure_from_json
from kpo_multicluster.raised import as_airflow

if TYPE_CHECKING:
    from kpo_multicluster.node_groups.lifecycle import NodeGroups

# SIGKILL follows SIGTERM after 5 s.
_KILL_SECONDS = 4.0
_TIMEOUT_SECONDS = 30 * 60.0


class NodeGroupTask(ClusterTask):
    """A task about one node group of one cluster, which `eks()`, `gke()` or `aks()` has made.

    Args:
        see_nodes: ask the cluster's API server for its nodes; False takes the cloud's word that they are there.
        timeout_seconds: for the group to be as it should; an `execution_timeout` ends it earlier.
        deferrable: wait in the triggerer, without a worker.
        **kwargs: of `ClusterTask`, `cluster` or `kubernetes_conn_id`, and of every operator.

    Raises:
        ConfigurationError: no cluster is named, the time is not positive, or an argument is of a wrong type.
    """

    def __init__(
        self,
        *,
        see_nodes: bool = True,
        timeout_seconds: float = _TIMEOUT_SECONDS,
        deferrable: bool | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not check_seconds("timeout_seconds", timeout_seconds):
            raise ConfigurationError(f"timeout_seconds must be more than 0, not {timeout_seconds!r}.")
        check_kind_of("see_nodes", see_nodes, bool, "True or False")
        check_kind_of("deferrable", deferrable, (bool, type(None)), "True, False or None")
        self.see_nodes = see_nodes
        self.timeout_seconds = timeout_seconds
        if deferrable is None:
            deferrable = conf.getboolean("operators", "default_deferrable", fallback=False)
        self.deferrable = deferrable
        # Name and run of the group that this task is making.
        self._undoing: tuple[str, str] | None = None

    @cached_property
    def groups(self) -> NodeGroups:
        """Of the cluster."""
        return open_groups(self.hook)

    @staticmethod
    def run_of(context: Context) -> str:
        """What a group that a task makes is made for: its DAG and the run of it."""
        ti: Any = context["ti"]
        return f"{ti.dag_id}/{ti.run_id}"

    @property
    def deadline(self) -> float:
        """By when it is to be done, Unix time in seconds."""
        limit = self.execution_timeout
        seconds = self.timeout_seconds
        # Airflow's own end of a deferral would leave no one to remove what was made.
        return time.time() + (seconds if limit is None else min(seconds, limit.total_seconds()))

    def ended(self, wait: NodeGroupWait) -> None:
        """Returns once a group is as awaited, in this process; a task that defers does not return.

        Raises:
            NodeGroupError: it will not be as awaited, or not in time.
            CredentialError: who asks was refused.
        """
        if not self.deferrable:
            self.on_loop(self._until(wait))
            return
        from kpo_multicluster.triggers.clusters import stored_cluster
        from kpo_multicluster.triggers.node_groups import NodeGroupTrigger

        trigger = NodeGroupTrigger(stored_cluster(self.hook), wait.to_json())
        # Without arguments of its own: `airflow dags test` hands on none but the event.
        self.defer(trigger=trigger, method_name="execute_complete")

    def raise_failure(self, event: Mapping[str, Any]) -> None:
        """Raises what a trigger's event tells of, if that is a failure.

        Raises:
            KpoMulticlusterError: the failure.
        """
        if event.get("status") != "success":
            raise as_airflow(failure_from_json(event.get("failure") or {}))

    def undo(self, name: str, run: str) -> None:
        """Begins to remove a group, if it was made for a run; what keeps it from being so is logged."""
        self.log.info("Removing what was made of node group %r.", name)
        try:
            # Whoever was killed is not given the time to wait for other changes of the cluster.
            limit = _KILL_SECONDS if self._killed else _TIMEOUT_SECONDS
            change = asyncio.run(self.groups.delete(name, run=run, timeout_seconds=limit))
        except KpoMulticlusterError as error:
            self.log.error("Node group %r is not removed: %s", name, error)
        else:
            if change is not None:
                self.log.info("Node group %r is being removed again.", name)

    def on_kill(self) -> None:
        """Ends the waiting, and begins to remove what the task has made."""
        self._killed = True
        if self._undoing is not None and "groups" in vars(self):
            sender = threading.Thread(target=self._delete_quietly, args=self._undoing, daemon=True)
            sender.start()
            sender.join(_KILL_SECONDS)
        super().on_kill()

    def _delete_quietly(self, name: str, run: str) -> None:
        try:
            asyncio.run(self.groups.delete(name, run=run, timeout_seconds=_KILL_SECONDS))
        except KpoMulticlusterError:  # whoever is left tries again, and tells
            return

    async def _until(self, wait: NodeGroupWait) -> None:
        async with AsyncExitStack() as stack:
            api = None
            if wait.see_nodes and not wait.gone:
                from kpo_multicluster.api.client import ApiClient

                access = await asyncio.to_thread(self._access)
                api = await stack.enter_async_context(ApiClient(access))
            async with aclosing(until(self.groups, wait, api)) as reports:
                async for report in reports:
                    self.log.log(logging.WARNING if report.warning else logging.INFO, "%s", report)

    def _access(self) -> Any:
        return self.hook.access
