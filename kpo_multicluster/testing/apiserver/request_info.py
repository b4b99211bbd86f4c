"""What a request asks for, read off its method and address as a real server does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

_NAMED_VERBS = {"GET": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_COLLECTION_VERBS = {"GET": "list", "DELETE": "deletecollection"}
# Below a namespace these are parts of the namespace itself, not resources in it.
_NAMESPACE_PARTS = frozenset({"status", "finalize"})


@dataclass(frozen=True)
class RequestInfo:
    """The subject of a request.

    Attributes:
        verb: as in RBAC rules, such as `list`; the lower-case method for an address that is no resource.
        path: the address.
        group: API group; empty for the core group.
        version: of the group; empty for an address that is no resource.
        resource: plural name; empty for an address that is no resource.
        subresource: such as `log`; may be empty.
        namespace: empty at the cluster scope.
        name: of the object; empty for a collection.
    """

    verb: str
    path: str
    group: str = ""
    version: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""

    @property
    def qualified_resource(self) -> str:
        """The resource with its subresource, as messages name it."""
        return f"{self.resource}/{self.subresource}" if self.subresource else self.resource

    @property
    def counted_as(self) -> str:
        """The word the request log counts this by: the subresource for `log` and `exec`, else the verb."""
        return self.subresource if self.subresource in ("log", "exec") else self.verb


def parse(method: str, path: str, query: Mapping[str, str]) -> RequestInfo:
    """What a request asks for."""
    parts = [part for part in path.split("/") if part]
    plain = RequestInfo(verb=method.lower(), path=path)
    if len(parts) >= 3 and parts[0] == "api":
        group, version, rest = "", parts[1], parts[2:]
    elif len(parts) >= 4 and parts[0] == "apis":
        group, version, rest = parts[1], parts[2], parts[3:]
    else:
        return plain
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 1:
        namespace = rest[1]
        if len(rest) > 2 and rest[2] not in _NAMESPACE_PARTS:
            rest = rest[2:]
    name = rest[1] if len(rest) > 1 else ""
    subresource = rest[2] if len(rest) > 2 else ""
    verb = _NAMED_VERBS.get(method, method.lower())
    if not name:
        verb = _COLLECTION_VERBS.get(method, verb)
        if verb == "list" and query.get("watch", "").lower() in ("1", "true"):
            verb = "watch"
    return RequestInfo(verb, path, group, version, rest[0], subresource, namespace, name)
