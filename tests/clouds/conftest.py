"""Clouds, and API servers that take their tokens."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kpo_multicluster.testing import EmbeddedCluster
from kpo_multicluster.testing.clouds.aws import FakeAws
from kpo_multicluster.testing.clouds.azure import FakeAzure
from kpo_multicluster.testing.clouds.google import FakeGoogle

from ..cluster.fixtures import RealClusters, real_clusters
from ..testing.clouds.fixtures import aws, azure, azure_ca, google, no_one
from .callers import Aws, Azure, Cloud, Google
from .relays import BlockingRelay, relay_to
from .servers import EmbeddedServer, Server, real_server

__all__ = ["aws", "azure", "azure_ca", "google", "no_one", "real_clusters"]


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
def aks_cloud(azure: FakeAzure, azure_ca: str, server: Server, monkeypatch: pytest.MonkeyPatch) -> Azure:
    cloud = Azure(azure, monkeypatch.setenv)
    cloud.put_cluster(server)
    return cloud


@pytest.fixture(params=["eks", "gke", "aks"])
def cloud(request: pytest.FixtureRequest) -> Cloud:
    """Each cloud in turn, with a cluster on the server."""
    found: Cloud = request.getfixturevalue(f"{request.param}_cloud")
    return found
