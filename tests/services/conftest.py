"""The parts of an Airflow outlive single tests: they end with the module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kpo_multicluster.testing.cluster import EmbeddedCluster

from .airflow import Airflow


@pytest.fixture(autouse=True)
def nothing_left_behind() -> None:
    """What a test starts here, such as another triggerer, goes on for the next: all end with the module."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[EmbeddedCluster]:
    with EmbeddedCluster("alpha") as cluster:
        yield cluster


@pytest.fixture(scope="module")
def airflow(
    cluster: EmbeddedCluster, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Airflow]:
    """An Airflow with the DAGs that the module has as text, `DAGS`; they find the cluster in the file `CONFIG`."""
    home = tmp_path_factory.mktemp("airflow")
    config = cluster.write_kubeconfig(home / "kubeconfig")
    dags = home / "dags"
    dags.mkdir()
    (dags / "dags.py").write_text(f"CONFIG = {str(config)!r}\n{request.module.DAGS}")
    airflow = Airflow(home, dags)
    try:
        airflow.start()
        yield airflow
    finally:
        airflow.stop()
