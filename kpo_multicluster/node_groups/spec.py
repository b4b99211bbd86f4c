"""What a node group is to be: one spec, with options for each cloud.

    spec = NodeGroupSpec(
        name="gpu",
        machine_types=("g5.xlarge",),
        desired_size=2,
        gpu=Gpu(),
        taints=("nvidia.com/gpu=present:NoSchedule",),
        options=EksNodes(node_role="arn:aws:iam::111111111111:role/nodes", subnets=("subnet-0a1b",)),
    )

It is a value: it parses without any cloud's library, and travels as JSON. What no cloud could make is refused when it
is written down; what its own cloud could not, before any call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from types import MappingProxyType
from typing import Any, ClassVar, NoReturn

from kpo_multicluster.errors import ConfigurationError
from kpo_multicluster.node_groups.ownership import is_reserved
from kpo_multicluster.node_groups.taints import Taint, is_label_key, is_label_value

GPU_RESOURCE = "nvidia.com/gpu"
_SIZES = ("min_size", "max_size", "desired_size", "disk_gb")


@dataclass(frozen=True)
class Gpu:
    """The GPUs of each node.

    Attributes:
        count: of them in a node, as pods can ask for them.
        type: of GKE's accelerators, such as `nvidia-l4`. EKS and AKS know it by the machine type.
        resource: what pods ask for; `nvidia.com/mig-1g.5gb` for parts of a GPU.
    """

    count: int = 1
    type: str | None = None
    resource: str = GPU_RESOURCE


@dataclass(frozen=True)
class EksNodes:
    """What only EKS asks.

    Attributes:
        node_role: ARN of the role of the instances.
        subnets: ids of those that instances are put in.
        ami_type: such as `AL2023_x86_64_NVIDIA`; default that one for groups with GPUs, else EKS's own choice.
        update_config: `{"maxUnavailable": 1}` or `{"maxUnavailablePercentage": 33}`.
        launch_template: `{"id": ...}` or `{"name": ...}`, with an optional `version`.
        kubernetes_version: of the nodes, such as `1.34`; default the cluster's.
        release_version: of the AMI.
        capacity_block: instances come from a capacity block, which the launch template names.
    """

    cloud: ClassVar[str] = "eks"
    node_role: str = ""
    subnets: tuple[str, ...] = ()
    ami_type: str | None = None
    update_config: Mapping[str, int] = field(default_factory=dict)
    launch_template: Mapping[str, str] = field(default_factory=dict)
    kubernetes_version: str | None = None
    release_version: str | None = None
    capacity_block: bool = False


@dataclass(frozen=True)
class GkeNodes:
    """What only GKE asks.

    Attributes:
        zones: of the nodes, which are spread evenly; default those of the cluster.
        driver_version: of NVIDIA that GKE installs: `default`, `latest`, or `disabled` for none.
        gpu_partition_size: of a GPU, such as `1g.5gb`.
        service_account: of the nodes; default Compute Engine's.
        oauth_scopes: of the nodes.
        image_type: such as `COS_CONTAINERD`.
        disk_type: such as `pd-ssd`.
        reservation: name of the reservation that nodes are taken from.
        autoscale: let GKE's autoscaler keep the size between `min_size` and `max_size`.
    """

    cloud: ClassVar[str] = "gke"
    zones: tuple[str, ...] = ()
    driver_version: str = "default"
    gpu_partition_size: str | None = None
    service_account: str | None = None
    oauth_scopes: tuple[str, ...] = ("https://www.googleapis.com/auth/cloud-platform",)
    image_type: str | None = None
    disk_type: str | None = None
    reservation: str | None = None
    autoscale: bool = False


@dataclass(frozen=True)
class AksNodes:
    """What only AKS asks.

    Attributes:
        zones: of the nodes, as numbers in text; default none in particular.
        subnet: resource id of that of the nodes; default the cluster's.
        os_sku: such as `Ubuntu` or `AzureLinux`.
        gpu_driver: `Install` or `None`; default AKS's own choice, which is to install it.
        gpu_instance_profile: `MIG1g` to `MIG7g`.
        spot_max_price: in US dollars an hour; -1 for the price without spot. Only with `spot`.
        max_pods: of a node.
        autoscale: let AKS's autoscaler keep the size between `min_size` and `max_size`.
    """

    cloud: ClassVar[str] = "aks"
    zones: tuple[str, ...] = ()
    subnet: str | None = None
    os_sku: str | None = None
    gpu_driver: str | None = None
    gpu_instance_profile: str | None = None
    spot_max_price: float | None = None
    max_pods: int | None = None
    autoscale: bool = False


CloudNodes = EksNodes | GkeNodes | AksNodes
_CLOUDS: Mapping[str, type[CloudNodes]] = {"eks": EksNodes, "gke": GkeNodes, "aks": AksNodes}


@dataclass(frozen=True)
class NodeGroupSpec:
    """A node group as it is to be.

    Attributes:
        name: of it.
        options: for its cloud.
        machine_types: instance types of EKS, of which it may pick; the machine type of GKE, the VM size of AKS.
        desired_size: how many nodes it begins with, in all its zones.
        min_size: that it never goes below; default 0.
        max_size: that it never goes above; default `desired_size`, but at least 1.
        gpu: the GPUs of a node; None for a group without.
        spot: nodes that cost less and may be taken back.
        disk_gb: of a node's disk; default the cloud's.
        labels: of the nodes.
        taints: of the nodes: `Taint`, or text as of kubectl.
        tags: of the cloud: tags, or labels of resources in GKE.

    Raises:
        ConfigurationError: no cloud could make this.
    """

    name: str
    options: CloudNodes
    machine_types: tuple[str, ...] = ()
    desired_size: int = 1
    min_size: int = 0
    max_size: int | None = None
    gpu: Gpu | None = None
    spot: bool = False
    disk_gb: int | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Taint, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        types: Any = self.machine_types
        if isinstance(types, str):
            object.__setattr__(self, "machine_types", (types,))
        _check_fields(self, "node group")
        object.__setattr__(self, "taints", tuple(Taint.parse(taint) for taint in self.taints))
        if self.gpu is not None:
            _check_fields(self.gpu, "gpu")
        _check_fields(self.options, "options")
        self._check_sizes()
        self._check_marks()

    def __hash__(self) -> int:
        return hash((self.name, self.cloud))

    def __reduce__(self) -> tuple[Any, ...]:
        # A mappingproxy does not pickle or deep-copy, and Airflow deep-copies operator arguments.
        return (NodeGroupSpec.from_json, (self.to_json(),))

    @property
    def cloud(self) -> str:
        """The kind of cluster it is for: `eks`, `gke` or `aks`."""
        return self.options.cloud

    @property
    def largest(self) -> int:
        """The size it never goes above."""
        return max(self.desired_size, 1) if self.max_size is None else self.max_size

    def resized(self, desired_size: int) -> NodeGroupSpec:
        """The same group with another size.

        Raises:
            ConfigurationError: it is outside `min_size` and `max_size`.
        """
        return replace(self, desired_size=desired_size)

    def refuse(self, fault: str) -> NoReturn:
        """Raises what says that this spec cannot be.

        Raises:
            ConfigurationError: always.
        """
        raise ConfigurationError(f"The node group {self.name!r} {fault}.")

    def _check_sizes(self) -> None:
        for name in _SIZES:
            value = getattr(self, name)
            if value is not None and value < 0:
                self.refuse(f"has the {name} {value}, which is below 0")
        if self.largest < 1:
            self.refuse("has the max_size 0; a group that is to be empty at times has desired_size=0 and max_size=1")
        if self.min_size > self.desired_size:
            self.refuse(f"has the desired_size {self.desired_size}, below its min_size {self.min_size}")
        if self.desired_size > self.largest:
            self.refuse(f"has the desired_size {self.desired_size}, above its max_size {self.largest}")
        if self.gpu is not None and self.gpu.count < 1:
            self.refuse(f"has {self.gpu.count} GPUs a node: give 1 or more, or no gpu")

    def _check_marks(self) -> None:
        for key, value in self.labels.items():
            if not is_label_key(key) or not is_label_value(value):
                self.refuse(f"has the label {key}={value}, which Kubernetes does not take")
        for tag in self.tags:
            if is_reserved(tag):
                self.refuse(f"has the tag {tag!r}; these are written by kpo-multicluster itself: name it otherwise")

    # -- JSON ----------------------------------------------------------------------------------------------------------

    def to_json(self) -> dict[str, Any]:
        """It as JSON values, without what is left at its default."""
        written = _written(self)
        written["options"] = {"cloud": self.cloud, **_written(self.options)}
        if self.gpu is not None:
            written["gpu"] = _written(self.gpu)
        if self.taints:
            written["taints"] = [str(taint) for taint in self.taints]
        return written

    @classmethod
    def from_json(cls, data: NodeGroupSpec | Mapping[str, Any]) -> NodeGroupSpec:
        """From what `to_json` wrote, or someone by hand.

        Raises:
            ConfigurationError: a field is missing, unknown or of the wrong type, or no cloud could make this.
        """
        if isinstance(data, NodeGroupSpec):
            return data
        _check_known(data, cls, "node group")
        given = dict(data)
        options = given.get("options")
        if not isinstance(options, Mapping) or options.get("cloud") not in _CLOUDS:
            raise ConfigurationError(
                f"The options of a node group name their cloud, {', '.join(_CLOUDS)}: "
                "{'cloud': 'eks', 'node_role': ...}."
            )
        kind = _CLOUDS[options["cloud"]]
        given["options"] = _made(kind, {k: v for k, v in options.items() if k != "cloud"}, "options")
        if isinstance(given.get("gpu"), Mapping):
            given["gpu"] = _made(Gpu, given["gpu"], "gpu")
        made: NodeGroupSpec = _made(cls, given, "node group")
        return made


def _made(kind: Callable[..., Any], given: Mapping[str, Any], what: str) -> Any:
    _check_known(given, kind, what)
    return kind(**{key: tuple(value) if isinstance(value, list) else value for key, value in given.items()})


def _check_known(given: Mapping[str, Any], kind: Any, what: str) -> None:
    known = [item.name for item in fields(kind)]
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise ConfigurationError(
            f"The {what} has the unknown field {', '.join(map(str, unknown))}; it takes {', '.join(known)}."
        )
    missing = [item.name for item in fields(kind) if _required(item) and item.name not in given]
    if missing:
        raise ConfigurationError(f"The {what} lacks the field {', '.join(missing)}: give it.")


def _required(item: Any) -> bool:
    return item.default is MISSING and item.default_factory is MISSING


def _check_fields(value: Any, what: str) -> None:
    """Refuses values of the wrong type, and freezes those that could change."""
    for item in fields(value):
        given, expected = getattr(value, item.name), str(item.type)
        checked = _KINDS.get(expected.removesuffix(" | None"))
        if checked is None or (given is None and expected.endswith("| None")):
            continue
        phrase, fits = checked
        if not fits(given):
            raise ConfigurationError(f"The field {item.name} of the {what} must be {phrase}, not {given!r}.")
        if isinstance(given, list):
            object.__setattr__(value, item.name, tuple(given))
        elif isinstance(given, Mapping):
            object.__setattr__(value, item.name, MappingProxyType(dict(given)))


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _all_texts(values: Iterable[Any]) -> bool:
    return all(isinstance(value, str) for value in values)


_KINDS: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "str": ("text", lambda v: isinstance(v, str)),
    "int": ("a whole number", _is_whole),
    "float": ("a number", lambda v: _is_whole(v) or isinstance(v, float)),
    "bool": ("true or false", lambda v: isinstance(v, bool)),
    "tuple[str, ...]": ("a list of texts", lambda v: isinstance(v, tuple | list) and _all_texts(v)),
    "tuple[Taint, ...]": ("a list of taints", lambda v: isinstance(v, tuple | list)),
    "Mapping[str, str]": ("an object of texts", lambda v: isinstance(v, Mapping) and _all_texts([*v, *v.values()])),
    "Mapping[str, int]": (
        "an object of whole numbers",
        lambda v: isinstance(v, Mapping) and _all_texts(v) and all(map(_is_whole, v.values())),
    ),
    "Gpu": ("a Gpu, or an object of its fields", lambda v: isinstance(v, Gpu)),
    "CloudNodes": ("EksNodes, GkeNodes or AksNodes", lambda v: isinstance(v, EksNodes | GkeNodes | AksNodes)),
}


def _written(value: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for item in fields(value):
        given = getattr(value, item.name)
        default = item.default_factory() if item.default_factory is not MISSING else item.default
        if given is None or given == default:
            continue
        if isinstance(given, Mapping):
            given = dict(given)
        found[item.name] = list(given) if isinstance(given, tuple) else given
    return found
