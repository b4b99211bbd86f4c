"""Logins that fail in every way, on demand: what the emulated clouds say, and whom they still take."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from kpo_multicluster.auth import registry
from kpo_multicluster.auth.access import TokenSource
from kpo_multicluster.cluster import ClusterRef
from kpo_multicluster.errors import ConfigurationError, CredentialError, KpoMulticlusterError
from kpo_multicluster.testing.clouds import FakeAws, FakeAzure, FakeGoogle, TokenRefused
from kpo_multicluster.testing.clouds.aws import AwsCluster
from kpo_multicluster.testing.clouds.aws_eks import moto
from kpo_multicluster.testing.clouds.azure import AzureCluster
from kpo_multicluster.testing.clouds.google import GoogleCluster

EMAIL = "airflow@my-project.iam.gserviceaccount.com"
ROLE = "arn:aws:iam::222222222222:role/airflow-pods"


def tokens_of(ref: ClusterRef) -> TokenSource:
    access = registry.resolve(ref)
    assert access.tokens is not None
    return access.tokens


def said_by(ref: ClusterRef, kind: type[KpoMulticlusterError]) -> str:
    with pytest.raises(kind) as caught:
        registry.resolve(ref)
    return str(caught.value)


def refusal(of: Callable[[str], Any], token: str) -> str:
    with pytest.raises(TokenRefused) as caught:
        of(token)
    return caught.value.reason


# -- Google ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def gke(google: FakeGoogle) -> tuple[GoogleCluster, ClusterRef]:
    account = google.add_service_account(EMAIL)
    cluster = google.add_cluster("gpu")
    return cluster, cluster.ref(key_json=json.dumps(account.key()))


def test_google_in_trouble(google: FakeGoogle, gke: tuple[GoogleCluster, ClusterRef]) -> None:
    _, ref = gke
    with google.faults.refuse("POST /token", 400, "invalid_grant", "Account disabled"):
        assert "invalid_grant: Account disabled" in said_by(ref, CredentialError)
    with google.faults.refuse("GET .*/clusters/gpu$", 403, "PERMISSION_DENIED", "no"):
        assert "403 (PERMISSION_DENIED: no)" in said_by(ref, CredentialError)
    google.faults.drop("POST /token")
    assert "Google could not be reached" in said_by(ref, CredentialError)
    google.faults.answer("GET .*/clusters/gpu$", 503)
    google.faults.answer("POST /token", 500)
    google.faults.delay("POST /token", 0.05)
    began = time.monotonic()
    assert registry.resolve(ref).server
    assert time.monotonic() - began >= 0.05
    google.delete_key(EMAIL)
    assert "account not found" in said_by(ref, CredentialError)


def test_a_new_key_ends_the_old(google: FakeGoogle, gke: tuple[GoogleCluster, ClusterRef]) -> None:
    cluster, ref = gke
    token = tokens_of(ref).current().value
    google.add_service_account(EMAIL)
    assert "Invalid JWT Signature" in said_by(ref, CredentialError)
    assert cluster.identify(token).name == EMAIL


def test_clocks_of_google(google: FakeGoogle, gke: tuple[GoogleCluster, ClusterRef]) -> None:
    for seconds in (-4000, 8000):
        google.skew_seconds = seconds
        assert "The clock of this host is off" in said_by(gke[1], CredentialError)


def test_tokens_of_google(google: FakeGoogle, gke: tuple[GoogleCluster, ClusterRef]) -> None:
    cluster, ref = gke
    google.token_life_seconds = 100
    tokens = tokens_of(ref)
    first = tokens.current()
    assert cluster.identify(first.value).name == google.identify(first.value).name == EMAIL
    google.tokens.revoke(first.value)
    assert "revoked" in refusal(cluster.identify, first.value)
    second = tokens.replace(first)
    google.skew_seconds = 101
    assert "expired 1." in refusal(cluster.identify, second.value)
    assert "not issued here" in refusal(cluster.identify, "ya29.made-up")
    issued = google.tokens.issued(to=EMAIL)
    assert [token.expires_at - token.issued_at for token in issued] == [100, 100]
    assert [token.revoked for token in issued] == [True, False]
    assert first.value not in repr(issued)


def test_impersonation_by_those_alone_who_may(google: FakeGoogle, gke: tuple[GoogleCluster, ClusterRef]) -> None:
    cluster, ref = gke
    pods = "pods@my-project.iam.gserviceaccount.com"
    asked = cluster.ref(key_json=str(ref.secrets["key_json"]), impersonation_chain=pods)
    google.allow_impersonation(pods, by="someone@else")
    assert f"may not impersonate {pods} (PERMISSION_DENIED" in said_by(asked, CredentialError)
    google.allow_impersonation(pods, by=EMAIL)
    assert cluster.identify(tokens_of(asked).current().value).name == pods


def test_a_token_without_the_scope_for_the_address(google: FakeGoogle) -> None:
    from google.auth.transport.requests import Request
    from google.oauth2 import service_account
    from requests import Session

    account = google.add_service_account(EMAIL)
    credentials: Any = service_account.Credentials  # type: ignore[attr-defined,unused-ignore]
    scopes = ["https://www.googleapis.com/auth/cloud-platform"]
    made = credentials.from_service_account_info(account.key(), scopes=scopes)
    with Session() as session:
        made.refresh(Request(session))
    assert google.identify(made.token).name == account.unique_id


# -- Azure -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def aks(azure: FakeAzure, azure_ca: str) -> tuple[AzureCluster, ClusterRef]:
    azure.add_application("client", secret="s3cret", groups=("team",))
    cluster = azure.add_cluster("gpu")
    return cluster, cluster.ref(tenant_id=azure.tenant, client_id="client", client_secret="s3cret")


def test_azure_in_trouble(azure: FakeAzure, aks: tuple[AzureCluster, ClusterRef]) -> None:
    _, ref = aks
    with azure.faults.refuse("GET .*/managedClusters/gpu$", 401, "InvalidAuthenticationToken", "no"):
        assert "401 (InvalidAuthenticationToken: no)" in said_by(ref, CredentialError)
    azure.faults.refuse("POST .*/oauth2/v2.0/token", 503, "temporarily_unavailable", times=1)
    azure.faults.drop("GET .*/managedClusters/gpu$")
    assert registry.resolve(ref).server
    azure.expire_secret("client")
    assert "The client secret has expired" in said_by(ref, CredentialError)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"client_id": "other"}, "AADSTS700016"),
        ({"tenant_id": "elsewhere"}, "AADSTS90002"),
        ({"client_secret": "wrong"}, "AADSTS7000215"),
    ],
)
def test_logins_that_azure_refuses(
    azure: FakeAzure, aks: tuple[AzureCluster, ClusterRef], options: dict[str, str], said: str
) -> None:
    login = {"tenant_id": azure.tenant, "client_id": "client", "client_secret": "s3cret"}
    assert said in said_by(aks[0].ref(**{**login, **options}), CredentialError)


def test_tokens_of_azure(azure: FakeAzure, aks: tuple[AzureCluster, ClusterRef]) -> None:
    cluster, ref = aks
    token = tokens_of(ref).current().value
    identity = cluster.identify(token)
    assert identity == azure.identify(token)
    assert identity.groups == ("team",)
    for_arm = azure.issue("client", "https://management.azure.com")
    assert "it is for https://management.azure.com" in refusal(cluster.identify, for_arm)
    azure.add_application("stranger", secret="x", tenant="elsewhere")
    assert "its tenant is elsewhere" in refusal(cluster.identify, azure.issue("stranger", cluster.server_id))
    plain = azure.add_cluster("plain", aadProfile=None)
    assert "no integration with Microsoft Entra" in refusal(plain.identify, token)
    azure.tokens.revoke_all()
    assert "revoked" in refusal(cluster.identify, token)


def test_a_certificate_and_clocks(azure: FakeAzure, aks: tuple[AzureCluster, ClusterRef], tmp_path: Any) -> None:
    import trustme

    made = trustme.CA(key_type=trustme.KeyType.RSA).issue_cert("app", key_type=trustme.KeyType.RSA)
    pem = made.cert_chain_pems[0].bytes()
    path = tmp_path / "app.pem"
    path.write_bytes(made.private_key_pem.bytes() + pem)
    ref = aks[0].ref(tenant_id=azure.tenant, client_id="client", certificate_file=str(path))
    assert "AADSTS700027" in said_by(ref, CredentialError)
    azure.add_certificate("client", pem)
    assert registry.resolve(ref).server
    azure.skew_seconds = 4000
    assert "The clock of this host is off" in said_by(ref, CredentialError)


@pytest.mark.parametrize("place", ["app service", "virtual machine"])
def test_managed_identities(
    azure: FakeAzure, aks: tuple[AzureCluster, ClusterRef], place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = azure.add_managed_identity("machine", default=True)
    if place == "app service":
        for name, value in azure.app_service_environment.items():
            monkeypatch.setenv(name, value)
    else:
        monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", azure.machine_url)
    cluster = aks[0]
    for options in ({}, {"client_id": "machine"}):
        token = tokens_of(cluster.ref(login="managed-identity", **options)).current()
        assert cluster.identify(token.value) == identity
    assert said_by(cluster.ref(login="managed-identity", client_id="other"), CredentialError)


# -- AWS ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def eks(aws: FakeAws, monkeypatch: pytest.MonkeyPatch) -> AwsCluster:
    user = aws.add_user("airflow")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", user.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", user.secret_key)
    aws.add_role(ROLE, trusted=(user.arn,), external_id="team-7")
    cluster = aws.add_cluster("gpu", account="222222222222")
    cluster.add_user(ROLE, username="airflow:{{SessionName}}", groups=("runners",))
    return cluster


def test_a_role_of_another_account(aws: FakeAws, eks: AwsCluster) -> None:
    token = tokens_of(eks.ref(role_arn=ROLE, external_id="team-7", session_name="dag")).current().value
    identity = eks.identify(token)
    assert (identity.name, identity.groups) == ("airflow:dag", ("runners",))
    assert aws.identify(token).name == "arn:aws:sts::222222222222:assumed-role/airflow-pods/dag"
    other = aws.add_cluster("other", account="222222222222")
    assert "SignatureDoesNotMatch" in refusal(other.identify, token)
    (session,) = aws.sessions.issued(to=aws.identify(token).name)
    assert session.expires_at - session.issued_at == 3600
    eks.users.remove(ROLE)
    assert "is not mapped" in refusal(eks.identify, token)
    aws.revoke(token)
    assert "revoked" in refusal(eks.identify, token)


def test_aws_in_trouble(aws: FakeAws, eks: AwsCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    ref = eks.ref(role_arn=ROLE, external_id="team-7")
    with aws.faults.refuse("GET /clusters/gpu$", 403, "AccessDeniedException", "no"):
        assert "AccessDeniedException: no" in said_by(ref, CredentialError)
    aws.faults.answer("POST / AssumeRole", 500)
    assert registry.resolve(ref).server
    assert "is not authorized to perform: sts:AssumeRole" in said_by(eks.ref(role_arn=ROLE), CredentialError)
    assert "There is no EKS cluster 'gpu' in eu-west-1" in said_by(
        eks.ref(role_arn=ROLE, external_id="team-7", region="eu-west-1"), ConfigurationError
    )
    assert "of account 111111111111" in said_by(eks.ref(), ConfigurationError)
    aws.skew_seconds = 1200
    assert "20 minutes behind that of AWS" in said_by(eks.ref(), CredentialError)


def test_keys_of_aws(aws: FakeAws, eks: AwsCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    aws.session_seconds = 100
    ref = eks.ref(role_arn=ROLE, external_id="team-7")
    token = tokens_of(ref).current().value
    aws.skew_seconds = 101
    assert "ExpiredToken" in refusal(eks.identify, token)
    aws.skew_seconds = 0
    aws.sessions.revoke_all()
    assert "InvalidClientTokenId" in refusal(eks.identify, token)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    assert "does not belong to the access key id" in said_by(ref, CredentialError)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAUNKNOWN")
    assert "AWS does not know the access key id" in said_by(ref, CredentialError)


def test_requests_that_no_one_signed(aws: FakeAws) -> None:
    from requests import Session

    with Session() as session:
        assert session.get(f"{aws.url}/clusters").status_code == 403
        answer = session.post(f"{aws.url}/", data={"Action": "GetCallerIdentity"})
    assert (answer.status_code, "MissingAuthenticationToken" in answer.text) == (403, True)


def test_without_moto(monkeypatch: pytest.MonkeyPatch) -> None:
    moto.cache_clear()
    monkeypatch.setitem(sys.modules, "moto.backends", None)
    with pytest.raises(ConfigurationError, match="pip install moto flask"):
        FakeAws().start()


# -- all ---------------------------------------------------------------------------------------------------------------


def test_clouds_that_do_not_run() -> None:
    for cloud in (FakeAws(), FakeAzure(), FakeGoogle()):
        with pytest.raises(ConfigurationError, match=r"not running: use it in a with block"):
            _ = cloud.url
        cloud.stop()
        with cloud:
            assert cloud.url
        cloud.stop()


def test_a_fault_of_the_emulator_itself_is_told(google: FakeGoogle, monkeypatch: pytest.MonkeyPatch) -> None:
    from requests import Session

    def fail(*_: object) -> None:
        raise LookupError("no such thing")

    monkeypatch.setattr(google.tokens, "good", fail)
    with Session() as session:
        answer = session.get(f"{google.url}/v1/projects/p/locations/-/clusters", headers={"Authorization": "Bearer x"})
    assert (answer.status_code, answer.json()["error"]["message"]) == (500, "LookupError('no such thing')")


def test_lazily() -> None:
    from kpo_multicluster.testing import clouds

    assert clouds.FakeGoogle is FakeGoogle
    with pytest.raises(AttributeError, match="no attribute 'FakeOther'"):
        _ = clouds.FakeOther
