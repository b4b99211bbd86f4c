"""The Kubernetes Engine API, v1, of an emulated Google: clusters, node pools, operations.

Source: `google.container.v1` (clusters get and list; nodePools create, get, list, setSize, setAutoscaling, delete;
operations get and list), in the JSON form of its REST transport.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from kpo_multicluster.auth.gke_cluster import GkeName
from kpo_multicluster.testing.clouds.google_tokens import CLOUD_PLATFORM, api_error
from kpo_multicluster.testing.clouds.identity import TokenRefused
from kpo_multicluster.testing.clouds.node_groups import Change, ChangeKind, NodeGroup, NodeGroups, Stage
from kpo_multicluster.testing.clouds.server import Request, Response
from kpo_multicluster.testing.clouds.tokens import IssuedToken

_PARENT = re.compile(r"/v1/projects/(?P<project>[^/]+)/locations/(?P<location>[^/]+)/(?P<rest>.+)")
_POOL_NAME = re.compile(r"[a-z]([-a-z0-9]{0,38}[a-z0-9])?")
_STATUS = {
    Stage.CREATING: "PROVISIONING",
    Stage.ACTIVE: "RUNNING",
    Stage.UPDATING: "RECONCILING",
    Stage.DELETING: "STOPPING",
    Stage.CREATE_FAILED: "ERROR",
    Stage.DELETE_FAILED: "ERROR",
    Stage.DEGRADED: "RUNNING_WITH_ERROR",
}
_OPERATIONS = {
    ChangeKind.CREATE: "CREATE_NODE_POOL",
    ChangeKind.RESIZE: "SET_NODE_POOL_SIZE",
    ChangeKind.DELETE: "DELETE_NODE_POOL",
}
# What an operation's error says in `google.rpc.Code`; any other trouble is INTERNAL.
_RPC_RESOURCE_EXHAUSTED, _RPC_INTERNAL = 8, 13
_RPC_CODES = {"GCE_STOCKOUT": _RPC_RESOURCE_EXHAUSTED, "GCE_QUOTA_EXCEEDED": _RPC_RESOURCE_EXHAUSTED}
# Numbers of `StatusCondition.Code`, which official clients may be answered with by name.
CONDITION_CODES = ("GCE_STOCKOUT", "GKE_SERVICE_ACCOUNT_DELETED", "GCE_QUOTA_EXCEEDED", "SET_BY_OPERATOR")


@dataclass(frozen=True)
class _Call:
    """A request that was let in, taken apart."""

    request: Request
    project: str
    location: str
    parts: tuple[str, ...]
    verb: str = ""
    cluster: str = field(default="")


class ContainerApi:
    """Answers the requests of the Kubernetes Engine API.

    Args:
        authenticate: tells whom a bearer token stands for, and with which scopes.
        groups: the node pools.
        url: gives the base URL of the emulator.
    """

    def __init__(self, authenticate: Callable[[str], IssuedToken], groups: NodeGroups, url: Callable[[], str]) -> None:
        self._authenticate, self._groups, self._url = authenticate, groups, url
        self._lock = threading.Lock()
        self._clusters: dict[str, dict[str, Any]] = {}

    def add(self, name: GkeName, fields: Mapping[str, Any]) -> None:
        """Adds or replaces a cluster; a field that is None is left out."""
        whole = {
            "name": name.name,
            "location": name.location,
            "selfLink": f"{self._url()}/v1/{name.resource_name}",
            "status": "RUNNING",
            "currentMasterVersion": "1.34.1-gke.1000000",
            **fields,
        }
        with self._lock:
            self._clusters[name.resource_name] = {key: value for key, value in whole.items() if value is not None}

    def remove(self, name: GkeName) -> None:
        """Takes a cluster away."""
        with self._lock:
            self._clusters.pop(name.resource_name, None)

    def clear(self) -> None:
        """Forgets all clusters."""
        with self._lock:
            self._clusters.clear()

    def handle(self, request: Request) -> Response:
        """Answers a request whose path begins with `/v1/projects/`."""
        try:
            token = self._authenticate(request.bearer)
        except TokenRefused:
            return api_error(
                401,
                "UNAUTHENTICATED",
                "Request had invalid authentication credentials. Expected OAuth 2 access token.",
            )
        if CLOUD_PLATFORM not in token.audience.split():
            return api_error(403, "PERMISSION_DENIED", "Request had insufficient authentication scopes.")
        match = _PARENT.fullmatch(request.path)
        if match is None:
            return self._missing(request)
        rest, _, verb = match["rest"].partition(":")
        parts = tuple(rest.split("/"))
        cluster = f"projects/{match['project']}/locations/{match['location']}/clusters/{parts[1]}" if parts[1:] else ""
        call = _Call(request, match["project"], match["location"], parts, verb, cluster)
        if parts[0] == "operations":
            return self._operations(call)
        if parts[0] != "clusters" or (request.method != "GET" and len(parts) < 3):
            return self._missing(request)
        return self._in_clusters(call)

    def _in_clusters(self, call: _Call) -> Response:
        if len(call.parts) == 1:
            found = [self._shown(path) for path in self._in(call)]
            return Response(200, {"clusters": found} if found else {})
        if call.cluster not in self._clusters:
            return self._missing(call.request)
        if len(call.parts) == 2:
            return Response(200, self._shown(call.cluster))
        if call.parts[2] != "nodePools" or len(call.parts) > 4:
            return self._missing(call.request)
        return self._pools(call) if len(call.parts) == 3 else self._pool(call, call.parts[3])

    def zones_of(self, group: NodeGroup) -> Sequence[str]:
        """The zones that a node pool has nodes in: its own, or its cluster's; none where neither says."""
        with self._lock:
            cluster = self._clusters.get(group.cluster, {})
        return group.spec.get("locations") or cluster.get("locations") or ()

    def _in(self, call: _Call) -> list[str]:
        scope = f"projects/{call.project}/locations/"
        scope += "" if call.location == "-" else f"{call.location}/"
        with self._lock:
            return [path for path in self._clusters if path.startswith(scope)]

    def _shown(self, path: str) -> dict[str, Any]:
        with self._lock:
            cluster = dict(self._clusters[path])
        pools = [self._as_pool(group) for group in self._groups.of(path)]
        return {**cluster, "nodePools": pools} if pools else cluster

    # -- node pools ----------------------------------------------------------------------------------------------------

    def _pools(self, call: _Call) -> Response:
        if call.request.method == "GET":
            pools = [self._as_pool(group) for group in self._groups.of(call.cluster)]
            return Response(200, {"nodePools": pools} if pools else {})
        asked = call.request.json.get("nodePool")
        name = str(asked.get("name", "")) if isinstance(asked, dict) else ""
        if not isinstance(asked, dict) or not _POOL_NAME.fullmatch(name):
            return api_error(400, "INVALID_ARGUMENT", f'Invalid value for field "node_pool.name": "{name}".')
        if self._groups.find(call.cluster, name) is not None:
            return api_error(409, "ALREADY_EXISTS", f"Already exists: {call.cluster}/nodePools/{name}.")
        busy = self._busy(call)
        if busy is not None:
            return busy
        change = self._groups.create(call.cluster, name, int(asked.get("initialNodeCount", 0)), asked)
        return Response(200, self._as_operation(change))

    def _pool(self, call: _Call, name: str) -> Response:
        group, method = self._groups.find(call.cluster, name), call.request.method
        if group is None:
            return self._missing(call.request)
        if method == "GET":
            return Response(200, self._as_pool(group))
        busy = self._busy(call)
        if busy is not None:
            return busy
        if method == "DELETE":
            return Response(200, self._as_operation(self._groups.delete(call.cluster, name)))
        body = call.request.json
        if call.verb == "setSize":
            change = self._groups.resize(call.cluster, name, int(body.get("nodeCount", 0)))
            return Response(200, self._as_operation(change))
        if call.verb == "setAutoscaling":
            spec = {**group.spec, "autoscaling": body.get("autoscaling") or {}}
            return Response(200, self._as_operation(self._groups.resize(call.cluster, name, group.count, spec)))
        return self._missing(call.request)

    def _busy(self, call: _Call) -> Response | None:
        change = self._groups.under_way(call.cluster)
        if change is None:
            return None
        return api_error(
            400,
            "FAILED_PRECONDITION",
            f"Cluster is running incompatible operation {_operation_name(change)}.",
        )

    def _as_pool(self, group: NodeGroup) -> dict[str, Any]:
        link = f"{self._url()}/v1/{group.cluster}/nodePools/{group.name}"
        shown = {**group.spec, "name": group.name, "selfLink": link, "status": _STATUS[group.stage]}
        shown["initialNodeCount"] = group.count
        if zones := self.zones_of(group):
            shown["locations"] = list(zones)
        if group.troubles:
            shown["statusMessage"] = "; ".join(trouble.message for trouble in group.troubles)
            shown["conditions"] = [_condition(trouble.code, trouble.message) for trouble in group.troubles]
        return shown

    # -- operations ----------------------------------------------------------------------------------------------------

    def _operations(self, call: _Call) -> Response:
        scope = f"projects/{call.project}/locations/{call.location}/"
        there = [change for change in self._groups.changes() if change.cluster.startswith(scope)]
        if call.request.method != "GET" or len(call.parts) > 2:
            return self._missing(call.request)
        if len(call.parts) == 1:
            return Response(200, {"operations": [self._as_operation(change) for change in there]})
        found = [change for change in there if _operation_name(change) == call.parts[1]]
        return Response(200, self._as_operation(found[0])) if found else self._missing(call.request)

    def _as_operation(self, change: Change) -> dict[str, Any]:
        place, _, _ = change.cluster.partition("/clusters/")
        name = _operation_name(change)
        shown: dict[str, Any] = {
            "name": name,
            "operationType": _OPERATIONS[change.kind],
            "status": "RUNNING" if change.ended_at is None else "DONE",
            "selfLink": f"{self._url()}/v1/{place}/operations/{name}",
            "targetLink": f"{self._url()}/v1/{change.cluster}/nodePools/{change.group}",
            "location": place.rpartition("/")[2],
            "startTime": _timestamp(change.began_at),
        }
        if change.ended_at is None:
            return shown
        shown["endTime"] = _timestamp(change.ended_at)
        if change.trouble is not None:
            code = _RPC_CODES.get(change.trouble.code, _RPC_INTERNAL)
            shown["error"] = {"code": code, "message": change.trouble.message}
            shown["statusMessage"] = change.trouble.message
            shown["clusterConditions"] = [_condition(change.trouble.code, change.trouble.message)]
        return shown

    def _missing(self, request: Request) -> Response:
        return api_error(404, "NOT_FOUND", f"Not found: {request.path.removeprefix('/v1/')}.")


def _operation_name(change: Change) -> str:
    return f"operation-{int(change.began_at * 1000)}-{change.id}"


def _condition(code: str, message: str) -> dict[str, Any]:
    known = {"code": code} if code in CONDITION_CODES else {}
    return {
        **known,
        "canonicalCode": "RESOURCE_EXHAUSTED" if _RPC_CODES.get(code) == 8 else "INTERNAL",
        "message": message,
    }


def _timestamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
