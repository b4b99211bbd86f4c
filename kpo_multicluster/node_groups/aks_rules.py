"""The rules of AKS for agent pools, and the request that makes one.

Source: `Agent Pools` of the AKS REST API: Create Or Update.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from kpo_multicluster.node_groups.spec import AksNodes, NodeGroupSpec
from kpo_multicluster.node_groups.taints import Taint

_NAME = re.compile(r"[a-z][a-z0-9]{0,11}")
_SUBNET = re.compile(r"/subscriptions/[^/]+/resourceGroups/[^/]+/providers/.+/subnets/[^/]+", re.IGNORECASE)
_TAG_KEY = re.compile(r"[^<>%&\\?/]{1,512}")
_LARGEST, _TAG_LIMIT, _TAG_VALUE_LIMIT = 1000, 50 - 15, 256
_DRIVERS = ("Install", "None")
_PROFILES = tuple(f"MIG{number}g" for number in (1, 2, 3, 4, 7))

SPOT_TAINT = Taint("kubernetes.azure.com/scalesetpriority", "spot", "NoSchedule")
"""That AKS adds to pools of spot nodes."""


def options(spec: NodeGroupSpec) -> AksNodes:
    """The options for AKS.

    Raises:
        ConfigurationError: it has those for another cloud.
    """
    if not isinstance(spec.options, AksNodes):
        spec.refuse(f"has options for {spec.cloud}, and its cluster is one of AKS: give AksNodes(...)")
    return spec.options


def check(spec: NodeGroupSpec) -> None:
    """Refuses what AKS would.

    Raises:
        ConfigurationError: with the rule.
    """
    nodes = options(spec)
    if not _NAME.fullmatch(spec.name):
        spec.refuse("has a name that AKS does not take: 1 to 12 lower-case letters and digits, beginning with a letter")
    if spec.largest > _LARGEST:
        spec.refuse(f"has the max_size {spec.largest}; AKS takes at most {_LARGEST} nodes")
    if len(spec.machine_types) != 1:
        spec.refuse(
            f"has {len(spec.machine_types)} machine types; a pool of AKS has one: name a VM size, such as "
            "Standard_NC24ads_A100_v4"
        )
    if nodes.subnet is not None and not _SUBNET.fullmatch(nodes.subnet):
        spec.refuse(f"has the subnet {nodes.subnet!r}; give its resource id, /subscriptions/.../subnets/name")
    for zone in nodes.zones:
        if zone not in ("1", "2", "3"):
            spec.refuse(f"has the zone {zone!r}; zones of Azure are '1', '2' and '3'")
    if nodes.spot_max_price is not None and not spec.spot:
        spec.refuse("has a spot_max_price without spot: add spot=True, or drop it")
    _check_gpu(spec, nodes)
    _check_tags(spec)


def request(spec: NodeGroupSpec, tags: Mapping[str, str]) -> dict[str, Any]:
    """The body of the request that makes a pool."""
    nodes = options(spec)
    properties: dict[str, Any] = {
        "count": spec.desired_size,
        "vmSize": spec.machine_types[0],
        "mode": "User",
        "osType": "Linux",
        "osSKU": nodes.os_sku,
        "osDiskSizeGB": spec.disk_gb,
        "maxPods": nodes.max_pods,
        "vnetSubnetID": nodes.subnet,
        "availabilityZones": list(nodes.zones),
        "nodeLabels": dict(spec.labels),
        "nodeTaints": [taint.to_text() for taint in spec.taints],
        "tags": {**spec.tags, **tags},
        "gpuInstanceProfile": nodes.gpu_instance_profile,
        "gpuProfile": {"driver": nodes.gpu_driver} if nodes.gpu_driver is not None else None,
    }
    if nodes.autoscale:
        properties |= {"enableAutoScaling": True, "minCount": spec.min_size, "maxCount": spec.largest}
    if spec.spot:
        price = -1.0 if nodes.spot_max_price is None else nodes.spot_max_price
        properties |= {"scaleSetPriority": "Spot", "scaleSetEvictionPolicy": "Delete", "spotMaxPrice": price}
    return {"properties": {key: value for key, value in properties.items() if value not in (None, {}, [])}}


def _check_gpu(spec: NodeGroupSpec, nodes: AksNodes) -> None:
    if spec.gpu is not None and spec.gpu.type is not None:
        spec.refuse(f"has the gpu type {spec.gpu.type!r}; AKS knows it by the VM size: name that as machine_types")
    if nodes.gpu_driver is not None and nodes.gpu_driver not in _DRIVERS:
        spec.refuse(f"has the gpu_driver {nodes.gpu_driver!r}; it must be one of {', '.join(_DRIVERS)}")
    if nodes.gpu_instance_profile is not None and nodes.gpu_instance_profile not in _PROFILES:
        spec.refuse(
            f"has the gpu_instance_profile {nodes.gpu_instance_profile!r}; it must be one of {', '.join(_PROFILES)}"
        )
    if spec.gpu is None and (nodes.gpu_driver or nodes.gpu_instance_profile):
        spec.refuse("has options for GPUs and no gpu: add Gpu(count=...), or drop them")


def _check_tags(spec: NodeGroupSpec) -> None:
    if len(spec.tags) > _TAG_LIMIT:
        spec.refuse(f"has {len(spec.tags)} tags; Azure takes at most {_TAG_LIMIT}")
    for key, value in spec.tags.items():
        if not _TAG_KEY.fullmatch(key) or len(value) > _TAG_VALUE_LIMIT:
            spec.refuse(
                f"has the tag {key!r}; Azure takes no '<>%&\\?/' in its name, and {_TAG_VALUE_LIMIT} characters as its "
                "value"
            )
