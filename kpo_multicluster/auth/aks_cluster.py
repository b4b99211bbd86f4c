"""Looks an AKS cluster up, and has Azure write its kubeconfig, which alone holds its CA.

Source: `Managed Clusters` of the AKS REST API: Get, List Cluster User Credentials, List Cluster Admin Credentials.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode

from kpo_multicluster.auth.azure_credentials import EXTRA, FEATURE
from kpo_multicluster.auth.cloud_http import Answer, call, http_session
from kpo_multicluster.auth.kubeconfig_file import Section, read_document
from kpo_multicluster.errors import ConfigurationError, ConnectError, CredentialError, KpoMulticlusterError

_API_VERSION = "2024-09-01"
_DOWN_STATES = ("creating", "deleting", "starting", "stopping", "stopped")
_SHOWN = 10


@dataclass(frozen=True)
class AksName:
    """Where a cluster is.

    Attributes:
        subscription: id of the one it is in.
        resource_group: that it is in.
        name: of it.
    """

    subscription: str
    resource_group: str
    name: str

    @property
    def path(self) -> str:
        """Its resource id."""
        return (
            f"/subscriptions/{quote(self.subscription)}/resourceGroups/{quote(self.resource_group)}"
            f"/providers/Microsoft.ContainerService/managedClusters/{quote(self.name)}"
        )

    def __str__(self) -> str:
        """Phrase for messages."""
        return f"AKS cluster {self.name!r} in resource group {self.resource_group!r}"


@dataclass(frozen=True)
class AksCaller:
    """Who asks Azure Resource Manager.

    Attributes:
        token: bearer token.
        source: where it comes from, for messages.
        arm: base URL.
    """

    token: str = field(repr=False)
    source: str
    arm: str


@dataclass(frozen=True)
class AksKubeconfig:
    """What the kubeconfig that Azure writes says.

    Attributes:
        server: https URL of the API server.
        ca_pem: its CA.
        server_id: application id of the server in Entra; None for a local account.
        token: of the local account.
        certificate: of the local account, PEM.
        key: belonging to it.
    """

    server: str
    ca_pem: str | None = field(default=None, repr=False)
    server_id: str | None = None
    token: str | None = field(default=None, repr=False)
    certificate: str | None = field(default=None, repr=False)
    key: str | None = field(default=None, repr=False)


def look_up(name: AksName, caller: AksCaller) -> Mapping[str, Any] | None:
    """The cluster's properties; None where this identity may not read them.

    Raises:
        ConfigurationError: there is no such cluster.
        CredentialError: the caller was refused.
        ConnectError: Azure cannot be reached, or the cluster is not up.
    """
    doing = f"Looking up the {name}"
    with http_session(feature=FEATURE, extra=EXTRA) as session:
        answer = ask(session, caller, AksRequest("GET", name.path), doing)
        if answer.status == 404:
            raise ConfigurationError(_not_found(session, name, caller, answer))
    if answer.status == 403:
        return None
    if answer.status != 200:
        raise _refused(answer, doing, caller)
    properties = answer.body.get("properties")
    properties = properties if isinstance(properties, Mapping) else {}
    state = state_of(properties)
    if state.lower() in _DOWN_STATES:
        step = "Start it: az aks start." if state == "Stopped" else "Wait until it runs."
        raise ConnectError(f"The {name} is {state}. {step}")
    return properties


def state_of(properties: Mapping[str, Any]) -> str:
    """The state a cluster is in: whether it is stopped goes before how its last change ended."""
    power = (properties.get("powerState") or {}).get("code")
    provisioning = str(properties.get("provisioningState") or "unknown")
    return "Stopped" if power == "Stopped" and provisioning.lower() not in _DOWN_STATES else provisioning


def check_choices(properties: Mapping[str, Any], name: AksName, *, credential: str, endpoint: str | None) -> None:
    """Refuses what the cluster cannot give.

    Args:
        properties: as `look_up` gave them.
        name: of the cluster, for messages.
        credential: `user` or `admin`.
        endpoint: `public`, `private` or None.

    Raises:
        ConfigurationError: with the setting to use.
    """
    if credential == "admin" and properties.get("disableLocalAccounts"):
        raise ConfigurationError(_no_local_accounts(name))
    access = properties.get("apiServerAccessProfile") or {}
    private = bool(access.get("enablePrivateCluster"))
    if endpoint == "private" and not private:
        raise ConfigurationError(f"The {name} is not private, so it has no private name: drop endpoint='private'.")
    if endpoint == "public" and private and not access.get("enablePrivateClusterPublicFQDN"):
        raise ConfigurationError(
            f"The {name} is private and has no public name: drop endpoint='public', or enable one with 'az aks update "
            "--enable-public-fqdn'."
        )


def kubeconfig(name: AksName, caller: AksCaller, *, credential: str, public_name: bool) -> AksKubeconfig:
    """The kubeconfig that Azure writes for the cluster.

    Args:
        name: of the cluster.
        caller: who asks.
        credential: `user` or `admin`.
        public_name: ask for the public name of a private cluster.

    Raises:
        ConfigurationError: the cluster has no local accounts, or is not there.
        CredentialError: the caller was refused.
        ConnectError: Azure cannot be reached.
    """
    action = "listClusterAdminCredential" if credential == "admin" else "listClusterUserCredential"
    query = {"format": "exec"} if credential == "user" else {}
    if public_name:
        query["server-fqdn"] = "public"
    doing = f"Fetching the {credential} credential of the {name}"
    with http_session(feature=FEATURE, extra=EXTRA) as session:
        answer = ask(session, caller, AksRequest("POST", f"{name.path}/{action}", query), doing)
        if answer.status == 404:
            raise ConfigurationError(_not_found(session, name, caller, answer))
    if answer.status == 400 and "local accounts" in answer.message:
        raise ConfigurationError(_no_local_accounts(name))
    if answer.status != 200:
        raise _refused(answer, doing, caller, f"Microsoft.ContainerService/managedClusters/{action}/action")
    try:
        text = base64.b64decode(answer.body["kubeconfigs"][0]["value"]).decode()
    except (LookupError, TypeError, ValueError):
        text = ""
    return read_kubeconfig(text, source=f"{doing[:1].lower()}{doing[1:]}")


def read_kubeconfig(text: str, *, source: str) -> AksKubeconfig:
    """Reads a kubeconfig that Azure wrote.

    Raises:
        KubeconfigError: it is none.
        ConnectError: it lacks a cluster or a user.
    """
    config = read_document(text, source=source)
    context = config.contexts.get(config.current_context or "")
    cluster = config.clusters.get(context.text("cluster") or "") if context else None
    user = config.users.get(context.text("user") or "") if context else None
    server = cluster.text("server") if cluster else None
    if cluster is None or user is None or server is None:
        raise ConnectError(f"Azure answered {source} with a kubeconfig that names no server: try again.")
    plugin = user.section("exec")
    return AksKubeconfig(
        server=server.rstrip("/"),
        ca_pem=cluster.pem("certificate-authority"),
        server_id=_argument(plugin, "--server-id") if plugin else None,
        token=user.text("token"),
        certificate=user.pem("client-certificate"),
        key=user.pem("client-key"),
    )


def _argument(plugin: Section, flag: str) -> str | None:
    arguments = plugin.texts("args")
    for argument, following in zip(arguments, [*arguments[1:], ""], strict=False):
        if argument == flag:
            return following or None
        if argument.startswith(f"{flag}="):
            return argument.partition("=")[2] or None
    return None


def _no_local_accounts(name: AksName) -> str:
    return (
        f"The {name} has its local accounts disabled, so it has no admin credential: use credential='user', which "
        "takes a token of Microsoft Entra."
    )


@dataclass(frozen=True)
class AksRequest:
    """A request to Azure Resource Manager.

    Attributes:
        method: of HTTP.
        path: from its base URL on; a resource id, and more.
        query: beside the version of the API.
        headers: further ones.
        body: sent as JSON.
        api_version: asked for.
    """

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] | None = None
    api_version: str = _API_VERSION


def ask(session: Any, caller: AksCaller, request: AksRequest, doing: str) -> Answer:
    """Sends one request to Azure Resource Manager.

    Raises:
        ConnectError: there was no answer.
    """
    url = f"{caller.arm.rstrip('/')}{request.path}?{urlencode({'api-version': request.api_version, **request.query})}"
    return call(
        session,
        request.method,
        url,
        token=caller.token,
        doing=doing,
        headers=request.headers,
        body=request.body,
    )


def _not_found(session: Any, name: AksName, caller: AksCaller, answer: Answer) -> str:
    path = f"/subscriptions/{quote(name.subscription)}/providers/Microsoft.ContainerService/managedClusters"
    try:
        listed = ask(session, caller, AksRequest("GET", path), "Listing the AKS clusters")
    except ConnectError:
        listed = Answer(0, {})
    seen = ""
    if listed.status == 200:
        found = [f"{item.get('name')} ({_group_of(item.get('id'))})" for item in listed.body.get("value") or ()]
        more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        seen = f" Clusters seen in the subscription: {', '.join(found[:_SHOWN]) or 'none'}{more}."
    return (
        f"There is no {name} of subscription {name.subscription}, as seen by {caller.source} ({answer.message}).{seen} "
        "Correct its name, resource_group or subscription."
    )


def _group_of(resource_id: Any) -> str:
    parts = str(resource_id).split("/")
    return parts[4] if len(parts) > 4 else "?"


def _refused(answer: Answer, doing: str, caller: AksCaller, action: str = "") -> KpoMulticlusterError:
    text = f"{doing} with {caller.source} was answered with {answer.status} ({answer.message or 'no reason given'})."
    if answer.status == 401:
        return CredentialError(f"{text} Azure does not take the token: check the tenant and the cloud.")
    if answer.status == 403:
        role = (
            "Azure Kubernetes Service Cluster Admin Role"
            if "Admin" in action
            else ("Azure Kubernetes Service Cluster User Role")
        )
        return CredentialError(
            f"{text} Grant this identity {action} on the cluster, as the role {role!r} does; or give the API server's "
            "URL as endpoint with its ca_data, which needs no such right."
        )
    return ConnectError(f"{text} If it does not pass, see the status page of Azure.")
