"""The official clients of Kubernetes, with tokens of the clouds: the first, and the next one once it is refused."""

from __future__ import annotations

import time

import pytest

from kpo_multicluster.auth.clients import api_client, async_api_client

from .callers import Cloud
from .servers import Server
from .test_acceptance import ROLE

pytestmark = pytest.mark.timeout(180)

# A real server takes ten seconds to forget whom it let in: it is waited for once.
CASES = [("embedded", "eks"), ("embedded", "gke"), ("embedded", "aks")]
everywhere = pytest.mark.parametrize(
    ("server", "cloud"), [*CASES, pytest.param("kubernetes", "eks", marks=pytest.mark.cluster)], indirect=True
)


def end_tokens(server: Server) -> None:
    """Refuses every token that was shown; waits for what has the server forget it, and a cloud sign another."""
    server.reviewer.revoke_all()
    time.sleep(1.1 + server.remembers_seconds)


@everywhere
def test_the_official_client(server: Server, cloud: Cloud, namespace: str) -> None:
    from kubernetes.client import CoreV1Api

    runner = cloud.caller("runner")
    server.allow(namespace, ROLE, user=runner.user)
    with api_client(runner.ref) as client:
        assert CoreV1Api(client).list_namespaced_pod(namespace).items == []
        end_tokens(server)
        assert CoreV1Api(client).list_namespaced_pod(namespace).items == []
    assert server.asked(namespace, runner.user)["list"] == 2
    assert len({review.fingerprint for review in server.reviewer.reviews}) == 2


@everywhere
async def test_the_official_asyncio_client(server: Server, cloud: Cloud, namespace: str) -> None:
    from kubernetes_asyncio.client import CoreV1Api

    runner = cloud.caller("runner")
    server.allow(namespace, ROLE, user=runner.user)
    async with await async_api_client(runner.ref) as client:
        assert (await CoreV1Api(client).list_namespaced_pod(namespace)).items == []
        end_tokens(server)
        assert (await CoreV1Api(client).list_namespaced_pod(namespace)).items == []
    assert server.asked(namespace, runner.user)["list"] == 2
    assert len({review.fingerprint for review in server.reviewer.reviews}) == 2
