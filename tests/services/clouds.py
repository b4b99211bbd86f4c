"""Clusters of emulated clouds, as Airflow gets at them by connections."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kpo_multicluster.testing.clouds import FakeAws, FakeAzure, FakeGoogle
from kpo_multicluster.testing.clouds.aws import AwsCluster
from kpo_multicluster.testing.clouds.azure import AzureCluster
from kpo_multicluster.testing.clouds.google import GoogleCluster
from kpo_multicluster.testing.clouds.identity import Identifier, Identity, TokenRefused

from ..clouds.callers import ACCOUNT_A, ACCOUNT_B, EXTERNAL_ID
from ..clouds.servers import Server

NAME = "gpu"
_ROLE = f"arn:aws:iam::{ACCOUNT_B}:role/airflow-pods"
_CALLER = "airflow@my-project.iam.gserviceaccount.com"
_ACCOUNT = "pods@my-project.iam.gserviceaccount.com"
_CLIENT, _SECRET = "airflow", "a secret of the tests' own"


@dataclass(frozen=True)
class OnCloud:
    """A cluster of a cloud.

    Attributes:
        kind: of the cluster.
        connection: to the cloud, as the REST API takes it.
        fields: of the form, which make it a connection to the cluster.
        user: whom the cluster takes Airflow for.
        cluster: itself; it knows the cloud's tokens.
    """

    kind: str
    connection: Mapping[str, Any] = field(repr=False)
    fields: Mapping[str, Any]
    user: str
    cluster: AwsCluster | GoogleCluster | AzureCluster


class AnyOf:
    """Tokens of several clouds."""

    def __init__(self, *identifiers: Identifier) -> None:
        self._identifiers = identifiers

    def identify(self, token: str) -> Identity:
        for identifier in self._identifiers:
            try:
                return identifier.identify(token)
            except TokenRefused as refused:
                last = refused
        raise last


def connection(conn_id: str, conn_type: str, extra: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """A connection as the REST API takes it."""
    return {"connection_id": conn_id, "conn_type": conn_type, "extra": json.dumps(extra), **more}


def on_eks(aws: FakeAws, server: Server) -> OnCloud:
    """An EKS cluster in another account than Airflow's, which a role there gives access to."""
    user = aws.add_user("airflow", account=ACCOUNT_A)
    aws.add_role(_ROLE, trusted=(user.arn,), external_id=EXTERNAL_ID)
    made = aws.add_cluster(
        NAME, account=ACCOUNT_B, region="us-east-2", endpoint=server.url, ca_pem=server.ca_pem, status="ACTIVE"
    )
    made.add_user(_ROLE, username="airflow")
    services = {service: {"endpoint_url": aws.url} for service in ("eks", "sts")}
    extra = {"region_name": "us-east-2", "service_config": services}
    remote = connection("aws_remote", "aws", extra, login=user.access_key, password=user.secret_key)
    fields = {"region": "us-east-2", "role_arn": _ROLE, "external_id": EXTERNAL_ID}
    return OnCloud("eks", remote, _fields("eks", remote, fields), "airflow", made)


def on_gke(google: FakeGoogle, server: Server) -> OnCloud:
    """A GKE cluster, for a service account that another one impersonates."""
    caller = google.add_service_account(_CALLER, project="my-project")
    google.allow_impersonation(_ACCOUNT, by=caller.email)
    made = google.add_cluster(
        NAME,
        project="my-project",
        location="europe-west1",
        endpoint=server.url.removeprefix("https://"),
        ca_pem=server.ca_pem,
    )
    extra = {"keyfile_dict": caller.key(), **google.endpoints}
    remote = connection("google_ml", "google_cloud_platform", extra)
    fields = {"location": "europe-west1", "project": "my-project", "impersonation_chain": _ACCOUNT}
    return OnCloud("gke", remote, _fields("gke", remote, fields), _ACCOUNT, made)


def on_aks(azure: FakeAzure, server: Server) -> OnCloud:
    """An AKS cluster whose users come from Entra, for a service principal. Who asks needs the CA of `azure`."""
    identity = azure.add_application(_CLIENT, secret=_SECRET)
    made = azure.add_cluster(NAME, server=server.url, ca_pem=server.ca_pem)
    extra = {"tenantId": azure.tenant, **azure.endpoints}
    remote = connection("azure_ml", "azure", extra, login=_CLIENT, password=_SECRET)
    fields = {"resource_group": made.name.resource_group, "subscription": made.name.subscription}
    return OnCloud("aks", remote, _fields("aks", remote, fields), identity.name, made)


def _fields(kind: str, remote: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    return {"cluster_kind": kind, "cluster_name": NAME, "cloud_conn_id": remote["connection_id"], **more}
