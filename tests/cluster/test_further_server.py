"""An API server beside the first."""

from __future__ import annotations

import pytest

from .errors import ClusterError
from .fixtures import RealClusters
from .further_server import further_api_server

pytestmark = pytest.mark.cluster


def test_one_more_api_server(real_clusters: RealClusters) -> None:
    if not real_clusters.ours:
        pytest.skip("starts an API server, which only the clusters made for the tests allow")
    name = real_clusters.client("alpha").make_namespace()
    with further_api_server("alpha") as server:
        found = server.administrator.find(f"/api/v1/namespaces/{name}")
        assert found is not None
        real_clusters.client("alpha").delete_namespace(name)
        assert [str(request) for request in server.audit.requests(namespace=name)] == ["get namespaces"]
    assert server.administrator.find("/readyz") is None


def test_a_cluster_that_is_not_up(real_clusters: RealClusters) -> None:
    with pytest.raises(ClusterError, match="Cluster gamma is not up"), further_api_server("gamma"):
        pass
