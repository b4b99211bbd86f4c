# ruff: noqa: TID253 - the official client is what is tested here
"""Eight threads, eight clusters of three clouds, many clients: none reaches another's server or carries its token.

Each client is a new connection, so that not many make a test of seconds; `CLOUD_CLIENTS=5000` makes that many.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trustme
from kubernetes import client as sdk

from kpo_multicluster.auth import registry
from kpo_multicluster.auth.clients import api_client
from kpo_multicluster.cluster import ClusterRef
from kpo_multicluster.testing.clouds import FakeAws, FakeAzure, FakeGoogle, TokenRefused
from kpo_multicluster.testing.clouds.identity import Identifier

pytestmark = pytest.mark.timeout(900)

THREADS = 8
CLIENTS = int(os.environ.get("CLOUD_CLIENTS", "512"))


@dataclass
class Guard:
    """Lets in one identity of a cloud, and counts whose tokens are shown."""

    cloud: Identifier | None = None
    names: Counter[str] = field(default_factory=Counter)

    def __contains__(self, token: object) -> bool:
        assert self.cloud is not None
        try:
            name = self.cloud.identify(str(token)).name
        except TokenRefused as refusal:
            name = f"refused: {refusal}"
        self.names[name] += 1
        return not name.startswith("refused")


@dataclass
class Cluster:
    name: str
    user: str
    ref: ClusterRef
    guard: Guard


@pytest.fixture
def clusters(make_server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Cluster]]:
    """Three on AWS, each for another role; three on Google and two on Azure, each for another account."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "AZURE_", "GOOGLE_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "absent"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "absent"))
    with FakeAws() as aws, FakeGoogle() as google, FakeAzure() as azure:
        (tmp_path / "azure-ca.pem").write_text(azure.ca_pem)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "azure-ca.pem"))
        user = aws.add_user("airflow")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", user.access_key)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", user.secret_key)
        makers: list[Callable[[str, Any, Guard], Cluster]] = [_on_aws(aws), _on_google(google), _on_azure(azure)]
        made = []
        for number in range(8):
            name, guard = f"cluster-{number}", Guard()
            server = make_server(ca=trustme.CA(), name=name, accepted=guard)
            made.append(makers[number % 3](name, server, guard))
        yield made


def _on_aws(aws: FakeAws) -> Callable[[str, Any, Guard], Cluster]:
    def make(name: str, server: Any, guard: Guard) -> Cluster:
        role = aws.add_role(f"arn:aws:iam::222222222222:role/{name}")
        cluster = aws.add_cluster(name, account="222222222222", ca_pem=server.ca_pem, endpoint=server.url)
        cluster.add_user(role.arn, username=f"user-of-{name}")
        guard.cloud = cluster
        return Cluster(name, f"user-of-{name}", cluster.ref(role_arn=role.arn), guard)

    return make


def _on_google(google: FakeGoogle) -> Callable[[str, Any, Guard], Cluster]:
    def make(name: str, server: Any, guard: Guard) -> Cluster:
        account = google.add_service_account(f"{name}@my-project.iam.gserviceaccount.com")
        endpoint = server.url.removeprefix("https://")
        cluster = google.add_cluster(name, ca_pem=server.ca_pem, endpoint=endpoint)
        guard.cloud = cluster
        return Cluster(name, account.email, cluster.ref(key_json=json.dumps(account.key())), guard)

    return make


def _on_azure(azure: FakeAzure) -> Callable[[str, Any, Guard], Cluster]:
    def make(name: str, server: Any, guard: Guard) -> Cluster:
        identity = azure.add_application(name, secret="s3cret")
        cluster = azure.add_cluster(name, server=server.url, ca_pem=server.ca_pem)
        guard.cloud = cluster
        ref = cluster.ref(tenant_id=azure.tenant, client_id=name, client_secret="s3cret")
        return Cluster(name, identity.name, ref, guard)

    return make


def use(clusters: list[Cluster], thread: int, count: int) -> int:
    accesses = [registry.resolve(cluster.ref) for cluster in clusters]
    for step in range(count):
        # Neighbours in number are of different clouds; each thread goes through them in another order.
        number = (thread + step * (2 * (thread % 4) + 1)) % len(clusters)
        with api_client(accesses[number]) as client:
            assert sdk.VersionApi(client).get_code().minor == clusters[number].name
    return count


def test_none_gets_anothers_server_or_token(clusters: list[Cluster], hasty_threads: None) -> None:
    with ThreadPoolExecutor(THREADS) as threads:
        work = [threads.submit(use, clusters, thread, CLIENTS // THREADS) for thread in range(THREADS)]
        assert sum(future.result() for future in work) == CLIENTS // THREADS * THREADS
    assert {cluster.name: set(cluster.guard.names) for cluster in clusters} == {
        cluster.name: {cluster.user} for cluster in clusters
    }
    assert sum(sum(cluster.guard.names.values()) for cluster in clusters) == CLIENTS // THREADS * THREADS
