"""The three patches a client may send: JSON merge (RFC 7386), JSON patch (RFC 6902) and strategic merge."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from typing import Any

from kpo_multicluster.testing.apiserver.status import StatusError, bad_request

# How strategic merge joins lists of objects: by the field that tells the elements apart. Lists not named here are
# replaced whole, or joined as sets.
_MERGE_KEYS: Mapping[str, str] = {
    "conditions": "type",
    "containers": "name",
    "env": "name",
    "ephemeralContainers": "name",
    "hostAliases": "ip",
    "imagePullSecrets": "name",
    "initContainers": "name",
    "ownerReferences": "uid",
    "podIPs": "ip",
    "ports": "containerPort",
    "resourceClaims": "name",
    "secrets": "name",
    "taints": "key",
    "topologySpreadConstraints": "topologyKey",
    "volumeDevices": "devicePath",
    "volumeMounts": "mountPath",
    "volumes": "name",
}
_SET_LISTS = frozenset({"finalizers"})
_REPLACED = frozenset({"taints"})
_DELETE_FROM = "$deleteFromPrimitiveList/"
_DIRECTIVES = ("$setElementOrder/", "$retainKeys")


def merge(target: Any, patch: Any) -> Any:
    """JSON merge patch: null removes, objects merge, all else replaces."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge(result.get(key), value)
    return result


def strategic_merge(target: Any, patch: Any) -> Any:
    """Strategic merge patch: as `merge`, but lists of named things are joined by name.

    Raises:
        StatusError: 500, an element lacks the field that tells elements apart.
    """
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    result = dict(target) if isinstance(target, dict) else {}
    if patch.get("$patch") == "replace":
        return {key: copy.deepcopy(value) for key, value in patch.items() if key != "$patch"}
    for key, value in patch.items():
        if key.startswith(_DELETE_FROM):
            name = key[len(_DELETE_FROM) :]
            result[name] = [item for item in result.get(name) or [] if item not in value]
        elif key == "$patch" or key.startswith(_DIRECTIVES):
            continue
        elif value is None or (isinstance(value, dict) and value.get("$patch") == "delete"):
            result.pop(key, None)
        elif isinstance(value, list):
            result[key] = _merge_list(key, result.get(key) or [], value)
        else:
            result[key] = strategic_merge(result.get(key), value)
    return result


def _merge_list(name: str, target: list[Any], patch: list[Any]) -> list[Any]:
    if name in _SET_LISTS:
        return [*target, *(item for item in patch if item not in target)]
    if name not in _MERGE_KEYS or name in _REPLACED or {"$patch": "replace"} in patch:
        return [copy.deepcopy(item) for item in patch if item != {"$patch": "replace"}]
    merge_key = _MERGE_KEYS[name]
    result = list(target)
    for item in patch:
        if not isinstance(item, dict) or merge_key not in item:
            shown = " ".join(f"{key}:{value}" for key, value in item.items()) if isinstance(item, dict) else item
            raise StatusError(500, "", f"map: map[{shown}] does not contain declared merge key: {merge_key}")
        index = next((at for at, old in enumerate(result) if old.get(merge_key) == item[merge_key]), None)
        if item.get("$patch") == "delete":
            result = [old for old in result if old.get(merge_key) != item[merge_key]]
        elif index is None:
            result.append(strategic_merge({}, item))
        else:
            result[index] = strategic_merge(result[index], item)
    return result


class _PatchFailedError(Exception):
    """A JSON patch does not apply to this object."""


def json_patch(target: Any, operations: Any) -> Any:
    """JSON patch: a list of operations, all applied or none.

    Raises:
        StatusError: 400 it is no list of operations; 422 an operation does not apply.
    """
    if not isinstance(operations, list):
        kind = "object" if isinstance(operations, dict) else type(operations).__name__
        raise bad_request(
            f"error decoding patch: json: cannot unmarshal {kind} into Go value of type []handlers.jsonPatchOp"
        )
    document = {"": copy.deepcopy(target)}
    try:
        for operation in operations:
            _OPERATIONS[operation["op"]](document, operation)
    except (_PatchFailedError, KeyError, TypeError, AttributeError):
        message = "the server rejected our request due to an error in our request"
        raise StatusError(422, "Invalid", message, details={}) from None
    return document[""]


def _tokens(pointer: str) -> list[str]:
    if pointer and not pointer.startswith("/"):
        raise _PatchFailedError(pointer)
    # The empty first token names the whole document, held under "" by `json_patch`.
    return [token.replace("~1", "/").replace("~0", "~") for token in pointer.split("/")]


def _parent(document: Any, pointer: str) -> tuple[Any, str]:
    *path, last = _tokens(pointer)
    for token in path:
        document = document[_index(document, token)] if isinstance(document, list) else document[token]
    return document, last


def _index(items: list[Any], token: str, *, adding: bool = False) -> int:
    if adding and token == "-":
        return len(items)
    if not token.isdecimal() or int(token) > len(items) - (0 if adding else 1):
        raise _PatchFailedError(token)
    return int(token)


def _read(document: Any, pointer: str) -> Any:
    parent, last = _parent(document, pointer)
    return parent[_index(parent, last)] if isinstance(parent, list) else parent[last]


def _add(document: Any, operation: Mapping[str, Any]) -> None:
    parent, last = _parent(document, operation["path"])
    value = copy.deepcopy(operation["value"])
    if isinstance(parent, list):
        parent.insert(_index(parent, last, adding=True), value)
    else:
        parent[last] = value


def _remove(document: Any, operation: Mapping[str, Any]) -> None:
    parent, last = _parent(document, operation["path"])
    if isinstance(parent, list):
        del parent[_index(parent, last)]
    else:
        del parent[last]


def _replace(document: Any, operation: Mapping[str, Any]) -> None:
    _read(document, operation["path"])
    parent, last = _parent(document, operation["path"])
    value = copy.deepcopy(operation["value"])
    if isinstance(parent, list):
        parent[_index(parent, last)] = value
    else:
        parent[last] = value


def _test(document: Any, operation: Mapping[str, Any]) -> None:
    if _read(document, operation["path"]) != operation["value"]:
        raise _PatchFailedError(operation["path"])


def _copy(document: Any, operation: Mapping[str, Any]) -> None:
    _add(document, {"path": operation["path"], "value": _read(document, operation["from"])})


def _move(document: Any, operation: Mapping[str, Any]) -> None:
    value = _read(document, operation["from"])
    _remove(document, {"path": operation["from"]})
    _add(document, {"path": operation["path"], "value": value})


_OPERATIONS: Mapping[str, Callable[[Any, Mapping[str, Any]], None]] = {
    "add": _add,
    "remove": _remove,
    "replace": _replace,
    "test": _test,
    "copy": _copy,
    "move": _move,
}

PATCH_TYPES: Mapping[str, Callable[[Any, Any], Any]] = {
    "application/json-patch+json": json_patch,
    "application/merge-patch+json": merge,
    "application/strategic-merge-patch+json": strategic_merge,
}


def apply_patch(content_type: str, target: dict[str, Any], body: bytes) -> dict[str, Any]:
    """The object with a patch applied.

    Raises:
        StatusError: 400, 415, 422 or 500, the patch is unreadable, of an unknown type or does not apply.
    """
    apply = PATCH_TYPES.get(content_type)
    if apply is None:
        raise StatusError(415, "UnsupportedMediaType", "415: Unsupported Media Type", details={})
    try:
        decoded = json.loads(body)
    except ValueError as error:
        raise bad_request(f"error decoding patch: {error}") from None
    if apply is not json_patch and not isinstance(decoded, dict):
        raise bad_request("error decoding patch: json: cannot unmarshal the patch into an object")
    result = apply(target, decoded)
    if not isinstance(result, dict):
        raise bad_request("error decoding patch: the result is not an object")
    return result
