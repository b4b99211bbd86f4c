"""The fields of an Airflow connection, read by type: what is empty is unset, and what is malformed is named."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kpo_multicluster.errors import ConfigurationError

_FLAGS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
# A connection that was given as a URI without a type, or made by hand, is taken for one of Kubernetes.
_DEFAULT_TYPE = "kubernetes"


@dataclass(frozen=True)
class ConnectionFields:
    """What is used of an Airflow connection.

    Attributes:
        conn_id: its id.
        conn_type: its type.
        extra: its extra fields.
        host: the field of that name.
        port: likewise.
        login: likewise.
        password: likewise.
    """

    conn_id: str
    conn_type: str | None = _DEFAULT_TYPE
    extra: Mapping[str, Any] = field(default_factory=dict, repr=False)
    host: str | None = None
    port: int | None = None
    login: str | None = None
    password: str | None = field(default=None, repr=False)

    @property
    def source(self) -> str:
        """For messages."""
        return f"connection {self.conn_id!r}"

    @property
    def type(self) -> str:
        """Its type, where none is given that of connections to Kubernetes."""
        return self.conn_type or _DEFAULT_TYPE

    def where(self, name: str) -> str:
        """A field, for messages."""
        return f"field {name!r} of {self.source}"

    def get(self, name: str) -> Any:
        """An extra field, with or without the prefix of old forms; None and the empty string are unset."""
        for key in (name, f"extra__{self.type}__{name}"):
            value = self.extra.get(key)
            if value not in (None, ""):
                return value
        return None

    def text(self, name: str) -> str | None:
        """An extra field that holds text.

        Raises:
            ConfigurationError: it holds something else.
        """
        value = self.get(name)
        if value is None or isinstance(value, str):
            return value
        raise ConfigurationError(f"Field {name!r} of {self.source} must be text, not {type(value).__name__}.")

    def flag(self, name: str) -> bool | None:
        """An extra field that is true or false; None if unset.

        Raises:
            ConfigurationError: it is neither.
        """
        return as_flag(self.get(name), self.where(name))

    def mapping(self, name: str) -> Mapping[str, Any] | None:
        """An extra field that holds an object, or JSON of one; None if unset.

        Raises:
            ConfigurationError: it holds something else.
        """
        value = self.get(name)
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except ValueError:  # its message quotes the text
                value = ""
        if value is None or isinstance(value, Mapping):
            return value
        raise ConfigurationError(f"Field {name!r} of {self.source} must be a JSON object: correct it there.")

    def others(self, known: Iterable[str]) -> list[str]:
        """Names of the extra fields that are filled in and not among `known`, without their prefix; sorted."""
        names = {key.removeprefix(f"extra__{self.type}__") for key in self.extra}
        return sorted(name for name in names - set(known) if self.get(name) is not None)


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
        extra_fields(connection),
        connection.host or None,
        connection.port or None,
        connection.login or None,
        connection.password or None,
    )


def extra_fields(connection: Any) -> dict[str, Any]:
    """The extra fields of an Airflow `Connection`.

    Raises:
        ConfigurationError: its extra is not a JSON object.
    """
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
