"""Managed node groups of Amazon EKS.

Source: CreateNodegroup, DescribeNodegroup, ListNodegroups, UpdateNodegroupConfig, DescribeUpdate, DeleteNodegroup of
the Amazon EKS API.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from kpo_multicluster.auth.aws_errors import call_error, code_of, is_aws_error, said
from kpo_multicluster.auth.aws_logins import check_installed
from kpo_multicluster.auth.aws_session import AwsKeys
from kpo_multicluster.auth.connections import Connections
from kpo_multicluster.auth.eks import eks_session
from kpo_multicluster.auth.eks_cluster import not_found
from kpo_multicluster.clouds import check_eks, eks_name
from kpo_multicluster.cluster import ClusterRef
from kpo_multicluster.errors import ConfigurationError, ConnectError, CredentialError, NodeGroupFailedError
from kpo_multicluster.node_groups import eks_rules
from kpo_multicluster.node_groups.comparison import Comparison
from kpo_multicluster.node_groups.group import BusyError, Change, ExistsError, Issue, NodeGroup, Phase, Progress, seen
from kpo_multicluster.node_groups.rules import options_of
from kpo_multicluster.node_groups.spec import EksNodes, NodeGroupSpec
from kpo_multicluster.node_groups.taints import Taint

_USABLE_STATES = ("ACTIVE", "UPDATING")
_PHASES = {
    "CREATING": Phase.CREATING,
    "ACTIVE": Phase.ACTIVE,
    "UPDATING": Phase.UPDATING,
    "DELETING": Phase.DELETING,
    "DEGRADED": Phase.DEGRADED,
    "CREATE_FAILED": Phase.FAILED,
    "DELETE_FAILED": Phase.FAILED,
}
# EKS reports these of groups that come well by themselves; any other keeps machines from starting or joining.
_PASSING_ISSUES = ("InternalFailure", "ClusterUnreachable", "Unknown")
_REFUSALS = ("InvalidParameterException", "InvalidRequestException", "ValidationException", "ClientException")


class _NotFoundError(Exception):
    """AWS knows no such thing."""


class EksCloud:
    """The node groups of one EKS cluster.

    Args:
        ref: of the cluster.
        connections: where Airflow connections are looked up; here, not later.

    Raises:
        ConfigurationError: the ref cannot work.
        MissingExtraError: boto3 is not installed.
        CredentialError: the credentials, which may name the region, cannot be had.
    """

    kind = "eks"

    def __init__(self, ref: ClusterRef, connections: Connections) -> None:
        check_eks(ref)
        check_installed()
        self._cluster, _ = eks_name(ref)
        self._session = eks_session(ref, connections)
        self.where = f"EKS cluster {self._cluster!r} in {self._session.region}"
        self._lock = threading.Lock()
        self._made: tuple[int, AwsKeys, Any] | None = None

    def check(self, spec: NodeGroupSpec) -> None:
        """Refuses a spec that breaks the rules of EKS.

        Raises:
            ConfigurationError: with the rule.
        """
        eks_rules.check(spec)

    def find(self, name: str) -> NodeGroup | None:
        """The group of that name; None when there is none."""
        try:
            answer = self._call("describe_nodegroup", "Describing", name)
        except _NotFoundError:
            self._describe_cluster()
            return None
        return self._group(answer["nodegroup"])

    def all(self) -> list[NodeGroup]:
        """All groups of the cluster."""
        names: list[str] = []
        following: dict[str, str] = {}
        while True:
            try:
                answer = self._call("list_nodegroups", "Listing", None, **following)
            except _NotFoundError:
                raise ConfigurationError(not_found(self._session, self._cluster)) from None
            names += answer.get("nodegroups") or []
            if not answer.get("nextToken"):
                break
            following = {"nextToken": answer["nextToken"]}
        return [group for name in names if (group := self.find(name)) is not None]

    def differences(self, spec: NodeGroupSpec, group: NodeGroup) -> list[str]:
        """What of a spec a group is not, sizes aside."""
        nodes, there, compared = options_of(spec, EksNodes), group.raw, Comparison()
        compared.items("machine_types", spec.machine_types, there.get("instanceTypes") or ())
        compared.value("ami_type", eks_rules.ami_type(spec), there.get("amiType"))
        compared.value("node_role", nodes.node_role, there.get("nodeRole"))
        compared.items("subnets", nodes.subnets, there.get("subnets") or ())
        compared.value("capacity", eks_rules.capacity(spec), there.get("capacityType") or "ON_DEMAND")
        compared.value("disk_gb", spec.disk_gb, there.get("diskSize"))
        # EKS answers $Latest and $Default with the number that they stood for when the group was made.
        asked = {key: value for key, value in nodes.launch_template.items() if not value.startswith("$")}
        template = there.get("launchTemplate") or {}
        compared.mapping("launch_template", asked, {k: str(v) for k, v in template.items()})
        compared.marks(spec, group)
        return compared.found

    def create(self, spec: NodeGroupSpec, tags: Mapping[str, str]) -> Change:
        """Begins to make a group.

        Raises:
            ConfigurationError: EKS refuses it.
            NodeGroupFailedError: a quota of EKS is used up.
            BusyError: the cluster is being changed.
            ExistsError: there is one of that name.
        """
        self.check(spec)
        cluster = self._describe_cluster()
        if cluster.get("status") not in _USABLE_STATES:
            raise ConnectError(
                f"The {self.where} is {cluster.get('status')}: it takes node groups once it is ACTIVE. Wait until then."
            )
        eks_rules.check_version(spec, cluster.get("version"))
        self._check_known(spec)
        try:
            self._call("create_nodegroup", "Creating", spec.name, **eks_rules.request(spec, tags))
        except _NotFoundError:
            raise ConfigurationError(not_found(self._session, self._cluster)) from None
        return Change("create", spec.name)

    def resize(self, group: NodeGroup, desired_size: int) -> Change:
        """Begins to give a group another size; its limits widen where they must.

        Raises:
            ConfigurationError: EKS refuses it, or the group is gone.
            BusyError: another change is under way.
        """
        sizes = {
            "minSize": min(group.min_size or 0, desired_size),
            "maxSize": max(group.max_size or 1, desired_size),
            "desiredSize": desired_size,
        }
        try:
            answer = self._call("update_nodegroup_config", "Scaling", group.name, scalingConfig=sizes)
        except _NotFoundError:
            raise ConfigurationError(f"The {group} is gone: make it again.") from None
        return Change("resize", group.name, str((answer.get("update") or {}).get("id") or ""))

    def delete(self, group: NodeGroup) -> Change:
        """Begins to delete a group.

        Raises:
            ConfigurationError: EKS refuses it.
            BusyError: another change is under way.
        """
        with suppress(_NotFoundError):
            self._call("delete_nodegroup", "Deleting", group.name)
        return Change("delete", group.name)

    def progress(self, change: Change) -> Progress:
        """How a change is getting on; of creations and deletions the group's own state tells."""
        if not change.ticket:
            return Progress(True)
        arguments = {"name": self._cluster, "updateId": change.ticket}
        try:
            answer = self._call("describe_update", "Following a change of", change.name, cluster=None, **arguments)
        except _NotFoundError:
            return Progress(True)
        update = answer["update"]
        if update.get("status") == "InProgress":
            return Progress(False)
        if update.get("status") == "Successful":
            return Progress(True)
        errors = [Issue(str(e.get("errorCode", "")), str(e.get("errorMessage", ""))) for e in update.get("errors", [])]
        return Progress(True, tuple(errors) or (Issue(str(update.get("status")), "the update of EKS did not succeed"),))

    # -- inside --------------------------------------------------------------------------------------------------------

    def _check_known(self, spec: NodeGroupSpec) -> None:
        nodes = options_of(spec, EksNodes)
        known = self._client().meta.service_model.shape_for("AMITypes").enum
        if nodes.ami_type is not None and nodes.ami_type not in known:
            spec.refuse(f"has the ami_type {nodes.ami_type!r}, which EKS does not have; it has {', '.join(known)}")

    def _describe_cluster(self) -> Mapping[str, Any]:
        try:
            answer = self._call("describe_cluster", "Describing", None, cluster=None, name=self._cluster)
        except _NotFoundError:
            raise ConfigurationError(not_found(self._session, self._cluster)) from None
        cluster: Mapping[str, Any] = answer["cluster"]
        return cluster

    def _client(self) -> Any:
        keys = self._session.keys()
        with self._lock:
            # Making a client takes 20 ms, and one must not be carried across a fork.
            if self._made is None or self._made[:2] != (os.getpid(), keys):
                self._made = os.getpid(), keys, self._session.client("eks")
            return self._made[2]

    def _call(self, action: str, doing: str, group: str | None, *, cluster: str | None = "", **arguments: Any) -> Any:
        if cluster is not None:
            arguments["clusterName"] = self._cluster
        if group is not None:
            arguments["nodegroupName"] = group
        client = self._client()
        try:
            return getattr(client, action)(**arguments)
        except Exception as error:
            if not is_aws_error(error):
                raise
            what = f"the node group {group!r} of" if group else "the node groups of" if cluster is not None else ""
            raise self._translated(error, " ".join(f"{doing} {what} the {self.where}".split())) from None

    def _translated(self, error: Exception, doing: str) -> Exception:
        code, text = code_of(error), f"{doing} with {self._session.source} failed ({said(error)})."
        if code == "ResourceNotFoundException":
            return _NotFoundError()
        if code == "ResourceInUseException":
            return (ExistsError if "already exists" in said(error) else BusyError)(text)
        if code == "ResourceLimitExceededException":
            return NodeGroupFailedError(f"{text} Have the quota of EKS raised, or delete groups.", code=code)
        if code in _REFUSALS or type(error).__name__ == "ParamValidationError":
            return ConfigurationError(f"{text} Correct what EKS names.")
        if code in ("AccessDenied", "AccessDeniedException", "UnauthorizedOperation"):
            return CredentialError(
                f"{text} Allow this identity that action in IAM, and iam:PassRole on the role of the nodes."
            )
        return call_error(error, doing=doing, source=self._session.source, now=self._session.clock())

    def _group(self, there: Mapping[str, Any]) -> NodeGroup:
        issues = tuple(
            Issue(str(issue.get("code", "")), str(issue.get("message", "")))
            for issue in (there.get("health") or {}).get("issues") or ()
        )
        state, sizes = str(there.get("status", "")), there.get("scalingConfig") or {}
        phase = _PHASES.get(state, Phase.UPDATING)
        # EKS waits half an hour for machines before it says that it failed, and tells long before why it will.
        if phase in (Phase.CREATING, Phase.UPDATING) and any(i.code not in _PASSING_ISSUES for i in issues):
            phase = Phase.FAILED
        return replace(
            seen(self.kind, self.where, there, str(there["nodegroupName"]), state, phase, issues),
            desired_size=sizes.get("desiredSize"),
            min_size=sizes.get("minSize"),
            max_size=sizes.get("maxSize"),
            labels=there.get("labels") or {},
            taints=tuple(Taint.from_object(taint) for taint in there.get("taints") or ()),
            tags=there.get("tags") or {},
        )
