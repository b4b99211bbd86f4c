"""`NodeGroupSensor` waits for a node group that something else makes or removes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kpo_multicluster.airflow_names import Context
from kpo_multicluster.errors import ConfigurationError
from kpo_multicluster.hooks.node_groups import NodeGroupWait
from kpo_multicluster.node_groups.group import Change
from kpo_multicluster.node_groups.spec import GPU_RESOURCE
from kpo_multicluster.operators.checks import rendered_count
from kpo_multicluster.operators.node_group_task import NodeGroupTask
from kpo_multicluster.raised import airflow_errors


class NodeGroupSensor(NodeGroupTask):
    """Waits until a node group is ready, or gone. One that is in trouble fails it at once, with the cloud's reason.

    Args:
        name: of the group.
        target: `ready` or `gone`.
        nodes: that must take pods; 0 takes the cloud's word that the group is there.
        gpus: that must be there, of all nodes together.
        gpu_resource: by which they are asked for.
        **kwargs: of `NodeGroupTask` and of every operator.

    Raises:
        ConfigurationError: the target is another one.
    """

    template_fields: Sequence[str] = (*NodeGroupTask.template_fields, "name", "nodes", "gpus")

    def __init__(
        self,
        *,
        name: str,
        target: str = "ready",
        nodes: int = 1,
        gpus: int = 0,
        gpu_resource: str = GPU_RESOURCE,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if target not in ("ready", "gone"):
            raise ConfigurationError(f"The target of a NodeGroupSensor is 'ready' or 'gone', not {target!r}.")
        self.name = name
        self.target = target
        self.nodes = nodes
        self.gpus = gpus
        self.gpu_resource = gpu_resource

    @airflow_errors()
    def execute(self, context: Context) -> None:
        """Waits.

        Raises:
            ConfigurationError: a number is none.
            NodeGroupError: the group is in trouble, not there, or not as awaited in time.
            CredentialError: who asks was refused.
        """
        gone = self.target == "gone"
        wait = NodeGroupWait(
            self.name,
            Change("delete" if gone else "create", self.name).to_json(),
            self.deadline,
            gone=gone,
            nodes=rendered_count("nodes", self.nodes),
            gpus=rendered_count("gpus", self.gpus),
            resource=self.gpu_resource,
            see_nodes=self.see_nodes,
        )
        self.ended(wait)

    @airflow_errors()
    def execute_complete(self, context: Context, event: Mapping[str, Any]) -> None:
        """Finishes what was waited for in the triggerer.

        Raises:
            KpoMulticlusterError: what the trigger tells of.
        """
        self.raise_failure(event)
