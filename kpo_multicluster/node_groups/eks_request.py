"""Reads the arguments of CreateNodegroup, as who comes from boto3 or the amazon provider has them written down."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kpo_multicluster.errors import ConfigurationError
from kpo_multicluster.node_groups.spec import EksNodes, Gpu, NodeGroupSpec

# Fields of the spec, and of its options, by their names in the request.
_FIELDS = {
    "nodegroupName": "name",
    "instanceTypes": "machine_types",
    "diskSize": "disk_gb",
    "labels": "labels",
    "taints": "taints",
    "tags": "tags",
}
_OPTIONS = {
    "nodeRole": "node_role",
    "subnets": "subnets",
    "amiType": "ami_type",
    "updateConfig": "update_config",
    "launchTemplate": "launch_template",
    "version": "kubernetes_version",
    "releaseVersion": "release_version",
}
_SIZES = {"minSize": "min_size", "maxSize": "max_size", "desiredSize": "desired_size"}
_CAPACITY: Mapping[str, tuple[bool, bool]] = {
    "ON_DEMAND": (False, False),
    "SPOT": (True, False),
    "CAPACITY_BLOCK": (False, True),
}
# The cluster is named elsewhere, and EKS is told of one request twice by its name alone.
_ELSEWHERE = ("clusterName", "clientRequestToken")


def spec_of_request(request: Mapping[str, Any], *, gpu: Gpu | None = None) -> NodeGroupSpec:
    """A spec from the arguments of CreateNodegroup.

    Args:
        request: `nodegroupName`, `scalingConfig`, `amiType`, `instanceTypes`, `nodeRole`, `subnets`, ... under the
            names that the API gives them.
        gpu: the GPUs of a node, of which the API knows nothing.

    Raises:
        ConfigurationError: an argument is unknown or of the wrong type, or no such group could be.
    """
    given = {key: value for key, value in request.items() if value is not None and key not in _ELSEWHERE}
    sizes, capacity = given.pop("scalingConfig", {}), given.pop("capacityType", "ON_DEMAND")
    _check(given, (*_FIELDS, *_OPTIONS, "scalingConfig", "capacityType"), "CreateNodegroup")
    if not isinstance(sizes, Mapping) or capacity not in _CAPACITY:
        raise ConfigurationError(
            f"The node group's scalingConfig must be an object, and its capacityType one of {', '.join(_CAPACITY)}."
        )
    _check(sizes, _SIZES, "scalingConfig")
    spot, block = _CAPACITY[capacity]
    fields = {_FIELDS[key]: value for key, value in given.items() if key in _FIELDS}
    fields |= {_SIZES[key]: value for key, value in sizes.items()}
    options = {_OPTIONS[key]: value for key, value in given.items() if key in _OPTIONS}
    made = {"cloud": EksNodes.cloud, "capacity_block": block, **options}
    return NodeGroupSpec.from_json({**fields, "spot": spot, "gpu": gpu, "options": made})


def _check(given: Mapping[str, Any], known: Any, what: str) -> None:
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise ConfigurationError(
            f"{what} has no argument {', '.join(unknown)}, or none that is supported here; there are "
            f"{', '.join(known)}."
        )
