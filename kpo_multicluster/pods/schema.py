"""The shape of a Pod: which fields an object has and what each holds.

The notation of a kind, in `pod_schema.json` and here: `str`, `int`, `bool`; the name of a structure such as
`V1Volume`; `[kind]` for a list; `{str}` for a map of texts and `{quantity}` for one of quantities; `object` for
anything.
Source: the models of the official Kubernetes client (core/v1 Pod).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Final

QUANTITIES: Final = "{quantity}"
TEXTS: Final = "{str}"
ANYTHING: Final = "object"

_LIST = re.compile(r"list\[(.+)\]", re.IGNORECASE)
_MAP = re.compile(r"dict\[.+\]", re.IGNORECASE)


@cache
def _structures() -> Mapping[str, Mapping[str, str]]:
    text = resources.files("kpo_multicluster.pods").joinpath("pod_schema.json").read_text(encoding="utf-8")
    structures: dict[str, dict[str, str]] = json.loads(text)
    return structures


@cache
def _spellings(structure: str) -> Mapping[str, str]:
    return {field.lower(): field for field in _structures()[structure]}


def is_structure(kind: str) -> bool:
    """Whether a kind is a structure with known fields."""
    return kind in _structures()


def field_kind(structure: str, field: str) -> str:
    """What a field of a structure holds; `object` for one that is newer than this package."""
    return _structures().get(structure, {}).get(field, ANYTHING)


def api_name(structure: str, key: str) -> str:
    """The API's spelling of a key that may be in the Python client's (`image_pull_policy`); others stay."""
    if key in _structures()[structure] or "_" not in key:
        return key
    return _spellings(structure).get(key.replace("_", "").lower(), key)


def model_kind(python_type: str) -> str:
    """The kind that a type in a client model's `openapi_types` stands for."""
    if match := _LIST.fullmatch(python_type):
        return f"[{model_kind(match[1])}]"
    if _MAP.fullmatch(python_type):
        return TEXTS if python_type.lower() == "dict[str, str]" else ANYTHING
    return "str" if python_type == "datetime" else python_type
