"""The nodes of a node group, with the names, labels, taints and GPUs that each cloud gives them.

Sources: "Well-known labels" and the node group pages of the documentation of Amazon EKS, Google Kubernetes Engine and
Azure Kubernetes Service. GPUs are advertised as by NVIDIA's device plugin, where the drivers were asked for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kpo_multicluster.testing.clouds.node_groups import NodeGroup
from kpo_multicluster.testing.topology import NodeSpec

GPU_RESOURCE = "nvidia.com/gpu"
_EFFECTS = {
    "NO_SCHEDULE": "NoSchedule",
    "PREFER_NO_SCHEDULE": "PreferNoSchedule",
    "NO_EXECUTE": "NoExecute",
}
# GPUs of instance types, by family and size; of other sizes of these families, one.
_EC2_FAMILIES = re.compile(r"(?:g4dn|g5g?|g6e?|gr6|p[2-6][\w-]*)\.\w+")
_EC2_GPUS = {
    **dict.fromkeys(("g4dn.12xlarge", "g5.12xlarge", "g5.24xlarge", "g6.12xlarge", "g6.24xlarge"), 4),
    **dict.fromkeys(("g6e.12xlarge", "g6e.24xlarge", "p3.8xlarge"), 4),
    **dict.fromkeys(("g4dn.metal", "g5.48xlarge", "g6.48xlarge", "g6e.48xlarge", "p2.8xlarge", "p3.16xlarge"), 8),
    **dict.fromkeys(("p3dn.24xlarge", "p4d.24xlarge", "p4de.24xlarge", "p5.48xlarge", "p5e.48xlarge"), 8),
    **dict.fromkeys(("p5en.48xlarge", "p6-b200.48xlarge"), 8),
    **dict.fromkeys(("g5g.16xlarge", "g5g.metal"), 2),
    "p2.16xlarge": 16,
}
# GPUs of VM sizes; of other sizes of these families, one.
_AZURE_FAMILIES = re.compile(r"standard_n[cdv]\d\w*", re.IGNORECASE)
_AZURE_GPUS = (
    (re.compile(r"standard_nd(?:96|128)\w*", re.IGNORECASE), 8),
    (re.compile(r"standard_nc(?:64as_t4|96ads_a100)\w*", re.IGNORECASE), 4),
    (re.compile(r"standard_(?:nc48ads_a100|nc80adis_h100|nv72ads_a10)\w*", re.IGNORECASE), 2),
)


def eks_nodes(group: NodeGroup) -> list[NodeSpec]:
    """The nodes of a managed node group; its spec is what CreateNodegroup was asked."""
    spec, region = group.spec, group.cluster.split(":")[3]
    machine = next(iter(spec.get("instanceTypes") or ()), "t3.medium")
    zones = max(1, len(spec.get("subnets") or ()))
    labels = {
        "eks.amazonaws.com/nodegroup": group.name,
        "eks.amazonaws.com/capacityType": str(spec.get("capacityType") or "ON_DEMAND"),
        "node.kubernetes.io/instance-type": machine,
        "topology.kubernetes.io/region": region,
        **(spec.get("labels") or {}),
    }
    image = str(spec.get("amiType") or "")
    driven = "NVIDIA" in image or "GPU" in image or bool(spec.get("launchTemplate"))
    capacity = _gpus(_ec2_gpus(machine) if driven else 0)
    return [
        NodeSpec(
            f"i-0{group.uid}{number:08x}.{region}.compute.internal",
            {**labels, "topology.kubernetes.io/zone": f"{region}{chr(ord('a') + number % zones)}"},
            _taints(spec.get("taints") or ()),
            capacity,
        )
        for number in range(group.count)
    ]


def gke_nodes(group: NodeGroup, zones: Sequence[str]) -> list[NodeSpec]:
    """The nodes of a node pool; its spec is a `NodePool` in JSON form, its count that of each zone."""
    _, _, _, location, _, cluster = group.cluster.split("/")
    config = group.spec.get("config") or {}
    accelerator: Mapping[str, Any] = next(iter(config.get("accelerators") or ()), {})
    labels = {
        "cloud.google.com/gke-nodepool": group.name,
        "node.kubernetes.io/instance-type": str(config.get("machineType") or "e2-medium"),
        "topology.kubernetes.io/region": "-".join(location.split("-")[:2]),
        **(config.get("labels") or {}),
    }
    taints = [*(config.get("taints") or ())]
    if accelerator:
        labels["cloud.google.com/gke-accelerator"] = str(accelerator.get("acceleratorType"))
        taints.append({"key": GPU_RESOURCE, "value": "present", "effect": "NO_SCHEDULE"})
    if config.get("spot"):
        labels["cloud.google.com/gke-spot"] = "true"
    driver = (accelerator.get("gpuDriverInstallationConfig") or {}).get("gpuDriverVersion")
    capacity = _gpus(0 if driver == "INSTALLATION_DISABLED" else int(accelerator.get("acceleratorCount") or 0))
    prefix = f"gke-{cluster[:18].rstrip('-')}-{group.name[:18].rstrip('-')}-{group.uid}"
    # By zones last, so that nodes which are there keep their names as their number changes.
    places = [zone for _ in range(group.count) for zone in zones or (location,)]
    return [
        NodeSpec(
            f"{prefix}-{number:04x}",
            {**labels, "topology.kubernetes.io/zone": zone},
            _unique(_taints(taints)),
            capacity,
        )
        for number, zone in enumerate(places)
    ]


def aks_nodes(group: NodeGroup) -> list[NodeSpec]:
    """The nodes of an agent pool; its spec is the `properties` that it was put with."""
    spec = group.spec
    machine = str(spec.get("vmSize") or "Standard_DS2_v2")
    count = _azure_gpus(machine)
    labels = {
        "agentpool": group.name,
        "kubernetes.azure.com/agentpool": group.name,
        "kubernetes.azure.com/mode": str(spec.get("mode") or "User").lower(),
        "node.kubernetes.io/instance-type": machine,
        **({"kubernetes.azure.com/accelerator": "nvidia"} if count else {}),
        **(spec.get("nodeLabels") or {}),
    }
    taints = [_taint_of_text(text) for text in spec.get("nodeTaints") or ()]
    if spec.get("scaleSetPriority") == "Spot":
        labels["kubernetes.azure.com/scalesetpriority"] = "spot"
        taints.append({"key": "kubernetes.azure.com/scalesetpriority", "value": "spot", "effect": "NoSchedule"})
    capacity = _gpus(0 if (spec.get("gpuProfile") or {}).get("driver") == "None" else count)
    prefix = f"aks-{group.name}-{int(group.uid, 16) % 10**8:08d}-vmss"
    return [NodeSpec(f"{prefix}{number:06d}", labels, _unique(taints), capacity) for number in range(group.count)]


def _gpus(count: int) -> dict[str, str]:
    return {GPU_RESOURCE: str(count)} if count else {}


def _ec2_gpus(machine: str) -> int:
    return _EC2_GPUS.get(machine, 1) if _EC2_FAMILIES.fullmatch(machine) else 0


def _azure_gpus(machine: str) -> int:
    found = next((count for pattern, count in _AZURE_GPUS if pattern.fullmatch(machine)), 1)
    return found if _AZURE_FAMILIES.fullmatch(machine) else 0


def _taints(given: Iterable[Mapping[str, Any]]) -> tuple[dict[str, str], ...]:
    """From the form that EKS and GKE give taints."""
    return tuple(
        {
            "key": str(taint.get("key", "")),
            "value": str(taint.get("value") or ""),
            "effect": _EFFECTS[str(taint.get("effect"))],
        }
        for taint in given
    )


def _taint_of_text(text: str) -> dict[str, str]:
    """From the form that AKS gives taints: `key=value:Effect`."""
    pair, _, effect = text.rpartition(":")
    key, _, value = pair.partition("=")
    return {"key": key, "value": value, "effect": effect}


def _unique(taints: Iterable[Mapping[str, str]]) -> tuple[Mapping[str, str], ...]:
    """A kubelet refuses to register with a taint that is there twice."""
    return tuple({(taint["key"], taint["effect"]): taint for taint in taints}.values())
