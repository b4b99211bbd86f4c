"""The environment and command of a container, as a kubelet makes them from manifest, secrets and config maps."""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from kpo_multicluster.testing.apiserver import quantity
from kpo_multicluster.testing.node_context import HOST_IP, ConfigError, PodContext

_REFERENCE: Final = re.compile(r"\$\$|\$\(([^)]*)\)")
_SUBSCRIPT: Final = re.compile(r"metadata\.(labels|annotations)\['(.*)'\]", re.DOTALL)


def expand(text: str, known: Mapping[str, str]) -> str:
    """Replaces `$(NAME)` where the name is known; `$$` stands for a dollar sign."""

    def value(match: re.Match[str]) -> str:
        name = match.group(1)
        return "$" if name is None else known.get(name, match.group(0))

    return _REFERENCE.sub(value, text)


def environment(context: PodContext, container: Mapping[str, Any]) -> dict[str, str]:
    """The variables of a container, without those of its image.

    Raises:
        ConfigError: a secret, config map or key is missing, or a field is unknown.
    """
    services = _service_variables(context)
    variables: dict[str, str] = {}
    for source in container.get("envFrom") or []:
        for name, value in _all_of(context, source).items():
            variables[f"{source.get('prefix') or ''}{name}"] = value
    for entry in container.get("env") or []:
        value_from = entry.get("valueFrom")
        if entry.get("value") or not value_from:
            variables[entry["name"]] = expand(str(entry.get("value") or ""), {**services, **variables})
            continue
        found = _value_of(context, container, value_from)
        if found is not None:
            variables[entry["name"]] = found
    return {**services, **variables}


def command_line(
    container: Mapping[str, Any], entrypoint: Sequence[str], command: Sequence[str], variables: Mapping[str, str]
) -> list[str]:
    """What a container runs: its `command` and `args`, and what it leaves open from its image; empty when nothing."""
    own_command = [expand(str(word), variables) for word in container.get("command") or []]
    own_args = [expand(str(word), variables) for word in container.get("args") or []]
    if own_command:
        return own_command + own_args
    return [*entrypoint, *(own_args or command)]


def field_value(context: PodContext, path: str) -> str:
    """The value of a downward API field.

    Raises:
        ConfigError: there is no such field.
    """
    metadata: Mapping[str, Any] = context.pod["metadata"]
    subscript = _SUBSCRIPT.fullmatch(path)
    if subscript:
        return str((metadata.get(subscript.group(1)) or {}).get(subscript.group(2), ""))
    fields: dict[str, Callable[[], str]] = {
        "metadata.name": lambda: context.name,
        "metadata.namespace": lambda: context.namespace,
        "metadata.uid": lambda: context.uid,
        "metadata.labels": lambda: _formatted(metadata.get("labels") or {}),
        "metadata.annotations": lambda: _formatted(metadata.get("annotations") or {}),
        "spec.nodeName": lambda: context.node.name,
        "spec.serviceAccountName": lambda: str(context.spec.get("serviceAccountName") or ""),
        "status.hostIP": lambda: HOST_IP,
        "status.hostIPs": lambda: HOST_IP,
        "status.podIP": lambda: context.ip,
        "status.podIPs": lambda: context.ip,
    }
    if path not in fields:
        raise ConfigError(f"unsupported fieldPath: {path}")
    return fields[path]()


def resource_value(context: PodContext, container: Mapping[str, Any], reference: Mapping[str, Any]) -> str:
    """The value of a container's request or limit, in units of the divisor, rounded up.

    Raises:
        ConfigError: there is no such container or resource.
    """
    name = reference.get("containerName")
    if name:
        everyone = (*(context.spec.get("initContainers") or []), *context.spec["containers"])
        named = next((other for other in everyone if other["name"] == name), None)
        if named is None:
            raise ConfigError(f"container {name} not found")
        container = named
    kind, _, resource = str(reference["resource"]).partition(".")
    if kind not in ("limits", "requests") or not resource:
        raise ConfigError(f"unsupported container resource : {reference['resource']}")
    resources = container.get("resources") or {}
    text = (resources.get(kind) or {}).get(resource)
    if text is None:
        # Without a limit it is what the node has; without a request, nothing.
        text = context.node.capacity.get(resource, "0") if kind == "limits" else "0"
    divisor = quantity.parse(str(reference.get("divisor") or "1")) or 1
    return str(math.ceil(quantity.parse(str(text)) / divisor))


def secret_data(secret: Mapping[str, Any]) -> dict[str, bytes]:
    """A secret's values, decoded."""
    data = {name: base64.b64decode(value or "") for name, value in (secret.get("data") or {}).items()}
    data.update({name: str(value).encode() for name, value in (secret.get("stringData") or {}).items()})
    return data


def config_map_data(config_map: Mapping[str, Any]) -> dict[str, bytes]:
    """A config map's values, text and binary."""
    data = {name: str(value).encode() for name, value in (config_map.get("data") or {}).items()}
    data.update({name: base64.b64decode(value) for name, value in (config_map.get("binaryData") or {}).items()})
    return data


def _service_variables(context: PodContext) -> dict[str, str]:
    address = context.node.settings.api_server
    if address is None:
        return {}
    host, port = address
    return {
        "KUBERNETES_SERVICE_HOST": host,
        "KUBERNETES_SERVICE_PORT": str(port),
        "KUBERNETES_SERVICE_PORT_HTTPS": str(port),
        "KUBERNETES_PORT": f"tcp://{host}:{port}",
        f"KUBERNETES_PORT_{port}_TCP": f"tcp://{host}:{port}",
        f"KUBERNETES_PORT_{port}_TCP_PROTO": "tcp",
        f"KUBERNETES_PORT_{port}_TCP_PORT": str(port),
        f"KUBERNETES_PORT_{port}_TCP_ADDR": host,
    }


def _all_of(context: PodContext, source: Mapping[str, Any]) -> dict[str, str]:
    if source.get("secretRef"):
        found = _object(context, "secrets", source["secretRef"])
        data = secret_data(found) if found else {}
    else:
        found = _object(context, "configmaps", source.get("configMapRef") or {})
        data = {name: str(value).encode() for name, value in (found.get("data") or {}).items()} if found else {}
    return {name: value.decode(errors="surrogateescape") for name, value in data.items()}


def _object(context: PodContext, kind: str, reference: Mapping[str, Any]) -> dict[str, Any] | None:
    name = str(reference.get("name") or "")
    found = context.stored(kind, name)
    if found is None and not reference.get("optional"):
        raise ConfigError(f'{kind.removesuffix("s")} "{name}" not found')
    return found


def _value_of(context: PodContext, container: Mapping[str, Any], value_from: Mapping[str, Any]) -> str | None:
    if value_from.get("fieldRef"):
        return field_value(context, value_from["fieldRef"]["fieldPath"])
    if value_from.get("resourceFieldRef"):
        return resource_value(context, container, value_from["resourceFieldRef"])
    for key, kind, label in (
        ("secretKeyRef", "secrets", "Secret"),
        ("configMapKeyRef", "configmaps", "ConfigMap"),
    ):
        reference = value_from.get(key)
        if not reference:
            continue
        found = _object(context, kind, reference)
        data = {} if found is None else secret_data(found) if kind == "secrets" else config_map_data(found)
        if reference["key"] in data:
            return data[reference["key"]].decode(errors="surrogateescape")
        if not reference.get("optional"):
            raise ConfigError(
                f"couldn't find key {reference['key']} in {label} {context.namespace}/{reference.get('name')}"
            )
        return None
    return ""


def _formatted(values: Mapping[str, str]) -> str:
    return "\n".join(f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in sorted(values.items()))
