"""The fixture `cluster`, embedded or real, and what cases do with it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from kpo_multicluster.api.client import ApiClient
from kpo_multicluster.errors import NotFoundError
from kpo_multicluster.testing import EmbeddedCluster, ImageSource, NodeSpec

from ..cluster.fixtures import RealClusters, make_namespace, real_clusters
from .clusters import Cluster, Embedded, Kubernetes
from .pods import UNKNOWN_IMAGE, Object, Pod, container, manifest

__all__ = ["make_namespace", "real_clusters"]

# What containerd says of an image that its registry does not know.
_PULL_ERROR = (
    f'rpc error: code = NotFound desc = failed to pull and unpack image "{UNKNOWN_IMAGE}": failed to resolve reference '
    f'"{UNKNOWN_IMAGE}": {UNKNOWN_IMAGE}: not found'
)
_POD_MARK = "pod(*containers, **spec): what the fixture `pod` gives; on a module it is one pod that its cases share"

Start = Callable[..., Awaitable[Pod]]
Create = Callable[[Object], Awaitable[Pod]]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", _POD_MARK)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        # A case may wait twice as long as for one thing (`Pod.until`) before it is given up.
        if item.path.parent == Path(__file__).parent and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(300))


@pytest.fixture(scope="session", params=["embedded", pytest.param("kubernetes", marks=pytest.mark.cluster)])
def cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The cluster under contract. The real one is there for `make test-cluster` only."""
    directory = tmp_path_factory.mktemp("cluster")
    if request.param == "kubernetes":
        clusters: RealClusters = request.getfixturevalue("real_clusters")
        yield Kubernetes(clusters, clusters.contexts[0], directory)
    else:
        unknown = {UNKNOWN_IMAGE: ImageSource(pull_error=_PULL_ERROR)}
        with EmbeddedCluster("alpha", nodes=[NodeSpec("alpha-1")], images=unknown) as embedded:
            under_contract = Embedded(embedded, directory)
            yield under_contract
            under_contract.close()


@contextlib.contextmanager
def _namespace(cluster: Cluster) -> Iterator[str]:
    name = cluster.make_namespace()
    yield name
    cluster.delete_namespace(name)


@pytest.fixture(scope="module")
def namespace(cluster: Cluster) -> Iterator[str]:
    """A namespace that a module's cases share; each of them has pods of its own in it."""
    with _namespace(cluster) as name:
        yield name


@pytest.fixture
def task_namespace(cluster: Cluster) -> Iterator[str]:
    """A namespace for one case alone."""
    with _namespace(cluster) as name:
        yield name


@pytest.fixture
async def api(cluster: Cluster) -> AsyncIterator[ApiClient]:
    """The product's client, as the cluster's administrator."""
    async with ApiClient(cluster.access) as client:
        yield client


@pytest.fixture(scope="module")
def launched(request: pytest.FixtureRequest, cluster: Cluster, namespace: str) -> Mapping[int, Object]:
    """Every pod that the module's cases declare by mark, as created: all at once, before the first of them.

    A real node takes two seconds for a pod that runs for none, most of it waiting. As a pod is watched from its
    creation on, a case sees its whole life no matter how late it looks.
    """
    items = [item for item in request.session.items if item.path == request.path]
    marks = {id(mark): mark for item in items if (mark := item.get_closest_marker("pod"))}
    access, path = cluster.access, f"/api/v1/namespaces/{namespace}/pods"

    async def launch() -> list[Object]:
        async with ApiClient(access) as client:
            bodies = [manifest(*mark.args, **mark.kwargs) for mark in marks.values()]
            return await asyncio.gather(*(client.request("POST", path, body=body) for body in bodies))

    return dict(zip(marks, asyncio.run(launch()), strict=True))


@pytest.fixture
def pod(request: pytest.FixtureRequest, launched: Mapping[int, Object], api: ApiClient) -> Pod:
    """The pod that a case declares by mark; it may have run already."""
    mark = request.node.get_closest_marker("pod")
    return Pod(api, launched[id(mark)])


@pytest.fixture
async def create(api: ApiClient, namespace: str) -> AsyncIterator[Create]:
    """Creates a pod of a manifest; it is gone with all its processes soon after the test."""
    made: list[Pod] = []

    async def create(body: Object) -> Pod:
        made.append(Pod(api, await api.request("POST", f"/api/v1/namespaces/{namespace}/pods", body=body)))
        return made[-1]

    yield create
    for pod in made:
        if not pod.deleted:
            with contextlib.suppress(NotFoundError):
                await pod.delete(gracePeriodSeconds=0)


@pytest.fixture
def start(create: Create) -> Start:
    """Starts a pod whose container `base` runs a shell script; `fields` are the container's, `spec` the pod's."""

    async def start(script: str = "true", *, spec: Object | None = None, **fields: Any) -> Pod:
        return await create(manifest(container(script, **fields), **(spec or {})))

    return start
