"""A cluster of Azure Kubernetes Service: found through Azure Resource Manager, entered with a token of Entra."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from kpo_multicluster.auth import options
from kpo_multicluster.auth.access import ClusterAccess, Token, TokenSource
from kpo_multicluster.auth.aks_cluster import AksCaller, AksKubeconfig, AksName, check_choices, kubeconfig, look_up
from kpo_multicluster.auth.aks_refusal import AksFacts, explainer
from kpo_multicluster.auth.azure_credentials import AzureLogin, fetch_token
from kpo_multicluster.auth.azure_logins import connection_login, option_login
from kpo_multicluster.auth.connections import OUTSIDE_AIRFLOW, CloudConnection, Connections
from kpo_multicluster.auth.server import server_fault
from kpo_multicluster.auth.tls import check_ca, check_client_certificate
from kpo_multicluster.clouds import aks_id, check_aks
from kpo_multicluster.cluster import ClusterRef
from kpo_multicluster.errors import ConfigurationError, ConnectError, CredentialError

# The application of every AKS server in Entra, the same in all clouds.
SERVER_ID = "6dae42f8-4368-4678-94ff-3960e28e3630"


class AksResolver:
    """Makes access to clusters of AKS.

    Args:
        connections: where Airflow connections are looked up.
        clock: Unix time in seconds; decides when tokens are renewed.
    """

    def __init__(self, connections: Connections = OUTSIDE_AIRFLOW, *, clock: Callable[[], float] = time.time) -> None:
        self._connections = connections
        self._clock = clock

    def using(self, connections: Connections) -> AksResolver:
        """The same resolver, which looks connections up there."""
        return AksResolver(connections, clock=self._clock)

    def resolve(self, ref: ClusterRef) -> ClusterAccess:
        """Access to the cluster; asks Azure for it, unless the ref gives its URL.

        Raises:
            ConfigurationError: the ref cannot work, or there is no such cluster.
            MissingExtraError: azure-identity is not installed.
            CredentialError: there are no Azure credentials, or they were refused.
            ConnectError: Azure cannot be reached, or the cluster is not up.
        """
        check_aks(ref)
        conn_id = options.text(ref, "conn_id")
        connection = None if conn_id is None else self._connections.get(conn_id)
        login = aks_login(ref, connection)
        cluster = _Cluster(ref, login, connection)
        found = cluster.find()
        source = f"{cluster.phrase}, from {ref.source}"
        _check(found, source)
        tokens = TokenSource(self._fetcher(cluster, found), source=f"{login.source}, for {source}", clock=self._clock)
        held = tokens.current()
        facts = AksFacts(login.source, cluster.phrase, found.server_id, cluster.properties, cluster.path)
        return ClusterAccess(
            server=found.server,
            source=source,
            ca_pem=found.ca_pem,
            tokens=tokens,
            namespace=ref.namespace,
            explain=explainer(facts, lambda: (tokens.fresh() or held).value, cluster.look_up),
        )

    def _fetcher(self, cluster: _Cluster, found: AksKubeconfig) -> Callable[[], Token]:
        if found.server_id is not None:
            scope = found.server_id if found.server_id.endswith("/.default") else f"{found.server_id}/.default"
            return lambda: fetch_token(cluster.login, scope)
        first: list[AksKubeconfig] = [found]

        def fetch() -> Token:
            # A local account is renewed by Azure writing its kubeconfig again: its certificates may be rotated.
            account = first.pop() if first else cluster.find_for_renewal()
            return Token(account.token or "", None, account.certificate, account.key)

        return fetch


class _Cluster:
    """The cluster that a ref means, and the ways to ask Azure for it."""

    def __init__(self, ref: ClusterRef, login: AzureLogin, connection: CloudConnection | None) -> None:
        self.login = login
        self.properties: Mapping[str, Any] | None = None
        self.path: str | None = None
        self._ref = ref
        self._credential = options.text(ref, "credential") or "user"
        self._endpoint = options.text(ref, "endpoint")
        self._given = self._endpoint is not None and ":" in self._endpoint
        self._name = None if self._given else aks_name(ref, connection)
        self.phrase = str(self._name) if self._name else f"AKS cluster {aks_id(ref)[2]!r}"

    def find(self) -> AksKubeconfig:
        asked_id = options.text(self._ref, "server_id")
        if self._given:
            server = (self._endpoint or "").rstrip("/")
            return AksKubeconfig(server, options.ca_pem(self._ref), asked_id or SERVER_ID)
        assert self._name is not None
        self.path = self._name.path
        caller = self._caller()
        self.properties = look_up(self._name, caller)
        if self.properties is not None:
            check_choices(self.properties, self._name, credential=self._credential, endpoint=self._endpoint)
        found = self._kubeconfig(caller)
        if found.server_id is None and asked_id is not None:
            raise ConfigurationError(
                f"The {self._name} has no Microsoft Entra integration, so a server_id is of no use: drop it, and the "
                "cluster's own credential is used; or enable the integration with 'az aks update --enable-aad'."
            )
        return replace(found, server_id=asked_id or found.server_id)

    def find_for_renewal(self) -> AksKubeconfig:
        try:
            found = self._kubeconfig(self._caller())
        except (ConfigurationError, ConnectError) as error:
            raise CredentialError(str(error)) from None
        _check(found, self.phrase)
        return found

    def look_up(self) -> None:
        if self._name is not None:
            look_up(self._name, self._caller())

    def _caller(self) -> AksCaller:
        return AksCaller(arm_token(self.login).value, self.login.source, self.login.cloud.arm)

    def _kubeconfig(self, caller: AksCaller) -> AksKubeconfig:
        assert self._name is not None
        return kubeconfig(self._name, caller, credential=self._credential, public_name=self._endpoint == "public")


def _check(found: AksKubeconfig, source: str) -> None:
    fault = server_fault(found.server)
    if fault is not None:
        raise ConfigurationError(f"The endpoint of the {source} {fault}.")
    if found.ca_pem is not None:
        check_ca(found.ca_pem, source)
    if found.server_id is not None:
        return
    if found.certificate is None and found.token is None:
        raise ConfigurationError(f"Azure gave no credential for the {source}: enable Microsoft Entra for it.")
    if found.certificate is not None:
        check_client_certificate(found.certificate, found.key or "", source)


def aks_login(ref: ClusterRef, connection: CloudConnection | None) -> AzureLogin:
    """The credentials that a ref of kind `aks` names.

    Raises:
        ConfigurationError: they are incomplete, or its connection is of another type.
    """
    return option_login(ref) if connection is None else connection_login(connection, ref)


def arm_token(login: AzureLogin) -> Token:
    """A new token for Azure Resource Manager; may block.

    Raises:
        MissingExtraError: azure-identity is not installed.
        CredentialError: Entra gave none, or could not be reached.
    """
    return fetch_token(login, f"{login.cloud.arm.rstrip('/')}/.default")


def aks_name(ref: ClusterRef, connection: CloudConnection | None) -> AksName:
    """Where the cluster of a ref of kind `aks` is.

    Raises:
        ConfigurationError: no subscription is known.
    """
    subscription, group, name = aks_id(ref)
    subscription = subscription or options.text(ref, "subscription")
    if subscription is None and connection is not None:
        subscription = connection.text("subscriptionId")
    if subscription is None:
        raise ConfigurationError(
            f"No subscription is known for the AKS cluster {name!r} from {ref.source}: give subscription=, or set "
            "subscriptionId in the connection."
        )
    return AksName(subscription, group or options.text(ref, "resource_group") or "", name)
