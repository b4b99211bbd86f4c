"""Reads what someone has filled into the form of this package's own type of connection."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kpo_multicluster.auth.registry import kinds
from kpo_multicluster.cluster import ClusterRef
from kpo_multicluster.errors import ConfigurationError
from kpo_multicluster.hooks.cluster_part import ref_of_part
from kpo_multicluster.hooks.connection_form import CLUSTER_KINDS, FIELDS, KIND_FIELD, OPTIONS_FIELD, as_shown
from kpo_multicluster.hooks.fields import ConnectionFields
from kpo_multicluster.hooks.origins import KIND, naming_fields

# Of these sets of fields, a cluster of the kind needs one each.
_NEEDED: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "kubeconfig": (("kubeconfig_path", "kubeconfig_secret"),),
    "token": (("server",), ("token", "token_file")),
    "eks": (("cluster_name",),),
    "gke": (("cluster_name",),),
    "aks": (("cluster_name",),),
}
_EITHER = (("kubeconfig_path", "kubeconfig_secret"), ("token", "token_file"))
_NOT_IN_FORM = ("host", "login", "password")
# What else the fields fill in, besides options of a kind.
_OPTIONS: Mapping[str, str] = {KIND_FIELD: "auth", "namespace": "namespace"}
# Further options that may hold a secret, whose names do not say so to Airflow, and what to do instead.
_UNMASKED: Mapping[str, str] = {
    "document": f"fill in {as_shown('kubeconfig_secret')}",
    "key_json": f"put it into a connection of type google_cloud_platform, named in {as_shown('cloud_conn_id')}",
}


def ref_of_form(connection: ConnectionFields) -> tuple[ClusterRef, dict[str, str]]:
    """The cluster, and which field each of its options comes from.

    Raises:
        ConfigurationError: fields are missing, malformed, or of two kinds; each is named as the form shows it.
    """
    kind = _kind(connection)
    read = {name: _value(connection, name) for name in FIELDS}
    filled = {name: value for name, value in read.items() if value is not None}
    _check(connection, kind, filled)
    options = {name: _OPTIONS.get(name, FIELDS[name].option) for name in filled}
    part = {option: filled[name] for name, option in options.items() if option}
    further = filled.get(OPTIONS_FIELD) or {}
    twice = [name for name, option in options.items() if further.get(option) not in (None, "")]
    if twice:
        raise ConfigurationError(
            f"The {connection.source} gives in {as_shown(OPTIONS_FIELD)} what it fills in as {_listed(twice)}: leave "
            "only one of them."
        )
    _check_further(connection, further)
    origins = {KIND: connection.where(KIND_FIELD), **dict.fromkeys(further, connection.where(OPTIONS_FIELD))}
    origins |= {option: connection.where(name) for name, option in options.items() if option not in ("", "auth")}
    with naming_fields(origins):
        return ref_of_part({**further, **part}, auth=None, source=connection.source), origins


def _value(connection: ConnectionFields, name: str) -> Any:
    """What a field is filled with; None if it is empty, or an answer of no."""
    if "boolean" in FIELDS[name].schema["type"]:
        return connection.flag(name) or None
    if "object" in FIELDS[name].schema["type"]:
        return connection.mapping(name) or None
    text = connection.text(name)
    return (text.strip() or None) if text is not None else None


def _kind(connection: ConnectionFields) -> str:
    kind, field = _value(connection, KIND_FIELD), connection.where(KIND_FIELD)
    choices = ", ".join(
        f"{name!r} ({CLUSTER_KINDS[name]})" if name in CLUSTER_KINDS else repr(name) for name in kinds()
    )
    if kind is None:
        raise ConfigurationError(f"The {field} is empty: choose one of {choices}.")
    if kind not in kinds():
        raise ConfigurationError(f"The {field} is {kind!r}: choose one of {choices}.")
    return str(kind)


def _check(connection: ConnectionFields, kind: str, filled: Mapping[str, Any]) -> None:
    unread = [name for name in _NOT_IN_FORM if getattr(connection, name)]
    if unread:
        raise ConfigurationError(
            f"The {connection.source} fills in {' and '.join(unread)}, which a connection of its type does not have: "
            f"an API server's address is {as_shown('server')}, its token {as_shown('token')}."
        )
    unknown = connection.others(FIELDS)
    if unknown:
        raise ConfigurationError(
            f"The {connection.source} has {', '.join(unknown)} among its extra fields, which a connection of its type "
            f"does not have. It has {', '.join(FIELDS)}."
        )
    others = [name for name in filled if FIELDS[name].kinds and kind not in FIELDS[name].kinds]
    if others:
        raise ConfigurationError(
            f"The {connection.source} is for a cluster of the kind {CLUSTER_KINDS.get(kind, kind)!r}, and fills in "
            f"{_listed(others)}, which that kind does not have: empty them, or choose another {as_shown(KIND_FIELD)}."
        )
    for names in _EITHER:
        both = [name for name in names if name in filled]
        if len(both) > 1:
            raise ConfigurationError(f"The {connection.source} fills in {_listed(both)}: empty one of them.")
    given = {*filled, *(filled.get(OPTIONS_FIELD) or {})}
    for needed in _NEEDED.get(kind, ()):
        if not given & {*needed, *(FIELDS[name].option for name in needed)}:
            raise ConfigurationError(
                f"The {connection.source} is for a cluster of the kind {CLUSTER_KINDS[kind]!r}, which needs "
                f"{_listed(needed, 'or')}: fill it in."
            )


def _check_further(connection: ConnectionFields, further: Mapping[str, Any]) -> None:
    """Refuses secrets under a name by which Airflow does not mask them."""
    for name, instead in _UNMASKED.items():
        value = further.get(name)
        if value and not str(value).startswith("env:"):
            raise ConfigurationError(
                f"The {connection.where(OPTIONS_FIELD)} holds {name}, which Airflow would show to whoever sees the "
                f"connection: {instead}, and empty it there."
            )


def _listed(names: Any, joint: str = "and") -> str:
    return f" {joint} ".join(map(as_shown, names))
