"""What a server refuses in a container."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from typing import Any

from kpo_multicluster.testing.apiserver import quantity
from kpo_multicluster.testing.apiserver.naming import dns_label_problems, label_key_problems
from kpo_multicluster.testing.apiserver.status import (
    FieldError,
    duplicate,
    invalid_value,
    not_supported,
    required,
    value_not_found,
)

_STANDARD_RESOURCES = frozenset({"cpu", "memory", "ephemeral-storage"})
_QUOTA_RESOURCES = frozenset({"requests.cpu", "requests.memory", "limits.cpu", "limits.memory", "pods", "storage"})
_ENV_SOURCES = ("fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef")
_ENV_NAME_RULE = "a valid environment variable name must consist only of printable ASCII characters other than '='"
_PORT_NAME_RULE = "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)"
_MAX_PORT = 65535


def container_errors(container: Mapping[str, Any], path: str, volumes: frozenset[str]) -> Iterator[FieldError]:
    """What is wrong with one container.

    Args:
        container: with its defaults.
        path: such as `spec.containers[0]`.
        volumes: the names of the pod's sound volumes.
    """
    yield from _name_errors(container, path)
    yield from _choice(container, path, "terminationMessagePolicy", ("File", "FallbackToLogsOnError"))
    for index, port in enumerate(container.get("ports") or []):
        yield from _port_errors(port, f"{path}.ports[{index}]")
    for index, env in enumerate(container.get("env") or []):
        yield from _env_errors(env, f"{path}.env[{index}]")
    yield from _env_from_errors(container, path)
    yield from _mount_errors(container, path, volumes)
    yield from _choice(container, path, "imagePullPolicy", ("Always", "IfNotPresent", "Never"))
    yield from _resource_errors(container.get("resources") or {}, f"{path}.resources")


def _name_errors(container: Mapping[str, Any], path: str) -> Iterator[FieldError]:
    name, image = container.get("name") or "", container.get("image") or ""
    if not name:
        yield required(f"{path}.name")
    else:
        yield from (invalid_value(f"{path}.name", name, problem) for problem in dns_label_problems(name))
    if not image:
        yield required(f"{path}.image")
    elif image != image.strip():
        yield invalid_value(f"{path}.image", image, "must not have leading or trailing whitespace")


def _choice(item: Mapping[str, Any], path: str, key: str, supported: tuple[str, ...]) -> Iterator[FieldError]:
    if item.get(key) not in supported:
        yield not_supported(f"{path}.{key}", item.get(key), supported)


def _port_errors(port: Mapping[str, Any], path: str) -> Iterator[FieldError]:
    name = port.get("name") or ""
    if name and not re.fullmatch(r"[-a-z0-9]+", name):
        yield invalid_value(f"{path}.name", name, _PORT_NAME_RULE)
    number = port.get("containerPort") or 0
    if not number:
        yield required(f"{path}.containerPort")
    elif not 0 < number <= _MAX_PORT:
        yield invalid_value(f"{path}.containerPort", number, f"must be between 1 and {_MAX_PORT}, inclusive")


def _env_errors(env: Mapping[str, Any], path: str) -> Iterator[FieldError]:
    name = env.get("name") or ""
    if not name:
        yield required(f"{path}.name")
    elif not re.fullmatch(r"[ -<>-~]+", name):
        yield invalid_value(f"{path}.name", name, _ENV_NAME_RULE)
    source = env.get("valueFrom")
    if source is None:
        return
    path = f"{path}.valueFrom"
    for kind in ("configMapKeyRef", "secretKeyRef"):
        if kind in source:
            yield from (required(f"{path}.{kind}.{key}") for key in ("name", "key") if not source[kind].get(key))
    if "fieldRef" in source and not source["fieldRef"].get("fieldPath"):
        yield required(f"{path}.fieldRef.fieldPath")
    count = sum(kind in source for kind in _ENV_SOURCES)
    if not count:
        *most, last = _ENV_SOURCES
        listed = ", ".join(f"`{kind}`" for kind in most)
        yield invalid_value(path, "", f"must specify one of: {listed} or `{last}`")
    elif env.get("value"):
        yield invalid_value(path, "", "may not be specified when `value` is not empty")
    elif count > 1:
        yield invalid_value(path, "", "may not have more than one field specified at a time")


def _env_from_errors(container: Mapping[str, Any], path: str) -> Iterator[FieldError]:
    for index, source in enumerate(container.get("envFrom") or []):
        kinds = [kind for kind in ("configMapRef", "secretRef") if kind in source]
        where = f"{path}.envFrom[{index}]"
        if not kinds:
            yield invalid_value(where, "", "must specify one of: `configMapRef` or `secretRef`")
        elif len(kinds) > 1:
            yield invalid_value(where, "", "may not have more than one field specified at a time")
        yield from (required(f"{where}.{kind}.name") for kind in kinds if not source[kind].get("name"))


def _mount_errors(container: Mapping[str, Any], path: str, volumes: frozenset[str]) -> Iterator[FieldError]:
    seen: set[str] = set()
    for index, mount in enumerate(container.get("volumeMounts") or []):
        where = f"{path}.volumeMounts[{index}]"
        name, mount_path = mount.get("name") or "", mount.get("mountPath") or ""
        if not name:
            yield required(f"{where}.name")
        if name not in volumes:
            yield value_not_found(f"{where}.name", name)
        if not mount_path:
            yield required(f"{where}.mountPath")
        if mount_path in seen:
            yield invalid_value(f"{where}.mountPath", mount_path, "must be unique")
        seen.add(mount_path)


def _resource_errors(resources: Mapping[str, Any], path: str) -> Iterator[FieldError]:
    limits: Mapping[str, str] = resources.get("limits") or {}
    requests: Mapping[str, str] = resources.get("requests") or {}
    for kind, amounts in (("limits", limits), ("requests", requests)):
        for name, value in sorted(amounts.items()):
            yield from _amount_errors(name, value, f"{path}.{kind}[{name}]")
    for name, value in sorted(requests.items()):
        if name in limits:
            over = quantity.parse(value) > quantity.parse(limits[name])
            if _is_extended(name) and value != limits[name]:
                detail = f"must be equal to {name} limit of {limits[name]}"
                yield invalid_value(f"{path}.requests", value, detail)
            elif over:
                detail = f"must be less than or equal to {name} limit of {limits[name]}"
                yield invalid_value(f"{path}.requests", value, detail)
        elif _is_extended(name):
            yield required(f"{path}.limits", "Limit must be set for non overcommitable resources")


def _is_extended(name: str) -> bool:
    return "/" in name and not name.partition("/")[0].endswith("kubernetes.io")


def _amount_errors(name: str, value: str, path: str) -> Iterator[FieldError]:
    problems = label_key_problems(name)
    yield from (invalid_value(path, name, problem) for problem in problems)
    if "/" not in name and not problems and name not in _STANDARD_RESOURCES and not name.startswith("hugepages-"):
        if name not in _QUOTA_RESOURCES:
            yield invalid_value(path, name, "must be a standard resource type or fully qualified")
        yield invalid_value(path, name, "must be a standard resource for containers")
    amount: Decimal = quantity.parse(value)
    if amount < 0:
        yield invalid_value(path, value, "must be greater than or equal to 0")
    if _is_extended(name) and amount != amount.to_integral_value():
        yield invalid_value(path, value, "must be an integer")


def each_container(
    spec: Mapping[str, Any], field: str, volumes: frozenset[str], taken: set[str]
) -> Iterator[FieldError]:
    """What is wrong with the containers of one field of a pod's spec.

    Args:
        spec: of the pod, with its defaults.
        field: `containers` or `initContainers`.
        volumes: the names of the pod's sound volumes.
        taken: names of containers seen so far; grows.
    """
    check: Callable[..., Iterator[FieldError]] = container_errors
    for index, container in enumerate(spec.get(field) or []):
        path = f"spec.{field}[{index}]"
        yield from check(container, path, volumes)
        name = container.get("name") or ""
        if name and name in taken:
            yield duplicate(f"{path}.name", name)
        taken.add(name)
