"""The clouds of the examples, emulated: a cluster on EKS, GKE and AKS each, with users and nodes of the cloud."""

from __future__ import annotations

import json
import time
from abc import abstractmethod
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from demo.clusters import Clusters, Sight, StartedClusters
from demo.embedded import left_in, seen_by
from demo.run import say
from kpo_multicluster.node_groups.ownership import Ownership
from kpo_multicluster.testing import EmbeddedCluster, NodeSpec, User
from kpo_multicluster.testing.clouds import FakeAws, FakeAzure, FakeGoogle
from kpo_multicluster.testing.clouds.emulated_cloud import EmulatedCloud, EmulatedCluster
from kpo_multicluster.testing.clouds.identity import Identifier
from kpo_multicluster.testing.clouds.joined_nodes import NodeHost
from kpo_multicluster.testing.clouds.node_groups import NodeGroup, Stage
from kpo_multicluster.testing.kubeconfig import KubeconfigEntry, document, write

KINDS = ("eks", "gke", "aks")
_DAY_SECONDS = 24 * 3600.0
_OLD_RUN = "train/manual__2026-01-01T00:00:00+00:00"
_LEAVING_SECONDS = 60.0

# What the examples name.
_AWS_ACCOUNT, _AWS_REGION = "222222222222", "us-east-2"
_ROLE, _EXTERNAL_ID = f"arn:aws:iam::{_AWS_ACCOUNT}:role/airflow-pods", "team-7"
_GOOGLE_CALLER = "airflow@my-project.iam.gserviceaccount.com"
_GOOGLE_ACCOUNT = "pods@my-project.iam.gserviceaccount.com"
_CLIENT, _SECRET = "airflow", "a secret of the demo's own"


@dataclass(frozen=True)
class Guarded:
    """A cluster whose users are those of a cloud.

    Attributes:
        server: URL of its API server.
        ca_pem: its CA.
        nodes: lets nodes join.
        trust: lets in whoever shows a token that is vouched for.
        allow: lets a user run pods.
    """

    server: str
    ca_pem: str
    nodes: NodeHost
    trust: Callable[[Identifier], None]
    allow: Callable[[str], object]


class Clouds(StartedClusters):
    """Other clusters, and emulated clouds beside them.

    Args:
        directory: for what their users have in files: the CA of the emulated Azure, the profile and kubeconfig of AWS.
        others: that all but the clouds' tasks run on.
        leftover: let there be something that an earlier run has left behind.
    """

    def __init__(self, directory: Path, others: Clusters, *, leftover: bool = False) -> None:
        super().__init__()
        self._leftover = leftover
        self._others = others
        self._directory = directory
        self._settings: dict[str, str] = {}
        self._clouds: list[tuple[EmulatedCloud, EmulatedCluster]] = []

    @abstractmethod
    def _start_clusters(self, stack: ExitStack) -> Mapping[str, Guarded]:
        """Starts a cluster for each cloud, or one for all, by the clouds' kinds."""

    @abstractmethod
    def _seen_here(self, namespace: str, pod: str) -> Mapping[str, Sight]:
        """The clouds' clusters that know of a pod, by name."""

    @abstractmethod
    def _left_here(self) -> list[str]:
        """The pods that are still there in them."""

    def _start(self, stack: ExitStack) -> None:
        began = time.monotonic()
        clusters = self._start_clusters(stack)
        self._add_aws(stack.enter_context(FakeAws()), clusters["eks"])
        self._add_google(stack.enter_context(FakeGoogle()), clusters["gke"])
        self._add_azure(stack.enter_context(FakeAzure()), clusters["aks"])
        took = time.monotonic() - began
        say(f"Clouds: AWS, Google and Azure, emulated, with a cluster in each; started in {took:.1f} s")

    def environment(self, environ: Mapping[str, str]) -> dict[str, str]:
        """An environment in which connections lead to the emulated clouds."""
        # Who the user is at AWS is none of the examples' business.
        kept = {name: value for name, value in environ.items() if not name.startswith("AWS_")}
        return {**self._others.environment(kept), **self._settings}

    def seen(self, namespace: str, pod: str) -> Mapping[str, Sight]:
        """The clusters that know of a pod, by name."""
        return {**self._others.seen(namespace, pod), **self._seen_here(namespace, pod)}

    def left(self) -> list[str]:
        """What is still there though the tasks have ended that made it."""
        deadline = time.monotonic() + _LEAVING_SECONDS
        # One whose removal has begun is as good as gone, unless it does not go.
        while any(group.stage is Stage.DELETING for _, group in self._groups()) and time.monotonic() < deadline:
            time.sleep(0.05)
        groups = [f"{cluster}: node group {group.name}" for cluster, group in self._groups()]
        return [*self._others.left(), *self._left_here(), *groups]

    def _groups(self) -> list[tuple[str, NodeGroup]]:
        return [(made.id, group) for cloud, made in self._clouds for group in cloud.node_groups.of(made.id)]

    def _connect(self, conn_id: str, conn_type: str, extra: Mapping[str, object], **fields: str) -> None:
        content = {"conn_type": conn_type, "extra": dict(extra), **fields}
        self._settings[f"AIRFLOW_CONN_{conn_id.upper()}"] = json.dumps(content)

    def _join(self, cloud: EmulatedCloud, made: EmulatedCluster, cluster: Guarded) -> None:
        cloud.nodes_join(made, cluster.nodes)
        self._clouds.append((cloud, made))

    def _add_aws(self, aws: FakeAws, cluster: Guarded) -> None:
        user = aws.add_user("airflow", account="111111111111")
        aws.add_role(_ROLE, trusted=(user.arn,), external_id=_EXTERNAL_ID)
        made = aws.add_cluster(
            "gpu", account=_AWS_ACCOUNT, region=_AWS_REGION, endpoint=cluster.server, ca_pem=cluster.ca_pem
        )
        made.add_user(_ROLE, username="airflow")
        cluster.trust(made)
        cluster.allow("airflow")
        self._join(aws, made, cluster)
        services = {service: {"endpoint_url": aws.url} for service in ("eks", "sts")}
        extra = {"region_name": _AWS_REGION, "service_config": services}
        self._connect("aws_remote", "aws", extra, login=user.access_key, password=user.secret_key)
        self._settings |= self._aws_files(aws.url, user.access_key, user.secret_key, cluster)

    def _aws_files(self, url: str, access_key: str, secret_key: str, cluster: Guarded) -> dict[str, str]:
        """What `aws configure` and `aws eks update-kubeconfig` would have written."""
        files = {name: self._directory / name for name in ("aws-config", "aws-credentials", "eks-kubeconfig")}
        files["aws-config"].write_text(
            f"[profile gpu]\nrole_arn = {_ROLE}\nexternal_id = {_EXTERNAL_ID}\nsource_profile = default\n"
            f"region = {_AWS_REGION}\nendpoint_url = {url}\n"
        )
        files["aws-credentials"].write_text(
            f"[default]\naws_access_key_id = {access_key}\naws_secret_access_key = {secret_key}\n"
        )
        arn = f"arn:aws:eks:{_AWS_REGION}:{_AWS_ACCOUNT}:cluster/gpu"
        plugin = {
            "apiVersion": "client.authentication.k8s.io/v1beta1",
            "command": "aws",
            "args": ["--region", _AWS_REGION, "eks", "get-token", "--cluster-name", "gpu", "--output", "json"],
            "env": [{"name": "AWS_PROFILE", "value": "gpu"}],
        }
        entry = KubeconfigEntry(arn, cluster.server, cluster.ca_pem, arn, {"exec": plugin}, "default")
        write(files["eks-kubeconfig"], document([entry]))
        return {
            "AWS_CONFIG_FILE": str(files["aws-config"]),
            "AWS_SHARED_CREDENTIALS_FILE": str(files["aws-credentials"]),
            "EKS_KUBECONFIG": str(files["eks-kubeconfig"]),
        }

    def _add_google(self, google: FakeGoogle, cluster: Guarded) -> None:
        caller = google.add_service_account(_GOOGLE_CALLER, project="my-project")
        google.allow_impersonation(_GOOGLE_ACCOUNT, by=caller.email)
        address = urlsplit(cluster.server).netloc
        made = google.add_cluster(
            "gpu", project="my-project", location="europe-west1", endpoint=address, ca_pem=cluster.ca_pem
        )
        cluster.trust(made)
        cluster.allow(_GOOGLE_ACCOUNT)
        self._join(google, made, cluster)
        self._connect("google_ml", "google_cloud_platform", {"keyfile_dict": caller.key(), **google.endpoints})

    def _add_azure(self, azure: FakeAzure, cluster: Guarded) -> None:
        identity = azure.add_application(_CLIENT, secret=_SECRET)
        made = azure.add_cluster("gpu", server=cluster.server, ca_pem=cluster.ca_pem)
        cluster.trust(made)
        cluster.allow(identity.name)
        self._join(azure, made, cluster)
        extra = {"tenantId": azure.tenant, "subscriptionId": made.name.subscription, **azure.endpoints}
        self._connect("azure_ml", "azure", extra, login=_CLIENT, password=_SECRET)
        if self._leftover:
            self._leave_behind(azure, made)
        authority = self._directory / "azure-ca.pem"
        authority.write_text(azure.ca_pem)
        # The examples talk https by the library that heeds it to no one but the emulated Azure.
        self._settings["REQUESTS_CA_BUNDLE"] = str(authority)

    def _leave_behind(self, azure: FakeAzure, cluster: EmulatedCluster) -> None:
        """A GPU of a run of two days ago, whose worker was killed: for the example that removes such."""
        now = time.time()
        tags = Ownership(now - 2 * _DAY_SECONDS, _OLD_RUN, now - _DAY_SECONDS).tags()
        spec = {"vmSize": "Standard_NC4as_T4_v3", "mode": "User", "tags": tags}
        azure.node_groups.create(
            cluster.id, "leftover", 1, {**spec, "nodeTaints": ["nvidia.com/gpu=present:NoSchedule"]}
        )
        say(f"    left behind on AKS by an earlier run: agent pool leftover of {_OLD_RUN}")


class WithClouds(Clouds):
    """Clouds with an embedded cluster each."""

    def __init__(self, directory: Path, others: Clusters, *, leftover: bool = False) -> None:
        super().__init__(directory, others, leftover=leftover)
        self._clusters = {kind: EmbeddedCluster(kind, nodes=(NodeSpec(f"{kind}-node"),)) for kind in KINDS}

    def _start_clusters(self, stack: ExitStack) -> Mapping[str, Guarded]:
        for cluster in self._clusters.values():
            stack.enter_context(cluster)
        return {kind: _guarded(cluster) for kind, cluster in self._clusters.items()}

    def _seen_here(self, namespace: str, pod: str) -> Mapping[str, Sight]:
        return seen_by(self._clusters.values(), namespace, pod)

    def _left_here(self) -> list[str]:
        return [name for each in self._clusters.values() for name in left_in(each)]


def _guarded(cluster: EmbeddedCluster) -> Guarded:
    return Guarded(
        cluster.server, cluster.ca_pem, cluster, cluster.accept_tokens_of, lambda user: cluster.add_user(User(user))
    )
