"""Which cluster a task means: operator arguments, a `kubernetes` connection and the environment become a `ClusterRef`.

The decision is a pure function, the same wherever it is made. In this order: `cluster=`; the classic arguments
(`in_cluster`, `config_file`, `cluster_context`); the connection; the cluster this process runs in; `$KUBECONFIG`.
An argument overrides what comes after it, it never conflicts with it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from kpo_multicluster import cluster as refs
from kpo_multicluster.cluster import ClusterRef
from kpo_multicluster.errors import ConfigurationError

DEFAULT_CONN_ID = "kubernetes_default"
_PREFIX = "extra__kubernetes__"
_CONN_TYPES = ("kubernetes", "", None)
SERVICE_ACCOUNT_TOKEN = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")


@dataclass(frozen=True)
class ConnectionFields:
    """What is used of an Airflow connection.

    Attributes:
        conn_id: its id.
        conn_type: its type.
        extra: its extra fields.
    """

    conn_id: str
    conn_type: str | None = "kubernetes"
    extra: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def source(self) -> str:
        """For messages."""
        return f"connection {self.conn_id!r}"

    def get(self, name: str) -> Any:
        """A field, with or without its old prefix; None and the empty string are unset."""
        for key in (name, _PREFIX + name):
            value = self.extra.get(key)
            if value not in (None, ""):
                return value
        return None

    def text(self, name: str) -> str | None:
        """A field that holds text.

        Raises:
            ConfigurationError: it holds something else.
        """
        value = self.get(name)
        if value is None or isinstance(value, str):
            return value
        raise ConfigurationError(f"Field {name!r} of {self.source} must be text, not {type(value).__name__}.")

    def flag(self, name: str) -> bool | None:
        """A field that is true or false; None if unset.

        Raises:
            ConfigurationError: it is neither.
        """
        value = self.get(name)
        if value is None or isinstance(value, bool):
            return value
        known = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
        flag = known.get(str(value).strip().lower())
        if flag is None:
            raise ConfigurationError(f"Field {name!r} of {self.source} must be true or false, not {value!r}.")
        return flag


@dataclass(frozen=True)
class ClusterArguments:
    """The operator arguments that name a cluster."""

    cluster: ClusterRef | None = None
    in_cluster: bool | None = None
    config_file: str | None = None
    cluster_context: str | None = None


def choose_cluster(
    arguments: ClusterArguments,
    connection: ConnectionFields | None,
    environ: Mapping[str, str],
    *,
    service_account_token: Path = SERVICE_ACCOUNT_TOKEN,
) -> ClusterRef:
    """The cluster that a task means.

    Args:
        arguments: of the operator.
        connection: named by `kubernetes_conn_id`, if there is one.
        environ: environment variables.
        service_account_token: exists where this process runs in a pod.

    Raises:
        ConfigurationError: a field of the connection has the wrong type.
    """
    if arguments.cluster is not None:
        return arguments.cluster
    connection = connection or ConnectionFields("", extra={})
    if connection.conn_type not in _CONN_TYPES:
        raise ConfigurationError(
            f"The {connection.source} named by kubernetes_conn_id is of type {connection.conn_type!r}; one of type "
            "'kubernetes' is needed. Name another one, or give cluster= to the operator."
        )
    chosen = _from_arguments(arguments, connection) or _from_connection(arguments, connection)
    if chosen is None:
        chosen = _from_environment(arguments, connection, environ, service_account_token)
    namespace = connection.text("namespace")
    return replace(chosen, namespace=namespace) if namespace else chosen


def _from_arguments(arguments: ClusterArguments, connection: ConnectionFields) -> ClusterRef | None:
    if arguments.in_cluster:
        return refs.in_cluster().with_source("the argument in_cluster=True")
    if arguments.config_file:
        context = arguments.cluster_context or connection.text("cluster_context")
        return _kubeconfig(connection, "the argument config_file", path=arguments.config_file, context=context)
    return None


def _from_connection(arguments: ClusterArguments, connection: ConnectionFields) -> ClusterRef | None:
    given = {
        "in_cluster": bool(connection.flag("in_cluster")) and arguments.in_cluster is None,
        "kube_config_path": connection.text("kube_config_path"),
        "kube_config": connection.get("kube_config"),
    }
    used = [name for name, value in given.items() if value]
    if len(used) > 1:
        raise ConfigurationError(
            f"The {connection.source} fills in {' and '.join(used)}, which name different clusters. "
            "Leave only one of them."
        )
    context = arguments.cluster_context or connection.text("cluster_context")
    if given["in_cluster"]:
        return refs.in_cluster().with_source(f"field 'in_cluster' of {connection.source}")
    if given["kube_config_path"]:
        source = f"field 'kube_config_path' of {connection.source}"
        return _kubeconfig(connection, source, path=given["kube_config_path"], context=context)
    if given["kube_config"]:
        source = f"field 'kube_config' of {connection.source}"
        return _kubeconfig(connection, source, document=given["kube_config"], context=context)
    return None


def _from_environment(
    arguments: ClusterArguments, connection: ConnectionFields, environ: Mapping[str, str], token: Path
) -> ClusterRef:
    context = arguments.cluster_context or connection.text("cluster_context")
    in_a_pod = bool(environ.get("KUBERNETES_SERVICE_HOST")) and token.exists()
    if arguments.in_cluster is None and context is None and in_a_pod:
        return refs.in_cluster().with_source("the pod this process runs in, as nothing else names a cluster")
    source = "$KUBECONFIG" if environ.get("KUBECONFIG") else "the default kubeconfig, as nothing else names a cluster"
    return _kubeconfig(connection, source, context=context)


def _kubeconfig(connection: ConnectionFields, source: str, **options: Any) -> ClusterRef:
    ref = refs.kubeconfig(**options).with_source(source)
    if connection.flag("disable_verify_ssl"):
        ref = replace(ref, options={**ref.options, "insecure_skip_tls_verify": True})
    return ref


def connection_fields(connection: Any) -> ConnectionFields:
    """The fields of an Airflow `Connection`.

    Raises:
        ConfigurationError: its extra is not a JSON object.
    """
    text = connection.extra or "{}"
    try:
        extra = json.loads(text)
    except ValueError as error:
        raise ConfigurationError(
            f"The extra of connection {connection.conn_id!r} is not JSON ({error.__class__.__name__} at position "
            f"{getattr(error, 'pos', '?')}): correct it under Admin > Connections."
        ) from None
    if not isinstance(extra, dict):
        raise ConfigurationError(f"The extra of connection {connection.conn_id!r} must be a JSON object.")
    return ConnectionFields(connection.conn_id, connection.conn_type, extra)


def sidecar_fields(connection: ConnectionFields) -> dict[str, Any]:
    """What a connection says of the XCom sidecar, under the names of the operator's arguments.

    Raises:
        ConfigurationError: a field that holds JSON does not.
    """
    found: dict[str, Any] = {}
    for name in ("xcom_sidecar_container_resources", "xcom_sidecar_container_security_context"):
        value = connection.get(name)
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except ValueError:
                raise ConfigurationError(f"Field {name!r} of {connection.source} must be a JSON object.") from None
        if value is not None:
            found[name] = value
    image = connection.text("xcom_sidecar_container_image")
    if image is not None:
        found["xcom_sidecar_container_image"] = image
    return found
