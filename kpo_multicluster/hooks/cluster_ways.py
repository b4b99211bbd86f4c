"""The ways in which a connection names a cluster, by the connection's type."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from dataclasses import field as field_of
from functools import partial
from typing import Any

from kpo_multicluster import cluster as refs
from kpo_multicluster.cluster import ClusterRef
from kpo_multicluster.errors import ConfigurationError
from kpo_multicluster.hooks.cluster_part import CLOUD_KINDS, ref_of_part
from kpo_multicluster.hooks.connection_form import FORM_TYPE, KIND_FIELD
from kpo_multicluster.hooks.fields import ConnectionFields
from kpo_multicluster.hooks.filled_form import ref_of_form

PART = "cluster"
CLASSIC_TYPE = "kubernetes"
_PLACE = {"eks": '"region": "eu-west-1"', "gke": '"location": "europe-west1"', "aks": '"resource_group": "ml"'}


@dataclass(frozen=True)
class Way:
    """One way in which a connection names a cluster.

    Attributes:
        field: that does, for messages.
        ref: of the cluster.
        origins: where single options come from, if from other fields.
    """

    field: str
    ref: ClusterRef
    origins: Mapping[str, str] = field_of(default_factory=dict)


def check_type(connection: ConnectionFields) -> None:
    """Refuses a connection of a type that says nothing of clusters.

    Raises:
        ConfigurationError: with the types that do.
    """
    if connection.type not in _READERS:
        raise ConfigurationError(
            f"The {connection.source} named by kubernetes_conn_id is of type {connection.conn_type!r}; one of type "
            f"{', '.join(repr(name) for name in _READERS)} is needed. Name another one, or give cluster= to the "
            "operator."
        )


def ways_of(connection: ConnectionFields) -> list[Way]:
    """The ways in which a connection names a cluster; none if it leaves that to others.

    Raises:
        ConfigurationError: a field is malformed, or it is of a cloud and does not say which cluster.
    """
    return _READERS[connection.type](connection)


def _of_kubernetes(connection: ConnectionFields) -> list[Way]:
    """Upstream's fields; a part that names a cluster of any kind; a server's address with a token as the password."""
    refs_of_fields: dict[str, ClusterRef] = {}
    if connection.flag("in_cluster"):
        refs_of_fields["in_cluster"] = refs.in_cluster()
    path, document = connection.text("kube_config_path"), connection.get("kube_config")
    if path is not None:
        refs_of_fields["kube_config_path"] = refs.kubeconfig(path)
    if document is not None:
        refs_of_fields["kube_config"] = refs.kubeconfig(document=document)
    ways = [Way(name, ref.with_source(connection.where(name))) for name, ref in refs_of_fields.items()]
    part = connection.mapping(PART)
    by_token = part is not None and part.get("auth") == "token"
    if part is not None and not by_token:
        ways.append(_of_part(connection, part))
    if by_token or connection.host or connection.password:
        ways.append(_of_token(connection, part if by_token else None))
    return ways


def _of_part(connection: ConnectionFields, part: Mapping[str, Any]) -> Way:
    source = connection.where(PART)
    if part.get("conn_id") == connection.conn_id:
        raise ConfigurationError(
            f"The {source} names that same connection as conn_id: name the one of type "
            f"{', '.join(repr(name) for name in CLOUD_KINDS)} whose credentials are to be used."
        )
    return Way(PART, ref_of_part(part, auth=None, source=source))


def _of_token(connection: ConnectionFields, part: Mapping[str, Any] | None) -> Way:
    """The server's address is `host`, the token `password`, where no part says otherwise."""
    if part is None and not (connection.host and connection.password):
        given, lacks, what = (
            ("host", "password", "a token") if connection.host else ("password", "host", "the API server's address")
        )
        raise ConfigurationError(
            f"The {connection.source} fills in {given} but not {lacks}: put {what} there, or empty both."
        )
    standing, origins = dict(part or {"auth": "token"}), dict[str, str]()
    for option, name, value in (("server", "host", _server(connection)), ("token", "password", connection.password)):
        if value is None:
            continue
        if standing.get(option) not in (None, ""):
            raise ConfigurationError(
                f"The {connection.source} fills in {name}, and {option} in its field {PART!r}: leave only one of them."
            )
        standing[option] = value
        origins[option] = connection.where(name)
    field = PART if part is not None else "host"
    return Way(field, ref_of_part(standing, auth=None, source=connection.where(field)), origins)


def _of_cloud(kind: str, connection: ConnectionFields) -> list[Way]:
    """A connection to a cloud says who one is; which cluster, only its part does."""
    part = connection.mapping(PART)
    if part is None:
        written = f'{{"cluster": {{"cluster_name": "gpu", {_PLACE[kind]}}}}}'
        raise ConfigurationError(
            f"The {connection.source} named by kubernetes_conn_id is of type {connection.conn_type!r}: it says who to "
            f"be, not which cluster is meant. Add that to its extra, such as {written}, or give the operator "
            f"cluster={kind}('gpu', conn_id={connection.conn_id!r}, ...) of kpo_multicluster.clouds."
        )
    for name, implied in (("auth", kind), ("conn_id", connection.conn_id)):
        if part.get(name) not in (None, "", implied):
            raise ConfigurationError(
                f"The {connection.where(PART)} has the {name} {part[name]!r}, but that is {implied!r} for a part of a "
                f"connection of type {connection.conn_type!r}: drop it, or write the part into a connection of type "
                "'kubernetes'."
            )
    ref = ref_of_part({**part, "conn_id": connection.conn_id}, auth=kind, source=connection.where(PART))
    return [Way(PART, ref, {"conn_id": "that connection itself"})]


def _server(connection: ConnectionFields) -> str | None:
    if not connection.host:
        return None
    scheme, _, address = connection.host.rpartition("://")
    host, slash, path = address.partition("/")
    if _is_ipv6(host):  # as is left of it when a connection is given as a URI
        host = f"[{host}]"
    if connection.port is not None and ":" not in host.rpartition("]")[2]:
        host = f"{host}:{connection.port}"
    return f"{scheme or 'https'}://{host}{slash}{path}"


def _is_ipv6(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).version == 6
    except ValueError:
        return False


_READERS: dict[str, Callable[[ConnectionFields], list[Way]]] = {
    CLASSIC_TYPE: _of_kubernetes,
    **{conn_type: partial(_of_cloud, kind) for conn_type, kind in CLOUD_KINDS.items()},
    FORM_TYPE: lambda connection: [Way(KIND_FIELD, *ref_of_form(connection))],
}

KNOWN_FIELDS = (
    "in_cluster",
    "kube_config_path",
    "kube_config",
    "cluster_context",
    "namespace",
    "disable_verify_ssl",
    "disable_tcp_keepalive",
    "xcom_sidecar_container_image",
    "xcom_sidecar_container_resources",
    "xcom_sidecar_container_security_context",
    PART,
)
"""Extra fields of a connection of type `kubernetes` that mean something."""
