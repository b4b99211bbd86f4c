"""`KubernetesHook`: which cluster it is for, its clients, and its test of a connection."""

from __future__ import annotations

import base64
import copy
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes.client import Configuration  # noqa: TID253

from kpo_multicluster.airflow_names import AirflowException
from kpo_multicluster.cluster import ClusterRef
from kpo_multicluster.errors import ConfigurationError
from kpo_multicluster.hooks.kubernetes import KubernetesHook
from kpo_multicluster.testing import Rule, User
from kpo_multicluster.testing.cluster import EmbeddedCluster

Connect = Callable[..., str]


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Connect:
    """Makes a connection; returns its id."""

    def connect(conn_id: str = "cluster", conn_type: str = "kubernetes", **extra: Any) -> str:
        written = json.dumps({"conn_type": conn_type, "extra": extra})
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", written)
        return conn_id

    return connect


@pytest.fixture
def document(config: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(config.read_text())
    return loaded


def namespaces(hook: KubernetesHook) -> list[str]:
    with hook.api_client:
        items: list[Any] = hook.core_v1_client.list_namespace().items
    return [item.metadata.name for item in items]


def test_the_names_airflow_looks_for() -> None:
    assert (KubernetesHook.conn_name_attr, KubernetesHook.conn_type) == ("kubernetes_conn_id", "kubernetes")
    assert KubernetesHook.default_conn_name == KubernetesHook().conn_id == "kubernetes_default"
    assert KubernetesHook("a", "b").conn_id == "a"
    assert KubernetesHook(None, "b").conn_id == "b"
    assert KubernetesHook(kubernetes_conn_id=None).conn_id is None


@pytest.mark.parametrize("prefix", ["", "extra__kubernetes__"])
@pytest.mark.parametrize("form", ["kube_config_path", "object", "text"])
def test_clients_of_a_connection(
    cluster: EmbeddedCluster, connect: Connect, config: Path, document: dict[str, Any], prefix: str, form: str
) -> None:
    extras: dict[str, dict[str, Any]] = {
        "kube_config_path": {"kube_config_path": str(config)},
        "object": {"kube_config": document},
        "text": {"kube_config": json.dumps(document)},
    }
    conn_id = connect(**{prefix + name: value for name, value in extras[form].items()})
    assert "default" in namespaces(KubernetesHook(conn_id))


def test_clients_of_arguments(
    cluster: EmbeddedCluster, connect: Connect, config: Path, document: dict[str, Any], ref: ClusterRef
) -> None:
    elsewhere = connect(kube_config_path="/not/there")
    given: list[dict[str, Any]] = [{"config_file": str(config)}, {"config_dict": document}, {"cluster": ref}]
    for arguments in given:
        hook = KubernetesHook(elsewhere, **arguments)
        assert "default" in namespaces(hook)
        assert hook.is_in_cluster is False


def test_clients_of_the_environment(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(config))
    assert "default" in namespaces(KubernetesHook())


def test_in_cluster_by_argument_or_connection(connect: Connect, config: Path) -> None:
    inside = connect("inside", in_cluster=True)
    assert KubernetesHook(in_cluster=True).is_in_cluster
    assert KubernetesHook(inside).is_in_cluster
    assert not KubernetesHook(inside, in_cluster=False, config_file=str(config)).is_in_cluster


def test_a_context_of_several(
    config: Path, document: dict[str, Any], connect: Connect, cluster: EmbeddedCluster
) -> None:
    other = copy.deepcopy(document["contexts"][0])
    other["name"], other["context"]["namespace"] = "other", "elsewhere"
    document["contexts"].append(other)
    hook = KubernetesHook(config_dict=document, cluster_context="other")
    assert hook.access.namespace == "elsewhere"
    named = KubernetesHook(connect(cluster_context="other"), config_dict=document)
    assert named.access.namespace == "elsewhere"


def test_two_clusters_side_by_side_leave_no_process_wide_default(config: Path, cluster: EmbeddedCluster) -> None:
    with EmbeddedCluster("beta", namespaces=("default", "only-in-beta")) as beta:
        hooks = [KubernetesHook(config_file=str(config)), KubernetesHook(config_dict=beta.kubeconfig())]
        seen: list[list[str]] = [[], []]

        def look(index: int) -> None:
            seen[index] = namespaces(hooks[index])

        threads = [threading.Thread(target=look, args=(index,)) for index in (0, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert ["only-in-beta" in names for names in seen] == [False, True]
    assert Configuration._default is None


def test_the_other_clients(cluster: EmbeddedCluster, ref: ClusterRef) -> None:
    hook = KubernetesHook(cluster=ref)
    with hook.api_client:
        clients = (hook.apps_v1_client, hook.batch_v1_client, hook.custom_object_client)
        assert all(client.api_client is hook.api_client for client in clients)
    with hook.get_conn() as other:
        assert other is not hook.api_client


def test_a_pod(cluster: EmbeddedCluster, ref: ClusterRef) -> None:
    hook = KubernetesHook(cluster=ref)
    container = {"name": "base", "image": "alpine:3", "command": ["sleep", "60"]}
    body: Any = {"metadata": {"name": "one"}, "spec": {"containers": [container]}}
    with hook.api_client:
        hook.core_v1_client.create_namespaced_pod("default", body)
        pod = hook.get_pod("one", "default")
    assert pod.metadata is not None
    assert pod.metadata.name == "one"


def test_what_the_connection_says_of_pods(connect: Connect, config: Path) -> None:
    conn_id = connect(
        kube_config_path=str(config),
        namespace="jobs",
        xcom_sidecar_container_image="mirror/alpine",
        xcom_sidecar_container_resources='{"requests": {"cpu": "1m"}}',
        extra__kubernetes__xcom_sidecar_container_security_context={"runAsUser": 1},
    )
    hook = KubernetesHook(conn_id)
    assert hook.get_namespace() == "jobs"
    assert hook.get_xcom_sidecar_container_image() == "mirror/alpine"
    assert hook.get_xcom_sidecar_container_resources() == {"requests": {"cpu": "1m"}}
    assert hook.get_xcom_sidecar_container_security_context() == {"runAsUser": 1}
    assert KubernetesHook(conn_id, config_dict={"a": 1}).get_namespace() == "jobs"
    nothing = KubernetesHook(kubernetes_conn_id=None, config_file=str(config))
    assert nothing.get_namespace() is None
    assert nothing.get_xcom_sidecar_container_image() is None
    assert nothing.get_xcom_sidecar_container_resources() is None
    assert nothing.get_xcom_sidecar_container_security_context() is None


def with_another_ca(document: dict[str, Any]) -> dict[str, Any]:
    with EmbeddedCluster("gamma") as other:
        document["clusters"][0]["cluster"]["certificate-authority-data"] = base64.b64encode(
            other.ca_pem.encode()
        ).decode()
    return document


def test_the_certificate_s_check_can_be_left_out(
    cluster: EmbeddedCluster, connect: Connect, document: dict[str, Any]
) -> None:
    unknown = with_another_ca(document)
    checked = KubernetesHook(config_dict=unknown)
    working, told = checked.test_connection()
    assert not working
    assert "certificate" in told
    assert KubernetesHook(config_dict=unknown, disable_verify_ssl=True).test_connection()[0]
    lenient = connect(kube_config=unknown, disable_verify_ssl=True)
    assert KubernetesHook(lenient).test_connection()[0]
    assert not KubernetesHook(lenient, disable_verify_ssl=False).test_connection()[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"client_configuration": Configuration()}, r"hook\.api_client\.configuration"),
        ({"config_dict": {"a": 1}, "config_file": "x"}, "config_dict excludes config_file"),
        ({"config_dict": {"a": 1}, "in_cluster": True}, "config_dict excludes config_file and in_cluster"),
    ],
)
def test_arguments_that_cannot_be(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        KubernetesHook(**arguments)


def test_a_service_account_s_certificate_is_always_checked() -> None:
    with pytest.raises(ConfigurationError, match="disable_verify_ssl=True cannot be had for a cluster of kind 'in_clu"):
        KubernetesHook(in_cluster=True, disable_verify_ssl=True).cluster_ref  # noqa: B018


def test_a_connection_that_does_not_exist_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"no connection 'nowhere'.*AIRFLOW_CONN_NOWHERE") as raised:
        KubernetesHook("nowhere").get_conn()
    assert isinstance(raised.value, AirflowException)


def test_methods_of_upstream_that_are_not_here_name_the_client_s() -> None:
    with pytest.raises(AttributeError, match=r"use hook\.batch_v1_client\.create_namespaced_job"):
        KubernetesHook().create_job  # noqa: B018
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        KubernetesHook().nonsense  # noqa: B018


# -- test_connection -------------------------------------------------------------------------------------------------


def test_a_working_connection_tells_server_and_user(cluster: EmbeddedCluster, connect: Connect, config: Path) -> None:
    working, told = KubernetesHook(connect(kube_config_path=str(config))).test_connection()
    assert working
    assert cluster.server in told
    assert "knows us as admin, of the groups" in told
    assert told.endswith("It was named by field 'kube_config_path' of this connection.")


def test_a_refused_token(cluster: EmbeddedCluster, document: dict[str, Any]) -> None:
    document["users"][0]["user"] = {"token": "hunter2"}
    working, told = KubernetesHook(config_dict=document).test_connection()
    assert not working
    assert "refused the token" in told
    assert "hunter2" not in told


def test_no_credentials_at_all(cluster: EmbeddedCluster, document: dict[str, Any]) -> None:
    document["users"][0]["user"] = {}
    working, told = KubernetesHook(config_dict=document).test_connection()
    assert not working
    assert "config_dict" in told


def test_a_server_that_is_away(cluster: EmbeddedCluster, ref: ClusterRef) -> None:
    with cluster.outage():
        working, told = KubernetesHook(cluster=ref).test_connection()
    assert not working
    assert told.startswith("endpoint: No connection to ")
    assert cluster.server.removeprefix("https://") in told


def test_a_server_that_never_answers_is_not_waited_for(cluster: EmbeddedCluster, ref: ClusterRef) -> None:
    with cluster.faults.black_hole():
        failure = KubernetesHook(cluster=ref).examine(within_seconds=0.5).first_failure
    assert failure is not None
    assert "Not done within the 0.5 s" in failure.found
    for thread in threading.enumerate():
        if thread.name == "examine cluster":
            thread.join(30)


def test_rights_that_are_missing(cluster: EmbeddedCluster, tmp_path: Path) -> None:
    nobody = cluster.add_user(User("nobody", rules=()))
    working, told = KubernetesHook(
        config_file=str(cluster.write_kubeconfig(tmp_path / "a", user=nobody.name))
    ).test_connection()
    assert not working
    assert told.startswith("permissions: In the namespace 'default' we may not create pods")
    runner = User("runner", rules=(Rule(("create", "watch", "get", "delete"), ("pods",)),))
    cluster.add_user(runner)
    working, told = KubernetesHook(
        config_file=str(cluster.write_kubeconfig(tmp_path / "b", user="runner"))
    ).test_connection()
    assert working, told
    assert "no log is read" in told


def test_a_file_that_is_not_there() -> None:
    working, told = KubernetesHook(config_file="/not/there").test_connection()
    assert not working
    assert "/not/there" in told


def test_errors_are_those_airflow_expects() -> None:
    broken = KubernetesHook(config_file="/not/there")
    with pytest.raises(AirflowException, match="/not/there"):
        broken.get_conn()
