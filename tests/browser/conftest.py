"""A browser before the API server of an Airflow, and clusters of every kind to fill in."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kpo_multicluster.testing import EmbeddedCluster
from kpo_multicluster.testing.clouds import FakeAws, FakeAzure, FakeGoogle

from ..clouds.servers import EmbeddedServer
from ..clouds.test_acceptance import ROLE
from ..services.airflow import Airflow
from ..services.clouds import AnyOf, OnCloud, on_aks, on_eks, on_gke
from .form import Connections

if TYPE_CHECKING:
    from playwright.sync_api import Page

CHROMIUM = shutil.which("chromium")
# Nothing of it is asserted; it is what a slow machine is given.
_PATIENCE_MILLISECONDS = 180_000


@pytest.fixture(autouse=True)
def nothing_left_behind() -> None:
    """The browser and the server go on for the next test: all end with the module."""


@dataclass(frozen=True)
class Bed:
    """What connections are made to.

    Attributes:
        cluster: the one that all of them lead to.
        kubeconfig: a file that leads there.
        namespace: in which those may run pods whom the clouds vouch for.
        clouds: the same cluster on each cloud, by kind.
        airflow: whose API server runs.
    """

    cluster: EmbeddedCluster
    kubeconfig: Path
    namespace: str
    clouds: dict[str, OnCloud]
    airflow: Airflow


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    if "KPO_BROWSER" not in os.environ:
        pytest.skip("run by `make test-browser`, which brings a browser")
    if CHROMIUM is None or find_spec("playwright") is None:
        pytest.skip("needs Debian's chromium and playwright: `make test-browser` brings both")
    home = tmp_path_factory.mktemp("airflow")
    with ExitStack() as stack:
        cluster = stack.enter_context(EmbeddedCluster("gpu", nodes=()))
        server = EmbeddedServer(cluster)
        azure = stack.enter_context(FakeAzure())
        clouds = [
            on_eks(stack.enter_context(FakeAws()), server),
            on_gke(stack.enter_context(FakeGoogle()), server),
            on_aks(azure, server),
        ]
        server.trust(AnyOf(*(cloud.cluster for cloud in clouds)))
        namespace = server.make_namespace()
        for cloud in clouds:
            server.allow(namespace, ROLE, user=cloud.user)
        (home / "azure-ca.pem").write_text(azure.ca_pem)
        environ = {
            "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
            "REQUESTS_CA_BUNDLE": str(home / "azure-ca.pem"),
        }
        airflow = Airflow(home, home / "dags", environ)
        stack.callback(airflow.stop)
        airflow.start_api_server()
        airflow.until_answering()
        for cloud in clouds:
            airflow.ask("POST", "/api/v2/connections", cloud.connection)
        kubeconfig = cluster.write_kubeconfig(home / "kubeconfig")
        yield Bed(cluster, kubeconfig, namespace, {cloud.kind: cloud for cloud in clouds}, airflow)


@pytest.fixture(scope="module")
def page(bed: Bed) -> Iterator[Page]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # Chromium's own sandbox is not to be had for root; nothing but loopback is opened here.
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 900, "height": 1600})
        page.set_default_timeout(_PATIENCE_MILLISECONDS)
        page.set_default_navigation_timeout(_PATIENCE_MILLISECONDS)
        yield page
        browser.close()


@pytest.fixture
def connections(page: Page, bed: Bed) -> Connections:
    """The list of connections, open."""
    connections = Connections(page, bed.airflow.url)
    connections.open()
    return connections
