from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from kpo_multicluster.cluster import ClusterRef, token
from kpo_multicluster.doctor.examination import Subject, examine
from kpo_multicluster.doctor.report import Examination
from kpo_multicluster.testing.cluster import EmbeddedCluster


@pytest.fixture(scope="session")
def embedded() -> Iterator[EmbeddedCluster]:
    with EmbeddedCluster("alpha", nodes=()) as cluster:
        yield cluster


@pytest.fixture
def cluster(embedded: EmbeddedCluster) -> Iterator[EmbeddedCluster]:
    yield embedded
    embedded.faults.clear()


@pytest.fixture
def config(cluster: EmbeddedCluster, tmp_path: Path) -> Path:
    return cluster.write_kubeconfig(tmp_path / "config")


@pytest.fixture(scope="session")
def ca() -> trustme.CA:
    return trustme.CA(organization_name="Ours")


@pytest.fixture
def by_token(cluster: EmbeddedCluster) -> Callable[..., ClusterRef]:
    """The embedded cluster by a token, or anything that differs from it in some option."""

    def by_token(**options: Any) -> ClusterRef:
        given = {"server": cluster.server, "token": cluster.token(), "ca_data": cluster.ca_pem, **options}
        server = given.pop("server")
        return token(server, **given).with_source("the test")

    return by_token


@pytest.fixture
def look() -> Callable[..., Examination]:
    """Examines a cluster; nothing secret of its reference may be told."""

    def look(ref: ClusterRef, **options: Any) -> Examination:
        # What is waited for in vain is cut short by the test that waits for it.
        found = examine(lambda: Subject(ref, "given by the test"), **{"within_seconds": 60.0, **options})
        told = f"{found} {found!r} {found.as_json()}"
        assert not [secret for secret in ref.secrets.values() if str(secret) in told]
        return found

    return look
