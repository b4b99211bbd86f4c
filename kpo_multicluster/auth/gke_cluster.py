"""Looks a GKE cluster up: which endpoints it has, its CA, its state.

Sources: `projects.locations.clusters` of the Kubernetes Engine API, v1; "Connect Gateway" of its documentation.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from kpo_multicluster.auth.cloud_http import Answer, call, http_session
from kpo_multicluster.auth.google_credentials import EXTRA, FEATURE
from kpo_multicluster.auth.tls import pem_from_base64
from kpo_multicluster.errors import ConfigurationError, ConnectError, CredentialError, KpoMulticlusterError

_API = "https://container.googleapis.com"
_USABLE_STATES = ("RUNNING", "RECONCILING", "DEGRADED")
_MEMBERSHIP = re.compile(
    r"(?://gkehub\.googleapis\.com/)?projects/(?P<project>\d+)/locations/(?P<location>[\w-]+)/memberships/(?P<name>[\w-]+)"
)
_SHOWN = 10


@dataclass(frozen=True)
class GkeName:
    """Where a cluster is.

    Attributes:
        project: it is in.
        location: its region or zone.
        name: of it.
    """

    project: str
    location: str
    name: str

    @property
    def resource_name(self) -> str:
        """What the API calls it."""
        return f"projects/{self.project}/locations/{self.location}/clusters/{self.name}"

    @property
    def path(self) -> str:
        """Of the API, from its base URL on."""
        return _path(self.project, self.location, self.name)

    def __str__(self) -> str:
        """Phrase for messages."""
        return f"GKE cluster {self.name!r} in {self.location} of project {self.project}"


@dataclass(frozen=True)
class GkeCaller:
    """Who asks Google.

    Attributes:
        token: bearer token.
        source: where it comes from, for messages.
        quota_project: that calls are charged to, if it is not the cluster's.
        api_endpoint: base URL of the API, if it is not Google's.
    """

    token: str = field(repr=False)
    source: str
    quota_project: str | None = None
    api_endpoint: str | None = None


@dataclass(frozen=True)
class GkeEndpoint:
    """How to reach the API server.

    Attributes:
        server: https URL.
        ca_pem: its CA; None for one that the system trusts.
        kind: `public`, `private`, `dns`, `connect-gateway` or `given`.
        others: the kinds of endpoint that the cluster has besides.
    """

    server: str
    ca_pem: str | None = field(default=None, repr=False)
    kind: str = "given"
    others: tuple[str, ...] = ()


def look_up(name: GkeName, caller: GkeCaller) -> Mapping[str, Any]:
    """What the API says of a cluster that is up.

    Raises:
        ConfigurationError: there is no such cluster.
        CredentialError: the caller was refused.
        ConnectError: the API cannot be reached, or the cluster is not up.
    """
    doing = f"Looking up the {name}"
    with http_session(feature=FEATURE, extra=EXTRA) as session:
        answer = ask(session, "GET", caller, name.path, doing)
        if answer.status == 404:
            raise ConfigurationError(_not_found(session, name, caller))
    if answer.status != 200:
        raise refused(answer, doing, caller)
    cluster, status = answer.body, str(answer.body.get("status", "unknown"))
    if status not in _USABLE_STATES:
        why = "; ".join(str(item.get("message") or item.get("code")) for item in cluster.get("conditions") or ())
        why = why or str(cluster.get("statusMessage") or "")
        raise ConnectError(
            f"The {name} is {status}{f' ({why})' if why else ''}. Wait until it is RUNNING, or see in the Google Cloud "
            "console what holds it up."
        )
    return cluster


def choose_endpoint(cluster: Mapping[str, Any], asked: str | None, name: GkeName) -> GkeEndpoint:
    """The endpoint to use.

    Args:
        cluster: as `look_up` gave it.
        asked: `public`, `private`, `dns` or `connect-gateway`; None for the first of public, dns and private there is.
        name: of the cluster, for messages.

    Raises:
        ConfigurationError: the cluster does not have what was asked for.
    """
    there = _endpoints(cluster)
    if asked is None:
        asked = next((kind for kind in ("public", "dns", "private", "connect-gateway") if kind in there), "public")
    if asked not in there:
        raise ConfigurationError(
            f"The {name} {_LACKS[asked]}. {_offers(there)}{_dns_closed(cluster) if asked == 'dns' else ''}"
        )
    ca_pem = None
    if asked in ("public", "private"):
        ca_pem = pem_from_base64((cluster.get("masterAuth") or {}).get("clusterCaCertificate") or "")
        if not ca_pem:
            raise ConfigurationError(f"The {name} has no CA certificate: it is no cluster that can be used.")
    return GkeEndpoint(there[asked], ca_pem, asked, tuple(kind for kind in there if kind != asked))


def gateway_url(membership: str, *, source: str) -> str:
    """The Connect Gateway's address for a member of a fleet.

    Args:
        membership: its full name, with the number of its project.
        source: where that comes from, for messages.

    Raises:
        ConfigurationError: it is not such a name.
    """
    match = _MEMBERSHIP.fullmatch(membership)
    if match is None:
        raise ConfigurationError(
            f"The membership {membership!r} from {source} is not like "
            "projects/123456/locations/global/memberships/name, with the project's number: see "
            "'gcloud container fleet memberships list --uri'."
        )
    location = match["location"]
    host = "connectgateway" if location == "global" else f"{location}-connectgateway"
    return f"https://{host}.googleapis.com/v1/projects/{match['project']}/locations/{location}/gkeMemberships/{match['name']}"


_LACKS = {
    "public": "has no public IP endpoint",
    "private": "has no private IP endpoint",
    "dns": "has no DNS endpoint that is open to this host",
    "connect-gateway": "is in no fleet, so the Connect Gateway does not know it",
}


def _endpoints(cluster: Mapping[str, Any]) -> dict[str, str]:
    control_plane = cluster.get("controlPlaneEndpointsConfig") or {}
    by_ip = control_plane.get("ipEndpointsConfig") or {}
    by_dns = control_plane.get("dnsEndpointConfig") or {}
    old = cluster.get("privateClusterConfig") or {}
    private_only = by_ip.get("enablePublicEndpoint") is False or bool(old.get("enablePrivateEndpoint"))
    found: dict[str, str | None] = {
        "public": by_ip.get("publicEndpoint") or (None if private_only else cluster.get("endpoint")),
        "private": by_ip.get("privateEndpoint") or old.get("privateEndpoint"),
    }
    if by_ip.get("enabled") is False:
        found = {}
    elif private_only:
        found["public"] = None
    found["dns"] = by_dns.get("endpoint") if by_dns.get("allowExternalTraffic") else None
    there = {kind: f"https://{address}" for kind, address in found.items() if address}
    membership = (cluster.get("fleet") or {}).get("membership") or ""
    if _MEMBERSHIP.fullmatch(membership):
        there["connect-gateway"] = gateway_url(membership, source="its fleet")
    return there


def _offers(there: Mapping[str, str]) -> str:
    if not there:
        return "It offers no other that can be used."
    return f"Use endpoint={' or '.join(repr(kind) for kind in there)} instead, which it has."


def _dns_closed(cluster: Mapping[str, Any]) -> str:
    dns = (cluster.get("controlPlaneEndpointsConfig") or {}).get("dnsEndpointConfig") or {}
    if dns.get("endpoint"):
        return (
            " Its DNS endpoint takes no traffic from outside: 'gcloud container clusters update --enable-dns-access' "
            "opens it."
        )
    return " 'gcloud container clusters update --enable-dns-access' gives it one."


def _path(project: str, location: str, name: str = "") -> str:
    path = f"/v1/projects/{quote(project, safe=':')}/locations/{quote(location, safe='')}/clusters"
    return f"{path}/{quote(name, safe='')}" if name else path


def ask(
    session: Any, method: str, caller: GkeCaller, path: str, doing: str, *, body: Mapping[str, Any] | None = None
) -> Answer:
    """Sends one request to the Kubernetes Engine API.

    Raises:
        ConnectError: there was no answer.
    """
    headers = {"x-goog-user-project": caller.quota_project} if caller.quota_project else {}
    base = (caller.api_endpoint or _API).rstrip("/")
    return call(session, method, base + path, token=caller.token, doing=doing, headers=headers, body=body)


def _not_found(session: Any, name: GkeName, caller: GkeCaller) -> str:
    doing = f"Listing the GKE clusters of project {name.project}"
    try:
        answer = ask(session, "GET", caller, _path(name.project, "-"), doing)
    except ConnectError:
        seen = ""
    else:
        found = [f"{item.get('name')} ({item.get('location')})" for item in answer.body.get("clusters") or ()]
        more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        seen = f" Clusters seen in the project: {', '.join(found[:_SHOWN]) or 'none'}{more}."
        if answer.status != 200:
            seen = f" The project's clusters may not be listed ({answer.message})."
    return (
        f"There is no {name}, as seen by {caller.source}.{seen} Correct its name, location (a region is not its zones) "
        "or project."
    )


def refused(answer: Answer, doing: str, caller: GkeCaller, step: str = "") -> KpoMulticlusterError:
    """What to raise for an answer that is a refusal, or none that was expected.

    Args:
        answer: of the API.
        doing: what was tried.
        caller: who tried.
        step: what to do about a 403, in place of what concerns looking a cluster up.
    """
    text = f"{doing} with {caller.source} was answered with {answer.status} ({answer.message or 'no reason given'})."
    if answer.status == 401:
        return CredentialError(f"{text} Google does not take the token: check the account and this host's clock.")
    if answer.status != 403:
        return ConnectError(f"{text} If it does not pass, see the status page of Google Cloud.")
    if "SERVICE_DISABLED" in str(answer.body) or "has not been used" in answer.message:
        return CredentialError(f"{text} Enable the Kubernetes Engine API there, or name another quota_project.")
    return CredentialError(
        f"{text} {step}"
        if step
        else f"{text} Grant this account container.clusters.get on the project, as roles/container.clusterViewer does; "
        "or give the cluster's URL as endpoint, which needs no such right."
    )
