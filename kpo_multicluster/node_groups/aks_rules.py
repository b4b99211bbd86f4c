"""The rules of AKS for agent pools, and the request that makes one.

Source: `Agent Pools` of the AKS REST API: Create Or Update.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from kpo_multicluster.node_groups.rules import check_choice, check_largest, check_name, given, options_of
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


def check(spec: NodeGroupSpec) -> None:
    """Refuses what AKS would.

    Raises:
        ConfigurationError: with the rule.
    """
    nodes = options_of(spec, AksNodes)
    check_name(spec, _NAME, "1 to 12 lower-case letters and digits, beginning with a letter")
    check_largest(spec, _LARGEST)
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
    nodes = options_of(spec, AksNodes)
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
    return {"properties": given(properties)}


def _check_gpu(spec: NodeGroupSpec, nodes: AksNodes) -> None:
    if spec.gpu is not None and spec.gpu.type is not None:
        spec.refuse(f"has the gpu type {spec.gpu.type!r}; AKS knows it by the VM size: name that as machine_types")
    check_choice(spec, "gpu_driver", _DRIVERS)
    check_choice(spec, "gpu_instance_profile", _PROFILES)
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
