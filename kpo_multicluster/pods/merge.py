"""How two layers of a pod become one: `over` wins over `base`.

A field that `over` holds replaces that of `base`, also when it is `False`, 0 or empty; except that

- labels and annotations are united key by key;
- volumes, and a container's env, envFrom, ports, volumeMounts and volumeDevices, are concatenated, `base` first;
- init containers merge by name, others follow;
- containers merge by name; one that names none of `base` merges into the one at its own position, unless that is named
  by another, and takes its own name there; what is left over follows;
- a container's resources merge by resource: one that `over` mentions, as request or limit, is taken from `over` alone.

Neither layer is changed; the result may share parts with both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

Json = Mapping[str, Any]

_UNITED: Final = ("labels", "annotations")
_CONTAINER_LISTS: Final = ("volumeMounts", "env", "envFrom", "ports", "volumeDevices")


def merge_pods(base: Json, over: Json) -> dict[str, Any]:
    """One pod from two layers."""
    return {
        **base,
        **over,
        "metadata": _merge_metadata(base.get("metadata") or {}, over.get("metadata") or {}),
        "spec": _merge_specs(base.get("spec") or {}, over.get("spec") or {}),
    }


def merge_containers(base: Sequence[Json], over: Sequence[Json]) -> list[dict[str, Any]]:
    """Containers by name, else by position."""
    # Backwards, so that of two containers of one name the first counts.
    names = {base[index]["name"]: index for index in reversed(range(len(base))) if base[index].get("name")}
    matched = {names[container["name"]] for container in over if container.get("name") in names}
    result: list[dict[str, Any]] = [dict(container) for container in base]
    for position, container in enumerate(over):
        by_name = names.get(container.get("name") or "")
        index = position if by_name is None else by_name
        if index < len(base) and (by_name is not None or index not in matched):
            result[index] = merge_container(base[index], container)
        else:
            result.append(dict(container))
    return result


def merge_container(base: Json, over: Json) -> dict[str, Any]:
    """One container from two layers."""
    merged = {**base, **over, **_concatenated(base, over, _CONTAINER_LISTS)}
    if base.get("resources") and over.get("resources"):
        merged["resources"] = merge_resources(base["resources"], over["resources"])
    return merged


def merge_resources(base: Json, over: Json) -> dict[str, Any]:
    """Resources by resource name, so that a limit of one layer never meets a request of the other."""
    mentioned = {*(over.get("requests") or {}), *(over.get("limits") or {})}
    merged: dict[str, Any] = {**base, **over}
    for section in ("requests", "limits"):
        kept = {name: quantity for name, quantity in (base.get(section) or {}).items() if name not in mentioned}
        quantities = {**kept, **(over.get(section) or {})}
        if quantities:
            merged[section] = quantities
        else:
            merged.pop(section, None)
    return merged


def _merge_metadata(base: Json, over: Json) -> dict[str, Any]:
    merged = {**base, **over}
    for field in _UNITED:
        if base.get(field) or over.get(field):
            merged[field] = {**(base.get(field) or {}), **(over.get(field) or {})}
    return merged


def _merge_specs(base: Json, over: Json) -> dict[str, Any]:
    merged = {**base, **over, **_concatenated(base, over, ("volumes",))}
    merged["containers"] = merge_containers(base.get("containers") or [], over.get("containers") or [])
    if base.get("initContainers") and over.get("initContainers"):
        merged["initContainers"] = _merge_init_containers(base["initContainers"], over["initContainers"])
    elif base.get("initContainers"):
        merged["initContainers"] = base["initContainers"]
    return merged


def _merge_init_containers(base: Sequence[Json], over: Sequence[Json]) -> list[dict[str, Any]]:
    names = {container.get("name") for container in base}
    by_name = {container.get("name"): container for container in over}
    merged = [merge_container(container, by_name.get(container.get("name"), {})) for container in base]
    return merged + [dict(container) for container in over if container.get("name") not in names]


def _concatenated(base: Json, over: Json, fields: Sequence[str]) -> dict[str, Any]:
    return {
        field: [*(base.get(field) or []), *(over.get(field) or [])]
        for field in fields
        if base.get(field) or over.get(field)
    }
