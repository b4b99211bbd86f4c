"""What Airflow is told about this distribution, as Airflow itself reads it."""

from __future__ import annotations

import importlib
import json
from importlib.metadata import entry_points, metadata
from pathlib import Path

import airflow
import jsonschema

from kpo_multicluster.provider import get_provider_info


def test_the_metadata_is_as_airflow_wants_it() -> None:
    schema = json.loads((Path(airflow.__file__).parent / "provider_info.schema.json").read_text())
    jsonschema.validate(get_provider_info(), schema)
    # A name that differs from the distribution's stops the discovery of every provider.
    assert get_provider_info()["package-name"] == metadata("kpo-multicluster")["Name"]


def test_the_modules_it_names_exist() -> None:
    for operators in get_provider_info()["operators"]:
        for module in operators["python-modules"]:
            importlib.import_module(module)


def test_airflow_finds_the_provider() -> None:
    from airflow.providers_manager import ProvidersManager

    assert "kpo-multicluster" in ProvidersManager().providers  # type: ignore[no-untyped-call]


def test_every_resolver_that_is_registered_can_be_loaded() -> None:
    points = entry_points(group="kpo_multicluster.resolvers")
    assert {point.name for point in points} >= {"in_cluster", "kubeconfig", "token"}
    for point in points:
        assert callable(point.load()().resolve)
