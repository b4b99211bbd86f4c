"""Connections of a real Airflow; with the amazon provider where it is installed."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import pytest

from kpo_multicluster.auth import aws_logins, registry
from kpo_multicluster.auth.access import ClusterAccess, TokenSource
from kpo_multicluster.clouds import eks, gke
from kpo_multicluster.errors import ConfigurationError, CredentialError
from kpo_multicluster.hooks import connections as edge
from kpo_multicluster.hooks.connections import AirflowConnections
from kpo_multicluster.hooks.kubernetes import KubernetesHook

ROLE_B = "arn:aws:iam::222222222222:role/airflow-pods"
AMAZON = find_spec("airflow.providers.amazon") is not None

needs_amazon = pytest.mark.skipif(not AMAZON, reason="the amazon provider is not installed")


def tokens_of(access: ClusterAccess) -> TokenSource:
    assert access.tokens is not None
    return access.tokens


@pytest.fixture(params=["the amazon provider", "its own fields"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to read an `aws` connection."""
    if request.param == "its own fields":
        monkeypatch.setattr(edge, "_AMAZON", "no_such_module")
    elif not AMAZON:
        pytest.skip("the amazon provider is not installed")
    else:
        monkeypatch.setattr(aws_logins, "is_plain", lambda connection: False)
    return str(request.param)


@pytest.fixture
def connection(aws: Any, user: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes the connection `aws_remote`, which alone has the keys."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")

    def make(*, keys: bool = True, conn_type: str = "aws", **extra: Any) -> None:
        content = {"conn_type": conn_type, "extra": {"region_name": "us-east-2", **extra}}
        if keys:
            content.update(login=user.access_key, password=user.secret_key)
        monkeypatch.setenv("AIRFLOW_CONN_AWS_REMOTE", json.dumps(content))

    return make


def test_keys(way: str, aws: Any, ca_pem: str, connection: Callable[..., None], arn_of: Callable[..., str]) -> None:
    connection()
    aws.add_cluster("gpu", ca_pem=ca_pem)
    access = KubernetesHook(cluster=eks("gpu", conn_id="aws_remote")).access
    token = tokens_of(access).current()
    assert arn_of("gpu", token.value) == "arn:aws:iam::111111111111:user/airflow"
    assert "connection 'aws_remote'" in tokens_of(access).source


def test_a_role_of_the_connection_and_one_of_the_cluster(
    way: str, aws: Any, ca_pem: str, connection: Callable[..., None], arn_of: Callable[..., str]
) -> None:
    hub = "arn:aws:iam::333333333333:role/hub"
    connection(role_arn=hub, assume_role_kwargs={"ExternalId": "first"})
    aws.add_cluster("gpu", ca_pem=ca_pem, account="222222222222")
    ref = eks("gpu", conn_id="aws_remote", role_arn=ROLE_B, external_id="second")
    access = registry.resolve(ref, connections=AirflowConnections())
    arn = arn_of("gpu", tokens_of(access).current().value)
    assert arn == "arn:aws:sts::222222222222:assumed-role/airflow-pods/kpo-multicluster"
    bodies = [one.body.decode() for one in aws.record.all() if one.action == "AssumeRole"]
    assert "ExternalId=first" in bodies[0]
    assert "ExternalId=second" in bodies[-1]


def test_a_renewal_looks_no_connection_up(
    way: str,
    aws: Any,
    ca_pem: str,
    connection: Callable[..., None],
    arn_of: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    connection(role_arn=ROLE_B)
    aws.add_cluster("gpu", ca_pem=ca_pem, account="222222222222")
    tokens = tokens_of(registry.resolve(eks("gpu", conn_id="aws_remote"), connections=AirflowConnections()))
    first = tokens.current()
    monkeypatch.delenv("AIRFLOW_CONN_AWS_REMOTE")
    second = tokens.replace(first)
    assert arn_of("gpu", second.value)
    assert second.value != first.value


def test_the_endpoints_of_the_connection(
    way: str,
    aws: Any,
    ca_pem: str,
    connection: Callable[..., None],
    arn_of: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_EKS", "http://127.0.0.1:1")
    connection(service_config={"eks": {"endpoint_url": aws.url}})
    aws.add_cluster("gpu", ca_pem=ca_pem)
    access = registry.resolve(eks("gpu", conn_id="aws_remote"), connections=AirflowConnections())
    assert arn_of("gpu", tokens_of(access).current().value)


def test_a_role_that_is_refused(way: str, aws: Any, connection: Callable[..., None]) -> None:
    connection(role_arn=ROLE_B)
    aws.faults.refuse("AssumeRole$", 403, "AccessDenied", "not authorized to perform: sts:AssumeRole")
    with pytest.raises(CredentialError, match="trust policy") as caught:
        registry.resolve(eks("gpu", conn_id="aws_remote"), connections=AirflowConnections())
    assert "aws_remote" in str(caught.value) or "user/airflow could not assume" in str(caught.value)


@needs_amazon
def test_the_provider_is_asked_only_for_what_it_alone_knows(
    aws: Any, connection: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    connections = AirflowConnections()
    plain: dict[str, Any] = {
        "role_arn": ROLE_B,
        "external_id": "x",
        "verify": False,
        "cluster": {"cluster_name": "gpu"},
    }
    for extra in ({}, plain, {"extra__aws__role_arn": ROLE_B}, {"assume_role_method": "assume_role"}):
        connection(**extra)
        assert connections.aws_login("aws_remote", None) is None
    for extra in ({"session_kwargs": {"aws_session_token": "t"}}, {"config_kwargs": {"connect_timeout": 9}}):
        connection(**extra)
        assert connections.aws_login("aws_remote", None) is not None
    connection()
    monkeypatch.setenv(
        "AIRFLOW__AWS__SESSION_FACTORY", "airflow.providers.amazon.aws.hooks.base_aws.BaseSessionFactory"
    )
    assert connections.aws_login("aws_remote", None) is not None


@needs_amazon
def test_what_the_provider_refuses(aws: Any, connection: Callable[..., None]) -> None:
    connection(role_arn=ROLE_B, assume_role_method="by_magic")
    with pytest.raises(ConfigurationError, match=r"'aws_remote' is refused by the amazon provider: .*by_magic"):
        registry.resolve(eks("gpu", conn_id="aws_remote"), connections=AirflowConnections())
    connection(role_arn=ROLE_B, assume_role_method="assume_role_with_saml")
    with pytest.raises(CredentialError, match=r"could not log in with connection 'aws_remote' \(KeyError"):
        registry.resolve(eks("gpu", conn_id="aws_remote"), connections=AirflowConnections())


def test_a_connection_of_another_type(way: str, connection: Callable[..., None]) -> None:
    connection(conn_type="http")
    with pytest.raises(ConfigurationError, match="of type 'http'; one of type 'aws' is needed"):
        registry.resolve(eks("gpu", conn_id="aws_remote"), connections=AirflowConnections())


def test_no_such_connection(way: str, aws: Any) -> None:
    for ref in (eks("gpu", region="us-east-2", conn_id="absent"), gke("gpu", location="l", conn_id="absent")):
        with pytest.raises(ConfigurationError, match=r"no connection 'absent'.* AIRFLOW_CONN_ABSENT"):
            registry.resolve(ref, connections=AirflowConnections())


def test_an_extra_that_is_no_object(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_ODD", json.dumps({"conn_type": "azure", "extra": '["SECRET"]'}))
    # Airflow 3.1 refuses to read such a connection at all, and goes on as if there were none.
    refusals = r"extra of connection 'odd' is not a JSON object|There is no connection 'odd'"
    with pytest.raises(ConfigurationError, match=refusals) as caught:
        AirflowConnections().get("odd")
    assert "SECRET" not in str(caught.value)


def test_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    content = {"conn_type": "azure", "login": "id", "password": "s3cret", "extra": {"tenantId": "t"}}
    monkeypatch.setenv("AIRFLOW_CONN_AZ", json.dumps(content))
    found = AirflowConnections().get("az")
    assert (found.conn_type, found.login, found.password, found.text("tenantId")) == ("azure", "id", "s3cret", "t")
    assert "s3cret" not in repr(found)
