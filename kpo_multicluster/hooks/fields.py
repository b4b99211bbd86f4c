"""The fields of an Airflow connection, read by type: what is empty is unset, and what is malformed is named."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from kpo_multicluster.auth.connections import CloudConnection
from kpo_multicluster.errors import ConfigurationError
from kpo_multicluster.hooks.connection_form import FIELDS, FORM_TYPE, as_shown

_FLAGS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
# A connection that was given as a URI without a type, or made by hand, is taken for one of Kubernetes.
_DEFAULT_TYPE = "kubernetes"


@dataclass(frozen=True)
class ConnectionFields(CloudConnection):
    """What is used of an Airflow connection that names a cluster.

    Attributes:
        host: the field of that name.
        port: likewise.
    """

    host: str | None = None
    port: int | None = None

    @property
    def type(self) -> str:
        """Its type, where none is given that of connections to Kubernetes."""
        return self.conn_type or _DEFAULT_TYPE

    def where(self, name: str) -> str:
        """A field, for messages; as its form shows it, where it has one of ours."""
        if self.type == FORM_TYPE and name in FIELDS:
            return f"field {as_shown(name)} of {self.source}"
        return super().where(name)

    def flag(self, name: str) -> bool | None:
        """An extra field that is true or false; None if unset.

        Raises:
            ConfigurationError: it is neither.
        """
        return as_flag(self.get(name), self.where(name))

    @property
    def _prefix(self) -> str:
        return f"extra__{self.type}__"


def as_flag(value: Any, where: str) -> bool | None:
    """A value that is true or false, or text that says so; None and the empty string are unset.

    Args:
        value: as it was found.
        where: for messages, such as "field 'in_cluster' of connection 'gpu'".

    Raises:
        ConfigurationError: it is neither.
    """
    if value in (None, ""):
        return None
    flag = value if isinstance(value, bool) else _FLAGS.get(str(value).strip().lower())
    if flag is None:
        raise ConfigurationError(f"{where[:1].upper()}{where[1:]} must be true or false, not {value!r}.")
    return flag


def connection_fields(connection: Any) -> ConnectionFields:
    """The fields of an Airflow `Connection`.

    Raises:
        ConfigurationError: its extra is not a JSON object.
    """
    return ConnectionFields(
        connection.conn_id,
        connection.conn_type,
        connection.login or None,
        connection.password or None,
        _extra(connection),
        connection.host or None,
        connection.port or None,
    )


def _extra(connection: Any) -> dict[str, Any]:
    fault = "is not a JSON object"
    try:
        extra: Any = json.loads(connection.extra or "{}")
    except ValueError as error:  # its message quotes the text
        extra, fault = None, f"is not JSON ({type(error).__name__} at position {getattr(error, 'pos', '?')})"
    if isinstance(extra, dict):
        return extra
    raise ConfigurationError(
        f"The extra of connection {connection.conn_id!r} {fault}: correct it under Admin > Connections."
    ) from None
