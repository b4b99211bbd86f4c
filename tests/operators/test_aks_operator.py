"""`AksPodOperator`: its arguments, and a pod on a cluster of an emulated Azure."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG

from kpo_multicluster.errors import ConfigurationError
from kpo_multicluster.operators.aks import AksPodOperator
from kpo_multicluster.testing import EmbeddedCluster, User
from kpo_multicluster.testing.clouds.azure import DEFAULT_GROUP, DEFAULT_SUBSCRIPTION, FakeAzure

from .conftest import FakeTaskInstance, context_of
from .deferring import Execute, quiet

CLIENT = "11111111-aaaa"
ID = "/subscriptions/s/resourceGroups/ml/providers/Microsoft.ContainerService/managedClusters/gpu"


def make(**arguments: Any) -> Any:
    named = {"task_id": "task", "cluster_name": "gpu", "resource_group": "ml", "subscription_id": "s"}
    return AksPodOperator(**{**named, **arguments})


@pytest.fixture
def azure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeAzure]:
    """An Azure where the connection `azure_remote` is an application's."""
    with FakeAzure() as azure:
        bundle = tmp_path / "azure-ca.pem"
        bundle.write_text(azure.ca_pem)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bundle))
        extra = {"tenantId": azure.tenant, "subscriptionId": DEFAULT_SUBSCRIPTION}
        connection = {"conn_type": "azure", "login": CLIENT, "password": "s3cr3t", "extra": extra}
        monkeypatch.setenv("AIRFLOW_CONN_AZURE_REMOTE", json.dumps(connection))
        yield azure


@pytest.mark.parametrize("admin", [False, True])
def test_a_pod_runs_where_the_rendered_arguments_say(
    azure: FakeAzure, execute: Execute, lines: Callable[[], list[str]], admin: bool
) -> None:
    application = azure.add_application(CLIENT, secret="s3cr3t")
    with EmbeddedCluster("gpu") as cluster:
        cluster.accept_tokens_of(azure.add_cluster("gpu", cluster=cluster))
        cluster.add_user(User(application.name))
        with DAG("dag", schedule=None):
            operator = make(
                cluster_name="{{ where }}",
                resource_group=DEFAULT_GROUP,
                subscription_id=None,
                azure_conn_id="{{ who }}",
                use_admin_credential=f"{{{{ {admin} }}}}",
                image="alpine:3",
                cmds=["sh", "-c", "echo I am on AKS"],
                cluster_options=azure.endpoints,
            )
        context = context_of(FakeTaskInstance("task"), where="gpu", who="azure_remote")
        quiet(operator).render_template_fields(context)
        execute(operator, context)
        assert any(line.endswith("I am on AKS") for line in lines())
        users = {request.user for request in cluster.requests.records()}
        assert users == {"admin" if admin else application.name}


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        ({}, {"resource_group": "ml", "subscription": "s"}),
        ({"cluster_name": ID, "resource_group": None, "subscription_id": None}, {}),
        ({"use_private_endpoint": True}, {"resource_group": "ml", "subscription": "s", "endpoint": "private"}),
        ({"use_admin_credential": True}, {"resource_group": "ml", "subscription": "s", "credential": "admin"}),
        (
            {"cluster_options": {"login": "workload-identity"}},
            {"resource_group": "ml", "subscription": "s", "login": "workload-identity"},
        ),
    ],
)
def test_the_cluster_that_is_named(arguments: dict[str, Any], options: dict[str, str]) -> None:
    named = dict(make(**arguments).hook.cluster_ref.options)
    assert named.pop("cluster_name") == arguments.get("cluster_name", "gpu")
    assert named == options


def test_the_default_connection_is_used_where_it_exists(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_AZURE_DEFAULT", '{"conn_type": "azure"}')
    assert make().hook.cluster_ref.options["conn_id"] == "azure_default"
    assert "conn_id" not in make(cluster_options={"login": "azure-cli"}).hook.cluster_ref.options


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"resource_group": None}, "The AKS cluster .* names no resource_group"),
        ({"subscription_id": None, "azure_conn_id": None}, "names no subscription"),
        ({"kubernetes_conn_id": "kube"}, "AksPodOperator 'task' does not take kubernetes_conn_id: .*cluster=aks"),
        ({"azure_conn_id": "a", "cluster_options": {"client_id": "x"}}, "conn_id and client_id, which name different"),
        ({"cluster_options": {"subscription_id": "s"}}, "has no option subscription_id"),
    ],
)
def test_what_cannot_work_is_refused_when_the_dag_is_parsed(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make(**arguments)
