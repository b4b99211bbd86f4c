"""Derives the shape of a Pod from the models of the installed `kubernetes` client.

Run as a script it rewrites `kpo_multicluster/pods/pod_schema.json`, keeping what another client version contributed.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

SCHEMA_FILE = Path(__file__).parents[2] / "kpo_multicluster" / "pods" / "pod_schema.json"
Schema = dict[str, dict[str, str]]

# Parts that the server fills in: kept as they come.
_OPAQUE = {"V1PodStatus", "V1ManagedFieldsEntry"}
# Maps of quantities: a null among them is no quantity, where a null label is an empty one.
_QUANTITIES = {("V1ResourceRequirements", "limits"), ("V1ResourceRequirements", "requests")}


def kind_of(python_type: str) -> str:
    """The notation of `pod_schema.json` for a type as the client's models write it."""
    if match := re.fullmatch(r"[lL]ist\[(\w+)\]", python_type):
        return f"[{kind_of(match[1])}]"
    if re.fullmatch(r"[dD]ict\[str, str\]", python_type):
        return "{str}"
    if python_type in _OPAQUE:
        return "object"
    return "str" if python_type == "datetime" else python_type


def installed_schema() -> Schema:
    from kubernetes.client import models

    schema: Schema = {}
    pending = ["V1Pod"]
    while pending:
        name = pending.pop()
        if name in schema:
            continue
        model: Any = getattr(models, name)
        schema[name] = {
            model.attribute_map[attribute]: "{quantity}"
            if (name, model.attribute_map[attribute]) in _QUANTITIES
            else kind_of(python_type)
            for attribute, python_type in model.openapi_types.items()
        }
        pending.extend(kind.strip("[]") for kind in schema[name].values() if "V1" in kind)
    return schema


def render(schema: Schema) -> str:
    lines = (f"{json.dumps(name)}: {json.dumps(schema[name], sort_keys=True)}" for name in sorted(schema))
    return "{\n" + ",\n".join(lines) + "\n}\n"


if __name__ == "__main__":
    known: Schema = json.loads(SCHEMA_FILE.read_text()) if SCHEMA_FILE.exists() else {}
    for type_name, type_fields in installed_schema().items():
        known.setdefault(type_name, {}).update(type_fields)
    SCHEMA_FILE.write_text(render(known))
