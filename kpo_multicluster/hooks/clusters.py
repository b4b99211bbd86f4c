"""Which cluster a task means: operator arguments, an Airflow connection and the environment become a `ClusterRef`.

The decision is a pure function, the same wherever it is made. In this order: `cluster=`; the classic arguments
(`in_cluster`, `config_file`, `cluster_context`); the connection; the cluster this process runs in; `$KUBECONFIG`.
An argument overrides what comes after it, it never conflicts with it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from kpo_multicluster import cluster as refs
from kpo_multicluster.cluster import ClusterRef
from kpo_multicluster.errors import ConfigurationError
from kpo_multicluster.hooks.cluster_ways import CLASSIC_TYPE, KNOWN_FIELDS, Way, check_type, ways_of
from kpo_multicluster.hooks.fields import ConnectionFields
from kpo_multicluster.hooks.origins import KIND

DEFAULT_CONN_ID = "kubernetes_default"
SERVICE_ACCOUNT_TOKEN = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
# Kinds whose ref says whether the server's certificate is verified. That of an in-cluster one always is.
_VERIFIED_BY_OPTION = ("kubeconfig", "token")
_LONGEST_SHOWN = 80


@dataclass(frozen=True)
class ClusterArguments:
    """The arguments of an operator or hook that name a cluster.

    Attributes:
        cluster: a ref.
        in_cluster: True for the cluster this process runs in; False for another.
        config_file: path of a kubeconfig.
        cluster_context: of a kubeconfig.
        config_dict: a kubeconfig itself.
        disable_verify_ssl: True accepts any certificate of the server.
    """

    cluster: ClusterRef | None = None
    in_cluster: bool | None = None
    config_file: str | None = None
    cluster_context: str | None = None
    config_dict: Mapping[str, Any] | None = field(default=None, repr=False)
    disable_verify_ssl: bool | None = None


@dataclass(frozen=True)
class ChosenCluster:
    """The cluster that is meant, and why.

    Attributes:
        ref: of the cluster.
        origins: where options, or its `namespace`, come from, if from elsewhere than the ref itself.
        passed_over: what was given as well and does not count, a phrase each.
    """

    ref: ClusterRef
    origins: Mapping[str, str] = field(default_factory=dict)
    passed_over: tuple[str, ...] = ()

    def explain(self) -> str:
        """Each value with where it comes from, one a line; nothing secret."""
        ref = self.ref
        values = {**ref.options, **dict.fromkeys(ref.secrets, "(not shown)"), "namespace": ref.namespace}
        rows = [(KIND, ref.kind, self._origin(KIND))]
        rows += [(name, _shown(name, value), self._origin(name)) for name, value in values.items() if value is not None]
        width, longest = (max(len(row[column]) for row in rows) for column in (0, 1))
        lines = [f"{name:<{width}}  {value:<{longest}}  from {origin}" for name, value, origin in rows]
        return "\n".join([*lines, *(f"Not used: {given}." for given in self.passed_over)])

    def _origin(self, name: str) -> str:
        return self.origins.get(name, self.ref.source)

    def with_option(self, name: str, value: Any, origin: str) -> ChosenCluster:
        """The same cluster with an option of another origin; None takes the option away."""
        ref = replace(self.ref, options={**self.ref.options, name: value})
        return replace(self, ref=ref, origins={**self.origins, name: origin})


def choose_cluster(
    arguments: ClusterArguments,
    connection: ConnectionFields | None,
    environ: Mapping[str, str],
    *,
    service_account_token: Path = SERVICE_ACCOUNT_TOKEN,
) -> ChosenCluster:
    """The cluster that a task means.

    Args:
        arguments: of the operator.
        connection: named by `kubernetes_conn_id`, if there is one.
        environ: environment variables.
        service_account_token: exists where this process runs in a pod.

    Raises:
        ConfigurationError: a field of the connection is malformed, two of them name different clusters, or the
            connection is one that names none.
    """
    connection = connection or ConnectionFields("", extra={})
    if arguments.cluster is not None:
        return _verified(ChosenCluster(arguments.cluster), arguments, None)
    check_type(connection)
    context = _context(arguments, connection)
    chosen, passed_over = _from_arguments(arguments, context), _unread(connection)
    if chosen is None:
        ways, inside = _ways(arguments, connection)
        passed_over = (*inside, *passed_over)
        if ways:
            chosen = _in_context(ChosenCluster(ways[0].ref, ways[0].origins), context)
        else:
            chosen = _from_environment(arguments, context, environ, service_account_token)
    chosen = replace(chosen, passed_over=chosen.passed_over + passed_over)
    return _verified(_in_namespace(chosen, connection), arguments, connection)


def _context(arguments: ClusterArguments, connection: ConnectionFields) -> tuple[str, str] | None:
    """The context of whichever kubeconfig, and what names it."""
    if arguments.cluster_context:
        return arguments.cluster_context, "the argument cluster_context"
    named = connection.text("cluster_context") if connection.type == CLASSIC_TYPE else None
    return None if named is None else (named, connection.where("cluster_context"))


def _from_arguments(arguments: ClusterArguments, context: tuple[str, str] | None) -> ChosenCluster | None:
    given: list[tuple[str, Callable[[], ClusterRef]]] = []
    if arguments.config_dict:
        given.append(("config_dict", lambda: refs.kubeconfig(document=arguments.config_dict)))
    if arguments.in_cluster:
        given.append(("in_cluster=True", refs.in_cluster))
    if arguments.config_file:
        given.append(("config_file", lambda: refs.kubeconfig(arguments.config_file)))
    if not given:
        return None
    (name, make), *others = given
    passed_over = tuple(f"the argument {other}, as {name} goes before it" for other, _ in others)
    return _in_context(ChosenCluster(make().with_source(f"the argument {name}"), passed_over=passed_over), context)


def _ways(arguments: ClusterArguments, connection: ConnectionFields) -> tuple[list[Way], tuple[str, ...]]:
    """What of the connection names a cluster, one way at most, and what an argument rules out."""
    ways, passed_over = ways_of(connection), tuple[str, ...]()
    if arguments.in_cluster is False:
        inside = [way for way in ways if way.ref.kind == "in_cluster"]
        passed_over = tuple(f"{way.ref.source}, as the argument in_cluster=False goes before it" for way in inside)
        ways = [way for way in ways if way not in inside]
    if len(ways) > 1:
        names = " and ".join(way.field for way in ways)
        raise ConfigurationError(
            f"The {connection.source} fills in {names}, which name different clusters. Leave only one of them."
        )
    return ways, passed_over


def _from_environment(
    arguments: ClusterArguments, context: tuple[str, str] | None, environ: Mapping[str, str], token: Path
) -> ChosenCluster:
    in_a_pod = bool(environ.get("KUBERNETES_SERVICE_HOST")) and token.exists()
    if arguments.in_cluster is None and context is None and in_a_pod:
        source = "the pod this process runs in, as nothing else names a cluster"
        return ChosenCluster(refs.in_cluster().with_source(source))
    source = "$KUBECONFIG" if environ.get("KUBECONFIG") else "the default kubeconfig, as nothing else names a cluster"
    return _in_context(ChosenCluster(refs.kubeconfig().with_source(source)), context)


def _in_context(chosen: ChosenCluster, context: tuple[str, str] | None) -> ChosenCluster:
    if context is None:
        return chosen
    name, origin = context
    if chosen.ref.kind == "in_cluster":
        passed_over = f"{origin}, as a service account has no contexts"
        return replace(chosen, passed_over=(*chosen.passed_over, passed_over))
    if chosen.ref.kind != "kubeconfig":
        raise ConfigurationError(
            f"{origin[:1].upper()}{origin[1:]} names the context {name!r}, but {chosen.ref.source} names a cluster of "
            f"kind {chosen.ref.kind!r}, which has no contexts. Drop one of them."
        )
    given = chosen.ref.options.get("context")
    # An argument goes before what the connection says; two fields of a connection contradict each other.
    if given is not None and given != name and origin != "the argument cluster_context":
        raise ConfigurationError(
            f"The {origin} names the context {name!r}, and {chosen.ref.source} {given!r}: leave only one of them."
        )
    return chosen.with_option("context", name, origin)


def _in_namespace(chosen: ChosenCluster, connection: ConnectionFields) -> ChosenCluster:
    namespace = connection.text("namespace") if connection.type == CLASSIC_TYPE else None
    if namespace is None or namespace == chosen.ref.namespace:
        return chosen
    origin = connection.where("namespace")
    if chosen.ref.namespace is not None:
        raise ConfigurationError(
            f"The {origin} is {namespace!r}, but {chosen.ref.source} names the namespace {chosen.ref.namespace!r}: "
            "leave only one of them."
        )
    return replace(
        chosen, ref=replace(chosen.ref, namespace=namespace), origins={**chosen.origins, "namespace": origin}
    )


def _verified(chosen: ChosenCluster, arguments: ClusterArguments, connection: ConnectionFields | None) -> ChosenCluster:
    """Whether the server's certificate is checked, where someone says so."""
    asked, origin = arguments.disable_verify_ssl, "the argument disable_verify_ssl"
    if asked is None and connection is not None and connection.type == CLASSIC_TYPE:
        asked, origin = connection.flag("disable_verify_ssl") or None, connection.where("disable_verify_ssl")
    if asked is None:
        return chosen
    if chosen.ref.kind in _VERIFIED_BY_OPTION:
        return chosen.with_option("insecure_skip_tls_verify", asked or None, origin)
    if not asked:
        return chosen
    if chosen.ref.kind == "in_cluster" and arguments.disable_verify_ssl is None:
        return replace(chosen, passed_over=(*chosen.passed_over, f"{origin}, as a pod always knows its cluster's CA"))
    name = "disable_verify_ssl=True" if arguments.disable_verify_ssl else f"{origin[:1].upper()}{origin[1:]}"
    raise ConfigurationError(
        f"{name} cannot be had for a cluster of kind {chosen.ref.kind!r} (from {chosen.ref.source}), whose CA is "
        "always known."
    )


def _unread(connection: ConnectionFields) -> tuple[str, ...]:
    if connection.type != CLASSIC_TYPE:
        return ()
    return tuple(f"{connection.where(name)}, which means nothing here" for name in connection.others(KNOWN_FIELDS))


def _shown(name: str, value: Any) -> str:
    if name == "ca_data":
        return f"(a CA of {len(str(value))} characters)"
    text = value if value == "(not shown)" else json.dumps(value, default=str)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."


def sidecar_fields(connection: ConnectionFields) -> dict[str, Any]:
    """What a connection says of the XCom sidecar, under the names of the operator's arguments.

    Raises:
        ConfigurationError: a field that holds JSON does not.
    """
    found: dict[str, Any] = {}
    for name in ("xcom_sidecar_container_resources", "xcom_sidecar_container_security_context"):
        value = connection.mapping(name)
        if value is not None:
            found[name] = dict(value)
    image = connection.text("xcom_sidecar_container_image")
    if image is not None:
        found["xcom_sidecar_container_image"] = image
    return found
