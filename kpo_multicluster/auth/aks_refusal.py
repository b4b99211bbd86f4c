"""Why an AKS cluster refused a request, or did not answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kpo_multicluster.auth.azure_credentials import claims_of
from kpo_multicluster.errors import ConnectError, ForbiddenError, KpoMulticlusterError, TLSError, UnauthorizedError


@dataclass(frozen=True)
class AksFacts:
    """What is known of the cluster and of the caller.

    Attributes:
        source: whose credentials these are.
        cluster: phrase that names the cluster.
        server_id: application id that tokens are made for; None for a local account.
        properties: of the cluster; None where they could not be read.
        path: the cluster's resource id, if it was looked up.
    """

    source: str
    cluster: str
    server_id: str | None
    properties: Mapping[str, Any] | None = field(default=None, repr=False)
    path: str | None = None


def explainer(
    facts: AksFacts, token: Callable[[], str | None], check_state: Callable[[], object]
) -> Callable[[KpoMulticlusterError], list[str]]:
    """What a `ClusterAccess` is given to explain refusals by.

    Args:
        facts: as they were when the cluster was resolved.
        token: the one in use, if there is one.
        check_state: asks Azure for the cluster's state, and raises `ConnectError` if it is not up.
    """

    def explain(error: KpoMulticlusterError) -> list[str]:
        claims = claims_of(token() or "")
        if isinstance(error, UnauthorizedError):
            return [unauthorized(facts, claims)]
        if isinstance(error, ForbiddenError):
            return [forbidden(facts, claims)]
        if isinstance(error, ConnectError) and not isinstance(error, TLSError):
            try:
                check_state()
            except ConnectError as down:
                return [str(down)]
            return unreachable(facts)
        return []

    return explain


def unauthorized(facts: AksFacts, claims: Mapping[str, Any]) -> str:
    """The finding for a 401."""
    if facts.server_id is None:
        return (
            f"The {facts.cluster} does not take the certificate of its own local account, although Azure gave it "
            "again: its certificates were rotated, or its local accounts disabled, since. With local accounts disabled "
            "use credential='user'."
        )
    who, entra = _who(facts, claims), (facts.properties or {}).get("aadProfile")
    if facts.properties is not None and not entra:
        return (
            f"The {facts.cluster} has no Microsoft Entra integration, so it takes no token of {who}. Enable it with "
            "'az aks update --enable-aad', or drop endpoint and server_id so that its own credential is used."
        )
    tenant, expected = claims.get("tid"), (entra or {}).get("tenantID")
    if tenant and expected and tenant != expected:
        return (
            f"The token of {who} is of tenant {tenant}, but the {facts.cluster} trusts tenant {expected}: use an "
            "identity of that tenant."
        )
    return (
        f"Microsoft Entra gave {who} a token for the server application {facts.server_id}, and the {facts.cluster} "
        "does not take it. Check that it has Entra integration managed by AKS, that server_id is its own, and that the "
        "endpoint is this cluster's."
    )


def forbidden(facts: AksFacts, claims: Mapping[str, Any]) -> str:
    """The finding for a 403: rights come from Azure RBAC where the cluster has it, else from Kubernetes."""
    who, entra = _who(facts, claims), (facts.properties or {}).get("aadProfile") or {}
    user = claims.get("oid") or "its object id"
    azure = (
        "assign it the role 'Azure Kubernetes Service RBAC Writer'"
        + (f" on {facts.path}" if facts.path else " on the cluster")
        + " or on a namespace of it"
    )
    kubernetes = f"bind a Kubernetes Role to the user {user}, or to a group of its by the group's object id"
    if facts.server_id is None:
        return f"This is a local account of the {facts.cluster}: bind a Kubernetes Role to the user named above."
    if entra.get("enableAzureRBAC"):
        return f"This is {who}: {azure}."
    if facts.properties is not None:
        return f"This is {who}: {kubernetes}."
    return f"This is {who}: {kubernetes}; where the cluster uses Azure RBAC, {azure}."


def unreachable(facts: AksFacts) -> list[str]:
    """Findings for an API server that does not answer although it is up."""
    access = (facts.properties or {}).get("apiServerAccessProfile") or {}
    if access.get("enablePrivateCluster"):
        public = " or use endpoint='public' through a network that leads there" * bool(
            access.get("enablePrivateClusterPublicFQDN")
        )
        return [
            f"The {facts.cluster} is private: only hosts in its network, or joined to it, and with its private DNS "
            f"zone, reach it. Run this task on such a host{public}."
        ]
    if access.get("authorizedIPRanges"):
        return [
            f"The {facts.cluster} answers only its authorized IP ranges: add the address that this host has outside "
            "with 'az aks update --api-server-authorized-ip-ranges'."
        ]
    return []


def _who(facts: AksFacts, claims: Mapping[str, Any]) -> str:
    name = claims.get("upn") or claims.get("appid")
    named = f"{name} (object id {claims.get('oid', 'unknown')})" if name else "the identity"
    return f"{named} from {facts.source}"
