"""One process of `bench.credentials`: reaches a cluster of an emulated cloud in one way, and tells what that took."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

_RENEWALS: Final = 20
_SCRIPTS: Final = 3
_EKS_SECONDS: Final = 13.5 * 60


def ours(kind: str) -> tuple[Callable[[], None], Callable[[], None]]:
    """The way of this package: the first answer, and a token more."""
    from kpo_multicluster.clouds import aks, eks, gke
    from kpo_multicluster.hooks.kubernetes import KubernetesHook

    refs = {
        "eks": lambda: eks("gpu", conn_id="aws_remote"),
        "gke": lambda: gke("gpu", project="my-project", location="europe-west1", conn_id="google_ml"),
        "aks": lambda: aks("gpu", resource_group="ml", conn_id="azure_ml"),
    }
    held: list[Any] = []

    def first() -> None:
        access = KubernetesHook(cluster=refs[kind]()).access
        held.append(access.tokens)
        asyncio.run(_ask(access))

    async def _ask(access: Any) -> None:
        from kpo_multicluster.api.client import ApiClient

        async with ApiClient(access) as client:
            await client.request("GET", "/api/v1/")

    def renew() -> None:
        held[0].replace(held[0].current())

    return first, renew if kind != "eks" else _later(_signing)


def _later(make: Callable[[], Callable[[], None]]) -> Callable[[], None]:
    made: list[Callable[[], None]] = []

    def call() -> None:
        if not made:
            made.append(make())
        made[0]()

    return call


def _signing() -> Callable[[], None]:
    """A token of EKS more when the last one nears its end, which is not made as one is after a refusal."""
    from kpo_multicluster.auth.eks import EksResolver
    from kpo_multicluster.clouds import eks
    from kpo_multicluster.hooks.connections import AirflowConnections

    passed = [0.0]
    resolver = EksResolver(AirflowConnections(), clock=lambda: time.time() + passed[0])
    tokens: list[Any] = []

    def renew() -> None:
        if not tokens:
            tokens.append(resolver.resolve(eks("gpu", conn_id="aws_remote")).tokens)
        passed[0] += _EKS_SECONDS
        tokens[0].current()

    renew()
    return renew


def upstream_eks() -> tuple[Callable[[], None], Callable[[], None]]:
    """The way of `EksPodOperator`: a kubeconfig whose user runs a script."""
    from airflow.providers.amazon.aws.hooks.eks import EksHook
    from airflow.providers.cncf.kubernetes.hooks.kubernetes import KubernetesHook

    files = EksHook(aws_conn_id="aws_remote", region_name="us-east-2").generate_config_file_with_credentials(
        eks_cluster_name="gpu", pod_namespace="default"
    )
    paths: list[str] = []

    def ask() -> None:
        hook = KubernetesHook(conn_id=None, config_file=paths[0])
        hook.core_v1_client.get_api_resources()

    def first() -> None:
        paths.append(files.__enter__()[0])
        ask()

    return first, ask


def upstream_gke() -> tuple[Callable[[], None], Callable[[], None]]:
    """The way of `GKEStartPodOperator`, whose look-up is sent to the emulator, as no setting of its own does so."""
    from airflow.providers.google.cloud.hooks.kubernetes_engine import GKEHook, GKEKubernetesHook
    from airflow.providers.google.cloud.operators.kubernetes_engine import GKEClusterAuthDetails
    from google.auth.transport.requests import Request
    from google.cloud.container_v1 import ClusterManagerClient

    class Hook(GKEHook):
        def get_cluster_manager_client(self) -> ClusterManagerClient:
            options = {"api_endpoint": os.environ["GKE_API_ENDPOINT"]}
            return ClusterManagerClient(credentials=self.get_credentials(), transport="rest", client_options=options)

    credentials: list[Any] = []

    def first() -> None:
        details = GKEClusterAuthDetails(
            cluster_name="gpu",
            project_id="my-project",
            use_internal_ip=False,
            use_dns_endpoint=False,
            cluster_hook=Hook(gcp_conn_id="google_ml", location="europe-west1"),
        )
        url, ca_data = details.fetch_cluster_info()
        hook = GKEKubernetesHook(gcp_conn_id="google_ml", cluster_url=url, ssl_ca_cert=ca_data)
        credentials.append(hook.get_credentials())
        hook.core_v1_client.get_api_resources()

    def renew() -> None:
        credentials[0].refresh(Request())

    return first, renew


@contextlib.contextmanager
def measured(into: dict[str, float], name: str, times: int = 1) -> Iterator[None]:
    """Notes seconds and seconds of a processor, those of child processes included."""
    began, cpu = time.perf_counter(), _cpu_seconds()
    yield
    into[f"{name}_seconds"] = (time.perf_counter() - began) / times
    into[f"{name}_cpu_seconds"] = (_cpu_seconds() - cpu) / times


def _cpu_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def main(arm: str, kind: str) -> None:
    """Measures and prints JSON."""
    import airflow.sdk  # noqa: F401 - what every task has paid for already

    found: dict[str, float] = {}
    with measured(found, "first"):
        first, renew = ours(kind) if arm == "ours" else {"eks": upstream_eks, "gke": upstream_gke}[kind]()
        first()
    renew()  # whatever is made once is not counted
    times = _SCRIPTS if (arm, kind) == ("upstream", "eks") else _RENEWALS
    with measured(found, "renewal", times):
        for _ in range(times):
            renew()
    sys.stdout.write(f"\n{json.dumps(found)}\n")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
