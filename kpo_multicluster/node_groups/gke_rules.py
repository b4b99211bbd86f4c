"""The rules of GKE for node pools, and the request that makes one.

Source: `NodePool`, `NodeConfig` and `NodePoolAutoscaling` of the Kubernetes Engine API, v1.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from kpo_multicluster.node_groups.rules import check_choice, check_largest, check_name, given, options_of
from kpo_multicluster.node_groups.spec import GkeNodes, NodeGroupSpec
from kpo_multicluster.node_groups.taints import Taint

_NAME = re.compile(r"[a-z]([-a-z0-9]{0,38}[a-z0-9])?")
_LABEL_KEY = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_LABEL_VALUE = re.compile(r"[a-z0-9_-]{0,63}")
_ZONE = re.compile(r"[a-z]+-[a-z]+\d+-[a-z]")
_LARGEST = 1000
_DRIVERS = {"default": "DEFAULT", "latest": "LATEST", "disabled": "INSTALLATION_DISABLED"}
_LABEL_LIMIT = 64 - 15

GPU_TAINT = Taint("nvidia.com/gpu", "present", "NoSchedule")
"""That GKE adds to pools with GPUs; it adds the toleration to pods that ask for GPUs as well."""


def check(spec: NodeGroupSpec) -> None:
    """Refuses what GKE would.

    Raises:
        ConfigurationError: with the rule.
    """
    nodes = options_of(spec, GkeNodes)
    check_name(
        spec, _NAME, "1 to 40 lower-case letters, digits and '-', beginning with a letter and not ending with '-'"
    )
    check_largest(spec, _LARGEST)
    if len(spec.machine_types) > 1:
        spec.refuse(f"has {len(spec.machine_types)} machine types; a pool of GKE has one: name a single one")
    for zone in nodes.zones:
        if not _ZONE.fullmatch(zone):
            spec.refuse(f"has the zone {zone!r}; a zone is like europe-west1-b (a region is not a zone)")
    if nodes.zones:
        check_zones(spec, nodes.zones)
    if len(spec.tags) > _LABEL_LIMIT:
        spec.refuse(f"has {len(spec.tags)} tags; GKE takes at most {_LABEL_LIMIT} as labels of resources")
    for key, value in spec.tags.items():
        if not _LABEL_KEY.fullmatch(key) or not _LABEL_VALUE.fullmatch(value):
            spec.refuse(
                f"has the tag {key}={value}; GKE takes lower-case letters, digits, '-' and '_', at most 63 of them, "
                "and a letter first in the key"
            )
    _check_gpu(spec, nodes)


def check_zones(spec: NodeGroupSpec, zones: tuple[str, ...]) -> None:
    """Refuses sizes that cannot be spread evenly, which is all that GKE does.

    Args:
        spec: of the pool.
        zones: its own, or the cluster's.

    Raises:
        ConfigurationError: with the zones.
    """
    if len(zones) > 1 and spec.desired_size % len(zones):
        spec.refuse(
            f"has the desired_size {spec.desired_size} in {len(zones)} zones ({', '.join(zones)}), of which GKE gives "
            "each the same number: name one zone in GkeNodes(zones=...), or a multiple of their number"
        )


def request(spec: NodeGroupSpec, tags: Mapping[str, str], zones: tuple[str, ...]) -> dict[str, Any]:
    """The body of the request that makes a pool.

    Args:
        spec: of the pool.
        tags: beside its own.
        zones: it is spread over.
    """
    nodes = options_of(spec, GkeNodes)
    config: dict[str, Any] = {
        "machineType": spec.machine_types[0] if spec.machine_types else None,
        "accelerators": _accelerators(spec, nodes),
        "spot": spec.spot or None,
        "diskSizeGb": spec.disk_gb,
        "diskType": nodes.disk_type,
        "imageType": nodes.image_type,
        "labels": dict(spec.labels),
        "taints": [taint.to_object() for taint in spec.taints],
        "resourceLabels": {**spec.tags, **tags},
        "serviceAccount": nodes.service_account,
        "oauthScopes": list(nodes.oauth_scopes),
    }
    if nodes.reservation is not None:
        key = "compute.googleapis.com/reservation-name"
        affinity = {"consumeReservationType": "SPECIFIC_RESERVATION", "key": key, "values": [nodes.reservation]}
        config["reservationAffinity"] = affinity
    pool: dict[str, Any] = {
        "name": spec.name,
        "initialNodeCount": spec.desired_size // max(1, len(zones)),
        "locations": list(nodes.zones),
        "config": given(config),
    }
    if nodes.autoscale:
        pool["autoscaling"] = {
            "enabled": True,
            "totalMinNodeCount": spec.min_size,
            "totalMaxNodeCount": spec.largest,
            "locationPolicy": "ANY",
        }
    return {"nodePool": given(pool)}


def _accelerators(spec: NodeGroupSpec, nodes: GkeNodes) -> list[dict[str, Any]]:
    if spec.gpu is None:
        return []
    accelerator = {
        "acceleratorCount": str(spec.gpu.count),
        "acceleratorType": spec.gpu.type,
        "gpuPartitionSize": nodes.gpu_partition_size,
        "gpuDriverInstallationConfig": {"gpuDriverVersion": _DRIVERS[nodes.driver_version]},
    }
    return [given(accelerator)]


def _check_gpu(spec: NodeGroupSpec, nodes: GkeNodes) -> None:
    check_choice(spec, "driver_version", tuple(_DRIVERS))
    if spec.gpu is not None and spec.gpu.type is None:
        spec.refuse("has GPUs without a type: name GKE's, as in Gpu(type='nvidia-l4')")
    if spec.gpu is None and nodes.gpu_partition_size is not None:
        spec.refuse("has a gpu_partition_size and no gpu: add Gpu(type=...), or drop it")
