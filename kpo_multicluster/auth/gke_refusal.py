"""Why a GKE cluster refused a request, or did not answer."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from kpo_multicluster.auth.gke_cluster import GkeEndpoint
from kpo_multicluster.auth.server import is_private
from kpo_multicluster.errors import ConnectError, ForbiddenError, KpoMulticlusterError, TLSError, UnauthorizedError

_PERMISSIONS = re.compile(r"requires one of \[(?P<names>[^\]]*)\] permission")


@dataclass(frozen=True)
class GkeFacts:
    """What is known without asking.

    Attributes:
        source: whose credentials these are.
        email: of the service account, if it is known.
        endpoint: in use.
        cluster: phrase that names it.
    """

    source: str
    email: str | None
    endpoint: GkeEndpoint
    cluster: str


def explainer(facts: GkeFacts) -> Callable[[KpoMulticlusterError], list[str]]:
    """What a `ClusterAccess` is given to explain refusals by."""

    def explain(error: KpoMulticlusterError) -> list[str]:
        if isinstance(error, ForbiddenError):
            return forbidden(facts, error)
        if isinstance(error, UnauthorizedError):
            return [unauthorized(facts)]
        if isinstance(error, ConnectError) and not isinstance(error, TLSError):
            return unreachable(facts)
        return []

    return explain


def unauthorized(facts: GkeFacts) -> str:
    """The finding for a 401."""
    return (
        f"Google gave {_who(facts)} a token, and the {facts.cluster} does not take it. Check that the account was not "
        "disabled since, and that the endpoint is this cluster's"
        + (": it was given as a URL." if facts.endpoint.kind == "given" else ".")
    )


def forbidden(facts: GkeFacts, error: ForbiddenError) -> list[str]:
    """Findings for a 403: GKE takes rights from IAM or from RBAC."""
    match = _PERMISSIONS.search(error.detail)
    iam = f"the IAM permission {match['names']}" if match else "the IAM permission for it"
    subject = facts.email or "its e-mail address, or its unique id where the token lacks the scope userinfo.email"
    gateway = ""
    if facts.endpoint.kind == "connect-gateway":
        gateway = " Through the Connect Gateway it needs roles/gkehub.gatewayEditor on the fleet's project as well."
    return [
        f"This is {_who(facts)}. Grant it {iam} on the cluster's project, as roles/container.developer does, or bind a "
        f"Kubernetes Role to the user {subject}.{gateway}"
    ]


def unreachable(facts: GkeFacts) -> list[str]:
    """Findings for an API server that does not answer."""
    host = urlsplit(facts.endpoint.server).hostname or ""
    if not is_private(host):
        if facts.endpoint.kind != "public":
            return []
        return [
            f"The public endpoint {host} of the {facts.cluster} did not answer: this host's own address may be missing "
            f"from its authorized networks. {_instead(facts)}".rstrip()
        ]
    return [
        f"The private endpoint {host} of the {facts.cluster} is not to be reached from this host: only its VPC, and "
        f"what is connected to it, can. {_instead(facts)}".rstrip()
    ]


def _instead(facts: GkeFacts) -> str:
    offers = [kind for kind in facts.endpoint.others if kind in ("dns", "connect-gateway")]
    if offers:
        return f"The cluster also has {' and '.join(offers)}: use endpoint={offers[0]!r}."
    return (
        "Enable its DNS endpoint and use endpoint='dns', or register it in a fleet and use endpoint='connect-gateway'."
    )


def _who(facts: GkeFacts) -> str:
    return f"{facts.email} (by {facts.source})" if facts.email else f"the account of {facts.source}"
