"""The shape of a Pod that this package carries, against the models of the installed `kubernetes` client.

Run as a script, this file rewrites `kpo_multicluster/pods/pod_schema.json`, keeping what other versions of the client
contributed.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from kpo_multicluster.pods import schema as pod_schema

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


def test_carries_every_field_of_the_installed_client_with_its_kind() -> None:
    carried: Schema = json.loads(SCHEMA_FILE.read_text())
    for name, fields in installed_schema().items():
        missing = {field: kind for field, kind in fields.items() if carried.get(name, {}).get(field) != kind}
        assert not missing, f"{name}: rewrite the schema with `python {Path(__file__).name}`"


def test_the_file_is_as_the_script_writes_it() -> None:
    text = SCHEMA_FILE.read_text()
    assert text == render(json.loads(text))


def test_every_kind_is_known() -> None:
    carried: Schema = json.loads(SCHEMA_FILE.read_text())
    kinds = {kind.strip("[]") for fields in carried.values() for kind in fields.values()}
    plain = {"str", "int", "bool", pod_schema.ANYTHING, pod_schema.TEXTS, pod_schema.QUANTITIES}
    assert kinds <= plain | carried.keys()


def test_every_attribute_of_the_client_maps_to_its_api_name() -> None:
    from kubernetes.client import models

    for name in json.loads(SCHEMA_FILE.read_text()):
        model: Any = getattr(models, name, None)
        for attribute, field in model.attribute_map.items() if model else ():
            assert pod_schema.api_name(name, attribute) == field


@pytest.mark.parametrize(
    ("key", "field"),
    [
        ("imagePullPolicy", "imagePullPolicy"),
        ("image_pull_policy", "imagePullPolicy"),
        ("imagepullpolicy", "imagepullpolicy"),
        ("no_such_field", "no_such_field"),
    ],
)
def test_only_names_with_underscores_are_respelled(key: str, field: str) -> None:
    assert pod_schema.api_name("V1Container", key) == field


@pytest.mark.parametrize(
    ("python_type", "kind"),
    [
        ("str", "str"),
        ("datetime", "str"),
        ("V1Volume", "V1Volume"),
        ("list[V1Volume]", "[V1Volume]"),
        ("List[str]", "[str]"),
        ("dict[str, str]", "{str}"),
        ("Dict[str, str]", "{str}"),
        ("dict[str, object]", "object"),
    ],
)
def test_kinds_of_types_in_models(python_type: str, kind: str) -> None:
    assert pod_schema.model_kind(python_type) == kind


if __name__ == "__main__":
    known: Schema = json.loads(SCHEMA_FILE.read_text()) if SCHEMA_FILE.exists() else {}
    for type_name, type_fields in installed_schema().items():
        known.setdefault(type_name, {}).update(type_fields)
    SCHEMA_FILE.write_text(render(known))
