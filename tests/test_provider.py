"""What Airflow is told about this distribution, as Airflow itself reads it."""

from __future__ import annotations

import importlib
import json
import pkgutil
from importlib.metadata import entry_points, metadata
from pathlib import Path
from typing import Any

import airflow
import jsonschema
import pytest

from kpo_multicluster.airflow_names import airflow_version
from kpo_multicluster.hooks.connection_form import FIELDS, FORM_NAME, FORM_TYPE
from kpo_multicluster.provider import get_provider_info


def test_the_metadata_is_as_airflow_wants_it() -> None:
    schema = json.loads((Path(airflow.__file__).parent / "provider_info.schema.json").read_text())
    jsonschema.validate(get_provider_info(), schema)
    # A name that differs from the distribution's stops the discovery of every provider.
    assert get_provider_info()["package-name"] == metadata("kpo-multicluster")["Name"]


def test_the_modules_it_names_exist() -> None:
    for part in ("operators", "hooks", "triggers"):
        for entry in get_provider_info()[part]:
            for module in entry["python-modules"]:
                importlib.import_module(module)


def test_the_classes_it_names_exist() -> None:
    info = get_provider_info()
    named = [entry["hook-class-name"] for entry in info["connection-types"]]
    named += [entry["class-name"] for entry in info["task-decorators"]]
    named += info["extra-links"]
    for path in named:
        module, _, name = path.rpartition(".")
        assert callable(getattr(importlib.import_module(module), name)), path


def test_every_operator_is_named() -> None:
    import kpo_multicluster.operators as package
    from kpo_multicluster.airflow_names import BaseOperator

    named = {module for entry in get_provider_info()["operators"] for module in entry["python-modules"]}
    for found in pkgutil.iter_modules(package.__path__):
        module = importlib.import_module(f"{package.__name__}.{found.name}")
        public = [getattr(module, name) for name in getattr(module, "__all__", ())]
        if any(isinstance(entry, type) and issubclass(entry, BaseOperator) for entry in public):
            assert module.__name__ in named


@pytest.mark.skipif(airflow_version.startswith("3.1."), reason="it asks the hook: see test_connection_form.py")
# Airflow 3.2 says that of itself.
@pytest.mark.filterwarnings("ignore:ProvidersManager.hooks is deprecated")
def test_airflow_shows_the_form_of_the_connection_type() -> None:
    from airflow.api_fastapi.core_api.services.ui.connections import HookMetaService

    (form,) = (form for form in HookMetaService.hook_meta_data() if form.connection_type == FORM_TYPE)
    assert (form.hook_name, form.extra_fields and list(form.extra_fields)) == (FORM_NAME, list(FIELDS))
    assert form.standard_fields is not None
    assert form.standard_fields.host is not None
    assert form.standard_fields.host.hidden


def test_airflow_finds_the_provider() -> None:
    from airflow.providers_manager import ProvidersManager

    assert "kpo-multicluster" in ProvidersManager().providers  # type: ignore[no-untyped-call]


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, Any]]:
    """What `airflow providers` prints."""
    from airflow.cli import cli_parser

    parsed: Any = cli_parser.get_parser().parse_args(["providers", *arguments, "--output", "json"])
    parsed.func(parsed)
    rows: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return rows


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::PendingDeprecationWarning")
def test_airflow_providers_lists_it_all(capsys: pytest.CaptureFixture[str]) -> None:
    info, name = get_provider_info(), "kpo-multicluster"
    (listed,) = (row for row in told(capsys, "list") if row["package_name"] == name)
    assert listed["version"] == metadata(name)["Version"]
    (got,) = told(capsys, "get", name, "--full")
    assert [module["python-modules"] for module in got["operators"]] == [
        module["python-modules"] for module in info["operators"]
    ]
    (hook,) = (row for row in told(capsys, "hooks") if row["connection_type"] == FORM_TYPE)
    assert (hook["hook_name"], hook["package_name"]) == (FORM_NAME, name)
    assert hook["conn_id_attribute_name"] == "kubernetes_conn_id"
    triggers = {row["class"] for row in told(capsys, "triggers") if row["package_name"] == name}
    assert triggers >= {module for entry in info["triggers"] for module in entry["python-modules"]}
    links = [row["extra_link_class_name"] for row in told(capsys, "links")]
    assert set(info["extra-links"]) <= set(links)


def test_every_resolver_that_is_registered_can_be_loaded() -> None:
    points = entry_points(group="kpo_multicluster.resolvers")
    assert {point.name for point in points} >= {"in_cluster", "kubeconfig", "token"}
    for point in points:
        assert callable(point.load()().resolve)
