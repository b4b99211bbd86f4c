"""Node pools of Google Kubernetes Engine.

Source: `projects.locations.clusters.nodePools` (create, get, list, setSize, delete) and
`projects.locations.operations` of the Kubernetes Engine API, v1.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from kpo_multicluster.auth.access import Token
from kpo_multicluster.auth.cloud_http import Answer
from kpo_multicluster.auth.connections import Connections
from kpo_multicluster.auth.gke import gke_caller, gke_login, gke_name
from kpo_multicluster.auth.gke_cluster import GkeCaller, ask, look_up, refused
from kpo_multicluster.auth.google_credentials import EXTRA, FEATURE, fetch_token
from kpo_multicluster.clouds import check_gke
from kpo_multicluster.cluster import ClusterRef
from kpo_multicluster.errors import ConfigurationError, NodeGroupFailedError
from kpo_multicluster.node_groups import gke_rules
from kpo_multicluster.node_groups.comparison import Comparison
from kpo_multicluster.node_groups.group import BusyError, Change, ExistsError, Issue, NodeGroup, Phase, Progress, seen
from kpo_multicluster.node_groups.pools import PoolCloud, connection_of
from kpo_multicluster.node_groups.rules import options_of
from kpo_multicluster.node_groups.spec import GkeNodes, NodeGroupSpec
from kpo_multicluster.node_groups.taints import Taint

_PHASES = {
    "PROVISIONING": Phase.CREATING,
    "RUNNING": Phase.ACTIVE,
    "RECONCILING": Phase.UPDATING,
    "STOPPING": Phase.DELETING,
    "RUNNING_WITH_ERROR": Phase.DEGRADED,
    "ERROR": Phase.FAILED,
}
_HOPELESS = ("GCE_STOCKOUT", "GCE_QUOTA_EXCEEDED", "GKE_SERVICE_ACCOUNT_DELETED", "CLOUD_KMS_KEY_ERROR")
_NO_QUOTA = re.compile(r"insufficient [\w ]*quota", re.IGNORECASE)
_STEP = (
    "Grant this account container.clusters.get and container.clusters.update on the project, as "
    "roles/container.clusterAdmin does, and roles/iam.serviceAccountUser on the nodes' service account."
)


class GkeCloud(PoolCloud):
    """The node pools of one GKE cluster."""

    kind = "gke"
    _noun, _items = "node pool", "nodePools"
    _needs = FEATURE, EXTRA
    _check = staticmethod(gke_rules.check)

    def __init__(self, ref: ClusterRef, connections: Connections) -> None:
        check_gke(ref)
        self._ref, self._connection = ref, connection_of(ref, connections)
        self._login = gke_login(ref, self._connection)
        self._name = gke_name(ref, self._connection, self._login)
        if not self._name.location:
            raise ConfigurationError(f"No location is known for the cluster from {ref.source}: give location=.")
        super().__init__(str(self._name), self._login.source)

    def differences(self, spec: NodeGroupSpec, group: NodeGroup) -> list[str]:
        """What of a spec a pool is not, sizes aside."""
        nodes, there, compared = options_of(spec, GkeNodes), group.raw.get("config") or {}, Comparison()
        if spec.machine_types:
            compared.value("machine_types", spec.machine_types[0], there.get("machineType"))
        accelerators = there.get("accelerators") or [{}]
        count, kind = int(accelerators[0].get("acceleratorCount") or 0), accelerators[0].get("acceleratorType")
        if spec.gpu is None:
            compared.flag("gpu", False, count > 0)
        else:
            compared.value("gpu.count", spec.gpu.count, count)
            compared.value("gpu.type", spec.gpu.type, kind)
            compared.value("gpu_partition_size", nodes.gpu_partition_size, accelerators[0].get("gpuPartitionSize"))
        compared.flag("spot", spec.spot, bool(there.get("spot")))
        compared.flag("autoscale", nodes.autoscale, group.autoscaled)
        compared.value("disk_gb", spec.disk_gb, there.get("diskSizeGb"))
        compared.value("disk_type", nodes.disk_type, there.get("diskType"))
        compared.value("image_type", nodes.image_type, there.get("imageType"))
        compared.value("service_account", nodes.service_account, there.get("serviceAccount"))
        compared.items("zones", nodes.zones, group.raw.get("locations") or ())
        compared.marks(spec, group, (gke_rules.GPU_TAINT,) if spec.gpu is not None else ())
        return compared.found

    def create(self, spec: NodeGroupSpec, tags: Mapping[str, str]) -> Change:
        """Begins to make a pool.

        Raises:
            ConfigurationError: GKE refuses it.
            NodeGroupFailedError: a quota of the project is used up.
            BusyError: another operation of the cluster is under way.
            ExistsError: there is one of that name.
        """
        self.check(spec)
        cluster = self._look_up()
        if (cluster.get("autopilot") or {}).get("enabled"):
            spec.refuse(
                f"cannot be made: the {self.where} is in Autopilot mode, which makes nodes by itself. Ask for GPUs in "
                "the pod, by cloud.google.com/gke-accelerator"
            )
        zones = options_of(spec, GkeNodes).zones or tuple(cluster.get("locations") or ())
        gke_rules.check_zones(spec, zones)
        body = gke_rules.request(spec, tags, zones)
        doing = f"Creating the node pool {spec.name!r} of the {self.where}"
        answer = self._ask("POST", self._collection, doing, body=body)
        self._expect(answer, doing)
        return Change("create", spec.name, self._ticket(answer))

    def resize(self, group: NodeGroup, desired_size: int) -> Change:
        """Begins to give a pool another size.

        Raises:
            ConfigurationError: GKE refuses it, or it cannot be spread evenly.
            NodeGroupFailedError: a quota of the project is used up.
            BusyError: another operation of the cluster is under way.
        """
        zones = len(group.raw.get("locations") or ()) or 1
        if desired_size % zones:
            raise ConfigurationError(
                f"The {group} is in {zones} zones, of which GKE gives each the same number of nodes, so it cannot have "
                f"{desired_size}: ask for a multiple."
            )
        doing = f"Scaling the {group}"
        body = {"nodeCount": desired_size // zones}
        answer = self._ask("POST", f"{self._pool(group.name)}:setSize", doing, body=body)
        self._expect(answer, doing)
        return Change("resize", group.name, self._ticket(answer))

    # -- inside --------------------------------------------------------------------------------------------------------

    @property
    def _collection(self) -> str:
        return f"{self._name.path}/nodePools"

    def _fetch(self) -> Token:
        return fetch_token(self._login).token

    def _caller(self, token: Token) -> GkeCaller:
        return gke_caller(self._ref, self._connection, self._login, token)

    def _look_up(self) -> Mapping[str, Any]:
        return look_up(self._name, self._caller(self._tokens.current()))

    def _send(self, session: Any, token: Token, method: str, path: str, doing: str, **content: Any) -> Answer:
        return ask(session, method, self._caller(token), path, doing, **content)

    def _expect(self, answer: Answer, doing: str) -> None:
        if answer.status == 200:
            return
        code = (answer.body.get("error") or {}).get("status") if isinstance(answer.body.get("error"), dict) else ""
        text = f"{doing} with {self._login.source} failed ({answer.message or answer.status})."
        if answer.status == 409 and code == "ALREADY_EXISTS":
            raise ExistsError(text)
        if answer.status == 409 or (code == "FAILED_PRECONDITION" and "operation" in answer.message):
            raise BusyError(text)
        # A quota of machines: rates of requests have theirs, and so has the project that pays for them.
        if answer.status in (403, 429) and _NO_QUOTA.search(answer.message):
            step = "Have the project's quota there raised, free some, or ask for another machine type or region."
            raise NodeGroupFailedError(f"{text} {step}", code=str(code or ""))
        if answer.status in (400, 404):
            raise ConfigurationError(f"{text} Correct what GKE names.")
        raise refused(answer, doing, self._caller(self._tokens.current()), _STEP)

    def _ticket(self, answer: Answer) -> str:
        return str(answer.body.get("name") or "")

    def _operation(self, ticket: str) -> str:
        place = self._name.path.partition("/clusters/")[0]
        return f"{place}/operations/{quote(ticket, safe='')}"

    def _progress(self, operation: Mapping[str, Any]) -> Progress:
        # GKE says of an operation that it is DONE when it failed, too.
        return Progress(operation.get("status") == "DONE", _operation_issues(operation))

    def _group(self, there: Mapping[str, Any]) -> NodeGroup:
        config, scaling = there.get("config") or {}, there.get("autoscaling") or {}
        state, name = str(there.get("status", "")), str(there.get("name", ""))
        issues = tuple(_issue(condition) for condition in there.get("conditions") or ())
        if not issues and there.get("statusMessage"):
            issues = (Issue("", str(there["statusMessage"])),)
        phase = _PHASES.get(state, Phase.UPDATING)
        # GKE goes on trying for machines that there are none of.
        if phase in (Phase.CREATING, Phase.UPDATING) and any(issue.code in _HOPELESS for issue in issues):
            phase = Phase.FAILED
        zones = len(there.get("locations") or ()) or 1
        implied = {gke_rules.GPU_TAINT: None} if config.get("accelerators") else {}
        taints = {Taint.from_object(taint): None for taint in config.get("taints") or ()}
        return replace(
            seen(self.kind, self.where, there, name, state, phase, issues),
            desired_size=int(there.get("initialNodeCount") or 0) * zones,
            min_size=scaling.get("totalMinNodeCount"),
            max_size=scaling.get("totalMaxNodeCount"),
            labels=config.get("labels") or {},
            taints=tuple(taints | implied),
            tags=config.get("resourceLabels") or {},
            autoscaled=bool(scaling.get("enabled")),
        )


def _issue(condition: Mapping[str, Any]) -> Issue:
    code = condition.get("code") or condition.get("canonicalCode")
    return Issue(str(code or ""), str(condition.get("message") or ""))


def _operation_issues(operation: Mapping[str, Any]) -> tuple[Issue, ...]:
    error = operation.get("error")
    if operation.get("status") != "DONE" or not error:
        return ()
    conditions = operation.get("nodepoolConditions") or operation.get("clusterConditions") or ()
    found = tuple(_issue(condition) for condition in conditions if condition.get("message"))
    return found or (Issue(str(error.get("code") or ""), str(error.get("message") or "the operation failed")),)
