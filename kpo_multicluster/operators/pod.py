"""`KubernetesPodOperator`: runs a task in a pod of any cluster.

Parameters, defaults and template fields are those of the upstream operator of the same name, to which `cluster=` and a
few more are added. Importing this module imports no Kubernetes client and no HTTP library.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Container, Iterable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from kpo_multicluster.airflow_names import conf
from kpo_multicluster.auth.registry import check_kind
from kpo_multicluster.cluster import ClusterRef
from kpo_multicluster.errors import PodRunError
from kpo_multicluster.exceptions import FoundMoreThanOnePodFailure, PodCredentialsExpiredFailure, PodReattachFailure
from kpo_multicluster.hooks.clusters import DEFAULT_CONN_ID
from kpo_multicluster.operators import deprecated
from kpo_multicluster.operators.checks import (
    check_choice,
    check_deadline,
    check_deferral,
    check_kind_of,
    check_relaunch,
    exit_codes,
    names_of_containers,
)
from kpo_multicluster.operators.enums import OnKillAction, PodEventType, XComTransport
from kpo_multicluster.operators.links import PodConsoleLink, has_console
from kpo_multicluster.operators.objects import PodObject
from kpo_multicluster.operators.parsing import check_operator
from kpo_multicluster.operators.pod_memory import POD_IDENTIFIER_STATE_KEY
from kpo_multicluster.operators.rendering import PodTemplates
from kpo_multicluster.operators.uncalled import KUBE_CONFIG_ENV_VAR, UncalledMethods

if TYPE_CHECKING:
    from kubernetes import client as k8s

    from kpo_multicluster.operators.session import PodSession

__all__ = [
    "KUBE_CONFIG_ENV_VAR",
    "POD_IDENTIFIER_STATE_KEY",
    "FoundMoreThanOnePodFailure",
    "KubernetesPodOperator",
    "PodCredentialsExpiredFailure",
    "PodEventType",
    "PodReattachFailure",
]


class KubernetesPodOperator(PodTemplates, UncalledMethods):
    """Runs a task in a Kubernetes pod.

    The parameters of the upstream operator have the meaning they have there. Those that differ or are new:

    Args:
        cluster: where to run, made by `kpo_multicluster.cluster.kubeconfig()` and its siblings; wins over `in_cluster`,
            `config_file`, `cluster_context` and the connection.
        kubernetes_conn_id: a connection of type `kubernetes`; None looks none up.
        startup_check_interval_seconds: a pod is watched, so nothing is checked at intervals; when a start takes longer
            than this, its events are told as they happen, and now and then what it waits for and since when
            (`log_events_on_startup`).
        base_container_status_polling_interval: accepted, for the same reason.
        deferrable: waits for the pod in the triggerer rather than in a worker. What such a run does is the same.
        poll_interval: accepted; a deferred pod is watched, too.
        logging_interval: of a deferred run: if set, the triggerer writes the lines of the logs as they come; without it
            they are read when the pod has ended. With `log_formatter` or a `progress_callback` they always are.
        trigger_kwargs: added to the event that a deferred task resumes with.
        xcom_transport: how the result is read: `exec` (a command in upstream's sidecar) or `termination-message`
            (no sidecar and no exec right; the same file, up to 4 KiB).
        sidecar_drain_seconds: how long other containers of this task's own request may go on after the base container
            has ended, counted from the last line of those in `container_logs`; None waits for them.
        relaunch_on: causes (`evicted`, `preempted`, `node_lost`, `deleted`) for which a pod that is lost before its
            base container has started is created anew, up to three times; needs `random_name_suffix`.
        server_side_deadline: sets the pod's activeDeadlineSeconds from `execution_timeout`, so that the cluster ends a
            pod that no one is left to end: tries times the timeout, plus the start timeouts, plus 300 s; never above
            `active_deadline_seconds`.
        workerless: the task runs in the triggerer from its start to its end, and no worker is needed for it (Airflow
            3.3 and newer). Implies what `deferrable` means. What cannot be had without a worker is refused.
        start_from_trigger: the same, by the name that operators of other providers use.
        resources: deprecated, the older name of `container_resources`. Airflow's own keys (`cpus`, `ram`, `disk`,
            `gpus`) are handed to Airflow.
        is_delete_operator_pod: deprecated; False means `on_finish_action="keep_pod"`.
        progress_callback: deprecated; called with each line of the logs. Use `callbacks`.
        log_pod_spec_on_failure: writes the manifest of a pod that failed to the log, without its environment's values.
        reattach_on_restart: whether another try goes on with a pod that an earlier one left; default True.
        durable: the same under its newer name; wins over `reattach_on_restart`.

    Raises:
        ConfigurationError: an argument is of a wrong type or out of range, when the DAG is parsed.
    """

    BASE_CONTAINER_NAME: ClassVar[str] = "base"
    POD_CHECKED_KEY: ClassVar[str] = "already_checked"

    template_fields: Sequence[str] = (
        "image",
        "name",
        "hostname",
        "cmds",
        "annotations",
        "arguments",
        "env_vars",
        "labels",
        "config_file",
        "pod_template_file",
        "pod_template_dict",
        "namespace",
        "container_resources",
        "volumes",
        "volume_mounts",
        "cluster_context",
        "env_from",
        "configmaps",
        "node_selector",
        "kubernetes_conn_id",
        "base_container_name",
        "trigger_kwargs",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"env_vars": "py"}

    def __init__(  # noqa: PLR0913 - the upstream operator's signature
        self,
        *,
        kubernetes_conn_id: str | None = DEFAULT_CONN_ID,
        namespace: str | None = None,
        image: str | None = None,
        name: str | None = None,
        random_name_suffix: bool = True,
        cmds: list[str] | None = None,
        arguments: list[str] | None = None,
        ports: list[k8s.V1ContainerPort] | None = None,
        volume_mounts: list[k8s.V1VolumeMount] | None = None,
        volumes: list[k8s.V1Volume] | None = None,
        env_vars: list[k8s.V1EnvVar] | dict[str, str] | None = None,
        env_from: list[k8s.V1EnvFromSource] | None = None,
        secrets: list[Any] | None = None,
        in_cluster: bool | None = None,
        cluster_context: str | None = None,
        labels: dict[str, Any] | None = None,
        reattach_on_restart: bool | None = None,
        durable: bool | None = None,
        startup_timeout_seconds: int = 120,
        startup_check_interval_seconds: int = 5,
        schedule_timeout_seconds: int | None = None,
        get_logs: bool = True,
        base_container_name: str | None = None,
        base_container_status_polling_interval: float = 1,
        init_container_logs: Iterable[str] | str | Literal[True] | None = None,
        container_logs: Iterable[str] | str | Literal[True] | None = None,
        image_pull_policy: str | None = None,
        annotations: dict[str, Any] | None = None,
        container_resources: k8s.V1ResourceRequirements | dict[str, Any] | None = None,
        resources: dict[str, Any] | None = None,
        affinity: k8s.V1Affinity | None = None,
        config_file: str | None = None,
        runtime_class_name: str | None = None,
        node_selector: dict[str, str] | None = None,
        image_pull_secrets: list[k8s.V1LocalObjectReference] | None = None,
        service_account_name: str | None = None,
        automount_service_account_token: bool | None = None,
        hostnetwork: bool = False,
        host_aliases: list[k8s.V1HostAlias] | None = None,
        tolerations: list[k8s.V1Toleration] | None = None,
        security_context: k8s.V1PodSecurityContext | dict[str, Any] | None = None,
        container_security_context: k8s.V1SecurityContext | dict[str, Any] | None = None,
        xcom_sidecar_container_security_context: k8s.V1SecurityContext | dict[str, Any] | None = None,
        dnspolicy: str | None = None,
        dns_config: k8s.V1PodDNSConfig | None = None,
        hostname: str | None = None,
        subdomain: str | None = None,
        schedulername: str | None = None,
        full_pod_spec: k8s.V1Pod | None = None,
        init_containers: list[k8s.V1Container] | None = None,
        log_events_on_failure: bool = False,
        log_events_on_startup: bool = True,
        do_xcom_push: bool = False,
        pod_template_file: str | None = None,
        pod_template_dict: dict[str, Any] | None = None,
        priority_class_name: str | None = None,
        pod_runtime_info_envs: list[k8s.V1EnvVar] | None = None,
        termination_grace_period: int | None = None,
        configmaps: list[str] | None = None,
        skip_on_exit_code: int | Container[int] | None = None,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        poll_interval: float = 2,
        log_pod_spec_on_failure: bool = True,
        on_finish_action: str = "delete_pod",
        on_kill_action: str = "delete_pod",
        is_delete_operator_pod: bool | None = None,
        termination_message_policy: str = "File",
        active_deadline_seconds: int | None = None,
        callbacks: list[type[Any]] | type[Any] | None = None,
        progress_callback: Callable[[str], None] | None = None,
        logging_interval: int | None = None,
        trigger_kwargs: dict[str, Any] | None = None,
        container_name_log_prefix_enabled: bool = True,
        log_formatter: Callable[[str, str], str] | None = None,
        cluster: ClusterRef | None = None,
        xcom_transport: str = "exec",
        sidecar_drain_seconds: float | None = 30.0,
        relaunch_on: Iterable[str] | None = None,
        server_side_deadline: bool = False,
        workerless: bool = False,
        start_from_trigger: bool = False,
        **kwargs: Any,
    ) -> None:
        resources, container_resources = deprecated.of_container(resources, container_resources)
        super().__init__(resources=resources, **kwargs)
        check_deferral(deferrable, cluster, trigger_kwargs)
        if cluster is not None:
            check_kind_of("cluster", cluster, ClusterRef, "made by a function of kpo_multicluster.cluster")
            check_kind(cluster)
        if has_console(cluster):
            self.operator_extra_links = (PodConsoleLink(),)
        self.cluster = cluster
        self.kubernetes_conn_id = kubernetes_conn_id
        self.in_cluster = in_cluster
        self.config_file = _path(config_file)
        self.cluster_context = cluster_context

        # An empty list is not the same as none: it clears what a template says.
        self.namespace = namespace
        self.image = image
        self.name = name
        self.random_name_suffix = random_name_suffix
        self.cmds = [] if cmds is None else cmds
        self.arguments = [] if arguments is None else arguments
        self.ports = [] if ports is None else ports
        self.volume_mounts = [] if volume_mounts is None else volume_mounts
        self.volumes = [] if volumes is None else volumes
        self.env_vars = [] if env_vars is None else env_vars
        self.env_from = [] if env_from is None else env_from
        self.secrets = [] if secrets is None else secrets
        self.labels = {} if labels is None else labels
        self.image_pull_policy = image_pull_policy
        self.annotations = {} if annotations is None else annotations
        self.container_resources = container_resources
        self.affinity: Any = {} if affinity is None else affinity
        self.runtime_class_name = runtime_class_name
        self.node_selector = {} if node_selector is None else node_selector
        self.image_pull_secrets = [] if image_pull_secrets is None else image_pull_secrets
        self.service_account_name = service_account_name
        self.automount_service_account_token = automount_service_account_token
        self.hostnetwork = hostnetwork
        self.host_aliases = host_aliases
        self.tolerations = [] if tolerations is None else tolerations
        self.security_context = {} if security_context is None else security_context
        self.container_security_context = container_security_context
        self.xcom_sidecar_container_security_context = xcom_sidecar_container_security_context
        self.dnspolicy = dnspolicy
        self.dns_config = dns_config
        self.hostname = hostname
        self.subdomain = subdomain
        self.schedulername = schedulername
        self.full_pod_spec = full_pod_spec
        self.init_containers = [] if init_containers is None else init_containers
        self.pod_template_file = _path(pod_template_file)
        self.pod_template_dict = pod_template_dict
        self.priority_class_name = priority_class_name
        self.pod_runtime_info_envs = [] if pod_runtime_info_envs is None else pod_runtime_info_envs
        self.termination_grace_period = termination_grace_period
        self.configmaps = [] if configmaps is None else configmaps
        self.termination_message_policy = termination_message_policy
        self.active_deadline_seconds = active_deadline_seconds
        # A subclass may set the class attribute instead.
        self.base_container_name = base_container_name or self.BASE_CONTAINER_NAME
        self.do_xcom_push = do_xcom_push
        self.xcom_transport = check_choice("xcom_transport", xcom_transport, XComTransport)

        self.durable = deprecated.reattaches(durable, reattach_on_restart)
        self.reattach_on_restart = self.durable
        self.startup_timeout_seconds = startup_timeout_seconds
        self.schedule_timeout_seconds = schedule_timeout_seconds or startup_timeout_seconds
        self.startup_check_interval_seconds = startup_check_interval_seconds
        self.log_events_on_startup = log_events_on_startup
        self.base_container_status_polling_interval = base_container_status_polling_interval
        self.sidecar_drain_seconds = sidecar_drain_seconds
        self.get_logs = get_logs
        self.init_container_logs = names_of_containers("init_container_logs", init_container_logs)
        self._container_logs = names_of_containers("container_logs", container_logs)
        self.container_name_log_prefix_enabled = container_name_log_prefix_enabled
        self.log_formatter = log_formatter
        self.log_events_on_failure = log_events_on_failure
        self.log_pod_spec_on_failure = log_pod_spec_on_failure
        self.callbacks = _list(callbacks)
        self.progress_callback = deprecated.line_callback(progress_callback)
        self.skip_on_exit_code = exit_codes(skip_on_exit_code)
        self.on_finish_action = deprecated.finish_action(on_finish_action, is_delete_operator_pod)
        self.on_kill_action = check_choice("on_kill_action", on_kill_action, OnKillAction)
        self.relaunch_on = check_relaunch(relaunch_on, random_name_suffix)
        self.server_side_deadline = server_side_deadline
        check_deadline(server_side_deadline, self.execution_timeout)
        self.deferrable = deferrable
        self.trigger_kwargs = trigger_kwargs
        self.poll_interval = poll_interval
        self.logging_interval = logging_interval
        self.workerless = workerless or start_from_trigger
        check_operator(self)
        self._check_start()

        self.pod_request_obj: Any = None
        self.pod: PodObject | None = None
        self.remote_pod: PodObject | None = None
        self._built_request: PodObject | None = None
        self._session: PodSession | None = None
        self._failure: PodRunError | None = None
        self._killed = False

    @property
    def container_logs(self) -> Sequence[str] | Literal[True]:
        """Containers whose logs are followed; the base container unless told otherwise."""
        # Read late: base_container_name is a template field.
        return self._container_logs or (self.base_container_name,)

    @container_logs.setter
    def container_logs(self, value: Iterable[str] | str | Literal[True] | None) -> None:
        self._container_logs = names_of_containers("container_logs", value)


def _path(value: Any) -> Any:
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _list(callbacks: Any) -> list[Any]:
    if callbacks is None:
        return []
    return list(callbacks) if isinstance(callbacks, (list, tuple)) else [callbacks]
