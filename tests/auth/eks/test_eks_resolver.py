from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from kpo_multicluster.auth import registry
from kpo_multicluster.auth.access import ClusterAccess, TokenSource
from kpo_multicluster.auth.connections import CloudConnection
from kpo_multicluster.auth.eks import EksResolver
from kpo_multicluster.clouds import eks
from kpo_multicluster.cluster import ClusterRef
from kpo_multicluster.errors import ConfigurationError, ConnectError, CredentialError, MissingExtraError

ROLE_B = "arn:aws:iam::222222222222:role/airflow-pods"
ACCOUNT_B = "222222222222"


class Connections:
    def __init__(self, *connections: CloudConnection) -> None:
        self._by_id = {connection.conn_id: connection for connection in connections}
        self.asked = 0

    def get(self, conn_id: str) -> CloudConnection:
        self.asked += 1
        return self._by_id[conn_id]

    def aws_login(self, conn_id: str, region: str | None) -> None:
        return None


def tokens_of(access: ClusterAccess) -> TokenSource:
    assert access.tokens is not None
    return access.tokens


def said_by(ref: ClusterRef, kind: type[Exception], **options: Any) -> str:
    with pytest.raises(kind) as caught:
        EksResolver(**options).resolve(ref)
    return str(caught.value)


def test_the_cluster_is_described_and_its_token_taken(aws: Any, ca_pem: str, arn_of: Callable[..., str]) -> None:
    aws.add_cluster("gpu", ca_pem=ca_pem)
    access = registry.resolve(eks("gpu", region="us-east-2", namespace="pods"))
    assert access.server == "https://gpu.us-east-2.eks.example"
    assert access.ca_pem == ca_pem
    assert access.namespace == "pods"
    assert arn_of("gpu", tokens_of(access).current().value) == "arn:aws:iam::111111111111:user/airflow"
    assert aws.record.paths() == ["/clusters/gpu"]
    assert "k8s-aws" not in repr(access)


def test_a_given_endpoint_needs_no_call(aws: Any, ca_pem: str, arn_of: Callable[..., str]) -> None:
    access = registry.resolve(eks("gpu", region="us-east-2", endpoint="https://10.0.0.1/", ca_data=ca_pem))
    assert access.server == "https://10.0.0.1"
    assert arn_of("gpu", tokens_of(access).current().value)
    assert aws.record.paths() == []


def test_a_role_of_another_account(aws: Any, ca_pem: str, arn_of: Callable[..., str]) -> None:
    aws.add_cluster("gpu", ca_pem=ca_pem, account=ACCOUNT_B)
    ref = eks("gpu", region="us-east-2", role_arn=ROLE_B, external_id="team-7", session_name="dag-1")
    access = registry.resolve(ref)
    arn = arn_of("gpu", tokens_of(access).current().value)
    assert arn == "arn:aws:sts::222222222222:assumed-role/airflow-pods/dag-1"
    assert aws.record.paths() == ["AssumeRole", "/clusters/gpu"]
    assert "ExternalId=team-7" in aws.record.all()[0].body.decode()


def test_an_arn_names_the_region(aws: Any, ca_pem: str) -> None:
    aws.add_cluster("gpu", ca_pem=ca_pem, region="eu-west-1")
    access = registry.resolve(eks("arn:aws:eks:eu-west-1:111111111111:cluster/gpu"))
    assert access.server == "https://gpu.eu-west-1.eks.example"


@pytest.mark.parametrize("variable", ["AWS_DEFAULT_REGION", "AWS_REGION"])
def test_the_region_of_the_environment(aws: Any, ca_pem: str, variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    aws.add_cluster("gpu", ca_pem=ca_pem)
    monkeypatch.setenv(variable, "us-east-2")
    assert registry.resolve(eks("gpu")).server == "https://gpu.us-east-2.eks.example"


def test_a_profile_with_its_own_region_and_role(
    aws: Any, user: Any, ca_pem: str, tmp_path: Path, arn_of: Callable[..., str]
) -> None:
    (tmp_path / "aws-credentials").write_text(
        f"[base]\naws_access_key_id={user.access_key}\naws_secret_access_key={user.secret_key}\n"
    )
    (tmp_path / "aws-config").write_text(
        f"[profile gpu]\nregion=us-east-2\nrole_arn={ROLE_B}\nsource_profile=base\nrole_session_name=from-profile\n"
    )
    aws.add_cluster("gpu", ca_pem=ca_pem, account=ACCOUNT_B)
    access = registry.resolve(eks("gpu", profile="gpu"))
    assert arn_of("gpu", tokens_of(access).current().value).endswith("/from-profile")


def test_irsa(
    aws: Any, ca_pem: str, tmp_path: Path, arn_of: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    (tmp_path / "token").write_text("eyJ.jwt.signature")
    monkeypatch.setenv("AWS_ROLE_ARN", ROLE_B)
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.setenv("AWS_ROLE_SESSION_NAME", "airflow-worker")
    aws.add_cluster("gpu", ca_pem=ca_pem, account=ACCOUNT_B)
    access = registry.resolve(eks("gpu", region="us-east-2"))
    assert arn_of("gpu", tokens_of(access).current().value).endswith("/airflow-worker")
    assert aws.record.paths()[0] == "AssumeRoleWithWebIdentity"
    (tmp_path / "token").unlink()
    assert str(tmp_path / "token") in said_by(eks("gpu", region="us-east-2"), CredentialError)


def test_pod_identity(
    aws: Any, ca_pem: str, tmp_path: Path, arn_of: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from http.server import BaseHTTPRequestHandler, HTTPServer

    import boto3

    role = boto3.client("sts", region_name="us-east-2").assume_role(RoleArn=ROLE_B, RoleSessionName="agent")
    keys, asked = role["Credentials"], list[str | None]()
    answer = {
        "AccessKeyId": keys["AccessKeyId"],
        "SecretAccessKey": keys["SecretAccessKey"],
        "Token": keys["SessionToken"],
        "Expiration": (datetime.now(timezone.utc) + timedelta(hours=6)).isoformat(),
    }

    class Agent(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.headers["Authorization"])
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        def log_message(self, *_: Any) -> None:
            pass

    agent = HTTPServer(("127.0.0.1", 0), Agent)
    thread = threading.Thread(target=agent.serve_forever)
    thread.start()
    (tmp_path / "pod-token").write_text("pod-token")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"http://127.0.0.1:{agent.server_port}/v1/credentials")
    monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", str(tmp_path / "pod-token"))
    aws.add_cluster("gpu", ca_pem=ca_pem, account=ACCOUNT_B)
    try:
        access = registry.resolve(eks("gpu", region="us-east-2"))
        assert arn_of("gpu", tokens_of(access).current().value).endswith("/agent")
    finally:
        agent.shutdown()
        thread.join()
        agent.server_close()
    assert asked == ["pod-token"]


@pytest.mark.parametrize(
    "fields",
    [
        {"login": "KEY", "password": "SECRET", "extra": {"region_name": "us-east-2"}},
        {"extra": {"aws_access_key_id": "KEY", "aws_secret_access_key": "SECRET", "region_name": "us-east-2"}},
    ],
)
def test_keys_of_a_connection(
    aws: Any,
    user: Any,
    ca_pem: str,
    fields: dict[str, Any],
    arn_of: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = json.dumps(fields).replace("KEY", user.access_key).replace("SECRET", user.secret_key)
    connections = Connections(CloudConnection("remote", "aws", **json.loads(text)))
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    aws.add_cluster("gpu", ca_pem=ca_pem)
    access = registry.resolve(eks("gpu", conn_id="remote"), connections=connections)
    assert arn_of("gpu", tokens_of(access).current().value).endswith("user/airflow")
    assert connections.asked == 1
    assert "connection 'remote'" in tokens_of(access).source


def test_a_connection_with_a_role_and_one_more_hop(
    aws: Any, user: Any, ca_pem: str, arn_of: Callable[..., str]
) -> None:
    hub = "arn:aws:iam::333333333333:role/hub"
    extra = {
        "region_name": "us-east-2",
        "role_arn": hub,
        "assume_role_kwargs": {"ExternalId": "first", "RoleSessionName": "hub-session", "DurationSeconds": 1800},
        "service_config": {"sts": {"endpoint_url": aws.url}, "eks": {"endpoint_url": aws.url}},
        "config_kwargs": {"user_agent_extra": "from-connection"},
    }
    connections = Connections(CloudConnection("remote", "aws", user.access_key, user.secret_key, extra))
    aws.add_cluster("gpu", ca_pem=ca_pem, account=ACCOUNT_B)
    ref = eks("gpu", conn_id="remote", role_arn=ROLE_B, external_id="second")
    access = registry.resolve(ref, connections=connections)
    arn = arn_of("gpu", tokens_of(access).current().value)
    assert arn == "arn:aws:sts::222222222222:assumed-role/airflow-pods/kpo-multicluster"
    bodies = [one.body.decode() for one in aws.record.all() if one.action == "AssumeRole"]
    assert "ExternalId=first" in bodies[0]
    assert "DurationSeconds=1800" in bodies[0]
    assert "ExternalId=second" in bodies[1]
    assert len(bodies) == 2


def test_a_connection_with_a_web_identity(
    aws: Any, ca_pem: str, tmp_path: Path, arn_of: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    (tmp_path / "token").write_text("eyJ.jwt.signature")
    extra = {
        "region_name": "us-east-2",
        "role_arn": ROLE_B,
        "assume_role_method": "assume_role_with_web_identity",
        "assume_role_with_web_identity_federation": "file",
        "assume_role_with_web_identity_token_file": str(tmp_path / "token"),
    }
    aws.add_cluster("gpu", ca_pem=ca_pem, account=ACCOUNT_B)
    access = registry.resolve(
        eks("gpu", conn_id="remote"), connections=Connections(CloudConnection("remote", "aws", extra=extra))
    )
    assert arn_of("gpu", tokens_of(access).current().value).endswith("airflow-pods/kpo-multicluster")


@pytest.mark.parametrize(
    ("connection", "message"),
    [
        (CloudConnection("c", "http"), "of type 'http'; one of type 'aws' is needed"),
        (CloudConnection("c", "aws", "AKIA", None), "has an AWS access key id but no secret access key"),
        (
            CloudConnection("c", "aws", extra={"role_arn": ROLE_B, "assume_role_method": "assume_role_with_saml"}),
            "'assume_role_with_saml', which needs the amazon provider here: install apache-airflow-providers-amazon",
        ),
        (CloudConnection("c", "aws", extra={"config_kwargs": {"nonsense": 1}}), "config_kwargs of connection 'c'"),
        (CloudConnection("c", "aws", extra={"region_name": 7}), "'region_name' of connection 'c' must be text"),
        (CloudConnection("c", "aws", extra={"service_config": "{"}), "'service_config' .* must be a JSON object"),
    ],
)
def test_connections_that_cannot_work(aws: Any, connection: CloudConnection, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        EksResolver(Connections(connection)).resolve(eks("gpu", region="us-east-2", conn_id="c"))


def test_a_connection_outside_airflow() -> None:
    with pytest.raises(ConfigurationError, match=r"'remote' is only to be had inside Airflow.*such as a profile"):
        registry.resolve(eks("gpu", region="us-east-2", conn_id="remote"))


def test_no_region(aws: Any) -> None:
    assert "No AWS region is known: give the cluster's as region=" in said_by(eks("gpu"), ConfigurationError)


def test_no_credentials(aws: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    text = said_by(eks("gpu", region="us-east-2"), CredentialError)
    assert "no AWS credentials in boto3's default credentials" in text
    assert "conn_id" in text
    assert "'nope'" in said_by(eks("gpu", region="us-east-2", profile="nope"), CredentialError)


def test_a_missing_sdk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "botocore.session", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'kpo-multicluster\[eks\]'"):
        registry.resolve(eks("gpu", region="us-east-2"))


# -- what AWS refuses --------------------------------------------------------------------------------------------


def test_a_wrong_name_or_region(aws: Any, ca_pem: str) -> None:
    aws.add_cluster("gpu", ca_pem=ca_pem)
    aws.add_cluster("batch", ca_pem=ca_pem)
    text = said_by(eks("gpu-2", region="us-east-2"), ConfigurationError)
    assert "no EKS cluster 'gpu-2' in us-east-2 of account 111111111111" in text
    assert "Clusters seen: batch, gpu." in text
    text = said_by(eks("gpu", region="eu-west-1"), ConfigurationError)
    assert "in eu-west-1 of account 111111111111" in text
    assert "Clusters seen: none." in text


def test_a_cluster_of_another_account(aws: Any, ca_pem: str) -> None:
    aws.add_cluster("gpu", ca_pem=ca_pem, account=ACCOUNT_B)
    text = said_by(eks("gpu", region="us-east-2"), ConfigurationError)
    assert "of account 111111111111, as seen by boto3's default credentials" in text
    assert "a role_arn there" in text


def test_clusters_that_may_not_be_listed(aws: Any) -> None:
    aws.faults.refuse("/clusters$", 403, "AccessDeniedException")
    aws.faults.refuse("GetCallerIdentity$", 403, "AccessDenied")
    text = said_by(eks("gpu", region="us-east-2"), ConfigurationError)
    assert "no EKS cluster 'gpu' in us-east-2, as seen by" in text
    assert "may not be listed (AccessDeniedException" in text


def test_no_right_to_describe(aws: Any) -> None:
    aws.faults.refuse("/clusters/gpu$", 403, "AccessDeniedException", "not authorized to perform: eks:DescribeCluster")
    text = said_by(eks("gpu", region="us-east-2"), CredentialError)
    assert "Describing the EKS cluster 'gpu' in us-east-2 with boto3's default credentials" in text
    assert "eks:DescribeCluster" in text
    assert "endpoint and ca_data, which need no such call" in text


@pytest.mark.parametrize("external_id", ["wrong", None])
def test_a_role_that_may_not_be_assumed(aws: Any, external_id: str | None) -> None:
    aws.faults.refuse("AssumeRole$", 403, "AccessDenied", "User: x is not authorized to perform: sts:AssumeRole")
    ref = eks("gpu", region="us-east-2", role_arn=ROLE_B, external_id=external_id)
    text = said_by(ref, CredentialError)
    assert f"user/airflow could not assume the role {ROLE_B} (AccessDenied" in text
    assert "trust policy" in text
    gave = "The external id 'wrong' was given" if external_id else "No external id was given"
    assert gave in text
    assert "sts:ExternalId" in text


def test_an_expired_session_token(aws: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "secret-session-token")
    aws.faults.refuse("/clusters/gpu$", 403, "ExpiredTokenException", "The security token is expired")
    text = said_by(eks("gpu", region="us-east-2"), CredentialError)
    assert "session token has expired: log in again" in text
    assert "secret-session-token" not in text


@pytest.mark.parametrize(("minutes", "way"), [(20, "behind"), (-20, "ahead of")])
def test_a_wrong_clock(aws: Any, minutes: int, way: str) -> None:
    aws.skew_seconds = minutes * 60
    text = said_by(eks("gpu", region="us-east-2"), CredentialError)
    assert f"clock of this host is 20 minutes {way} that of AWS" in text
    assert "SECRET" not in text


def test_a_wrong_secret(aws: Any) -> None:
    aws.faults.refuse("/clusters/gpu$", 403, "InvalidSignatureException", "canonical: x-amz-security-token:SECRET")
    text = said_by(eks("gpu", region="us-east-2"), CredentialError)
    assert "secret access key does not belong to the access key id" in text
    assert "SECRET" not in text


def test_an_unknown_key(aws: Any) -> None:
    aws.faults.refuse("/clusters/gpu$", 403, "UnrecognizedClientException")
    assert "AWS does not know the access key id" in said_by(eks("gpu", region="us-east-2"), CredentialError)


def test_aws_out_of_reach(aws: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    ref = eks("gpu", region="us-east-2", eks_endpoint_url="http://127.0.0.1:1")
    text = said_by(ref, ConnectError)
    assert "http://127.0.0.1:1" in text
    assert "Check that this host reaches AWS" in text


@pytest.mark.parametrize("status", ["CREATING", "FAILED", "DELETING", "PENDING"])
def test_a_cluster_that_is_not_up(aws: Any, ca_pem: str, status: str) -> None:
    aws.add_cluster("gpu", ca_pem=ca_pem, status=status, endpoint=None, certificateAuthority=None)
    text = said_by(eks("gpu", region="us-east-2"), ConnectError)
    assert f"EKS cluster 'gpu' in us-east-2 is {status} and has no endpoint" in text
    assert "Wait until it is ACTIVE" in text


def test_a_cluster_that_is_updated_serves_on(aws: Any, ca_pem: str) -> None:
    aws.add_cluster("gpu", ca_pem=ca_pem, status="UPDATING")
    assert registry.resolve(eks("gpu", region="us-east-2")).server


def test_a_host_to_sign_for_that_eks_refuses(aws: Any, ca_pem: str) -> None:
    ref = eks("gpu", region="us-east-2", sts_host="sts.localhost.localstack.cloud:4566")
    text = said_by(ref, ConfigurationError)
    assert "'sts.localhost.localstack.cloud:4566'" in text
    assert "are refused by EKS in us-east-2" in text


def test_an_endpoint_for_calls_is_not_signed_for(aws: Any, ca_pem: str, arn_of: Callable[..., str]) -> None:
    aws.add_cluster("gpu", ca_pem=ca_pem, account=ACCOUNT_B)
    ref = eks("gpu", region="us-east-2", role_arn=ROLE_B, sts_endpoint_url=aws.url, eks_endpoint_url=aws.url)
    assert arn_of("gpu", tokens_of(registry.resolve(ref)).current().value)


# -- renewal -----------------------------------------------------------------------------------------------------


def test_renewed_before_its_end_and_never_by_a_call(aws: Any, ca_pem: str, clock: Any) -> None:
    aws.add_cluster("gpu", ca_pem=ca_pem)
    clock.now = time.time()
    tokens = tokens_of(EksResolver(clock=clock).resolve(eks("gpu", region="us-east-2")))
    first = tokens.current()
    assert first.expires_at == clock.now + 14 * 60
    clock.now += 12 * 60
    assert tokens.current() is first
    clock.now += 61
    assert tokens.current() is not first
    assert aws.record.paths() == ["/clusters/gpu"]


def test_a_token_does_not_outlive_the_keys_that_sign_it(aws: Any, ca_pem: str, clock: Any) -> None:
    aws.session_seconds = 300
    aws.add_cluster("gpu", ca_pem=ca_pem, account=ACCOUNT_B)
    tokens = tokens_of(registry.resolve(eks("gpu", region="us-east-2", role_arn=ROLE_B)))
    expires_at = tokens.current().expires_at
    assert expires_at == pytest.approx(time.time() + 300, abs=30)


def test_a_refused_token_is_replaced_by_a_new_session(aws: Any, ca_pem: str, arn_of: Callable[..., str]) -> None:
    aws.add_cluster("gpu", ca_pem=ca_pem, account=ACCOUNT_B)
    tokens = tokens_of(registry.resolve(eks("gpu", region="us-east-2", role_arn=ROLE_B)))
    first = tokens.current()
    second = tokens.replace(first)
    assert arn_of("gpu", second.value)
    assert second.value != first.value
    assert aws.record.paths().count("AssumeRole") == 2


def test_a_session_that_can_no_longer_be_renewed(aws: Any, ca_pem: str) -> None:
    aws.add_cluster("gpu", ca_pem=ca_pem, account=ACCOUNT_B)
    tokens = tokens_of(registry.resolve(eks("gpu", region="us-east-2", role_arn=ROLE_B)))
    first = tokens.current()
    aws.faults.refuse("AssumeRole$", 403, "AccessDenied", "the trust was withdrawn")
    with pytest.raises(CredentialError, match="could not assume the role"):
        tokens.replace(first)
    assert tokens.current() is first


def test_a_role_whose_renewal_fails_serves_while_it_lasts(aws: Any, ca_pem: str, clock: Any) -> None:
    clock.now = time.time()
    aws.add_cluster("gpu", ca_pem=ca_pem, account=ACCOUNT_B)
    tokens = tokens_of(EksResolver(clock=clock).resolve(eks("gpu", region="us-east-2", role_arn=ROLE_B)))
    aws.faults.refuse("AssumeRole$", 403, "AccessDenied", "the trust was withdrawn")
    clock.now += 50 * 60
    assert tokens.current().expires_at == pytest.approx(time.time() + 3600, abs=10)
    clock.now += 11 * 60
    with pytest.raises(CredentialError, match=r"session in the role expired at 20.* UTC and could not be renewed: "):
        tokens.current()


def test_keys_of_a_login_that_cannot_be_renewed(aws: Any, clock: Any) -> None:
    from kpo_multicluster.auth.aws_errors import credential_error

    error = credential_error(RuntimeError("the refreshed credentials are still expired"), source="X", now=9, ended=0)
    assert "The AWS session of X expired at 1970-01-01 00:00:00 UTC and could not be renewed" in str(error)


def test_eight_threads_renew_once(aws: Any, ca_pem: str) -> None:
    aws.add_cluster("gpu", ca_pem=ca_pem, account=ACCOUNT_B)
    tokens = tokens_of(registry.resolve(eks("gpu", region="us-east-2", role_arn=ROLE_B)))
    first = tokens.current()
    with ThreadPoolExecutor(8) as threads:
        found = {future.result() for future in [threads.submit(tokens.replace, first) for _ in range(8)]}
    assert len(found) == 1
    assert aws.record.paths().count("AssumeRole") == 2


def test_a_child_process_logs_in_by_itself(aws: Any, ca_pem: str, arn_of: Callable[..., str]) -> None:
    aws.add_cluster("gpu", ca_pem=ca_pem, account=ACCOUNT_B)
    tokens = tokens_of(registry.resolve(eks("gpu", region="us-east-2", role_arn=ROLE_B)))
    first = tokens.current()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.write(writer, tokens.replace(first).value.encode())
            status = 0
        finally:
            os._exit(status)
    os.close(writer)
    with open(reader, "rb") as pipe:
        value = pipe.read().decode()
    assert os.waitpid(child, 0)[1] == 0
    assert arn_of("gpu", value)
    assert aws.record.paths().count("AssumeRole") == 2


def test_eight_clusters_in_eight_threads(aws: Any, ca_pem: str, arn_of: Callable[..., str]) -> None:
    for number in range(8):
        aws.add_cluster(f"c{number}", ca_pem=ca_pem)

    def resolve(number: int) -> None:
        access = registry.resolve(eks(f"c{number}", region="us-east-2"))
        assert access.server == f"https://c{number}.us-east-2.eks.example"
        assert arn_of(f"c{number}", tokens_of(access).current().value)

    with ThreadPoolExecutor(8) as threads:
        for future in [threads.submit(resolve, number % 8) for number in range(24)]:
            future.result()


def test_nothing_is_left_in_the_environment_or_on_disk(aws: Any, ca_pem: str, tmp_path: Path) -> None:
    aws.add_cluster("gpu", ca_pem=ca_pem, account=ACCOUNT_B)
    before, files = dict(os.environ), set(tmp_path.iterdir())
    registry.resolve(eks("gpu", region="us-east-2", role_arn=ROLE_B))
    assert dict(os.environ) == before
    assert set(tmp_path.iterdir()) == files
