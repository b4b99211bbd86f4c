"""From the bytes of a request to an object of the expected kind, refusing what Go's decoder refuses.

A DAG's manifest most often fails on a type (a number in `env`, a boolean label), so the fields people write by hand are
checked as a real server checks them. Fields that are not described here are taken as they come.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from kpo_multicluster.testing.apiserver import quantity
from kpo_multicluster.testing.apiserver.status import StatusError, bad_request

_JSON = "application/json"
_YAML = "application/yaml"
_QUANTITY_RULE = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
_SCHEME = "pkg/runtime/scheme.go:110"
_KNOWN_KINDS = frozenset(
    {"Pod", "Secret", "ConfigMap", "Event", "Namespace", "Node", "ServiceAccount", "Service", "Binding"}
)


@dataclass(frozen=True)
class _ListOf:
    item: _Type


@dataclass(frozen=True)
class _MapOf:
    item: _Type


@dataclass(frozen=True)
class _Struct:
    name: str
    fields: Mapping[str, _Type]


# A scalar is named as Go names it.
_Type = str | _ListOf | _MapOf | _Struct

_STRINGS = _ListOf("string")
_STRING_MAP = _MapOf("string")
_META = _Struct(
    "ObjectMeta",
    {
        "name": "string",
        "generateName": "string",
        "namespace": "string",
        "uid": "types.UID",
        "resourceVersion": "string",
        "labels": _STRING_MAP,
        "annotations": _STRING_MAP,
        "finalizers": _STRINGS,
    },
)
_ENV = _Struct("EnvVar", {"name": "string", "value": "string"})
_MOUNT = _Struct("VolumeMount", {"name": "string", "mountPath": "string", "subPath": "string", "readOnly": "bool"})
_PORT = _Struct("ContainerPort", {"name": "string", "containerPort": "int32", "hostPort": "int32"})
_RESOURCES = _Struct("ResourceRequirements", {"limits": _MapOf("quantity"), "requests": _MapOf("quantity")})
_CONTAINER = _Struct(
    "Container",
    {
        "name": "string",
        "image": "string",
        "command": _STRINGS,
        "args": _STRINGS,
        "workingDir": "string",
        "env": _ListOf(_ENV),
        "ports": _ListOf(_PORT),
        "resources": _RESOURCES,
        "volumeMounts": _ListOf(_MOUNT),
        "imagePullPolicy": "v1.PullPolicy",
        "terminationMessagePath": "string",
        "tty": "bool",
        "stdin": "bool",
    },
)
_TOLERATION = _Struct(
    "Toleration",
    {
        "key": "string",
        "operator": "v1.TolerationOperator",
        "value": "string",
        "effect": "v1.TaintEffect",
        "tolerationSeconds": "int64",
    },
)
_POD_SPEC = _Struct(
    "PodSpec",
    {
        "volumes": _ListOf(_Struct("Volume", {"name": "string"})),
        "initContainers": _ListOf(_CONTAINER),
        "containers": _ListOf(_CONTAINER),
        "restartPolicy": "v1.RestartPolicy",
        "terminationGracePeriodSeconds": "int64",
        "activeDeadlineSeconds": "int64",
        "nodeSelector": _STRING_MAP,
        "serviceAccountName": "string",
        "nodeName": "string",
        "hostNetwork": "bool",
        "schedulerName": "string",
        "tolerations": _ListOf(_TOLERATION),
        "automountServiceAccountToken": "bool",
        "imagePullSecrets": _ListOf(_Struct("LocalObjectReference", {"name": "string"})),
        "priorityClassName": "string",
        "hostname": "string",
        "subdomain": "string",
    },
)
_KINDS: Mapping[str, _Struct] = {
    "Pod": _Struct("Pod", {"metadata": _META, "spec": _POD_SPEC}),
    "Secret": _Struct("Secret", {"metadata": _META, "data": _MapOf("base64"), "stringData": _STRING_MAP}),
    "ConfigMap": _Struct("ConfigMap", {"metadata": _META, "data": _STRING_MAP}),
}
_ANY_KIND = _Struct("Object", {"metadata": _META})

_SCALARS: Mapping[str, type | tuple[type, ...]] = {"bool": bool, "int32": int, "int64": int}
_GO_JSON_TYPES: tuple[tuple[type, str], ...] = (
    (bool, "bool"),
    (int, "number"),
    (float, "number"),
    (str, "string"),
    (list, "array"),
    (dict, "object"),
)
# Empty maps of these names vanish in a round trip through Go's types; other empty objects mean something.
_OMITTED_WHEN_EMPTY = frozenset({"labels", "annotations", "nodeSelector", "limits", "requests", "data"})


def decode(body: bytes, content_type: str, kind: str, api_version: str) -> dict[str, Any]:
    """The object a request carries, with its kind and version set.

    Raises:
        StatusError: 400 or 415, the body is not an object of this kind.
    """
    media = content_type.partition(";")[0].strip().lower()
    if media and media not in (_JSON, _YAML):
        message = (
            "the body of the request was in an unknown format - accepted media types include: "
            "application/json, application/yaml, application/vnd.kubernetes.protobuf"
        )
        raise StatusError(415, "UnsupportedMediaType", message)
    item = _parse(body, media, kind)
    given_kind, given_version = item.get("kind") or kind, item.get("apiVersion") or api_version
    problem = ""
    if given_version != api_version or (given_kind != kind and given_kind not in _KNOWN_KINDS):
        problem = f'no kind "{given_kind}" is registered for version "{given_version}" in scheme "{_SCHEME}"'
    elif given_kind != kind:
        problem = f"converting (v1.{given_kind}) to (core.{kind}): unknown conversion"
    if problem:
        version = given_version.rpartition("/")[2]
        raise bad_request(f'{given_kind} in version "{version}" cannot be handled as a {kind}: {problem}')
    return shaped(item, kind, api_version)


def type_problem(item: Mapping[str, Any], kind: str) -> str:
    """What Go's decoder says of the first field of a wrong type; empty when there is none."""
    try:
        _check(item, _KINDS.get(kind, _ANY_KIND), "", kind)
    except _TypeMismatchError as error:
        return str(error)
    return ""


def shaped(item: Mapping[str, Any], kind: str, api_version: str) -> dict[str, Any]:
    """An object checked against its kind's types, without nulls and empty lists.

    Raises:
        StatusError: 400, a field is of the wrong type.
    """
    if problem := type_problem(item, kind):
        version = api_version.rpartition("/")[2]
        raise bad_request(f'{kind} in version "{version}" cannot be handled as a {kind}: {problem}')
    pruned: dict[str, Any] = _pruned(item)
    return {"kind": kind, "apiVersion": api_version, **pruned, "metadata": pruned.get("metadata", {})}


def _parse(body: bytes, media: str, kind: str) -> dict[str, Any]:
    unrecognized = (
        f"the object provided is unrecognized (must be of type {kind}): couldn't get version/kind; json parse error: "
    )
    shown = body[:200].decode(errors="replace") or "<empty>"
    try:
        item = yaml.safe_load(body) if media == _YAML else json.loads(body)
    except (ValueError, yaml.YAMLError) as error:
        raise bad_request(f"{unrecognized}{error if body else 'unexpected end of JSON input'} ({shown})") from None
    if not isinstance(item, dict):
        raise bad_request(f"{unrecognized}json: cannot unmarshal {_go_json_type(item)} into Go value of type struct")
    return item


class _TypeMismatchError(Exception):
    """What Go's decoder says of a value of the wrong type."""


def _check(value: Any, expected: _Type, path: str, owner: str) -> None:
    if value is None:
        return
    if isinstance(expected, _Struct):
        _require(value, dict, path, owner, f"v1.{expected.name}")
        for key, field_type in expected.fields.items():
            if key in value:
                _check(value[key], field_type, f"{path}.{key}" if path else key, expected.name)
    elif isinstance(expected, _ListOf):
        _require(value, list, path, owner, f"[]{_go_type(expected.item)}")
        for item in value:
            _check(item, expected.item, path, owner)
    elif isinstance(expected, _MapOf):
        _require(value, dict, path, owner, f"map[string]{_go_type(expected.item)}")
        for item in value.values():
            _check(item, expected.item, path, owner)
    else:
        _check_scalar(value, expected, path, owner)


def _check_scalar(value: Any, expected: str, path: str, owner: str) -> None:
    if expected == "quantity":
        try:
            quantity.parse(str(value))
        except ValueError:
            raise _TypeMismatchError(_QUANTITY_RULE) from None
    elif expected == "base64":
        _check_base64(value, path, owner)
    else:
        _require(value, _SCALARS.get(expected, str), path, owner, expected)


def _check_base64(value: Any, path: str, owner: str) -> None:
    _require(value, str, path, owner, "[]uint8")
    try:
        base64.b64decode(value, validate=True)
    except binascii.Error:
        alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="
        at = next((index for index, letter in enumerate(value) if letter not in alphabet), len(value))
        raise _TypeMismatchError(f"illegal base64 data at input byte {at}") from None


def _require(value: Any, expected: type | tuple[type, ...], path: str, owner: str, go_type: str) -> None:
    if not isinstance(value, expected) or (isinstance(value, bool) and expected is not bool):
        raise _TypeMismatchError(
            f"json: cannot unmarshal {_go_json_type(value)} into Go struct field {owner}.{path} of type {go_type}"
        )


def _go_type(item: _Type) -> str:
    if isinstance(item, _Struct):
        return f"v1.{item.name}"
    return item if isinstance(item, str) else "interface {}"


def _go_json_type(value: Any) -> str:
    return next((name for kind, name in _GO_JSON_TYPES if isinstance(value, kind)), "null")


def _pruned(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {key: _pruned(item) for key, item in value.items() if item is not None and item != []}
        return {key: item for key, item in kept.items() if item != {} or key not in _OMITTED_WHEN_EMPTY}
    if isinstance(value, list):
        return [_pruned(item) for item in value]
    return value
