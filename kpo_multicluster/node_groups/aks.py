"""Agent pools of Azure Kubernetes Service.

Source: `Agent Pools` of the AKS REST API (Create Or Update, Get, List, Delete); "Track asynchronous Azure operations".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from kpo_multicluster.auth import options
from kpo_multicluster.auth.access import Token
from kpo_multicluster.auth.aks import aks_login, aks_name, arm_token
from kpo_multicluster.auth.aks_cluster import AksCaller, AksRequest, ask, look_up
from kpo_multicluster.auth.azure_credentials import EXTRA, FEATURE
from kpo_multicluster.auth.cloud_http import Answer
from kpo_multicluster.auth.connections import Connections
from kpo_multicluster.clouds import aks_id, check_aks
from kpo_multicluster.cluster import ClusterRef
from kpo_multicluster.errors import ConfigurationError, ConnectError, CredentialError, NodeGroupFailedError
from kpo_multicluster.node_groups import aks_rules
from kpo_multicluster.node_groups.comparison import Comparison
from kpo_multicluster.node_groups.group import BusyError, Change, ExistsError, Issue, NodeGroup, Phase, Progress, seen
from kpo_multicluster.node_groups.pools import PoolCloud, connection_of
from kpo_multicluster.node_groups.rules import options_of
from kpo_multicluster.node_groups.spec import AksNodes, NodeGroupSpec
from kpo_multicluster.node_groups.taints import Taint

_API_VERSION = "2025-10-01"
_PHASES = {
    "creating": Phase.CREATING,
    "succeeded": Phase.ACTIVE,
    "deleting": Phase.DELETING,
    "failed": Phase.FAILED,
    "canceled": Phase.FAILED,
}
_EXHAUSTED = ("quota", "skunotavailable", "allocationfailed", "vcpu")
_READ_ONLY = ("provisioningState", "eTag", "currentOrchestratorVersion", "nodeImageVersion", "status")


class AksCloud(PoolCloud):
    """The agent pools of one AKS cluster."""

    kind = "aks"
    _noun, _items = "agent pool", "value"
    _needs = FEATURE, EXTRA
    _check = staticmethod(aks_rules.check)

    def __init__(self, ref: ClusterRef, connections: Connections) -> None:
        check_aks(ref)
        connection = connection_of(ref, connections)
        if not (aks_id(ref)[1] or options.text(ref, "resource_group")):
            raise ConfigurationError(
                f"No resource group is known for the AKS cluster from {ref.source}: give resource_group=."
            )
        self._login = aks_login(ref, connection)
        self._name = aks_name(ref, connection)
        super().__init__(str(self._name), self._login.source)

    def differences(self, spec: NodeGroupSpec, group: NodeGroup) -> list[str]:
        """What of a spec a pool is not, sizes aside."""
        nodes, there, compared = options_of(spec, AksNodes), _properties(group.raw), Comparison()
        # Azure may write these as it likes.
        compared.value("machine_types", spec.machine_types[0].lower(), str(there.get("vmSize") or "").lower())
        compared.value("subnet", (nodes.subnet or "").lower(), str(there.get("vnetSubnetID") or "").lower())
        compared.value("os_sku", nodes.os_sku, there.get("osSKU"))
        compared.value("disk_gb", spec.disk_gb, there.get("osDiskSizeGB"))
        compared.value("max_pods", nodes.max_pods, there.get("maxPods"))
        compared.value("gpu_driver", nodes.gpu_driver, (there.get("gpuProfile") or {}).get("driver"))
        compared.value("gpu_instance_profile", nodes.gpu_instance_profile, there.get("gpuInstanceProfile"))
        compared.flag("spot", spec.spot, there.get("scaleSetPriority") == "Spot")
        compared.flag("autoscale", nodes.autoscale, group.autoscaled)
        compared.items("zones", nodes.zones, there.get("availabilityZones") or ())
        compared.marks(spec, group, (aks_rules.SPOT_TAINT,) if spec.spot else ())
        return compared.found

    def create(self, spec: NodeGroupSpec, tags: Mapping[str, str]) -> Change:
        """Begins to make a pool.

        Raises:
            ConfigurationError: AKS refuses it.
            NodeGroupFailedError: Azure cannot give what is asked for, by quota or capacity.
            BusyError: another change of the cluster is under way.
            ExistsError: there is one of that name.
        """
        self.check(spec)
        self._look_up()
        # Azure would make an existing pool into what is asked for.
        headers = {"If-None-Match": "*"}
        body = aks_rules.request(spec, tags)
        return self._put(
            "create", spec.name, headers, body, f"Creating the agent pool {spec.name!r} of the {self.where}"
        )

    def resize(self, group: NodeGroup, desired_size: int) -> Change:
        """Begins to give a pool another size.

        Raises:
            ConfigurationError: AKS refuses it.
            NodeGroupFailedError: Azure cannot give what is asked for, by quota or capacity.
            BusyError: another change of the cluster is under way, or was made since `group` was read.
        """
        properties = {key: value for key, value in _properties(group.raw).items() if key not in _READ_ONLY}
        tag = _properties(group.raw).get("eTag")
        headers = {"If-Match": str(tag)} if tag else {}
        body = {"properties": {**properties, "count": desired_size}}
        return self._put("resize", group.name, headers, body, f"Scaling the {group}")

    # -- inside --------------------------------------------------------------------------------------------------------

    @property
    def _collection(self) -> str:
        return f"{self._name.path}/agentPools"

    def _fetch(self) -> Token:
        return arm_token(self._login)

    def _caller(self, token: Token) -> AksCaller:
        return AksCaller(token.value, self._login.source, self._login.cloud.arm)

    def _look_up(self) -> Mapping[str, Any] | None:
        return look_up(self._name, self._caller(self._tokens.current()))

    def _send(self, session: Any, token: Token, method: str, path: str, doing: str, **content: Any) -> Answer:
        # Of what Azure names, path and query only: the host is the one we know, so that no other is ever sent a token.
        parts = urlsplit(path)
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        version = query.pop("api-version", _API_VERSION)
        request = AksRequest(method, parts.path, query, api_version=version, **content)
        return ask(session, self._caller(token), request, doing)

    def _put(self, kind: str, name: str, headers: Mapping[str, str], body: Mapping[str, Any], doing: str) -> Change:
        answer = self._ask("PUT", self._pool(name), doing, headers=headers, body=body)
        if answer.status == 412:
            raise (ExistsError if kind == "create" else BusyError)(f"{doing} failed ({answer.message}).")
        self._expect(answer, doing)
        return Change(kind, name, self._ticket(answer))

    def _expect(self, answer: Answer, doing: str) -> None:
        if answer.status in (200, 201, 202, 204):
            return
        text = f"{doing} with {self._login.source} failed ({answer.message or answer.status})."
        error = answer.body.get("error")
        code = str(error.get("code") or "") if isinstance(error, Mapping) else ""
        if answer.status in (400, 403, 409) and any(word in answer.message.lower() for word in _EXHAUSTED):
            raise NodeGroupFailedError(
                f"{text} Have the subscription's quota for this VM size raised, or ask for another size or zone.",
                code=code,
            )
        if answer.status == 409:
            raise BusyError(text)
        if answer.status == 401:
            raise CredentialError(f"{text} Azure does not take the token: check the tenant and the cloud.")
        if answer.status == 403:
            raise CredentialError(
                f"{text} Grant this identity Microsoft.ContainerService/managedClusters/agentPools/* on the cluster, "
                "as the role 'Azure Kubernetes Service Contributor Role' does."
            )
        if answer.status in (400, 404):
            raise ConfigurationError(f"{text} Correct what Azure names.")
        raise ConnectError(f"{text} If it does not pass, see the status page of Azure.")

    def _ticket(self, answer: Answer) -> str:
        parts = urlsplit(answer.headers.get("Azure-AsyncOperation") or "")
        return f"{parts.path}?{parts.query}" if parts.path else ""

    def _operation(self, ticket: str) -> str:
        return ticket

    def _progress(self, operation: Mapping[str, Any]) -> Progress:
        status, error = str(operation.get("status") or ""), operation.get("error") or {}
        if status in ("Failed", "Canceled"):
            return Progress(True, (Issue(str(error.get("code") or status), str(error.get("message") or "")),))
        return Progress(status == "Succeeded")

    def _group(self, pool: Mapping[str, Any]) -> NodeGroup:
        there, name = _properties(pool), str(pool.get("name") or "")
        state = str(there.get("provisioningState") or "")
        error = (there.get("status") or {}).get("provisioningError") or {}
        issues = (Issue(str(error.get("code") or ""), str(error.get("message") or "")),) if error else ()
        implied = {aks_rules.SPOT_TAINT: None} if there.get("scaleSetPriority") == "Spot" else {}
        taints = {Taint.parse(text): None for text in there.get("nodeTaints") or ()}
        phase = _PHASES.get(state.lower(), Phase.UPDATING)
        return replace(
            seen(self.kind, self.where, pool, name, state, phase, issues),
            desired_size=there.get("count"),
            min_size=there.get("minCount"),
            max_size=there.get("maxCount"),
            labels=there.get("nodeLabels") or {},
            taints=tuple(taints | implied),
            tags=there.get("tags") or {},
            autoscaled=bool(there.get("enableAutoScaling")),
        )


def _properties(pool: Mapping[str, Any]) -> Mapping[str, Any]:
    found = pool.get("properties")
    return found if isinstance(found, Mapping) else {}
