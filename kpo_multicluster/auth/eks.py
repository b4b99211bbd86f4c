"""A cluster of Amazon EKS: found through AWS, entered with a token that is signed in process."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from kpo_multicluster.auth import options
from kpo_multicluster.auth.access import ClusterAccess, TokenSource
from kpo_multicluster.auth.aws_logins import (
    DEFAULT_SESSION_NAME,
    AssumedRole,
    AwsLogin,
    chain_login,
    check_installed,
    connection_login,
)
from kpo_multicluster.auth.aws_session import AwsSession
from kpo_multicluster.auth.connections import OUTSIDE_AIRFLOW, Connections
from kpo_multicluster.auth.eks_cluster import EksCluster, describe
from kpo_multicluster.auth.eks_refusal import explainer
from kpo_multicluster.auth.eks_token import EksTokens, sts_host
from kpo_multicluster.auth.server import server_fault
from kpo_multicluster.auth.tls import check_ca
from kpo_multicluster.clouds import check_eks, eks_name
from kpo_multicluster.cluster import ClusterRef
from kpo_multicluster.errors import ConfigurationError


class EksResolver:
    """Makes access to clusters of EKS.

    Args:
        connections: where Airflow connections are looked up.
        clock: Unix time in seconds; decides when tokens are renewed.
    """

    def __init__(self, connections: Connections = OUTSIDE_AIRFLOW, *, clock: Callable[[], float] = time.time) -> None:
        self._connections = connections
        self._clock = clock

    def using(self, connections: Connections) -> EksResolver:
        """The same resolver, which looks connections up there."""
        return EksResolver(connections, clock=self._clock)

    def resolve(self, ref: ClusterRef) -> ClusterAccess:
        """Access to the cluster; asks AWS for it, unless the ref gives its endpoint.

        Raises:
            ConfigurationError: the ref cannot work, or there is no such cluster.
            MissingExtraError: boto3 is not installed.
            CredentialError: there are no AWS credentials, or they were refused.
            ConnectError: AWS cannot be reached, or the cluster is not up.
        """
        check_eks(ref)
        check_installed()
        name, _ = eks_name(ref)
        session = eks_session(ref, self._connections, clock=self._clock)
        host = sts_host(session.region, options.text(ref, "sts_host"), source=ref.source)
        cluster = given_cluster(ref, name) if options.text(ref, "endpoint") else describe(session, name)
        source = f"EKS cluster {name!r} in {session.region}, from {ref.source}"
        fault = server_fault(cluster.endpoint)
        if fault is not None:
            raise ConfigurationError(f"The endpoint of {source} {fault}.")
        check_ca(cluster.ca_pem, source)
        tokens = EksTokens(session, cluster_name=name, host=host, clock=self._clock)
        access = ClusterAccess(
            server=cluster.endpoint,
            source=source,
            ca_pem=cluster.ca_pem,
            tokens=TokenSource(tokens.fetch, source=f"{session.source}, for {source}", clock=self._clock),
            namespace=ref.namespace,
            explain=explainer(session, cluster),
        )
        assert access.tokens is not None
        access.tokens.current()
        return access


def eks_session(ref: ClusterRef, connections: Connections, *, clock: Callable[[], float] = time.time) -> AwsSession:
    """The credentials that a ref of kind `eks` names, for calls in its cluster's region.

    Args:
        ref: of the cluster.
        connections: where Airflow connections are looked up.
        clock: Unix time in seconds.

    Raises:
        ConfigurationError: it names a connection that is none, or no such one.
    """
    _, named_region = eks_name(ref)
    region = named_region or options.text(ref, "region")
    return AwsSession(_login(ref, connections, region), region=region, clock=clock)


def _login(ref: ClusterRef, connections: Connections, region: str | None) -> AwsLogin:
    conn_id = options.text(ref, "conn_id")
    if conn_id is None:
        login = chain_login(options.text(ref, "profile"))
    else:
        found = connections.aws_login(conn_id, region)
        login = connection_login(connections.get(conn_id)) if found is None else found
    overrides = {service: options.text(ref, f"{service}_endpoint_url") for service in ("eks", "sts")}
    endpoints = {**login.endpoints, **{service: url for service, url in overrides.items() if url}}
    arn = options.text(ref, "role_arn")
    if arn is None:
        return replace(login, endpoints=endpoints)
    role = AssumedRole(arn, options.text(ref, "session_name") or DEFAULT_SESSION_NAME, options.text(ref, "external_id"))
    return replace(login, endpoints=endpoints, roles=(*login.roles, role))


def given_cluster(ref: ClusterRef, name: str) -> EksCluster:
    """The cluster as the ref itself describes it.

    Raises:
        ConfigurationError: its CA is neither PEM nor base64 of it.
    """
    return EksCluster(name, "", (options.text(ref, "endpoint") or "").rstrip("/"), options.ca_pem(ref) or "")
