"""Reads the options of a `ClusterRef`, which may have been written by hand or by another version."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kpo_multicluster.auth.tls import pem_from_base64
from kpo_multicluster.cluster import ClusterRef
from kpo_multicluster.errors import ConfigurationError


def check_known(ref: ClusterRef, known: Iterable[str]) -> None:
    """Refuses a ref with an option that nothing reads, such as a misspelt one.

    Raises:
        ConfigurationError: with the options there are.
    """
    names = sorted(known)
    unknown = sorted((set(ref.options) | set(ref.secrets)) - set(names))
    if unknown:
        raise ConfigurationError(
            f"The cluster from {ref.source} has the unknown option {', '.join(unknown)}; a cluster of kind "
            f"{ref.kind!r} takes {', '.join(names) or 'none'}."
        )


def text(ref: ClusterRef, name: str) -> str | None:
    """The option as text; None when it is absent or empty.

    Raises:
        ConfigurationError: it is something else.
    """
    value: Any = ref.options.get(name, ref.secrets.get(name))
    if value is None or isinstance(value, str):
        return value or None
    raise ConfigurationError(
        f"The option {name} of the cluster from {ref.source} must be text, not {type(value).__name__}."
    )


def flag(ref: ClusterRef, name: str) -> bool:
    """The option as a boolean; False when it is absent.

    Raises:
        ConfigurationError: it is something else. The text "false" is not taken for a boolean: it reads as true.
    """
    value: Any = ref.options.get(name, False)
    if isinstance(value, bool):
        return value
    raise ConfigurationError(
        f"The option {name} of the cluster from {ref.source} must be true or false, not {type(value).__name__}."
    )


def ca_pem(ref: ClusterRef) -> str | None:
    """The option `ca_data` as PEM; None when it is absent.

    Raises:
        ConfigurationError: it is neither PEM nor base64 of it.
    """
    data = text(ref, "ca_data")
    if data is None or "-----BEGIN" in data:
        return data
    pem = pem_from_base64(data)
    if pem is None:
        raise ConfigurationError(f"The ca_data of the cluster from {ref.source} is neither PEM nor base64 of it.")
    return pem
