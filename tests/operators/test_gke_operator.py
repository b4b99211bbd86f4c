"""`GKEStartPodOperator`: its arguments, and a pod on a cluster of an emulated Google."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from airflow.sdk import DAG

from kpo_multicluster.errors import ConfigurationError
from kpo_multicluster.operators.gke import GKEStartPodOperator
from kpo_multicluster.testing import EmbeddedCluster, User
from kpo_multicluster.testing.clouds.google import FakeGoogle

from .cloud_signatures import check_signature, installed
from .conftest import FakeTaskInstance, context_of
from .deferring import Execute, quiet

ACCOUNT = "airflow@my-project.iam.gserviceaccount.com"
PODS = "pods@my-project.iam.gserviceaccount.com"


def make(**arguments: Any) -> Any:
    return GKEStartPodOperator(
        **{"task_id": "task", "cluster_name": "gpu", "location": "europe-west1", "project_id": "p", **arguments}
    )


@pytest.fixture
def google(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGoogle]:
    """A Google where the connection `gcp_remote` has a service account's key."""
    with FakeGoogle() as google:
        key = google.add_service_account(ACCOUNT).key()
        google.add_service_account(PODS)
        google.allow_impersonation(PODS, by="*")
        connection = {"conn_type": "google_cloud_platform", "extra": {"keyfile_dict": key, "project": "my-project"}}
        monkeypatch.setenv("AIRFLOW_CONN_GCP_REMOTE", json.dumps(connection))
        yield google


@pytest.fixture
def gke_cluster(google: FakeGoogle) -> Iterator[EmbeddedCluster]:
    with EmbeddedCluster("gpu") as cluster:
        cluster.accept_tokens_of(google)
        for name in (ACCOUNT, PODS):
            cluster.add_user(User(name))
        google.add_cluster("gpu", cluster=cluster)
        yield cluster


def test_it_takes_what_the_google_provider_s_takes() -> None:
    module = "airflow.providers.google.cloud.operators.kubernetes_engine"
    theirs = installed("google", module, "GKEStartPodOperator")
    check_signature(theirs, GKEStartPodOperator, further={"cluster_options"})


@pytest.mark.parametrize(("chain", "user"), [(None, ACCOUNT), (PODS, PODS), ([PODS], PODS)])
def test_a_pod_runs_where_the_rendered_arguments_say(
    google: FakeGoogle,
    gke_cluster: EmbeddedCluster,
    execute: Execute,
    lines: Callable[[], list[str]],
    chain: Any,
    user: str,
) -> None:
    with DAG("dag", schedule=None):
        operator = make(
            cluster_name="{{ where }}",
            location="{{ 'europe-west1' }}",
            project_id=None,
            gcp_conn_id="{{ who }}",
            use_internal_ip="{{ False }}",
            impersonation_chain=chain,
            image="alpine:3",
            cmds=["sh", "-c", "echo I am on GKE"],
            cluster_options=google.endpoints,
        )
    context = context_of(FakeTaskInstance("task"), where="gpu", who="gcp_remote")
    quiet(operator).render_template_fields(context)
    assert operator.use_internal_ip is False
    execute(operator, context)
    assert any(line.endswith("I am on GKE") for line in lines())
    assert {request.user for request in gke_cluster.requests.records()} == {user}


@pytest.mark.parametrize(
    ("arguments", "endpoint"),
    [
        ({}, None),
        ({"use_internal_ip": True}, "private"),
        ({"use_dns_endpoint": True}, "dns"),
        ({"use_dns_endpoint": True, "use_internal_ip": True}, "dns"),
        ({"use_internal_ip": True, "cluster_options": {"endpoint": "connect-gateway"}}, "connect-gateway"),
    ],
)
def test_where_the_api_server_is_reached(arguments: dict[str, Any], endpoint: str | None) -> None:
    assert make(**arguments).hook.cluster_ref.options.get("endpoint") == endpoint


def test_the_default_connection_need_not_exist() -> None:
    options = make(gcp_conn_id="google_cloud_default").hook.cluster_ref.options
    assert dict(options) == {"cluster_name": "gpu", "location": "europe-west1", "project": "p"}


def test_a_key_of_one_s_own_goes_before_the_default_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", '{"conn_type": "google_cloud_platform"}')
    assert make().hook.cluster_ref.options["conn_id"] == "google_cloud_default"
    assert "conn_id" not in make(cluster_options={"key_file": "/key.json"}).hook.cluster_ref.options
    with pytest.raises(ConfigurationError, match="conn_id and key_file, which name different credentials"):
        make(gcp_conn_id="gcp_remote", cluster_options={"key_file": "/key.json"})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"config_file": "/kube"}, "GKEStartPodOperator 'task' does not take config_file: .* such as cluster=gke"),
        ({"in_cluster": True}, "does not take in_cluster=True"),
        ({"location": ""}, "The GKE cluster .* names no location"),
        ({"cluster_name": "projects/q/locations/europe-west1/clusters/gpu"}, "has the project 'p', but .* 'q'"),
        ({"use_dns_endpoint": "perhaps"}, "Argument use_dns_endpoint of .* must be true or false, not 'perhaps'"),
        (
            {"deferrable": True, "gcp_conn_id": None, "cluster_options": {"key_json": "secret"}},
            "arguments of GKEStartPodOperator 'task' holds key_json inline, which must not be stored",
        ),
        ({"cluster_options": {"endpoint": "internal"}}, "has the endpoint 'internal'; it must be one of"),
    ],
)
def test_what_cannot_work_is_refused_when_the_dag_is_parsed(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make(**arguments)


def test_defaults_are_those_of_the_provider_s_operator() -> None:
    assert make().on_finish_action.value == "delete_pod"
    assert make(on_finish_action="keep_pod").on_finish_action.value == "keep_pod"
