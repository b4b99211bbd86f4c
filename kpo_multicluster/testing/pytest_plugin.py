"""Fixtures for tests that run pods: `pod_cluster` and `pod_clusters`.

They come with the distribution; nothing needs to be imported:

    def test_my_dag(pod_cluster, tmp_path):
        kubeconfig = pod_cluster.write_kubeconfig(tmp_path / "kubeconfig")
        ...
        assert pod_cluster.pods() == []

A mark gives `pod_cluster` what `kpo_multicluster.testing.cluster.EmbeddedCluster` takes:

    @pytest.mark.pod_cluster("gpu", nodes=[NodeSpec("gpu-node", capacity={"nvidia.com/gpu": "1"})])

Loaded into every pytest run of an environment that has the distribution, so nothing here imports anything heavy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from kpo_multicluster.testing.cluster import EmbeddedCluster

_MARK = "pod_cluster(name, **options): what the fixture `pod_cluster` gives to EmbeddedCluster"


def pytest_configure(config: pytest.Config) -> None:
    """Makes the mark known to `--strict-markers`."""
    config.addinivalue_line("markers", _MARK)


@pytest.fixture
def pod_clusters() -> Iterator[Callable[..., EmbeddedCluster]]:
    """Starts embedded clusters, each gone with all its pods when the test ends.

    Called as `EmbeddedCluster` is: `alpha, beta = pod_clusters("alpha"), pod_clusters("beta")`. A cluster starts in a
    tenth of a second, so that every test has its own: its own pods, faults and count of requests.
    """
    from kpo_multicluster.testing.cluster import EmbeddedCluster

    with ExitStack() as stack:

        def start(name: str = "embedded", **options: Any) -> EmbeddedCluster:
            return stack.enter_context(EmbeddedCluster(name, **options))

        yield start


@pytest.fixture
def pod_cluster(request: pytest.FixtureRequest, pod_clusters: Callable[..., EmbeddedCluster]) -> EmbeddedCluster:
    """An embedded cluster for one test; see the mark of the same name for what it is given."""
    mark = request.node.get_closest_marker("pod_cluster")
    return pod_clusters(*mark.args, **mark.kwargs) if mark else pod_clusters()
