"""`KubernetesHook`: clients of the official library for a cluster that arguments or a connection name.

Parameters and attributes are those of the upstream hook; `cluster` and a few properties are added. No client uses or
changes the process's default configuration, so hooks for different clusters can be used side by side.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from kpo_multicluster.airflow_names import AirflowNotFoundException, BaseHook, airflow_connection
from kpo_multicluster.auth.access import ClusterAccess
from kpo_multicluster.auth.registry import resolve
from kpo_multicluster.cluster import ClusterRef
from kpo_multicluster.errors import ConfigurationError
from kpo_multicluster.hooks.clusters import (
    DEFAULT_CONN_ID,
    ChosenCluster,
    ClusterArguments,
    choose_cluster,
    sidecar_fields,
)
from kpo_multicluster.hooks.connections import AirflowConnections
from kpo_multicluster.hooks.fields import ConnectionFields, connection_fields
from kpo_multicluster.hooks.masking import CredentialMask
from kpo_multicluster.hooks.origins import fields_named, naming_fields
from kpo_multicluster.raised import airflow_errors

if TYPE_CHECKING:
    from kubernetes import client

    from kpo_multicluster.doctor.report import Examination

# Methods of the upstream hook that the official client has itself.
_ELSEWHERE = {
    "apply_from_yaml_file": "kubernetes.utils.create_from_yaml(hook.api_client, ...)",
    "create_custom_object": "hook.custom_object_client.create_namespaced_custom_object(...)",
    "create_job": "hook.batch_v1_client.create_namespaced_job(...)",
    "delete_custom_object": "hook.custom_object_client.delete_namespaced_custom_object(...)",
    "get_custom_object": "hook.custom_object_client.get_namespaced_custom_object(...)",
    "get_deployment_status": "hook.apps_v1_client.read_namespaced_deployment_status(...)",
    "get_job": "hook.batch_v1_client.read_namespaced_job(...)",
    "get_job_status": "hook.batch_v1_client.read_namespaced_job_status(...)",
    "get_namespaced_pod_list": "hook.core_v1_client.list_namespaced_pod(...)",
    "get_pod_log_stream": "kubernetes.watch.Watch().stream(hook.core_v1_client.read_namespaced_pod_log, ...)",
    "get_pod_logs": "hook.core_v1_client.read_namespaced_pod_log(...)",
    "list_jobs_all_namespaces": "hook.batch_v1_client.list_job_for_all_namespaces()",
    "list_jobs_from_namespace": "hook.batch_v1_client.list_namespaced_job(...)",
    "patch_namespaced_job": "hook.batch_v1_client.patch_namespaced_job(...)",
}


class KubernetesHook(BaseHook):
    """Clients for one cluster.

    The cluster is, in this order: that of `cluster`; of `in_cluster`, `config_file` or `config_dict`; of the
    connection; the one this process runs in; `$KUBECONFIG`'s. An argument overrides what comes after it.

    Args:
        conn_id: the same as `kubernetes_conn_id`; wins over it.
        kubernetes_conn_id: a connection of type `kubernetes`; None looks none up.
        client_configuration: refused, see below.
        cluster_context: of the kubeconfig; default its current context.
        config_file: path of a kubeconfig.
        config_dict: a kubeconfig itself.
        in_cluster: True for the cluster this process runs in; False for another, whatever the connection says.
        disable_verify_ssl: True accepts any certificate of the server. Default: as the connection says.
        disable_tcp_keepalive: accepted. Connections are kept alive by TCP; nothing is known that this disturbs.
        cluster: made by `kpo_multicluster.cluster.kubeconfig()` and its siblings.

    Attributes:
        credential_mask: what keeps the cluster's credentials out of Airflow's logs.

    Raises:
        ConfigurationError: arguments exclude each other, or `client_configuration` is given: the cluster's settings
            come from where its credentials come from. What else a client can be told is set on
            `hook.api_client.configuration`.
    """

    conn_name_attr = "kubernetes_conn_id"
    default_conn_name = DEFAULT_CONN_ID
    conn_type = "kubernetes"
    hook_name = "Kubernetes Cluster Connection"

    DEFAULT_NAMESPACE = "default"

    def __init__(  # noqa: PLR0913 - the upstream hook's signature
        self,
        conn_id: str | None = None,
        kubernetes_conn_id: str | None = default_conn_name,
        client_configuration: client.Configuration | None = None,
        cluster_context: str | None = None,
        config_file: str | None = None,
        config_dict: Mapping[str, Any] | None = None,
        in_cluster: bool | None = None,
        disable_verify_ssl: bool | None = None,
        disable_tcp_keepalive: bool | None = None,
        *,
        cluster: ClusterRef | None = None,
    ) -> None:
        super().__init__()
        if client_configuration is not None:
            raise ConfigurationError(
                "client_configuration is not taken: server, certificates and credentials come from the connection or "
                "the kubeconfig. Change other settings on hook.api_client.configuration."
            )
        if config_dict and (config_file or in_cluster):
            raise ConfigurationError("config_dict excludes config_file and in_cluster=True: each names a cluster.")
        self.conn_id = conn_id or kubernetes_conn_id
        self.cluster_context = cluster_context
        self.config_file = config_file
        self.config_dict = config_dict
        self.in_cluster = in_cluster
        self.disable_verify_ssl = disable_verify_ssl
        self.disable_tcp_keepalive = disable_tcp_keepalive
        self.cluster = cluster
        self.credential_mask = CredentialMask()

    def __getattr__(self, name: str) -> Any:
        if name in _ELSEWHERE:
            raise AttributeError(f"KubernetesHook of kpo_multicluster has no {name}: use {_ELSEWHERE[name]}.")
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    # -- which cluster -------------------------------------------------------------------------------------------

    @cached_property
    def connection(self) -> ConnectionFields | None:
        """The Airflow connection; None if none is named, or if only the default one is and it does not exist.

        Raises:
            ConfigurationError: there is no connection of that id, or its extra is no JSON object.
        """
        if not self.conn_id:
            return None
        with airflow_errors():
            try:
                return connection_fields(airflow_connection(self.conn_id, type(self)))
            except AirflowNotFoundException:
                if self.conn_id == DEFAULT_CONN_ID:
                    return None
                raise ConfigurationError(
                    f"There is no connection {self.conn_id!r}, which is named as kubernetes_conn_id. Make it under "
                    f"Admin > Connections, or set the environment variable AIRFLOW_CONN_{self.conn_id.upper()} where "
                    "workers run."
                ) from None

    @cached_property
    def chosen_cluster(self) -> ChosenCluster:
        """The cluster with where each of its values comes from.

        Raises:
            ConfigurationError: the arguments or the connection cannot be made a cluster of.
        """
        # Where a cluster is given, it says everything: the connection may not even exist.
        connection = None if self.cluster is not None else self.connection
        arguments = ClusterArguments(
            self.cluster,
            self.in_cluster,
            self.config_file,
            self.cluster_context,
            self.config_dict,
            self.disable_verify_ssl,
        )
        with airflow_errors():
            return choose_cluster(arguments, connection, os.environ)

    @property
    def cluster_ref(self) -> ClusterRef:
        """The cluster, by reference.

        Raises:
            ConfigurationError: the arguments or the connection cannot be made a cluster of.
        """
        return self.chosen_cluster.ref

    def explain_cluster(self) -> str:
        """Which cluster is meant, each value with where it comes from, one a line; nothing secret.

        Raises:
            ConfigurationError: the arguments or the connection cannot be made a cluster of.
        """
        return self.chosen_cluster.explain()

    @cached_property
    def access(self) -> ClusterAccess:
        """All that is needed to talk to the cluster; its credentials renew themselves. May block when first read.

        Raises:
            ConfigurationError: the cluster's reference cannot work.
            CredentialError: the credential could not be made.
            ConnectError: the cluster is not up, or its cloud cannot be reached.
        """
        chosen = self.chosen_cluster
        ref = chosen.ref
        self.credential_mask.cover_ref(ref.secrets)
        with airflow_errors(), naming_fields(chosen.origins):
            return self.credential_mask.cover(resolve(ref, connections=AirflowConnections()))

    @property
    def is_in_cluster(self) -> bool:
        """Whether the cluster is the one this process runs in, through its service account."""
        return self.cluster_ref.kind == "in_cluster"

    # -- clients -------------------------------------------------------------------------------------------------

    def get_conn(self) -> client.ApiClient:
        """A new client with connections of its own; close it, or use it in a `with` statement.

        Raises:
            ConfigurationError: the cluster's reference cannot work.
            CredentialError: the credential could not be made.
        """
        from kpo_multicluster.auth.clients import api_client

        access = self.access
        with airflow_errors():
            return api_client(access)

    @cached_property
    def api_client(self) -> client.ApiClient:
        """The hook's own client."""
        return self.get_conn()

    @cached_property
    def core_v1_client(self) -> client.CoreV1Api:
        """For pods, secrets, config maps, services, volumes."""
        from kubernetes import client

        return client.CoreV1Api(self.api_client)

    @cached_property
    def apps_v1_client(self) -> client.AppsV1Api:
        """For deployments and stateful sets."""
        from kubernetes import client

        return client.AppsV1Api(self.api_client)

    @cached_property
    def batch_v1_client(self) -> client.BatchV1Api:
        """For jobs."""
        from kubernetes import client

        return client.BatchV1Api(self.api_client)

    @cached_property
    def custom_object_client(self) -> client.CustomObjectsApi:
        """For objects of custom resources."""
        from kubernetes import client

        return client.CustomObjectsApi(self.api_client)

    # -- what the connection says --------------------------------------------------------------------------------

    def get_namespace(self) -> str | None:
        """The namespace of the connection or of `cluster`; None if neither names one."""
        return self.cluster_ref.namespace

    def get_xcom_sidecar_container_image(self) -> str | None:
        """The connection's image for the XCom sidecar."""
        image: str | None = self._sidecar_fields.get("xcom_sidecar_container_image")
        return image

    def get_xcom_sidecar_container_resources(self) -> dict[str, Any] | None:
        """The connection's resources for the XCom sidecar."""
        resources: dict[str, Any] | None = self._sidecar_fields.get("xcom_sidecar_container_resources")
        return resources

    def get_xcom_sidecar_container_security_context(self) -> dict[str, Any] | None:
        """The connection's security context for the XCom sidecar."""
        context: dict[str, Any] | None = self._sidecar_fields.get("xcom_sidecar_container_security_context")
        return context

    @cached_property
    def _sidecar_fields(self) -> dict[str, Any]:
        connection = None if self.cluster is not None else self.connection
        with airflow_errors():
            return {} if connection is None else sidecar_fields(connection)

    # -- requests ------------------------------------------------------------------------------------------------

    def get_pod(self, name: str, namespace: str) -> client.V1Pod:
        """One pod, as it is now.

        Raises:
            ApiException: of the client, such as 404.
        """
        return self.core_v1_client.read_namespaced_pod(name=name, namespace=namespace)

    def examine(self, *, namespace: str | None = None, within_seconds: float = 10.0) -> Examination:
        """Walks the way to the cluster step by step, up to what pods may be run by whom the server takes us for.

        Args:
            namespace: where pods are to run; default that of the connection or of `cluster`, else `default`.
            within_seconds: for all of it.
        """
        from kpo_multicluster.doctor.examination import Subject, examine

        def find() -> Subject:
            chosen = self.chosen_cluster
            self.credential_mask.cover_ref(chosen.ref.secrets)
            return Subject(chosen.ref, chosen.explain(), AirflowConnections(), self.credential_mask.cover)

        try:
            return examine(find, namespace=namespace, within_seconds=within_seconds)
        finally:
            self.credential_mask.tell_airflow()

    def test_connection(self) -> tuple[bool, str]:
        """Whether pods can be run on the cluster, and as whom; else the first thing that is in the way. Within 10 s."""
        examination = self.examine()
        failure = examination.first_failure
        if failure is not None:
            origins = {} if failure is examination.steps[0] else self.chosen_cluster.origins
            found = failure.found + fields_named(failure.found, origins)
            return False, self._without_id(f"{failure.name}: {found} {failure.next_step}".strip())
        found = examination.step("authentication").found
        lacking = examination.step("permissions")
        granted = "" if lacking.outcome == "ok" else f" {lacking.found}"
        return True, self._without_id(f"{found}{granted} It was named by {self.cluster_ref.source}.")

    def _without_id(self, text: str) -> str:
        """Airflow tests a connection under an id that it makes up."""
        named = f"connection {self.conn_id!r}"
        return text.replace(f"The {named}", "This connection").replace(named, "this connection")
