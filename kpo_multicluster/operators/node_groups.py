"""Operators that make, scale and remove node groups of EKS, GKE and AKS.

A group that a task makes bears the tags of its run: a create that fails, times out or is killed removes what it half
made, a delete removes what its own run made, and `kpo-multicluster reap` finds what is left all the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kpo_multicluster.airflow_names import Context, TaskDeferralError, TaskDeferralTimeout, TaskDeferred
from kpo_multicluster.errors import NodeGroupMismatchError
from kpo_multicluster.hooks.node_groups import NodeGroupWait
from kpo_multicluster.node_groups.clouds import check_for
from kpo_multicluster.node_groups.readiness import Wanted
from kpo_multicluster.node_groups.spec import NodeGroupSpec
from kpo_multicluster.operators.checks import check_kind_of, check_seconds, holds_template, rendered_count
from kpo_multicluster.operators.node_group_task import NodeGroupTask
from kpo_multicluster.operators.parsing import holds_result
from kpo_multicluster.raised import airflow_errors

_NUMBERS = ("desired_size", "min_size", "max_size", "disk_gb")


class CreateNodeGroupOperator(NodeGroupTask):
    """Sees to it that a node group is there, and that its nodes take pods and have their GPUs.

    A group that is there and is what the spec says is adopted. What this task made for its run is removed again when it
    fails. Its XCom is the group's `name`, whether it was `created` by this try, and whether it is `owned` by this run.

    Args:
        spec: of the group: a `NodeGroupSpec`, or its fields, which may hold templates.
        adopt: take a group that was made for another run, or by someone else; False fails then.
        expires_after_seconds: after which `kpo-multicluster reap` removes it, unless it is told that its run is still
            under way.
        **kwargs: of `NodeGroupTask` and of every operator.

    Raises:
        ConfigurationError: the spec cannot be, as far as that can be known when a DAG is parsed.
    """

    template_fields: Sequence[str] = (*NodeGroupTask.template_fields, "spec")

    def __init__(
        self,
        *,
        spec: NodeGroupSpec | Mapping[str, Any],
        adopt: bool = True,
        expires_after_seconds: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.spec = spec
        self.adopt = adopt
        self.expires_after_seconds = expires_after_seconds
        check_kind_of("adopt", adopt, bool, "True or False")
        if expires_after_seconds is not None:
            check_seconds("expires_after_seconds", expires_after_seconds)
        if not (holds_template(str(spec)) or holds_result(spec)):
            made = NodeGroupSpec.from_json(spec)
            if self.cluster is not None:
                check_for(self.cluster, made)

    @airflow_errors()
    def execute(self, context: Context) -> dict[str, Any]:
        """Makes or adopts the group, and waits until it is ready.

        Raises:
            NodeGroupError: it cannot be had, or not in time.
            ConfigurationError: the spec or the cluster cannot work.
            CredentialError: who asks was refused.
        """
        spec, run = self._rendered_spec(), self.run_of(context)
        self.spec, groups = spec, self.groups
        deadline = self.deadline
        self._undoing = spec.name, run
        try:
            ensured = self.on_loop(
                groups.ensure(
                    spec,
                    run=run,
                    expires_after_seconds=self.expires_after_seconds,
                    timeout_seconds=self.timeout_seconds,
                )
            )
            self.log.info("Node group %r is %s.", spec.name, "being made" if ensured.created else "there already")
            if not (ensured.owned or self.adopt):
                raise NodeGroupMismatchError(
                    f"There is a node group {spec.name!r} that was not made for this run, and adopt is False. Let runs "
                    "follow one another (max_active_runs=1), or give each a group of its own name."
                )
            wanted = Wanted.of(spec)
            result = {"name": spec.name, "created": ensured.created, "owned": ensured.owned}
            wait = NodeGroupWait(
                spec.name,
                ensured.change.to_json(),
                deadline,
                nodes=wanted.nodes,
                gpus=wanted.gpus,
                resource=wanted.resource,
                see_nodes=self.see_nodes,
                undo_run=run,
                result=result,
            )
            self.ended(wait)
        except (TaskDeferred, NodeGroupMismatchError):
            raise
        except BaseException:
            self.undo(spec.name, run)
            raise
        finally:
            self._undoing = None
        return result

    @airflow_errors()
    def execute_complete(self, context: Context, event: Mapping[str, Any]) -> dict[str, Any]:
        """Finishes what was waited for in the triggerer.

        Raises:
            KpoMulticlusterError: what the trigger tells of.
        """
        name = self._rendered_spec().name
        try:
            self.raise_failure(event)
        except Exception:
            self.undo(name, self.run_of(context))
            raise
        return dict(event["result"])

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Goes on after a deferral, also where the triggerer failed or Airflow ended the wait, which tell nothing else.

        Raises:
            TaskDeferralError: the triggerer failed.
        """
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except (TaskDeferralError, TaskDeferralTimeout):
            self.undo(self._rendered_spec().name, self.run_of(context))
            raise

    def _rendered_spec(self) -> NodeGroupSpec:
        given = self.spec
        if isinstance(given, Mapping):
            # Templates are rendered to texts.
            texts = {name: given[name] for name in _NUMBERS if isinstance(given.get(name), str)}
            given = {**given, **{name: rendered_count(name, text) for name, text in texts.items()}}
        return NodeGroupSpec.from_json(given)


class ScaleNodeGroupOperator(NodeGroupTask):
    """Gives a node group another size, 0 included, and waits until its nodes are there.

    Args:
        name: of the group.
        desired_size: in nodes.
        **kwargs: of `NodeGroupTask` and of every operator.
    """

    template_fields: Sequence[str] = (*NodeGroupTask.template_fields, "name", "desired_size")

    def __init__(self, *, name: str, desired_size: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.name = name
        self.desired_size = desired_size

    @airflow_errors()
    def execute(self, context: Context) -> None:
        """Scales the group, and waits.

        Raises:
            NodeGroupError: it does not get that size, or not in time.
            ConfigurationError: there is no such group, or it cannot have that size.
            CredentialError: who asks was refused.
        """
        size = rendered_count("desired_size", self.desired_size)
        deadline = self.deadline
        change = self.on_loop(self.groups.scale(self.name, size, timeout_seconds=self.timeout_seconds))
        self.ended(NodeGroupWait(self.name, change.to_json(), deadline, nodes=size, see_nodes=self.see_nodes))

    @airflow_errors()
    def execute_complete(self, context: Context, event: Mapping[str, Any]) -> None:
        """Finishes what was waited for in the triggerer.

        Raises:
            KpoMulticlusterError: what the trigger tells of.
        """
        self.raise_failure(event)


class DeleteNodeGroupOperator(NodeGroupTask):
    """Removes a node group, and waits until it is gone; one that is not there is well.

    Args:
        name: of the group.
        any_run: remove it also if it was made for another run.
        force: remove it whoever made it.
        **kwargs: of `NodeGroupTask` and of every operator.

    Raises:
        ConfigurationError: an argument is of a wrong type.
    """

    template_fields: Sequence[str] = (*NodeGroupTask.template_fields, "name")

    def __init__(self, *, name: str, any_run: bool = False, force: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        # A text, such as a template that is not rendered here, would count as true.
        check_kind_of("any_run", any_run, bool, "True or False")
        check_kind_of("force", force, bool, "True or False")
        self.name = name
        self.any_run = any_run
        self.force = force

    @airflow_errors()
    def execute(self, context: Context) -> None:
        """Removes the group, and waits.

        Raises:
            NodeGroupError: it was made by someone else or for another run, or does not go in time.
            ConfigurationError: there is no such cluster.
            CredentialError: who asks was refused.
        """
        run = None if self.any_run else self.run_of(context)
        deadline = self.deadline
        change = self.on_loop(
            self.groups.delete(self.name, run=run, force=self.force, timeout_seconds=self.timeout_seconds)
        )
        if change is None:
            self.log.info("Node group %r is not there.", self.name)
            return
        self.ended(NodeGroupWait(self.name, change.to_json(), deadline, gone=True))
        self.log.info("Node group %r is gone.", self.name)

    @airflow_errors()
    def execute_complete(self, context: Context, event: Mapping[str, Any]) -> None:
        """Finishes what was waited for in the triggerer.

        Raises:
            KpoMulticlusterError: what the trigger tells of.
        """
        self.raise_failure(event)
        self.log.info("Node group %r is gone.", self.name)
