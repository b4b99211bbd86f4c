"""The three clouds, emulated, each with a cluster whose node groups are managed."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from kpo_multicluster.auth.aws_logins import AwsLogin
from kpo_multicluster.auth.connections import CloudConnection
from kpo_multicluster.cluster import ClusterRef
from kpo_multicluster.errors import ConfigurationError
from kpo_multicluster.node_groups.clouds import open_cloud
from kpo_multicluster.node_groups.group import Cloud
from kpo_multicluster.node_groups.lifecycle import NodeGroups
from kpo_multicluster.node_groups.spec import AksNodes, CloudNodes, EksNodes, GkeNodes, Gpu, NodeGroupSpec
from kpo_multicluster.node_groups.waiting import Pace
from kpo_multicluster.testing.clouds.aws import FakeAws
from kpo_multicluster.testing.clouds.azure import FakeAzure
from kpo_multicluster.testing.clouds.google import FakeGoogle
from kpo_multicluster.testing.clouds.node_groups import NodeGroup as Emulated
from kpo_multicluster.testing.clouds.node_groups import Pace as EmulatedPace

from ..testing.clouds.fixtures import aws, azure, azure_ca, google, no_one

__all__ = ["aws", "azure", "azure_ca", "google", "no_one"]

CLIENT, SECRET = "11111111-aaaa", "s3cr3t-value"
LIMIT_SECONDS = 60.0


class Known:
    """The connections that there are."""

    def __init__(self, *connections: CloudConnection) -> None:
        self._known = {connection.conn_id: connection for connection in connections}

    def get(self, conn_id: str) -> CloudConnection:
        if conn_id not in self._known:
            raise ConfigurationError(f"There is no connection {conn_id!r}.")
        return self._known[conn_id]

    def aws_login(self, conn_id: str, region: str | None) -> AwsLogin | None:
        return None


@dataclass
class Bed:
    """A cluster at an emulated cloud."""

    kind: str
    fake: Any
    cluster: str
    ref: ClusterRef
    connections: Known
    machine: str
    options: Callable[..., CloudNodes]
    gpu: Gpu = field(default_factory=Gpu)
    _opened: tuple[ClusterRef, Cloud] | None = None

    def spec(self, name: str = "gpu", *, options: CloudNodes | None = None, **given: Any) -> NodeGroupSpec:
        fields: dict[str, Any] = {"machine_types": (self.machine,), "gpu": self.gpu, **given}
        return NodeGroupSpec(name, options or self.options(), **fields)

    def open(self, *, anew: bool = False, **options: Any) -> NodeGroups:
        """The groups; `anew` as another process would."""
        # A session of botocore takes a while to make.
        if anew or self._opened is None or self._opened[0] != self.ref:
            self._opened = self.ref, open_cloud(self.ref, self.connections)
        return NodeGroups(self._opened[1], **{"pace": Pace(0.01, 0.05), **options})

    def emulated(self, name: str = "gpu") -> Emulated | None:
        found: Emulated | None = self.fake.node_groups.find(self.cluster, name)
        return found

    def count(self, name: str = "gpu") -> int:
        found = self.emulated(name)
        assert found is not None
        return found.count

    @contextmanager
    def held(self) -> Iterator[Callable[[], None]]:
        """What is asked for stays under way until what is given is called, or the block left."""
        groups, leap = self.fake.node_groups, [0.0]
        groups.pace = EmulatedPace(3600, 3600, 3600)
        groups._clock = lambda: time.time() + leap[0]

        def release() -> None:
            groups.pace = EmulatedPace()
            leap[0] = 7200.0

        try:
            yield release
        finally:
            release()


@pytest.fixture
def eks_bed(aws: FakeAws) -> Bed:
    user = aws.add_user("airflow")
    cluster = aws.add_cluster("ml", status="ACTIVE", version="1.34")
    extra = {"service_config": {s: {"endpoint_url": aws.url} for s in ("eks", "sts")}}
    connection = CloudConnection("cloud", "aws", user.access_key, user.secret_key, extra)

    def options(**given: Any) -> EksNodes:
        return EksNodes(**{"node_role": "arn:aws:iam::111111111111:role/nodes", "subnets": ("subnet-a",), **given})

    ref = cluster.ref(conn_id="cloud")
    return Bed("eks", aws, cluster.name.arn, ref, Known(connection), "g5.xlarge", options)


@pytest.fixture
def gke_bed(google: FakeGoogle) -> Bed:
    account = google.add_service_account("airflow@my-project.iam.gserviceaccount.com")
    cluster = google.add_cluster("ml", locations=["europe-west1-b"])
    connection = CloudConnection("cloud", "google_cloud_platform", extra={"keyfile_dict": json.dumps(account.key())})
    ref = cluster.ref(conn_id="cloud")
    gpu = Gpu(type="nvidia-l4")
    return Bed("gke", google, cluster.name.resource_name, ref, Known(connection), "g2-standard-4", GkeNodes, gpu)


@pytest.fixture
def aks_bed(azure: FakeAzure, azure_ca: str) -> Bed:
    azure.add_application(CLIENT, secret=SECRET)
    cluster = azure.add_cluster("ml")
    connection = CloudConnection("cloud", "azure", CLIENT, SECRET, {"tenantId": azure.tenant})
    ref = cluster.ref(conn_id="cloud")
    return Bed("aks", azure, cluster.name.id, ref, Known(connection), "Standard_NC4as_T4_v3", AksNodes)


@pytest.fixture(params=["eks", "gke", "aks"])
def bed(request: pytest.FixtureRequest) -> Bed:
    made: Bed = request.getfixturevalue(f"{request.param}_bed")
    return made
