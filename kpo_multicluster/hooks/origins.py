"""Errors name the options of a cluster; whoever filled in a connection knows its fields."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from kpo_multicluster.errors import ConfigurationError

KIND: Final = "kind"
# What is said when a library is missing: the kind of cluster is what needs it.
_KIND_MATTERS = "optional dependency"


def fields_named(text: str, origins: Mapping[str, str]) -> str:
    """Which fields hold the options that a message names, in brackets after a space; empty if there are none.

    Args:
        text: the message.
        origins: where options come from, by their name; that of the cluster's kind is `KIND`.
    """
    named = [
        f"{name} is the {origin}"
        for name, origin in origins.items()
        if origin not in text and (_KIND_MATTERS in text if name == KIND else re.search(rf"\b{name}\b", text))
    ]
    return f" ({'; '.join(named)}.)" if named else ""


@contextmanager
def naming_fields(origins: Mapping[str, str]) -> Iterator[None]:
    """Within it, what is wrong with a cluster is said with the fields that it stands in.

    Args:
        origins: as for `fields_named`.

    Raises:
        ConfigurationError: that was raised within it.
    """
    try:
        yield
    except ConfigurationError as error:
        text = str(error)
        error.args = (text + fields_named(text, origins),)
        raise
