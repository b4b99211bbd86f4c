"""What a pod task asks for: which cluster, which pod, which run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields, replace
from typing import Any

from kpo_multicluster.airflow_names import Context, airflow_version, given_arguments
from kpo_multicluster.operators.clients import PodClients
from kpo_multicluster.operators.enums import XComTransport
from kpo_multicluster.operators.mutation import mutated
from kpo_multicluster.operators.objects import PodObject, v1_pod
from kpo_multicluster.operators.xcom import with_message_transport
from kpo_multicluster.pods.labels import RunIdentity, pod_selector
from kpo_multicluster.pods.manifest import PodArguments, build_manifest
from kpo_multicluster.pods.settings import RunSettings
from kpo_multicluster.pods.xcom import SIDECAR_NAME
from kpo_multicluster.raised import airflow_errors

# For what the task does before and after its own time limit holds.
_DEADLINE_SLACK_SECONDS = 300


class PodRequest(PodClients):
    """The arguments of a pod task, turned into what the layers below take."""

    base_container_name: str
    labels: dict[str, Any]
    get_logs: bool
    startup_timeout_seconds: float
    schedule_timeout_seconds: float
    startup_check_interval_seconds: float
    log_events_on_startup: bool
    sidecar_drain_seconds: float | None
    container_logs: Any
    init_container_logs: Any
    xcom_transport: XComTransport
    server_side_deadline: bool
    reattach_on_restart: bool

    def _run_identity(self, context: Context | None) -> RunIdentity:
        """Who the pod is made for; without a context (a dry run) no more than the task."""
        if context is None:
            return RunIdentity(self.task_id, airflow_version)
        ti, hook = context["ti"], self._cluster_hook
        return RunIdentity(
            task_id=ti.task_id,
            airflow_version=airflow_version,
            dag_id=ti.dag_id,
            run_id=ti.run_id,
            map_index=-1 if ti.map_index is None else ti.map_index,
            try_number=ti.try_number,
            attempt=str(getattr(ti, "id", "") or ""),
            in_cluster=hook.is_in_cluster,
            cluster_namespace=hook.get_namespace() or hook.access.namespace,
        )

    def _pod_arguments(self) -> PodArguments:
        names = {field.name for field in fields(PodArguments)} - {"given"}
        values = {name: getattr(self, name) for name in names if hasattr(self, name)}
        values["do_xcom_push"] = self.do_xcom_push and self.xcom_transport is XComTransport.EXEC
        return PodArguments(**values, given=given_arguments(self))

    def _with_sidecar(self, arguments: PodArguments) -> PodArguments:
        """The arguments, and what the connection says of the XCom sidecar."""
        hook = self._cluster_hook
        said: dict[str, Any] = {
            "xcom_sidecar_container_image": hook.get_xcom_sidecar_container_image(),
            "xcom_sidecar_container_resources": hook.get_xcom_sidecar_container_resources(),
            "xcom_sidecar_container_security_context": hook.get_xcom_sidecar_container_security_context(),
        }
        return replace(arguments, **{name: said[name] for name in said if getattr(arguments, name) is None})

    @airflow_errors()
    def build_pod_request_obj(self, context: Context | None = None, *, dry_run: bool = False) -> Any:
        """The pod this task asks for, as a `V1Pod`; `pod_mutation_hook` has been applied.

        Args:
            context: of the task; None for a dry run.
            dry_run: leaves out what identifies a run.

        Raises:
            ConfigurationError: an argument is of a wrong type, or a template cannot be read.
        """
        return v1_pod(self._build(None if dry_run else context))

    def _build(self, context: Context | None) -> PodObject:
        arguments = self._pod_arguments()
        if arguments.do_xcom_push and context is not None:
            arguments = self._with_sidecar(arguments)
        pod = build_manifest(arguments, self._run_identity(context))
        if self.do_xcom_push and self.xcom_transport is XComTransport.TERMINATION_MESSAGE:
            with_message_transport(pod, self.base_container_name)
        if self.server_side_deadline:
            self._set_deadline(pod["spec"])
        return mutated(PodObject(pod))

    def _set_deadline(self, spec: dict[str, Any]) -> None:
        assert self.execution_timeout is not None  # checked when the DAG was parsed
        tries = (self.retries or 0) + 1 if self.reattach_on_restart else 1
        start = self.schedule_timeout_seconds + self.startup_timeout_seconds
        deadline = int(tries * self.execution_timeout.total_seconds() + start + _DEADLINE_SLACK_SECONDS)
        spec["activeDeadlineSeconds"] = min(deadline, spec.get("activeDeadlineSeconds") or deadline)

    def dry_run(self) -> None:
        """Prints the pod's manifest as YAML; needs no cluster."""
        import yaml

        print(yaml.safe_dump(dict(self._build(None)), sort_keys=False))  # noqa: T201 - what it is for

    def _build_find_pod_label_selector(self, context: Context, *, exclude_checked: bool = True) -> str:
        return pod_selector(self.labels, self._run_identity(context), exclude_checked=exclude_checked)

    def _run_settings(self, request: PodObject) -> RunSettings:
        base, spec = self.base_container_name, request["spec"]
        # One without a name is the server's to refuse.
        containers = [name for name in _names(spec["containers"]) if name != SIDECAR_NAME]
        init_containers = _names(spec.get("initContainers") or ())
        logs, init_logs = self.container_logs, self.init_container_logs
        followed = containers if logs is True else list(logs)
        followed_init = init_containers if init_logs is True else list(init_logs)
        return RunSettings(
            base=base,
            follow=tuple(dict.fromkeys([*followed_init, *(followed if self.get_logs else ())])),
            companions=tuple(name for name in containers if name != base),
            schedule_timeout_seconds=self.schedule_timeout_seconds,
            startup_timeout_seconds=self.startup_timeout_seconds,
            tell_events_after_seconds=self.startup_check_interval_seconds if self.log_events_on_startup else None,
            sidecar_drain_seconds=self.sidecar_drain_seconds,
        )


def _names(containers: Iterable[dict[str, Any]]) -> list[str]:
    return [entry["name"] for entry in containers if entry.get("name")]
