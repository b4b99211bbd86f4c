"""The operator's arguments that shape a pod."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True)
class PodArguments:
    """What the user gave, as it was given; names and defaults are those of `KubernetesPodOperator`.

    None stands for an argument that was not given. Where a default is not None, and where an operator turns None into
    an empty list before it comes here, `given` tells what the user really wrote.

    Attributes:
        given: names of the arguments that the user wrote. One that is empty, `False` or 0 replaces what a template says
            only when it is among them. None: those that differ from their default.
        image: of the base container.
        name: of the pod, before a suffix.
        random_name_suffix: whether eight random characters are added to the name.
        namespace: where the pod goes.
        labels: of the pod; values may be any scalar.
        annotations: of the pod.
        cmds: the base container's command.
        arguments: the base container's args.
        ports: of the base container.
        env_vars: of the base container; names and values, or `V1EnvVar`.
        env_from: of the base container.
        pod_runtime_info_envs: further `env_vars`, from fields of the pod.
        configmaps: names of config maps whose keys become environment variables.
        secrets: secrets as environment variables or as volumes; objects with `deploy_type`, `deploy_target`, `secret`,
            `key`, `items`.
        volumes: of the pod.
        volume_mounts: of the base container.
        image_pull_policy: of the base container.
        image_pull_secrets: references, or their names separated by commas.
        container_resources: of the base container; also in the old flat form (`request_cpu`, `limit_gpu`, ...).
        container_security_context: of the base container.
        termination_message_policy: of the base container.
        security_context: of the pod.
        node_selector: labels of a node.
        affinity: of the pod.
        tolerations: of the pod.
        service_account_name: the identity of the pod.
        automount_service_account_token: whether that identity's token is mounted.
        hostnetwork: whether the pod uses the node's network.
        host_aliases: lines of the pod's /etc/hosts.
        hostname: of the pod.
        subdomain: of the pod.
        dnspolicy: of the pod.
        dns_config: of the pod.
        schedulername: who schedules the pod.
        priority_class_name: of the pod.
        runtime_class_name: of the pod.
        termination_grace_period: seconds.
        active_deadline_seconds: how long the pod may run.
        init_containers: of the pod.
        full_pod_spec: a whole pod; wins over a template.
        pod_template_file: path of a YAML file with a pod.
        pod_template_dict: a pod as a dictionary; ignored where there is a file.
        base_container_name: the container that these arguments describe.
        do_xcom_push: whether the sidecar that keeps the result readable is added.
        xcom_sidecar_container_image: of that sidecar.
        xcom_sidecar_container_resources: of that sidecar.
        xcom_sidecar_container_security_context: of that sidecar; an empty one counts.
    """

    image: str | None = None
    name: str | None = None
    random_name_suffix: bool = True
    namespace: str | None = None
    labels: Mapping[str, Any] | None = None
    annotations: Mapping[str, Any] | None = None
    cmds: Sequence[str] | None = None
    arguments: Sequence[str] | None = None
    ports: Sequence[Any] | None = None
    env_vars: Sequence[Any] | Mapping[str, Any] | None = None
    env_from: Sequence[Any] | None = None
    pod_runtime_info_envs: Sequence[Any] | None = None
    configmaps: Sequence[str] | None = None
    secrets: Sequence[Any] | None = None
    volumes: Sequence[Any] | None = None
    volume_mounts: Sequence[Any] | None = None
    image_pull_policy: str | None = None
    image_pull_secrets: Sequence[Any] | str | None = None
    container_resources: Any = None
    container_security_context: Any = None
    termination_message_policy: str = "File"
    security_context: Any = None
    node_selector: Mapping[str, str] | None = None
    affinity: Any = None
    tolerations: Sequence[Any] | None = None
    service_account_name: str | None = None
    automount_service_account_token: bool | None = None
    hostnetwork: bool = False
    host_aliases: Sequence[Any] | None = None
    hostname: str | None = None
    subdomain: str | None = None
    dnspolicy: str | None = None
    dns_config: Any = None
    schedulername: str | None = None
    priority_class_name: str | None = None
    runtime_class_name: str | None = None
    termination_grace_period: int | None = None
    active_deadline_seconds: int | None = None
    init_containers: Sequence[Any] | None = None
    full_pod_spec: Any = None
    pod_template_file: str | None = None
    pod_template_dict: Mapping[str, Any] | None = None
    base_container_name: str = "base"
    do_xcom_push: bool = False
    xcom_sidecar_container_image: str | None = None
    xcom_sidecar_container_resources: Any = None
    xcom_sidecar_container_security_context: Any = None
    given: frozenset[str] | None = None

    def holds(self, name: str) -> bool:
        """Whether an argument says anything: it is neither None nor an empty text, nor an empty default."""
        value = getattr(self, name)
        if value is None or (isinstance(value, str) and not value):
            return False
        return bool(value) or self.wrote(name)

    def wrote(self, name: str) -> bool:
        """Whether the user wrote an argument, as far as is known."""
        return self.replaces_default(name) if self.given is None else name in self.given

    def replaces_default(self, name: str) -> bool:
        """Whether an argument is another than its default, or was written all the same."""
        return bool(getattr(self, name) != _DEFAULTS[name]) or name in (self.given or ())


_DEFAULTS: dict[str, Any] = {field.name: field.default for field in fields(PodArguments)}
