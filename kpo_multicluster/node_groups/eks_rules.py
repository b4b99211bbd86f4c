"""The rules of EKS for node groups, and the request that makes one.

Sources: CreateNodegroup of the Amazon EKS API; "Amazon Linux 2 AMI deprecation" of its user guide: there are no AL2
AMIs for Kubernetes 1.33 and later.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from kpo_multicluster.node_groups.rules import check_name, given, options_of
from kpo_multicluster.node_groups.spec import EksNodes, NodeGroupSpec

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
_ROLE = re.compile(r"arn:[\w-]+:iam::\d{12}:role/[\w+=,.@/-]+")
_SUBNET = re.compile(r"subnet-[\w-]+")
_VERSION = re.compile(r"(\d+)\.(\d+)")
_MACHINE_LIMIT, _TAINT_LIMIT, _TAG_LIMIT = 20, 50, 50
_WITHOUT_AL2 = (1, 33)
_INSTEAD_OF_AL2 = {
    "AL2_x86_64": "AL2023_x86_64_STANDARD",
    "AL2_x86_64_GPU": "AL2023_x86_64_NVIDIA",
    "AL2_ARM_64": "AL2023_ARM_64_STANDARD",
}
_FOR_GPUS = ("GPU", "NVIDIA", "NEURON", "CUSTOM")
# Instances with GPUs and processors of AWS's own.
_ARM_GPU_FAMILIES = ("g5g.", "p6e-gb200.", "u-p6e-gb200")
_UPDATE_KEYS = ("maxUnavailable", "maxUnavailablePercentage")


def check(spec: NodeGroupSpec) -> None:
    """Refuses what EKS would.

    Raises:
        ConfigurationError: with the rule.
    """
    nodes = options_of(spec, EksNodes)
    check_name(spec, _NAME, "1 to 63 letters, digits, '-' and '_', beginning with a letter or digit")
    if not nodes.node_role:
        spec.refuse("has no node_role: give the ARN of the role that its machines run as")
    if not _ROLE.fullmatch(nodes.node_role):
        spec.refuse(f"has the node_role {nodes.node_role!r}, not one like arn:aws:iam::123456789012:role/name")
    if not nodes.subnets:
        spec.refuse("has no subnets: give the ids of those that its machines are to be in")
    for subnet in nodes.subnets:
        if not _SUBNET.fullmatch(subnet):
            spec.refuse(f"has the subnet {subnet!r}; an id is like subnet-0a1b2c3d")
    if len(spec.machine_types) > _MACHINE_LIMIT:
        spec.refuse(f"has {len(spec.machine_types)} machine types; EKS takes at most {_MACHINE_LIMIT}")
    if len(spec.taints) > _TAINT_LIMIT or len(spec.tags) > _TAG_LIMIT - 15:
        spec.refuse(f"has more taints than {_TAINT_LIMIT} or more tags than {_TAG_LIMIT - 15}, which EKS does not take")
    _check_machines(spec, nodes)
    _check_update(spec, nodes)
    if nodes.kubernetes_version is not None:
        check_version(spec, nodes.kubernetes_version)


def check_version(spec: NodeGroupSpec, cluster_version: str | None) -> None:
    """Refuses an AMI type that there is none of for the nodes' version of Kubernetes.

    Args:
        spec: of the group.
        cluster_version: such as `1.34`.

    Raises:
        ConfigurationError: with the AMI type to use.
    """
    nodes = options_of(spec, EksNodes)
    version = nodes.kubernetes_version or cluster_version or ""
    match = _VERSION.match(version)
    instead = _INSTEAD_OF_AL2.get(nodes.ami_type or "")
    if instead is None or match is None or (int(match[1]), int(match[2])) < _WITHOUT_AL2:
        return
    spec.refuse(
        f"has the ami_type {nodes.ami_type}, and there is no Amazon Linux 2 for Kubernetes {version}: use "
        f"ami_type={instead!r}"
    )


def ami_type(spec: NodeGroupSpec) -> str | None:
    """The AMI type to ask for; None leaves it to EKS."""
    nodes = options_of(spec, EksNodes)
    if nodes.ami_type is not None or spec.gpu is None or nodes.launch_template:
        return nodes.ami_type
    arm = any(machine.startswith(_ARM_GPU_FAMILIES) for machine in spec.machine_types)
    return "AL2023_ARM_64_NVIDIA" if arm else "AL2023_x86_64_NVIDIA"


def capacity(spec: NodeGroupSpec) -> str:
    """The capacity type to ask for."""
    if options_of(spec, EksNodes).capacity_block:
        return "CAPACITY_BLOCK"
    return "SPOT" if spec.spot else "ON_DEMAND"


def request(spec: NodeGroupSpec, tags: Mapping[str, str]) -> dict[str, Any]:
    """The arguments of CreateNodegroup, without the names."""
    nodes = options_of(spec, EksNodes)
    asked = {
        "subnets": list(nodes.subnets),
        "nodeRole": nodes.node_role,
        "scalingConfig": {"minSize": spec.min_size, "maxSize": spec.largest, "desiredSize": spec.desired_size},
        "amiType": ami_type(spec),
        "instanceTypes": list(spec.machine_types),
        "capacityType": capacity(spec),
        "diskSize": spec.disk_gb,
        "labels": dict(spec.labels),
        "taints": [taint.to_object() for taint in spec.taints],
        "tags": {**spec.tags, **tags},
        "updateConfig": dict(nodes.update_config),
        "launchTemplate": dict(nodes.launch_template),
        "version": nodes.kubernetes_version,
        "releaseVersion": nodes.release_version,
    }
    return given(asked)


def _check_machines(spec: NodeGroupSpec, nodes: EksNodes) -> None:
    template = nodes.launch_template
    if template and (set(template) - {"id", "name", "version"} or ("id" in template) == ("name" in template)):
        spec.refuse("needs a launch_template of either id or name, with an optional version")
    if template and spec.disk_gb is not None:
        spec.refuse("has disk_gb beside a launch_template: put the disk into the template")
    if nodes.capacity_block and (not template or spec.spot):
        spec.refuse("has capacity_block, which needs a launch_template that names the block, and goes without spot")
    if spec.gpu is None:
        return
    if spec.gpu.type is not None:
        spec.refuse(
            f"has the gpu type {spec.gpu.type!r}; EKS knows it by the machine type: name that, such as g5.xlarge"
        )
    if not spec.machine_types and not template:
        spec.refuse("has GPUs and no machine_types: name an instance type that has them, such as g5.xlarge")
    if nodes.ami_type is not None and not any(word in nodes.ami_type for word in _FOR_GPUS):
        spec.refuse(
            f"has GPUs and the ami_type {nodes.ami_type}, which has no drivers for them: use AL2023_x86_64_NVIDIA, or "
            "leave it out"
        )


def _check_update(spec: NodeGroupSpec, nodes: EksNodes) -> None:
    update = nodes.update_config
    if not update:
        return
    if len(update) != 1 or not set(update) <= set(_UPDATE_KEYS):
        spec.refuse(f"needs an update_config of exactly one of {' and '.join(_UPDATE_KEYS)}")
    value = next(iter(update.values()))
    if not 1 <= value <= 100:
        spec.refuse(f"has the update_config {dict(update)}; it must be 1 to 100")
