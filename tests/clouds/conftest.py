"""Clouds, and API servers that take their tokens."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from kpo_multicluster.testing import EmbeddedCluster
from kpo_multicluster.testing.clouds.aws import FakeAws
from kpo_multicluster.testing.clouds.azure import FakeAzure
from kpo_multicluster.testing.clouds.google import FakeGoogle

from ..cluster.fixtures import RealClusters, real_clusters
from .callers import Aws, Azure, Cloud, Google
from .relays import BlockingRelay, relay_to
from .servers import EmbeddedServer, Server, real_server

__all__ = ["real_clusters"]

_SETTINGS = ("AWS_", "AZURE_", "AAD_", "IDENTITY_", "MSI_", "ARM_", "GOOGLE_", "GCE_", "CLOUDSDK_")


@pytest.fixture(scope="session", params=["embedded", pytest.param("kubernetes", marks=pytest.mark.cluster)])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An API server that asks a cloud whose a token is. The real one is there for `make test-cluster` only."""
    if request.param == "embedded":
        with EmbeddedCluster("alpha") as embedded:
            yield EmbeddedServer(embedded)
        return
    clusters: RealClusters = request.getfixturevalue("real_clusters")
    if not clusters.ours:
        pytest.skip("starts an API server, which only the clusters made for the tests allow")
    with real_server(clusters, clusters.contexts[0], tmp_path_factory.mktemp("webhook")) as real:
        yield real


@pytest.fixture
def namespace(server: Server) -> Iterator[str]:
    """One for each test."""
    name = server.make_namespace()
    yield name
    server.delete_namespace(name)


@pytest.fixture
def relay(server: Server) -> Iterator[BlockingRelay]:
    with relay_to(server.url) as relay:
        yield relay


@pytest.fixture
def no_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Leaves this process without credentials of any cloud."""
    for name in list(os.environ):
        if name.startswith(_SETTINGS):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "aws-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "aws-credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path / "gcloud"))


@pytest.fixture
def google(no_one: None) -> Iterator[FakeGoogle]:
    with FakeGoogle() as google:
        yield google


@pytest.fixture
def azure(no_one: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeAzure]:
    """An Azure that this process trusts: it speaks https."""
    with FakeAzure() as azure:
        bundle = tmp_path / "azure-ca.pem"
        bundle.write_text(azure.ca_pem)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bundle))
        yield azure


@pytest.fixture
def aws(no_one: None) -> Iterator[FakeAws]:
    with FakeAws() as aws:
        yield aws


@pytest.fixture
def eks_cloud(aws: FakeAws, server: Server, monkeypatch: pytest.MonkeyPatch) -> Aws:
    cloud = Aws(aws, monkeypatch.setenv)
    cloud.put_cluster(server)
    return cloud


@pytest.fixture
def gke_cloud(google: FakeGoogle, server: Server, monkeypatch: pytest.MonkeyPatch) -> Google:
    cloud = Google(google, monkeypatch.setenv)
    cloud.put_cluster(server)
    return cloud


@pytest.fixture
def aks_cloud(azure: FakeAzure, server: Server, monkeypatch: pytest.MonkeyPatch) -> Azure:
    cloud = Azure(azure, monkeypatch.setenv)
    cloud.put_cluster(server)
    return cloud


@pytest.fixture(params=["eks", "gke", "aks"])
def cloud(request: pytest.FixtureRequest) -> Cloud:
    """Each cloud in turn, with a cluster on the server."""
    found: Cloud = request.getfixturevalue(f"{request.param}_cloud")
    return found
