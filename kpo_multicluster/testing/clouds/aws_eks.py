"""The EKS API of an emulated AWS: moto's, with endpoints and states that are given, and node groups that take time.

Source: the Amazon EKS API: DescribeCluster, ListClusters, ListAccessEntries, CreateNodegroup, DescribeNodegroup,
ListNodegroups, UpdateNodegroupConfig, DeleteNodegroup, DescribeUpdate.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from kpo_multicluster.errors import ConfigurationError
from kpo_multicluster.testing.clouds.aws_sts import Caller, eks_error
from kpo_multicluster.testing.clouds.node_groups import Change, ChangeKind, NodeGroup, NodeGroups, Stage
from kpo_multicluster.testing.clouds.server import Request, Response

_CLUSTER_PATH = re.compile(
    r"/clusters/(?P<name>[^/]+)(?:/(?P<what>[\w-]+)(?:/(?P<item>[^/]+)(?:/(?P<verb>[\w-]+))?)?)?"
)
_STATUS = {
    Stage.CREATING: "CREATING",
    Stage.ACTIVE: "ACTIVE",
    Stage.UPDATING: "UPDATING",
    Stage.DELETING: "DELETING",
    Stage.CREATE_FAILED: "CREATE_FAILED",
    Stage.DELETE_FAILED: "DELETE_FAILED",
    Stage.DEGRADED: "DEGRADED",
}
# An update has fewer words than a group's health.
_UPDATE_ERRORS = ("AccessDenied", "InsufficientFreeAddresses", "NodeCreationFailure", "PodEvictionFailure")


@dataclass(frozen=True)
class AwsName:
    """Where a cluster is.

    Attributes:
        account: it is in.
        region: it is in.
        name: of it.
    """

    account: str
    region: str
    name: str

    @property
    def arn(self) -> str:
        """Its ARN."""
        return f"arn:aws:eks:{self.region}:{self.account}:cluster/{self.name}"


class Moto:
    """moto, answering requests without a server of its own. Its clusters belong to the whole process.

    Raises:
        ConfigurationError: it is not installed.
    """

    def __init__(self) -> None:
        try:
            # More than a second, and the half of Flask: not for those who emulate another cloud.
            from moto.backends import get_backend
            from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
            from werkzeug.test import Client
        except ImportError as error:
            raise ConfigurationError(
                f"An emulated AWS needs moto and its server, and {error.name} is not installed. Install them with: pip "
                "install moto flask flask-cors"
            ) from None
        self._backend = get_backend("eks")
        self._client = Client(DomainDispatcherApplication(create_backend_app))
        self._lock = threading.Lock()

    def reset(self) -> None:
        """Forgets all clusters."""
        with self._lock:
            self._backend.reset()

    def clusters(self, account: str, region: str) -> Any:
        """The backend of one region, as moto has it."""
        return self._backend[account][region]

    def answer(self, request: Request, account: str) -> Response:
        """What moto answers to a request made in an account."""
        headers = {**request.headers, "x-moto-account-id": account}
        with self._lock:
            found = self._client.open(request.target, method=request.method, headers=headers, data=request.body)
            content = found.get_data()
            found.close()
        kept = {name: value for name, value in found.headers.items() if name.lower().startswith("x-amzn")}
        return Response(found.status_code, content, kept)


@lru_cache(maxsize=1)
def moto() -> Moto:
    """The one of this process.

    Raises:
        ConfigurationError: it is not installed.
    """
    return Moto()


class EksApi:
    """Answers the requests of EKS.

    Args:
        groups: the node groups.
        entries: tells the principals that have an access entry of a cluster.
    """

    def __init__(self, groups: NodeGroups, entries: Callable[[AwsName], list[str]]) -> None:
        self._groups, self._entries = groups, entries
        self._moto = moto()
        self._moto.reset()
        self._lock = threading.Lock()
        # A group is made in two places; who looks for those that are gone must not see it in one.
        self._making = threading.Lock()
        self._fields: dict[str, Mapping[str, Any]] = {}

    def add(self, name: AwsName, fields: Mapping[str, Any]) -> None:
        """Adds or replaces a cluster.

        Args:
            name: where it is.
            fields: that DescribeCluster gives in place of moto's; None leaves one out.
        """
        clusters = self._moto.clusters(name.account, name.region)
        if name.name not in clusters.clusters:
            vpc = {"subnetIds": ["subnet-a", "subnet-b"]}
            role = f"arn:aws:iam::{name.account}:role/eks"
            clusters.create_cluster(name=name.name, role_arn=role, resources_vpc_config=vpc)
        with self._lock:
            self._fields[name.arn] = dict(fields)

    def remove(self, name: AwsName) -> None:
        """Takes a cluster away."""
        self._moto.clusters(name.account, name.region).clusters.pop(name.name, None)

    def stop(self) -> None:
        """Forgets all."""
        self._moto.reset()

    def handle(self, request: Request, caller: Caller) -> Response:
        """Answers a request."""
        match = _CLUSTER_PATH.fullmatch(request.path)
        if match is None:
            return self._moto.answer(request, caller.account)
        name = AwsName(caller.account, caller.region, match["name"])
        self._forget_gone(name)
        if match["what"] is None:
            return self._described(name, self._moto.answer(request, caller.account))
        if name.name not in self._moto.clusters(name.account, name.region).clusters:
            return eks_error(404, "ResourceNotFoundException", f"No cluster found for name: {name.name}.")
        if match["what"] == "access-entries" and match["item"] is None:
            return Response(200, {"accessEntries": self._entries(name)})
        if match["what"] == "updates" and match["item"] is not None:
            return self._update(match["item"])
        if match["what"] == "node-groups":
            return self._node_groups(name, request, match["item"], match["verb"])
        return self._moto.answer(request, caller.account)

    def _described(self, name: AwsName, response: Response) -> Response:
        if response.status != 200 or name.arn not in self._fields:
            return response
        cluster = {**json.loads(response.content)["cluster"], **self._fields[name.arn]}
        return Response(200, {"cluster": {key: value for key, value in cluster.items() if value is not None}})

    # -- node groups ---------------------------------------------------------------------------------------------------

    def _forget_gone(self, name: AwsName) -> None:
        """Lets moto forget the groups whose deletion has ended."""
        cluster = self._moto.clusters(name.account, name.region).clusters.get(name.name)
        with self._making:
            for group in list(cluster.nodegroups) if cluster is not None else ():
                if self._groups.find(name.arn, group) is None:
                    del cluster.nodegroups[group]

    def _node_groups(self, name: AwsName, request: Request, item: str | None, verb: str | None) -> Response:
        if item is None:
            return self._create(name, request) if request.method == "POST" else self._moto.answer(request, name.account)
        group = self._groups.find(name.arn, item)
        if group is None:
            return eks_error(404, "ResourceNotFoundException", f"No node group found for name: {item}.")
        if request.method == "GET" and verb is None:
            return self._told(self._moto.answer(request, name.account), group)
        if self._groups.under_way(name.arn, item) is not None and group.stage is not Stage.CREATING:
            text = f"Nodegroup {item} has an update in progress, it is {_STATUS[group.stage]}"
            return eks_error(409, "ResourceInUseException", text)
        if request.method == "DELETE":
            shown = Request("GET", request.target, request.headers, b"")
            told = self._moto.answer(shown, name.account)
            self._groups.delete(name.arn, item)
            return self._told(told, self._groups.find(name.arn, item) or group)
        if verb == "update-config":
            return self._resize(name, request, group)
        return self._moto.answer(request, name.account)

    def _create(self, name: AwsName, request: Request) -> Response:
        body = request.json
        item, scaling = str(body.get("nodegroupName")), body.get("scalingConfig") or {}
        known = self._groups.find(name.arn, item)
        token = body.get("clientRequestToken")
        if known is not None and token and known.spec.get("clientRequestToken") == token:
            shown = Request("GET", f"{request.target}/{item}", request.headers, b"")
            return self._told(self._moto.answer(shown, name.account), known)
        fault = _scaling_fault(scaling)
        if fault is not None:
            return fault
        with self._making:
            response = self._moto.answer(request, name.account)
            if response.status != 200:
                return response
            self._groups.create(name.arn, item, int(scaling.get("desiredSize", 2)), body)
        made = self._groups.find(name.arn, item)
        assert made is not None
        return self._told(response, made)

    def _resize(self, name: AwsName, request: Request, group: NodeGroup) -> Response:
        asked = request.json.get("scalingConfig") or {}
        scaling = {**(group.spec.get("scalingConfig") or {}), **asked}
        fault = _scaling_fault(scaling)
        if fault is not None:
            return fault
        response = self._moto.answer(request, name.account)
        if response.status != 200:
            return response
        count = int(scaling.get("desiredSize", group.count))
        change = self._groups.resize(name.arn, group.name, count, {**group.spec, "scalingConfig": scaling})
        return Response(200, {"update": _as_update(change)})

    def _update(self, change_id: str) -> Response:
        change = self._groups.change(change_id)
        if change is None or change.kind is not ChangeKind.RESIZE:
            return eks_error(404, "ResourceNotFoundException", f"No update found for ID: {change_id}")
        return Response(200, {"update": _as_update(change)})

    def _told(self, response: Response, group: NodeGroup) -> Response:
        """Moto's answer, with the stage that the group is in."""
        if response.status != 200:
            return response
        shown = json.loads(response.content)["nodegroup"]
        issues = [
            {"code": trouble.code, "message": trouble.message, "resourceIds": [group.name]}
            for trouble in group.troubles
        ]
        return Response(200, {"nodegroup": {**shown, "status": _STATUS[group.stage], "health": {"issues": issues}}})


def _scaling_fault(scaling: Mapping[str, Any]) -> Response | None:
    least, most, desired = (scaling.get(name) for name in ("minSize", "maxSize", "desiredSize"))
    if most is not None and int(most) < 1:
        text = "maxSize must be at least 1"
    elif None not in (least, most, desired) and not int(least or 0) <= int(desired or 0) <= int(most or 0):
        text = f"Desired capacity {desired} must lie between minSize {least} and maxSize {most}"
    else:
        return None
    return eks_error(400, "InvalidParameterException", text)


def _as_update(change: Change) -> dict[str, Any]:
    status, errors = "InProgress", list[dict[str, Any]]()
    if change.ended_at is not None:
        status = "Successful" if change.trouble is None else "Failed"
        if change.trouble is not None:
            code, message = change.trouble.code, change.trouble.message
            known = code if code in _UPDATE_ERRORS else "Unknown"
            errors = [{"errorCode": known, "errorMessage": message, "resourceIds": [change.group]}]
    shown = {"id": change.id, "status": status, "type": "ConfigUpdate", "params": list[Any]()}
    return {**shown, "createdAt": change.began_at, "errors": errors}
