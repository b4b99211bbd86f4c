"""Azure Resource Manager's side of AKS in an emulated Azure: managed clusters, their kubeconfigs, agent pools.

Source: the AKS REST API: Managed Clusters (Get, List, List Cluster User Credentials, List Cluster Admin Credentials),
Agent Pools (Create Or Update, Get, List, Delete); "Track asynchronous Azure operations".
"""

from __future__ import annotations

import base64
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import Any

import yaml

from kpo_multicluster.testing.clouds.identity import TokenRefused
from kpo_multicluster.testing.clouds.node_groups import Change, NodeGroup, NodeGroups, Stage
from kpo_multicluster.testing.clouds.server import Request, Response
from kpo_multicluster.testing.clouds.tokens import TokenBook

ARM_AUDIENCES = ("https://management.azure.com", "https://management.core.windows.net")
_PROVIDER = r"/providers/microsoft\.containerservice"
_LIST = re.compile(rf"(?P<scope>/subscriptions/[^/]+(?:/resourcegroups/[^/]+)?){_PROVIDER}/managedclusters")
_CLUSTER = re.compile(
    rf"(?P<id>/subscriptions/[^/]+/resourcegroups/[^/]+{_PROVIDER}/managedclusters/[^/]+)(?P<rest>/.*)?"
)
_OPERATION = re.compile(
    rf"/subscriptions/[^/]+{_PROVIDER}/locations/[^/]+/(?P<kind>operations|operationresults)/(?P<id>[^/]+)"
)
_POOL_NAME = re.compile(r"[a-z][a-z0-9]{0,11}")
_STATES = {
    Stage.CREATING: "Creating",
    Stage.ACTIVE: "Succeeded",
    Stage.UPDATING: "Updating",
    Stage.DELETING: "Deleting",
    Stage.CREATE_FAILED: "Failed",
    Stage.DELETE_FAILED: "Failed",
    Stage.DEGRADED: "Failed",
}
_NO_LOCAL_ACCOUNTS = "Getting static credential is not allowed because this cluster is set to disable local accounts."


@dataclass(frozen=True)
class AzureName:
    """Where a cluster is.

    Attributes:
        subscription: id of the one it is in.
        resource_group: it is in.
        name: of it.
    """

    subscription: str
    resource_group: str
    name: str

    @property
    def id(self) -> str:
        """Its resource id."""
        return (
            f"/subscriptions/{self.subscription}/resourceGroups/{self.resource_group}"
            f"/providers/Microsoft.ContainerService/managedClusters/{self.name}"
        )


@dataclass(frozen=True)
class ManagedCluster:
    """A cluster.

    Attributes:
        name: where it is.
        location: region.
        properties: as the API tells them.
        kubeconfigs: that Azure writes of it, by `User` and `Admin`.
    """

    name: AzureName
    location: str
    properties: Mapping[str, Any]
    kubeconfigs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, repr=False)


class ResourceManager:
    """Answers the requests of Azure Resource Manager.

    Args:
        book: the tokens it takes.
        groups: the agent pools.
        url: gives the base URL of the emulator.
    """

    def __init__(self, book: TokenBook, groups: NodeGroups, url: Callable[[], str]) -> None:
        self._book, self._groups, self._url = book, groups, url
        self._lock = threading.Lock()
        self._clusters: dict[str, ManagedCluster] = {}

    def add(self, cluster: ManagedCluster) -> None:
        """Adds or replaces a cluster."""
        with self._lock:
            self._clusters[cluster.name.id.lower()] = cluster

    def set_kubeconfig(self, name: AzureName, kind: str, kubeconfig: Mapping[str, Any]) -> None:
        """Replaces what Azure writes of a cluster.

        Raises:
            KeyError: there is no such cluster.
        """
        with self._lock:
            found = self._clusters[name.id.lower()]
            self._clusters[name.id.lower()] = replace(found, kubeconfigs={**found.kubeconfigs, kind: kubeconfig})

    def remove(self, name: AzureName) -> None:
        """Takes a cluster away."""
        with self._lock:
            self._clusters.pop(name.id.lower(), None)

    def handle(self, request: Request) -> Response:
        """Answers a request whose path begins with `/subscriptions/`."""
        refusal = self._refusal(request)
        if refusal is not None:
            return refusal
        path = request.path.lower()
        operation, listed, cluster = _OPERATION.fullmatch(path), _LIST.fullmatch(path), _CLUSTER.fullmatch(path)
        if operation is not None:
            return self._operation(operation["kind"], operation["id"])
        if listed is not None:
            return Response(200, {"value": self._list(listed["scope"])})
        found = self._clusters.get(cluster["id"]) if cluster is not None else None
        if found is None or cluster is None:
            name = request.path.partition("managedClusters/")[2].partition("/")[0] or request.path
            text = f"The Resource 'Microsoft.ContainerService/managedClusters/{name}' was not found."
            return arm_error(404, "ResourceNotFound", text)
        parts = tuple(part for part in request.path[len(cluster["id"]) :].split("/") if part)
        if not parts:
            return Response(200, self._shown(found))
        if parts[0].lower() == "agentpools":
            return self._pools(found, request, parts[1:])
        return self._credential(found, parts[0].lower())

    def _refusal(self, request: Request) -> Response | None:
        try:
            token = self._book.good(request.bearer)
        except TokenRefused as refusal:
            return arm_error(401, "InvalidAuthenticationToken", f"The access token is not valid: {refusal}.")
        if token.audience not in (*ARM_AUDIENCES, self._url()):
            text = f"The access token has been obtained for wrong audience or resource '{token.audience}'."
            return arm_error(401, "InvalidAuthenticationTokenAudience", text)
        if not request.query.get("api-version"):
            return arm_error(400, "MissingApiVersionParameter", "The api-version query parameter is required.")
        return None

    def _list(self, scope: str) -> list[dict[str, Any]]:
        with self._lock:
            clusters = list(self._clusters.items())
        return [self._shown(cluster) for key, cluster in clusters if key.startswith(f"{scope}/")]

    def _shown(self, cluster: ManagedCluster) -> dict[str, Any]:
        pools = [{"name": group.name, **self._pool_properties(group)} for group in self._groups.of(cluster.name.id)]
        return {
            "id": cluster.name.id,
            "name": cluster.name.name,
            "type": "Microsoft.ContainerService/ManagedClusters",
            "location": cluster.location,
            "properties": {**cluster.properties, **({"agentPoolProfiles": pools} if pools else {})},
        }

    def _credential(self, cluster: ManagedCluster, action: str) -> Response:
        kind = {"listclusterusercredential": "User", "listclusteradmincredential": "Admin"}.get(action)
        if kind == "Admin" and cluster.properties.get("disableLocalAccounts"):
            return arm_error(400, "BadRequest", _NO_LOCAL_ACCOUNTS)
        if kind is None or kind not in cluster.kubeconfigs:
            return arm_error(404, "NotFound", f"There is no {action} of {cluster.name.name}.")
        text = yaml.safe_dump(dict(cluster.kubeconfigs[kind]), sort_keys=False)
        name = f"cluster{kind}"
        return Response(200, {"kubeconfigs": [{"name": name, "value": base64.b64encode(text.encode()).decode()}]})

    # -- agent pools ---------------------------------------------------------------------------------------------------

    def _pools(self, cluster: ManagedCluster, request: Request, parts: tuple[str, ...]) -> Response:
        key = cluster.name.id
        if not parts:
            return Response(200, {"value": [self._as_pool(group) for group in self._groups.of(key)]})
        name, group = parts[0], self._groups.find(key, parts[0])
        if request.method == "PUT":
            return self._put(cluster, request, name, group)
        if group is None:
            if request.method == "DELETE":
                return Response(204)
            return arm_error(404, "NotFound", f"Agent pool {name} of cluster {cluster.name.name} was not found.")
        if request.method == "GET":
            return Response(200, self._as_pool(group))
        refusal = self._unready(request, key, group)
        if refusal is not None:
            return refusal
        return Response(202, b"", self._links(cluster, self._groups.delete(key, name)))

    def _put(self, cluster: ManagedCluster, request: Request, name: str, group: NodeGroup | None) -> Response:
        key, properties = cluster.name.id, request.json.get("properties")
        if not _POOL_NAME.fullmatch(name) or not isinstance(properties, dict):
            text = f"The value of parameter agentPoolName is invalid: {name!r} is not 1 to 12 letters or digits."
            return arm_error(400, "InvalidParameter", text)
        refusal = self._unready(request, key, group)
        if refusal is not None:
            return refusal
        count = int(properties.get("count", 1))
        if group is None:
            change, status = self._groups.create(key, name, count, properties), 201
        else:
            change, status = self._groups.resize(key, name, count, properties), 200
        made = self._groups.find(key, name)
        assert made is not None
        return Response(status, self._as_pool(made), self._links(cluster, change))

    def _unready(self, request: Request, key: str, group: NodeGroup | None) -> Response | None:
        wanted = request.headers.get("if-match", "*").strip('"')
        if group is not None and wanted not in ("*", _etag(group)):
            return arm_error(412, "PreconditionFailed", f"The etag of agent pool {group.name} is {_etag(group)}.")
        change = self._groups.under_way(key)
        if change is None:
            return None
        text = f"Operation is not allowed: another operation ({change.kind.value} of {change.group}) is in progress."
        return arm_error(409, "OperationNotAllowed", text)

    def _as_pool(self, group: NodeGroup) -> dict[str, Any]:
        return {
            "id": f"{group.cluster}/agentPools/{group.name}",
            "name": group.name,
            "type": "Microsoft.ContainerService/managedClusters/agentPools",
            "properties": self._pool_properties(group),
        }

    def _pool_properties(self, group: NodeGroup) -> dict[str, Any]:
        return {
            **group.spec,
            "count": group.count,
            "provisioningState": _STATES[group.stage],
            "powerState": {"code": "Running"},
            "eTag": _etag(group),
        }

    # -- operations ----------------------------------------------------------------------------------------------------

    def _links(self, cluster: ManagedCluster, change: Change) -> dict[str, str]:
        place = f"/subscriptions/{cluster.name.subscription}/providers/Microsoft.ContainerService/locations"
        base, version = f"{self._url()}{place}/{cluster.location}", "api-version=2016-03-30"
        return {
            "Azure-AsyncOperation": f"{base}/operations/{change.id}?{version}",
            "Location": f"{base}/operationresults/{change.id}?{version}",
        }

    def _operation(self, kind: str, change_id: str) -> Response:
        change = self._groups.change(change_id)
        if change is None:
            return arm_error(404, "NotFound", f"The operation {change_id} was not found.")
        if kind == "operationresults":
            return Response(202 if change.ended_at is None else 204)
        shown: dict[str, Any] = {"name": change.id, "startTime": _timestamp(change.began_at), "status": "InProgress"}
        if change.ended_at is None:
            return Response(200, shown)
        shown["endTime"] = _timestamp(change.ended_at)
        shown["status"] = "Succeeded" if change.trouble is None else "Failed"
        if change.trouble is not None:
            shown["error"] = {"code": change.trouble.code, "message": change.trouble.message}
        return Response(200, shown)


def arm_error(status: int, code: str, message: str) -> Response:
    """An error as Azure Resource Manager gives it."""
    return Response(status, {"error": {"code": code, "message": message}})


def _etag(group: NodeGroup) -> str:
    return f"{int(group.changed_at * 1000):x}-{group.count}"


def _timestamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
