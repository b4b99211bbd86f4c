"""The form of this package's own type of connection: what Airflow makes of it, and what filling it in means."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from kpo_multicluster import clouds
from kpo_multicluster import cluster as refs
from kpo_multicluster.cluster import ClusterRef
from kpo_multicluster.errors import ConfigurationError
from kpo_multicluster.hooks.cluster_part import options_of_kind
from kpo_multicluster.hooks.clusters import ChosenCluster, ClusterArguments, choose_cluster
from kpo_multicluster.hooks.connection_form import CLUSTER_KINDS, FIELDS, FORM_TYPE
from kpo_multicluster.hooks.fields import ConnectionFields, connection_fields
from kpo_multicluster.hooks.kubernetes import KubernetesHook
from kpo_multicluster.hooks.multicluster import MulticlusterHook
from kpo_multicluster.testing import EmbeddedCluster

PASTED = "apiVersion: v1\nkind: Config\n"


def chosen(**fields: Any) -> ChosenCluster:
    # As Airflow saves the form: what was not touched is null.
    extra = {**dict.fromkeys(FIELDS), **fields}
    return choose_cluster(ClusterArguments(), ConnectionFields("gpu", FORM_TYPE, extra=extra), {})


def refusal(**fields: Any) -> str:
    with pytest.raises(ConfigurationError) as error:
        chosen(**fields)
    return str(error.value)


CASES: list[tuple[dict[str, Any], ClusterRef]] = [
    ({"cluster_kind": "in_cluster"}, refs.in_cluster()),
    (
        {"cluster_kind": "kubeconfig", "kubeconfig_path": "/kube", "context": "gpu", "namespace": "ml"},
        refs.kubeconfig("/kube", context="gpu", namespace="ml"),
    ),
    ({"cluster_kind": "kubeconfig", "kubeconfig_secret": PASTED}, refs.kubeconfig(document=PASTED.strip())),
    (
        {"cluster_kind": "token", "server": " https://10.0.0.1:6443 ", "token": "t", "ca_data": "pem"},
        refs.token("https://10.0.0.1:6443", token="t", ca_data="pem"),
    ),
    (
        {"cluster_kind": "token", "server": "https://a", "token_file": "/t", "insecure_skip_tls_verify": "true"},
        refs.token("https://a", token_file="/t", insecure_skip_tls_verify=True),
    ),
    (
        {"cluster_kind": "eks", "cluster_name": "gpu", "region": "us-east-2", "cloud_conn_id": "aws_remote"},
        clouds.eks("gpu", region="us-east-2", conn_id="aws_remote"),
    ),
    (
        {"cluster_kind": "gke", "cluster_name": "gpu", "location": "europe-west1", "endpoint": "dns", "project": "p"},
        clouds.gke("gpu", location="europe-west1", endpoint="dns", project="p"),
    ),
    (
        {
            "cluster_kind": "aks",
            "cluster_name": "gpu",
            "resource_group": "ml",
            "subscription": "s",
            "cluster_options": '{"login": "workload-identity"}',
        },
        clouds.aks("gpu", resource_group="ml", subscription="s", login="workload-identity"),
    ),
]


@pytest.mark.parametrize(("fields", "ref"), CASES, ids=lambda case: str(getattr(case, "kind", "")))
@pytest.mark.parametrize("empty", [None, "", False])
def test_each_kind(fields: dict[str, Any], ref: ClusterRef, empty: Any) -> None:
    # What is empty, and a switch that is off, is unset.
    flags = {name for name, entry in FIELDS.items() if "boolean" in entry.schema["type"]}
    rest = {name: empty for name in FIELDS if (name in flags) or empty is not False}
    found = chosen(**{**rest, **fields}).ref
    assert (found.kind, found.options, found.secrets) == (ref.kind, ref.options, ref.secrets)
    assert found.namespace == ref.namespace


def test_as_a_uri_gives_it() -> None:
    from airflow.sdk import Connection

    uri = "kpo-multicluster://?cluster_kind=eks&cluster_name=gpu&region=us-east-2&insecure_skip_tls_verify=False"
    fields = connection_fields(Connection.from_uri(uri, conn_id="gpu"))
    assert fields.type == FORM_TYPE
    found = choose_cluster(ClusterArguments(), fields, {}).ref
    assert dict(found.options) == {"cluster_name": "gpu", "region": "us-east-2"}


def test_each_value_is_explained_by_the_field_as_the_form_shows_it() -> None:
    explained = chosen(cluster_kind="eks", cluster_name="gpu", region="us-east-2", namespace="ml").explain()
    for line in (
        "from field 'Cluster name' (cluster_name) of connection 'gpu'",
        "from field 'Region' (region) of connection 'gpu'",
        "from field 'Namespace' (namespace) of connection 'gpu'",
    ):
        assert line in explained
    assert "t0ken" not in chosen(cluster_kind="token", server="https://a", token="t0ken").explain()
    further = chosen(cluster_kind="eks", cluster_name="gpu", cluster_options={"region": "a", "namespace": "b"})
    for name in ("region", "namespace"):
        assert further.origins[name] == "field 'Further options' (cluster_options) of connection 'gpu'"


def test_fields_of_two_kinds() -> None:
    message = refusal(cluster_kind="eks", cluster_name="gpu", kubeconfig_path="/kube", location="europe-west1")
    assert message == (
        "The connection 'gpu' is for a cluster of the kind 'Amazon EKS', and fills in 'Kubeconfig file' "
        "(kubeconfig_path) and 'Location' (location), which that kind does not have: empty them, or choose another "
        "'Cluster kind' (cluster_kind)."
    )


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "field 'Cluster kind' (cluster_kind) of connection 'gpu' is empty: choose one of"),
        ({"cluster_kind": "EKS"}, "is 'EKS': choose one of 'aks' (Azure AKS), 'eks' (Amazon EKS)"),
        ({"cluster_kind": "kubeconfig"}, "needs 'Kubeconfig file' (kubeconfig_path) or 'Kubeconfig, pasted'"),
        (
            {"cluster_kind": "kubeconfig", "kubeconfig_path": "/kube", "kubeconfig_secret": PASTED},
            "fills in 'Kubeconfig file' (kubeconfig_path) and 'Kubeconfig, pasted' (kubeconfig_secret): empty one",
        ),
        ({"cluster_kind": "token", "token": "t"}, "needs 'API server' (server): fill it in"),
        ({"cluster_kind": "token", "server": "https://a"}, "needs 'Token' (token) or 'Token file' (token_file)"),
        ({"cluster_kind": "eks"}, "needs 'Cluster name' (cluster_name)"),
        ({"cluster_kind": "gke", "cluster_name": "gpu"}, "names no location"),
        (
            {"cluster_kind": "eks", "cluster_name": "gpu", "role_arn": "me"},
            "(role_arn is the field 'Role' (role_arn) of connection 'gpu'.)",
        ),
        (
            {"cluster_kind": "eks", "cluster_name": "gpu", "cluster_options": {"sts_endpoint_url": "http://sts"}},
            "(sts_endpoint_url is the field 'Further options' (cluster_options) of connection 'gpu'.)",
        ),
        (
            {"cluster_kind": "kubeconfig", "cluster_options": {"document": "clusters: []"}},
            "'Further options' (cluster_options) of connection 'gpu' holds document, which Airflow would show to "
            "whoever sees the connection: fill in 'Kubeconfig, pasted' (kubeconfig_secret), and empty it there.",
        ),
        (
            {"cluster_kind": "gke", "cluster_name": "gpu", "cluster_options": {"key_json": "{}"}},
            "put it into a connection of type google_cloud_platform, named in 'Cloud connection' (cloud_conn_id)",
        ),
        (
            {"cluster_kind": "in_cluster", "cluster_options": "{"},
            "The field 'Further options' (cluster_options) of connection 'gpu' must be a JSON object",
        ),
        ({"cluster_kind": "eks", "cluster_name": 3}, "'Cluster name' (cluster_name) of connection 'gpu' must be text"),
        (
            {"cluster_kind": "in_cluster", "xcom_sidecar_container_resources": "[1]"},
            "'XCom sidecar resources' (xcom_sidecar_container_resources) of connection 'gpu' must be a JSON object",
        ),
        (
            {"cluster_kind": "eks", "cluster_name": "gpu", "region": "a", "cluster_options": {"region": "b"}},
            "gives in 'Further options' (cluster_options) what it fills in as 'Region' (region)",
        ),
        (
            {"cluster_kind": "eks", "cluster_name": "gpu", "cluster_options": {"auth": "gke"}},
            "gives in 'Further options' (cluster_options) what it fills in as 'Cluster kind' (cluster_kind)",
        ),
        (
            {"cluster_kind": "in_cluster", "namespace": "a", "cluster_options": {"namespace": "b"}},
            "gives in 'Further options' (cluster_options) what it fills in as 'Namespace' (namespace)",
        ),
        (
            {"cluster_kind": "eks", "cluster_name": "gpu", "cluster_options": {"rolearn": "x"}},
            "has rolearn, which a cluster of kind 'eks' does not take",
        ),
        ({"cluster_kind": "in_cluster", "regoin": "x"}, "has regoin among its extra fields"),
        (
            {"cluster_kind": "token", "insecure_skip_tls_verify": "perhaps"},
            "'Accept any certificate' (insecure_skip_tls_verify) of connection 'gpu' must be true or false",
        ),
    ],
)
def test_what_is_filled_in_wrongly(fields: dict[str, Any], said: str) -> None:
    assert said in refusal(**fields)


def test_airflow_s_own_fields() -> None:
    fields = ConnectionFields("gpu", FORM_TYPE, extra={"cluster_kind": "token"}, host="a", password="b")
    with pytest.raises(ConfigurationError, match=r"fills in host and password, .* address is 'API server' \(server\)"):
        choose_cluster(ClusterArguments(), fields, {})


def test_every_option_of_the_form_is_one_of_its_kinds() -> None:
    for name, entry in FIELDS.items():
        for kind in entry.kinds:
            assert entry.option in options_of_kind(kind), name
    assert all(kind in CLUSTER_KINDS for entry in FIELDS.values() for kind in entry.kinds)


def test_either_hook_takes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with EmbeddedCluster("gpu", nodes=()) as cluster:
        pasted = json.dumps(cluster.kubeconfig(namespace="ml"))
        extra = {"cluster_kind": "kubeconfig", "kubeconfig_secret": pasted, "xcom_sidecar_container_image": "busybox"}
        monkeypatch.setenv("AIRFLOW_CONN_GPU", json.dumps({"conn_type": FORM_TYPE, "extra": extra}))
        for hook in (KubernetesHook("gpu"), MulticlusterHook("gpu")):
            with hook.get_conn() as client:
                assert client.configuration.host == cluster.server
            assert hook.get_xcom_sidecar_container_image() == "busybox"
        good, said = MulticlusterHook("gpu").test_connection()
        assert good, said
        assert said.endswith("It was named by this connection.")


def test_its_default_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    # Not that of the other hook, which may lead to another cluster.
    monkeypatch.setenv("AIRFLOW_CONN_KUBERNETES_DEFAULT", "kubernetes://?kube_config_path=/elsewhere")
    with pytest.raises(ConfigurationError, match="There is no connection 'kpo_multicluster_default'"):
        _ = MulticlusterHook().cluster_ref
    monkeypatch.setenv("AIRFLOW_CONN_KPO_MULTICLUSTER_DEFAULT", "kpo-multicluster://?cluster_kind=in_cluster")
    assert MulticlusterHook().is_in_cluster
    assert MulticlusterHook(kubernetes_conn_id=None, config_file="/config").cluster_ref.options == {"path": "/config"}


EKS = {"cluster_kind": "eks", "cluster_name": "gpu", "region": "us-east-2", "cloud_conn_id": "aws_remote"}
CLOUD_FIELD = "field 'Cloud connection' (cloud_conn_id) of connection 'gpu'"


@pytest.mark.parametrize(
    ("remote", "missing", "said"),
    [
        (None, "", f"There is no connection 'aws_remote', which a cluster names as conn_id. .*{CLOUD_FIELD}"),
        ({"conn_type": "http"}, "", f"is of type 'http'; one of type 'aws' is needed .*{CLOUD_FIELD}"),
        (
            {"conn_type": "aws", "login": "a", "password": "b"},
            "botocore.session",
            "pip install 'kpo-multicluster.eks.' .*kind is the field 'Cluster kind' (cluster_kind) of connection 'gpu'",
        ),
    ],
    ids=["no such connection", "of another type", "no library for it"],
)
def test_a_cloud_connection_that_cannot_be_used(
    remote: dict[str, str] | None, missing: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_GPU", json.dumps({"conn_type": FORM_TYPE, "extra": EKS}))
    if remote is not None:
        monkeypatch.setenv("AIRFLOW_CONN_AWS_REMOTE", json.dumps(remote))
    if missing:
        monkeypatch.setitem(sys.modules, missing, None)
    pattern = said.replace("(", r"\(").replace(")", r"\)")
    with pytest.raises(ConfigurationError, match=pattern):
        _ = MulticlusterHook("gpu").access
    good, told = MulticlusterHook("gpu").test_connection()
    assert not good
    assert re.search(pattern.replace("connection 'gpu'", "this connection"), told), told


# -- what Airflow makes of it ----------------------------------------------------------------------------------------


def test_airflow_finds_the_hook_and_calls_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.sdk import Connection

    connection = Connection(conn_id="gpu", conn_type=FORM_TYPE, extra='{"cluster_kind": "in_cluster"}')
    hook: Any = connection.get_hook()  # type: ignore[no-untyped-call]
    assert isinstance(hook, MulticlusterHook)
    assert hook.conn_id == "gpu"


def test_what_holds_a_secret_is_masked_where_airflow_shows_it() -> None:
    from airflow.api_fastapi.core_api.datamodels.connections import ConnectionResponse

    secret = {"kubeconfig_secret": "s1-geheim", "token": "s2-geheim", "cluster_options": {"client_secret": "s3-geheim"}}
    extra = json.dumps({**secret, "cluster_name": "gpu"})
    shown = ConnectionResponse.redact_extra(extra)
    assert shown is not None
    assert "geheim" not in shown
    assert "gpu" in shown


def test_the_form_of_airflow_3_1(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[str, dict[str, Any]]] = []

    def maker(name: str) -> Callable[..., str]:
        def make(*_: Any, **given: Any) -> str:
            made.append((name, given))
            return name

        return make

    def module(name: str, *names: str) -> None:
        stand_in = ModuleType(name)
        for each in names:
            setattr(stand_in, each, maker(each))
        monkeypatch.setitem(sys.modules, name, stand_in)

    module("wtforms", "StringField", "BooleanField", "PasswordField")
    module("wtforms.validators", "Optional", "any_of")
    module("flask_appbuilder", "x")
    module("flask_appbuilder.fieldwidgets", "BS3PasswordFieldWidget", "BS3TextAreaFieldWidget", "BS3TextFieldWidget")
    form = MulticlusterHook.get_connection_form_widgets()
    assert list(form) == list(FIELDS)
    assert (form["token"], form["insecure_skip_tls_verify"]) == ("PasswordField", "BooleanField")
    labels = {given["label"] for _, given in made if "label" in given}
    assert labels == {entry.label for entry in FIELDS.values()}
    assert MulticlusterHook.get_ui_field_behaviour()["hidden_fields"][0] == "host"
