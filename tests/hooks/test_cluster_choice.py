"""Which cluster arguments, a connection and the environment mean, and where each value is said to come from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kpo_multicluster.auth.registry import kinds
from kpo_multicluster.cluster import ClusterRef, in_cluster, kubeconfig
from kpo_multicluster.errors import ConfigurationError, UnknownClusterKindError
from kpo_multicluster.hooks.cluster_part import CLOUD_KINDS, options_of_kind
from kpo_multicluster.hooks.clusters import ChosenCluster, ClusterArguments, choose_cluster
from kpo_multicluster.hooks.fields import ConnectionFields

EKS = {"auth": "eks", "conn_id": "aws_remote", "cluster_name": "gpu", "region": "us-east-2"}


def connection(conn_type: str | None = "kubernetes", **extra: Any) -> ConnectionFields:
    return ConnectionFields("gpu", conn_type, extra=extra)


def choose(connection: ConnectionFields | None = None, **arguments: Any) -> ChosenCluster:
    return choose_cluster(ClusterArguments(**arguments), connection, {}, service_account_token=Path("/none"))


def refused(connection: ConnectionFields | None = None, **arguments: Any) -> str:
    with pytest.raises(ConfigurationError) as caught:
        choose(connection, **arguments)
    return str(caught.value)


# -- a part that delegates -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "part",
    [
        EKS,
        {**EKS, "role_arn": "arn:aws:iam::222222222222:role/pods", "external_id": "x"},
        {"auth": "gke", "cluster_name": "gpu", "location": "europe-west1", "impersonation_chain": ["a@b", "c@d"]},
        {"auth": "aks", "cluster_name": "gpu", "resource_group": "ml", "subscription": "s"},
        {"auth": "kubeconfig", "path": "/etc/kube", "context": "gpu"},
        {"auth": "token", "server": "https://10.0.0.1", "token_file": "/var/token", "ca_file": "/ca"},
        {"auth": "in_cluster"},
    ],
    ids=lambda part: part["auth"],
)
@pytest.mark.parametrize("written", ["object", "text", "prefixed"])
def test_a_part_is_the_cluster_that_its_function_makes(part: dict[str, Any], written: str) -> None:
    name = "extra__kubernetes__cluster" if written == "prefixed" else "cluster"
    extra: dict[str, Any] = {name: json.dumps(part) if written == "text" else part}
    chosen = choose(connection(**extra))
    options = {key: value for key, value in part.items() if key != "auth"}
    assert chosen.ref == ClusterRef(part["auth"], options)
    assert chosen.ref.source == "field 'cluster' of connection 'gpu'"
    assert chosen.ref.portable
    assert ClusterRef.from_json(json.loads(json.dumps(chosen.ref.to_json()))) == chosen.ref


def test_what_is_empty_is_unset() -> None:
    part = {**EKS, "role_arn": "", "external_id": None, "namespace": ""}
    chosen = choose(connection(cluster=part, in_cluster="", kube_config=None, kube_config_path="", namespace=""))
    assert chosen.ref == ClusterRef("eks", {name: value for name, value in EKS.items() if name != "auth"})


@pytest.mark.parametrize(
    ("value", "meant"), [(True, True), ("true", True), ("YES", True), ("False", None), (False, None), ("", None)]
)
def test_flags_are_strict(value: Any, meant: bool | None) -> None:
    part = {"auth": "token", "server": "https://a", "token": "env:T", "insecure_skip_tls_verify": value}
    assert choose(connection(cluster=part)).ref.options.get("insecure_skip_tls_verify") is meant
    message = refused(connection(cluster={**part, "insecure_skip_tls_verify": "nope"}))
    assert message.startswith("Insecure_skip_tls_verify in field 'cluster' of connection 'gpu' must be true or false")
    assert "field 'in_cluster' of connection 'gpu' must be true or false" in refused(
        connection(in_cluster="maybe")
    ).replace("Field", "field")


def test_secrets_are_kept_apart() -> None:
    inline = [
        {"auth": "token", "server": "https://a", "token": "hunter2"},
        {"auth": "kubeconfig", "document": {"users": "hunter2"}},
        {"auth": "gke", "cluster_name": "g", "location": "l", "key_json": '{"private_key": "hunter2"}'},
        {"auth": "aks", "cluster_name": "a", "resource_group": "r", "subscription": "s", "client_secret": "hunter2"},
    ]
    for part in inline:
        chosen = choose(connection(cluster=part))
        assert not chosen.ref.portable
        assert "hunter2" in str(dict(chosen.ref.secrets))
        assert "hunter2" not in f"{chosen!r} {chosen.explain()}"
        assert "(not shown)" in chosen.explain()
    referred = {"auth": "token", "server": "https://a", "token": "env:TOKEN"}
    assert choose(connection(cluster=referred)).ref.portable


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ({"cluster_name": "gpu"}, "does not say of which kind its cluster is: add auth, one of aks, eks"),
        ({"auth": 3}, "The auth in field 'cluster' of connection 'gpu' must be text, not int"),
        ({**EKS, "namespace": 3}, "The namespace in field 'cluster' of connection 'gpu' must be text"),
        ({**EKS, "clustername": "x"}, "has clustername, which a cluster of kind 'eks' does not take. It takes auth"),
        ({"auth": "in_cluster", "context": "x"}, "has context, which a cluster of kind 'in_cluster' does not take"),
        ({"auth": "kubeconfig", "path": "a", "document": "b"}, "has path and document: drop all but one"),
        ({"auth": "token", "token": "x"}, "lacks server, which a cluster of kind 'token' needs"),
        ({"auth": "token", "server": "https://a"}, "lacks token or token_file"),
        ({"auth": "eks", "cluster_name": "gpu", "conn_id": "a", "profile": "b"}, "conn_id and profile"),
        ({"auth": "eks", "cluster_name": "gpu", "conn_id": "gpu"}, "names that same connection as conn_id"),
        ({"auth": "eks", "cluster_name": 7}, "from field 'cluster' of connection 'gpu' needs text as cluster_name"),
        ({"auth": "gke", "cluster_name": "gpu"}, "names no location"),
    ],
)
def test_what_a_part_cannot_be(part: dict[str, Any], said: str) -> None:
    message = refused(connection(cluster=part))
    assert said in message
    assert "connection 'gpu'" in message


def test_a_kind_nothing_knows() -> None:
    with pytest.raises(UnknownClusterKindError, match=r"'oke' \(from field 'cluster' of connection 'gpu'\)"):
        choose(connection(cluster={"auth": "oke"}))


@pytest.mark.parametrize("value", ["[]", "{", 3, ["a"]])
def test_a_part_that_is_no_object(value: Any) -> None:
    assert "'cluster' of connection 'gpu' must be a JSON object" in refused(connection(cluster=value))


def test_every_kind_of_this_package_has_its_options() -> None:
    assert {kind for kind in kinds() if options_of_kind(kind)} == set(kinds()) - {"in_cluster"}
    assert "role_arn" in options_of_kind("eks")
    assert options_of_kind("another's") == []


# -- together with other fields and arguments ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"cluster": EKS, "in_cluster": True}, "fills in in_cluster and cluster, which name different clusters"),
        ({"kube_config": "{}", "kube_config_path": "/k"}, "kube_config_path and kube_config"),
        ({"cluster": EKS, "kube_config_path": "/k"}, "kube_config_path and cluster"),
        ({"cluster": EKS, "cluster_context": "x"}, "a cluster of kind 'eks', which has no contexts"),
        ({"cluster": {"auth": "kubeconfig", "context": "a"}, "cluster_context": "b"}, "leave only one of them"),
        ({"cluster": {**EKS, "namespace": "a"}, "namespace": "b"}, "names the namespace 'a'"),
        ({"cluster": EKS, "disable_verify_ssl": True}, "Field 'disable_verify_ssl' of connection 'gpu' cannot be had"),
        ({"kube_config_path": 3}, "must be text"),
    ],
)
def test_fields_that_contradict_each_other(fields: dict[str, Any], said: str) -> None:
    assert said in refused(connection(**fields))


def test_fields_that_complete_a_part() -> None:
    chosen = choose(
        connection(
            cluster={"auth": "kubeconfig", "path": "/k"}, cluster_context="c", namespace="n", disable_verify_ssl="1"
        )
    )
    assert chosen.ref == ClusterRef(
        "kubeconfig", {"path": "/k", "context": "c", "insecure_skip_tls_verify": True}, namespace="n"
    )
    explained = chosen.explain()
    assert "context                   \"c\"         from field 'cluster_context' of connection 'gpu'" in explained
    assert "namespace                 \"n\"         from field 'namespace' of connection 'gpu'" in explained


def test_arguments_go_before_the_connection() -> None:
    delegating = connection(cluster=EKS, namespace="jobs")
    assert choose(delegating, in_cluster=True).ref == in_cluster(namespace="jobs")
    assert choose(delegating, config_file="/k").ref == kubeconfig("/k", namespace="jobs")
    assert choose(delegating, cluster=in_cluster()).ref == in_cluster()
    inside = connection(cluster={"auth": "in_cluster"})
    chosen = choose(inside, in_cluster=False)
    assert chosen.ref.kind == "kubeconfig"
    assert chosen.passed_over == (
        "field 'cluster' of connection 'gpu', as the argument in_cluster=False goes before it",
    )
    assert "The argument cluster_context names the context 'x'" in refused(delegating, cluster_context="x")
    named = connection(cluster={"auth": "kubeconfig", "context": "a"})
    assert choose(named, cluster_context="b").ref.options["context"] == "b"


def test_the_same_wherever_it_is_made() -> None:
    fields = connection(cluster=EKS)
    assert choose(fields) == choose(fields)


# -- connections to clouds -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("conn_type", "kind"), CLOUD_KINDS.items())
def test_a_connection_to_a_cloud_says_who_and_its_part_which(conn_type: str, kind: str) -> None:
    place = {"eks": {"region": "r"}, "gke": {"location": "l"}, "aks": {"resource_group": "g"}}[kind]
    chosen = choose(connection(conn_type, cluster={"cluster_name": "c", **place}, namespace="not a field of this type"))
    assert chosen.ref == ClusterRef(kind, {"cluster_name": "c", **place, "conn_id": "gpu"})
    assert "from that connection itself" in chosen.explain()
    message = refused(connection(conn_type))
    assert "it says who to be, not which cluster is meant" in message
    assert f"cluster={kind}('gpu', conn_id='gpu', ...)" in message
    assert next(iter(place)) in message
    assert "that is" in refused(connection(conn_type, cluster={"auth": "token"}))
    assert "has the conn_id 'other'" in refused(connection(conn_type, cluster={"conn_id": "other"}))
    assert choose(connection(conn_type), in_cluster=True).ref == in_cluster()


def test_a_connection_to_something_else() -> None:
    message = refused(connection("http"))
    assert (
        "is of type 'http'; one of type 'kubernetes', 'aws', 'google_cloud_platform', 'azure', "
        "'kpo_multicluster' is needed" in message
    )
    assert choose(connection(None, in_cluster=True)).ref == choose(connection("", in_cluster=True)).ref == in_cluster()


# -- address and token in the connection's own fields ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "port", "server"),
    [
        ("10.0.0.1", None, "https://10.0.0.1"),
        ("10.0.0.1", 6443, "https://10.0.0.1:6443"),
        ("https://k.example/base", None, "https://k.example/base"),
        ("https://k.example:1", 2, "https://k.example:1"),
        ("[::1]", 6443, "https://[::1]:6443"),
        ("::1", 6443, "https://[::1]:6443"),
        ("https://fd00::1/", None, "https://[fd00::1]/"),
        ("https://rancher.example/k8s/clusters/c-1", 8443, "https://rancher.example:8443/k8s/clusters/c-1"),
    ],
)
def test_address_and_token(host: str, port: int | None, server: str) -> None:
    fields = ConnectionFields("gpu", "kubernetes", None, "hunter2", {}, host, port)
    chosen = choose(fields)
    assert chosen.ref == ClusterRef("token", {"server": server}, {"token": "hunter2"})
    with_ca = ConnectionFields(
        "gpu", "kubernetes", None, "hunter2", {"cluster": {"auth": "token", "ca_file": "/ca"}}, host, port
    )
    chosen = choose(with_ca)
    assert chosen.ref == ClusterRef("token", {"server": server, "ca_file": "/ca"}, {"token": "hunter2"})
    assert "from field 'password' of connection 'gpu'" in chosen.explain()
    assert "hunter2" not in chosen.explain()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (ConnectionFields("gpu", host="h"), "fills in host but not password: put a token there"),
        (ConnectionFields("gpu", password="p"), "fills in password but not host"),
        (ConnectionFields("gpu", password="p", extra={"in_cluster": True}, host="h"), "in_cluster and host"),
        (
            ConnectionFields("gpu", extra={"cluster": {"auth": "token", "server": "https://a"}}, host="h"),
            "fills in host, and server in its field 'cluster'",
        ),
    ],
)
def test_address_and_token_that_cannot_be(fields: ConnectionFields, said: str) -> None:
    assert said in refused(fields)


# -- explained -------------------------------------------------------------------------------------------------------


def test_each_value_is_explained() -> None:
    chosen = choose(connection(cluster={**EKS, "ca_data": "x" * 500, "endpoint": "https://a"}, typo="1"))
    assert chosen.explain().splitlines() == [
        "kind          eks                       from field 'cluster' of connection 'gpu'",
        "conn_id       \"aws_remote\"              from field 'cluster' of connection 'gpu'",
        "cluster_name  \"gpu\"                     from field 'cluster' of connection 'gpu'",
        "region        \"us-east-2\"               from field 'cluster' of connection 'gpu'",
        "ca_data       (a CA of 500 characters)  from field 'cluster' of connection 'gpu'",
        "endpoint      \"https://a\"               from field 'cluster' of connection 'gpu'",
        "Not used: field 'typo' of connection 'gpu', which means nothing here.",
    ]


def test_what_does_not_count_is_told() -> None:
    chosen = choose(connection(in_cluster=True, cluster_context="x", disable_verify_ssl=True))
    assert chosen.explain().splitlines() == [
        "kind  in_cluster  from field 'in_cluster' of connection 'gpu'",
        "Not used: field 'cluster_context' of connection 'gpu', as a service account has no contexts.",
        "Not used: field 'disable_verify_ssl' of connection 'gpu', as a pod always knows its cluster's CA.",
    ]
    assert (
        "Not used: the argument config_file, as in_cluster=True goes before it"
        in choose(None, in_cluster=True, config_file="/k").explain()
    )


def test_the_environment(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.touch()
    inside = choose_cluster(
        ClusterArguments(), None, {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, service_account_token=token
    )
    assert inside.explain() == "kind  in_cluster  from the pod this process runs in, as nothing else names a cluster"
    outside = choose_cluster(ClusterArguments(), None, {"KUBECONFIG": "/k"}, service_account_token=tmp_path / "none")
    assert outside.explain() == "kind  kubeconfig  from $KUBECONFIG"
    context = choose_cluster(
        ClusterArguments(cluster_context="x"),
        None,
        {"KUBERNETES_SERVICE_HOST": "10.0.0.1"},
        service_account_token=token,
    )
    assert context.ref == kubeconfig(context="x")
