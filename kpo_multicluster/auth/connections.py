"""Airflow connections as resolvers see them. Airflow itself is not imported here: its edge hands them in."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from kpo_multicluster.clouds import is_secure
from kpo_multicluster.errors import ConfigurationError

if TYPE_CHECKING:
    from kpo_multicluster.auth.aws_logins import AwsLogin


@dataclass(frozen=True)
class CloudConnection:
    """What an Airflow connection to a cloud holds.

    Attributes:
        conn_id: its id.
        conn_type: its type, such as `aws`.
        login: the field of that name.
        password: likewise.
        extra: its extra fields.
    """

    conn_id: str
    conn_type: str | None = None
    login: str | None = None
    password: str | None = field(default=None, repr=False)
    extra: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def source(self) -> str:
        """For messages."""
        return f"connection {self.conn_id!r}"

    def where(self, name: str) -> str:
        """A field, for messages."""
        return f"field {name!r} of {self.source}"

    def check_type(self, conn_type: str) -> None:
        """Refuses a connection to something else.

        Raises:
            ConfigurationError: with the type it has.
        """
        if self.conn_type not in (conn_type, "", None):
            raise ConfigurationError(
                f"The {self.source} is of type {self.conn_type!r}; one of type {conn_type!r} is needed as conn_id. "
                "Name another one."
            )

    def get(self, name: str) -> Any:
        """A field of the extra, under its own name or the long one of old forms; None and "" are unset."""
        for key in (name, f"{self._prefix}{name}"):
            value = self.extra.get(key)
            if value not in (None, ""):
                return value
        return None

    def text(self, name: str) -> str | None:
        """A field of the extra that holds text.

        Raises:
            ConfigurationError: it holds something else.
        """
        value = self.get(name)
        if value is None or isinstance(value, str):
            return value
        raise ConfigurationError(f"The {self.where(name)} must be text, not {type(value).__name__}.")

    def endpoint(self, name: str) -> str | None:
        """A field of the extra that holds the base URL of an API, in place of the cloud's own.

        Raises:
            ConfigurationError: it is not one that tokens may be sent to.
        """
        url = self.text(name)
        if url is None or is_secure(url):
            return url
        raise ConfigurationError(f"The {self.where(name)} must be an https URL: correct it there.")

    def mapping(self, name: str) -> Mapping[str, Any] | None:
        """A field of the extra that holds an object, or JSON of one; None if unset.

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
        raise ConfigurationError(f"The {self.where(name)} must be a JSON object: correct it there.")

    def others(self, known: Iterable[str]) -> list[str]:
        """Names of the extra fields that are filled in and not among `known`, without their prefix; sorted."""
        names = {key.removeprefix(self._prefix) for key in self.extra}
        return sorted(name for name in names - set(known) if self.get(name) is not None)

    @property
    def _prefix(self) -> str:
        return f"extra__{self.conn_type}__"


class Connections(Protocol):
    """Where connections are looked up: Airflow, or a test."""

    def get(self, conn_id: str) -> CloudConnection:
        """The connection of that id; called while a cluster is resolved, never later.

        Raises:
            ConfigurationError: there is none, or its extra is not JSON.
        """
        ...

    def aws_login(self, conn_id: str, region: str | None) -> AwsLogin | None:
        """How Airflow's own library of AWS connections logs in with it; None where that is not installed or needed.

        Raises:
            ConfigurationError: there is no such connection.
        """
        ...


class _OutsideAirflow:
    def get(self, conn_id: str) -> CloudConnection:
        raise ConfigurationError(
            f"The connection {conn_id!r} is only to be had inside Airflow: in a task, a trigger, or code that gives "
            "resolve() its connections=. Elsewhere name a credential without a connection, such as a profile or a key "
            "file."
        )

    def aws_login(self, conn_id: str, region: str | None) -> AwsLogin | None:
        return None


OUTSIDE_AIRFLOW: Connections = _OutsideAirflow()
"""Has no connections, and says why."""
