"""Which resources the server has, and how each may be addressed and selected."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

FieldReader = Callable[[Mapping[str, Any]], str]

_ALL_VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")


def _reader(path: str) -> FieldReader:
    keys = path.split(".")

    def read(item: Mapping[str, Any]) -> str:
        value: Any = item
        for key in keys:
            value = value.get(key) if isinstance(value, Mapping) else None
        if isinstance(value, bool):
            return str(value).lower()
        return "" if value is None else str(value)

    return read


def _readers(*paths: str) -> dict[str, FieldReader]:
    return {path: _reader(path) for path in paths}


def _event_source(item: Mapping[str, Any]) -> str:
    component = (item.get("source") or {}).get("component")
    return str(component or item.get("reportingComponent") or "")


def _host_network(item: Mapping[str, Any]) -> str:
    return str(bool(item["spec"].get("hostNetwork"))).lower()


def _unschedulable(item: Mapping[str, Any]) -> str:
    return str(bool(item["spec"].get("unschedulable"))).lower()


@dataclass(frozen=True)
class Resource:
    """A kind of object the server stores.

    Attributes:
        plural: as in addresses.
        kind: as in objects.
        namespaced: whether its objects live in namespaces.
        short_names: what `kubectl` accepts in its place.
        subresources: addresses below an object, with their verbs.
        fields: what field selectors can read.
        returns_deleted: whether DELETE answers with the object rather than a `Status`.
    """

    plural: str
    kind: str
    namespaced: bool = True
    short_names: tuple[str, ...] = ()
    subresources: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    fields: Mapping[str, FieldReader] = field(default_factory=dict)
    returns_deleted: bool = False

    @property
    def selectable(self) -> Mapping[str, FieldReader]:
        """All that field selectors can read."""
        common = _readers("metadata.name", "metadata.namespace") if self.namespaced else _readers("metadata.name")
        return {**common, **self.fields}


PODS = Resource(
    "pods",
    "Pod",
    short_names=("po",),
    subresources={"status": ("get", "patch", "update"), "log": ("get",), "exec": ("create", "get")},
    fields={
        **_readers("spec.nodeName", "spec.restartPolicy", "spec.schedulerName", "spec.serviceAccountName"),
        **_readers("status.phase", "status.podIP", "status.nominatedNodeName"),
        "spec.hostNetwork": _host_network,
    },
    returns_deleted=True,
)
EVENTS = Resource(
    "events",
    "Event",
    short_names=("ev",),
    fields={
        **_readers(*(f"involvedObject.{key}" for key in ("kind", "namespace", "name", "uid", "apiVersion"))),
        **_readers("involvedObject.resourceVersion", "involvedObject.fieldPath"),
        **_readers("reason", "type", "reportingComponent"),
        "source": _event_source,
    },
)
NAMESPACES = Resource(
    "namespaces",
    "Namespace",
    namespaced=False,
    short_names=("ns",),
    subresources={"status": ("get", "patch", "update")},
    fields=_readers("status.phase"),
    returns_deleted=True,
)
NODES = Resource(
    "nodes",
    "Node",
    namespaced=False,
    short_names=("no",),
    subresources={"status": ("get", "patch", "update")},
    fields={"spec.unschedulable": _unschedulable},
)
SECRETS = Resource("secrets", "Secret", fields=_readers("type"))
CONFIGMAPS = Resource("configmaps", "ConfigMap", short_names=("cm",))
SERVICE_ACCOUNTS = Resource("serviceaccounts", "ServiceAccount", short_names=("sa",), returns_deleted=True)

RESOURCES: Mapping[str, Resource] = {
    resource.plural: resource for resource in (CONFIGMAPS, EVENTS, NAMESPACES, NODES, PODS, SECRETS, SERVICE_ACCOUNTS)
}

# Reviews are answered and never stored.
_REVIEWS: Mapping[str, tuple[str, str]] = {
    "authentication.k8s.io": ("selfsubjectreviews", "SelfSubjectReview"),
    "authorization.k8s.io": ("selfsubjectaccessreviews", "SelfSubjectAccessReview"),
}
REVIEW_KINDS: Mapping[str, str] = dict(_REVIEWS.values())


def _described(name: str, resource: Resource, verbs: tuple[str, ...]) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "name": name,
        "singularName": "" if "/" in name else resource.kind.lower(),
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": list(verbs),
    }
    if resource.short_names and "/" not in name:
        entry["shortNames"] = list(resource.short_names)
    return entry


def _core_list() -> dict[str, Any]:
    entries: list[dict[str, Any]] = []
    for resource in RESOURCES.values():
        entries.append(_described(resource.plural, resource, _ALL_VERBS))
        for name, verbs in resource.subresources.items():
            entries.append(_described(f"{resource.plural}/{name}", resource, verbs))
    return {"kind": "APIResourceList", "groupVersion": "v1", "resources": entries}


def _group(name: str) -> dict[str, Any]:
    version = {"groupVersion": f"{name}/v1", "version": "v1"}
    return {"name": name, "versions": [version], "preferredVersion": version}


def _group_list(name: str) -> dict[str, Any]:
    plural, kind = _REVIEWS[name]
    entry = {"name": plural, "singularName": kind.lower(), "namespaced": False, "kind": kind, "verbs": ["create"]}
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": f"{name}/v1", "resources": [entry]}


def discovery(server_address: str) -> dict[str, dict[str, Any]]:
    """The discovery documents, by path.

    Args:
        server_address: `host:port`, as `/api` names it.
    """
    where = [{"clientCIDR": "0.0.0.0/0", "serverAddress": server_address}]
    documents: dict[str, dict[str, Any]] = {
        "/api": {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": where},
        "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group(name) for name in _REVIEWS]},
        "/api/v1": _core_list(),
    }
    for name in _REVIEWS:
        documents[f"/apis/{name}"] = {"kind": "APIGroup", "apiVersion": "v1", **_group(name)}
        documents[f"/apis/{name}/v1"] = _group_list(name)
    return documents
