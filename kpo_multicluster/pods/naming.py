"""Names of pods, as Kubernetes allows them (RFC 1123) and as users of the upstream operator know them."""

from __future__ import annotations

import re
import secrets
import string
from collections.abc import Callable
from typing import Final

from kpo_multicluster.errors import ConfigurationError

# With a random suffix a name fits a host name, so that the pod's own host name is not cut.
SUFFIXED_LIMIT: Final = 63
NAME_LIMIT: Final = 253
SUFFIX_LENGTH: Final = 8

_GIVEN_LIMIT = 220
_ALPHABET = string.ascii_lowercase + string.digits
_GIVEN_NAME = re.compile(r"[\w.-]+")
# A name has to begin with a letter or a digit; this one stands in where nothing of the user's is left.
_NAMELESS = "pod"


def random_suffix() -> str:
    """Eight random lower-case letters and digits."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(SUFFIX_LENGTH))


def clean_name(name: str) -> str:
    """A `name` argument as part of a pod name: lower case, anything but letters, digits and dashes made a dash.

    Raises:
        ConfigurationError: it is empty, longer than 220 characters, or holds more than letters, digits, `_`, `.`, `-`.
    """
    if len(name) > _GIVEN_LIMIT:
        raise ConfigurationError(f"name has {len(name)} characters; give at most {_GIVEN_LIMIT}.")
    if not _GIVEN_NAME.fullmatch(name):
        raise ConfigurationError(
            f"name {name!r} holds characters that no pod name can be made from; use letters, digits, '-', '_' and '.'."
        )
    return re.sub(r"[^a-z0-9-]+", "-", name.lower())


def task_name(task_id: str) -> str:
    """The name of a task's pod when none was given: its id in lower case, runs of anything else made one dash."""
    if not task_id.isascii():
        # Rare, and needs tables: Airflow brings this library along.
        from slugify import slugify

        slug = slugify(task_id)
    else:
        slug = re.sub(r"[^a-z0-9]+", "-", task_id.lower())
    return slug.strip("-")[:SUFFIXED_LIMIT].strip("-")


def pod_name(base: str, suffix: Callable[[], str] | None = None) -> str:
    """A valid pod name from a base name.

    Args:
        base: of the characters that pod names are made of.
        suffix: makes the random end; None leaves the base as it is, cut to 253 characters.
    """
    if suffix is None:
        return base[:NAME_LIMIT].strip("-.") or _NAMELESS
    end = suffix()
    return f"{base[: SUFFIXED_LIMIT - len(end) - 1].strip('-.') or _NAMELESS}-{end}"
