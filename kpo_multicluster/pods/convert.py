"""Whatever a user may write for a part of a pod, as the API's JSON.

Accepted: dictionaries with the API's names or the Python client's; models of the `kubernetes` client (36, with plain
classes; 37, with pydantic) and of `kubernetes_asyncio`; objects with a `to_k8s_client_obj` method; enums, tuples and
sets. All are recognised by their shape: no Kubernetes client is imported. The result shares nothing with the input.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from datetime import date
from decimal import Decimal
from enum import Enum
from typing import Any, Final

from kpo_multicluster.errors import ConfigurationError
from kpo_multicluster.pods.schema import ANYTHING, QUANTITIES, TEXTS, api_name, field_kind, is_structure, model_kind

_BOOLEANS: Final = {"true": True, "false": False}
_LEGACY_RESOURCES: Final = {
    "request_cpu": ("requests", "cpu"),
    "request_memory": ("requests", "memory"),
    "request_ephemeral_storage": ("requests", "ephemeral-storage"),
    "limit_cpu": ("limits", "cpu"),
    "limit_memory": ("limits", "memory"),
    "limit_gpu": ("limits", "nvidia.com/gpu"),
    "limit_ephemeral_storage": ("limits", "ephemeral-storage"),
}


class UnrenderedError(ConfigurationError):
    """A text stands where something else is wanted, and may become that once its template is rendered."""


def to_json(value: Any, kind: str, where: str) -> Any:
    """A value as the API's JSON.

    Args:
        value: as the user wrote it.
        kind: what is wanted, in the notation of `kpo_multicluster.pods.schema`.
        where: the parameter, for messages; grows to a path on the way down, such as `volumes[0].name`.

    Raises:
        ConfigurationError: it is of another type; the message has the parameter and the type, never the value.
    """
    value = _unwrapped(value)
    if value is None:
        raise _mismatch(value, kind, where)
    if kind.startswith("["):
        return [to_json(item, kind[1:-1], f"{where}[{index}]") for index, item in enumerate(_items(value, kind, where))]
    if kind in (TEXTS, QUANTITIES):
        return _map(value, kind, where)
    if kind == ANYTHING:
        return _anything(value, where)
    if kind in ("str", "int", "bool"):
        return _scalar(value, kind, where)
    return _structure(value, kind, where)


def resources_to_json(value: Any, where: str) -> dict[str, Any]:
    """A container's resources; also in the old flat form with `request_memory`, `limit_gpu` and the like."""
    value = _unwrapped(value)
    if not isinstance(value, Mapping) or not value.keys() & _LEGACY_RESOURCES.keys():
        resources: dict[str, Any] = to_json(value, "V1ResourceRequirements", where)
        return resources
    legacy: dict[str, Any] = {}
    for key, quantity in value.items():
        if key not in _LEGACY_RESOURCES:
            raise ConfigurationError(
                f"{where} mixes the keys {', '.join(sorted(value.keys() & _LEGACY_RESOURCES.keys()))} with {key!r}; "
                "use either those or 'requests' and 'limits'."
            )
        if quantity is not None:
            section, resource = _LEGACY_RESOURCES[key]
            legacy.setdefault(section, {})[resource] = _text(quantity, f"{where}[{key!r}]")
    return legacy


def is_model(value: Any) -> bool:
    """Whether a value is an object of a Kubernetes client's model classes."""
    return isinstance(getattr(value, "attribute_map", None), Mapping) and hasattr(value, "openapi_types")


def _unwrapped(value: Any) -> Any:
    convert = getattr(value, "to_k8s_client_obj", None)
    if callable(convert):
        value = convert()
    return value.value if isinstance(value, Enum) else value


def _structure(value: Any, kind: str, where: str) -> dict[str, Any]:
    if is_model(value):
        if all(cls.__name__ != kind for cls in type(value).__mro__):
            raise _mismatch(value, kind, where)
        return _model(value, kind, where)
    if not isinstance(value, Mapping):
        raise _mismatch(value, kind, where)
    result: dict[str, Any] = {}
    for key, item in value.items():
        name = _key(key, where)
        if is_structure(kind):
            name = api_name(kind, name)
        if item is not None and (name == key or value.get(name) is None):
            result[name] = to_json(item, field_kind(kind, name), f"{where}.{name}")
    return result


def _model(value: Any, kind: str, where: str) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for attribute, name in value.attribute_map.items():
        item = getattr(value, attribute)
        if item is None:
            continue
        item_kind = field_kind(kind, name)
        if item_kind == ANYTHING:
            item_kind = model_kind(value.openapi_types[attribute])
        result[name] = to_json(item, item_kind, f"{where}.{name}")
    return result


def _items(value: Any, kind: str, where: str) -> Sequence[Any]:
    if isinstance(value, Set):
        return sorted(value, key=str)
    if not isinstance(value, Sequence) or isinstance(value, (str, bytes, bytearray)):
        raise _mismatch(value, kind, where)
    return value


def _map(value: Any, kind: str, where: str) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise _mismatch(value, kind, where)
    return {
        _key(key, where): "" if item is None else _text(_unwrapped(item), f"{where}[{key!r}]")
        for key, item in value.items()
        if item is not None or kind != QUANTITIES
    }


def _key(key: Any, where: str) -> str:
    """A key as JSON has it: YAML reads an unquoted `on` as a truth value, `1` as a number."""
    key = _unwrapped(key)
    if isinstance(key, bool):
        return "true" if key else "false"
    if isinstance(key, (str, int, float)):
        return str(key)
    raise ConfigurationError(f"{where}: a key must be a text, got {_type(key)}.")


def _anything(value: Any, where: str) -> Any:
    value = _unwrapped(value)
    if value is None or isinstance(value, (str, int, float)):
        return value
    if is_model(value):
        return _model(value, type(value).__name__, where)
    if isinstance(value, Mapping):
        return {_key(key, where): _anything(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, (Sequence, Set)) and not isinstance(value, (bytes, bytearray)):
        return [_anything(item, f"{where}[{index}]") for index, item in enumerate(_items(value, ANYTHING, where))]
    return _text(value, where)


def _scalar(value: Any, kind: str, where: str) -> Any:
    """A text, a number or a truth value; rendered templates give texts, YAML gives numbers where texts are meant."""
    if kind == "str":
        return _text(value, where)
    if kind == "bool":
        return _boolean(value, where)
    return _integer(value, where)


def _text(value: Any, where: str) -> str:
    if isinstance(value, (str, bool, int, float, Decimal)):
        return str(value)
    if isinstance(value, date):
        return value.isoformat()
    raise _mismatch(value, "str", where)


def _boolean(value: Any, where: str) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.strip().lower() in _BOOLEANS:
        return _BOOLEANS[value.strip().lower()]
    raise _mismatch(value, "bool", where)


def _integer(value: Any, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, str, float)):
        raise _mismatch(value, "int", where)
    try:
        number = int(value)
    except (ValueError, OverflowError):
        error = _error_type(value)(f"{where} must be an integer, got a {_type(value)} that is none.")
        raise error from None
    if isinstance(value, float) and number != value:
        raise ConfigurationError(f"{where} must be an integer, got a float with a fraction.")
    return number


def _mismatch(value: Any, kind: str, where: str) -> ConfigurationError:
    return _error_type(value)(f"{where} must be {_described(kind)}, got {_type(value)}.")


def _error_type(value: Any) -> type[ConfigurationError]:
    return UnrenderedError if isinstance(value, str) and "{" in value else ConfigurationError


def _described(kind: str) -> str:
    if kind.startswith("["):
        return f"a list, each item {_described(kind[1:-1])}"
    plain = {
        "str": "a text",
        "int": "an integer",
        "bool": "True or False",
        TEXTS: "a dictionary of texts",
        QUANTITIES: "a dictionary of quantities",
        ANYTHING: "JSON",
    }
    return plain.get(kind) or f"a dictionary or a {kind}"


def _type(value: Any) -> str:
    return type(value).__name__
