"""The clouds of the examples, emulated: a cluster on EKS, GKE and AKS each, embedded ones that the cloud guards."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from demo.clusters import Clusters, Placement, Sight, StartedClusters
from demo.embedded import left_in, seen_by
from demo.run import Dag, say
from demo.task_log import TaskLog
from kpo_multicluster.testing import EmbeddedCluster, NodeSpec, User
from kpo_multicluster.testing.clouds import FakeAws, FakeAzure, FakeGoogle

_DIRECTORY = Path(__file__).resolve().parent.parent / "examples"
_KINDS = ("eks", "gke", "aks")

CLOUD_EXAMPLES = tuple(Dag(f"clouds_{kind}", _DIRECTORY / f"clouds_{kind}.py", {f"on_{kind}": kind}) for kind in _KINDS)

# What the examples name.
_ROLE = "arn:aws:iam::222222222222:role/airflow-pods"
_GOOGLE_CALLER = "airflow@my-project.iam.gserviceaccount.com"
_GOOGLE_ACCOUNT = "pods@my-project.iam.gserviceaccount.com"
_CLIENT, _SECRET = "airflow", "a secret of the demo's own"


class WithClouds(StartedClusters):
    """Other clusters, and emulated clouds beside them.

    Args:
        directory: where the CA of the emulated Azure is written.
        others: that all but the clouds' examples run on.
    """

    def __init__(self, directory: Path, others: Clusters) -> None:
        super().__init__()
        self._others = others
        self._azure_ca = directory / "azure-ca.pem"
        self._clusters = {kind: EmbeddedCluster(kind, nodes=(NodeSpec(f"{kind}-node"),)) for kind in _KINDS}
        self._connections: dict[str, str] = {}

    def _start(self, stack: ExitStack) -> None:
        began = time.monotonic()
        for cluster in self._clusters.values():
            stack.enter_context(cluster)
        self._add_aws(stack.enter_context(FakeAws()), self._clusters["eks"])
        self._add_google(stack.enter_context(FakeGoogle()), self._clusters["gke"])
        self._add_azure(stack.enter_context(FakeAzure()), self._clusters["aks"])
        took = time.monotonic() - began
        say(f"Clouds: AWS, Google and Azure, emulated, with a cluster in each; started in {took:.1f} s")

    def environment(self, environ: Mapping[str, str]) -> dict[str, str]:
        """An environment in which connections lead to the emulated clouds."""
        # The examples talk https by the library that heeds it to no one but the emulated Azure.
        return {**self._others.environment(environ), **self._connections, "REQUESTS_CA_BUNDLE": str(self._azure_ca)}

    def placement(self, dag_id: str, task_id: str, log: TaskLog) -> Placement:
        """Where the latest pod of a task ran: the cluster that has events of it."""
        here = dag_id in {dag.dag_id for dag in CLOUD_EXAMPLES}
        return super().placement(dag_id, task_id, log) if here else self._others.placement(dag_id, task_id, log)

    def pods_left(self) -> list[str]:
        """Pods that are still there though their tasks have ended, as `CLUSTER: NAMESPACE/NAME`."""
        return self._others.pods_left() + [name for each in self._clusters.values() for name in left_in(each)]

    def _seen(self, namespace: str, pod: str) -> Mapping[str, Sight]:
        return seen_by(self._clusters.values(), namespace, pod)

    def _connect(self, conn_id: str, conn_type: str, extra: Mapping[str, object], **fields: str) -> None:
        content = {"conn_type": conn_type, "extra": dict(extra), **fields}
        self._connections[f"AIRFLOW_CONN_{conn_id.upper()}"] = json.dumps(content)

    def _add_aws(self, aws: FakeAws, cluster: EmbeddedCluster) -> None:
        user = aws.add_user("airflow", account="111111111111")
        aws.add_role(_ROLE, trusted=(user.arn,), external_id="team-7")
        aws.add_cluster("gpu", account="222222222222", region="us-east-2", cluster=cluster).add_user(
            _ROLE, username="airflow"
        )
        cluster.add_user(User("airflow"))
        services = {service: {"endpoint_url": aws.url} for service in ("eks", "sts")}
        extra = {"region_name": "us-east-2", "service_config": services}
        self._connect("aws_remote", "aws", extra, login=user.access_key, password=user.secret_key)

    def _add_google(self, google: FakeGoogle, cluster: EmbeddedCluster) -> None:
        caller = google.add_service_account(_GOOGLE_CALLER, project="my-project")
        google.allow_impersonation(_GOOGLE_ACCOUNT, by=caller.email)
        google.add_cluster("gpu", project="my-project", location="europe-west1", cluster=cluster)
        cluster.add_user(User(_GOOGLE_ACCOUNT))
        self._connect("google_ml", "google_cloud_platform", {"keyfile_dict": caller.key(), **google.endpoints})

    def _add_azure(self, azure: FakeAzure, cluster: EmbeddedCluster) -> None:
        identity = azure.add_application(_CLIENT, secret=_SECRET)
        made = azure.add_cluster("gpu", cluster=cluster)
        cluster.add_user(User(identity.name))
        self._azure_ca.write_text(azure.ca_pem)
        extra = {"tenantId": azure.tenant, "subscriptionId": made.name.subscription, **azure.endpoints}
        self._connect("azure_ml", "azure", extra, login=_CLIENT, password=_SECRET)
