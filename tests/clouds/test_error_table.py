"""What users see when a cloud or its cluster refuses them: each cause, brought about, and what the run's error says."""

from __future__ import annotations

import re
import time
from datetime import datetime, timezone
from importlib.metadata import requires
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

from kpo_multicluster.api.client import ApiClient
from kpo_multicluster.auth.diagnose import explain_refusal
from kpo_multicluster.auth.eks import EksResolver
from kpo_multicluster.auth.registry import resolve
from kpo_multicluster.cluster import ClusterRef, kubeconfig
from kpo_multicluster.errors import (
    ConfigurationError,
    ConnectError,
    CredentialError,
    ExecPluginError,
    ForbiddenError,
    KpoMulticlusterError,
    TLSError,
    UnauthorizedError,
)
from kpo_multicluster.testing.clouds.aws import FakeAws
from kpo_multicluster.testing.clouds.azure import SERVER_ID
from kpo_multicluster.testing.clouds.verify_eks_users import EksUser
from kpo_multicluster.testing.tls import Authority

from .callers import ACCOUNT_A, ACCOUNT_B, EXTERNAL_ID, Aws, Azure, Google
from .servers import Server
from .test_acceptance import ROLE, Run, run

__all__ = ["run"]

pytestmark = pytest.mark.timeout(180)

USER = f"arn:aws:iam::{ACCOUNT_A}:user/airflow"
SESSION = f"arn:aws:sts::{ACCOUNT_B}:assumed-role/runner/dag"
# What is refused before any API server is asked need not be tried on each kind of them.
once = pytest.mark.parametrize("server", ["embedded"], indirect=True)


def refused(run: Run, ref: ClusterRef, kind: type[KpoMulticlusterError]) -> str:
    with pytest.raises(kind) as caught:
        run(ref)
    return str(caught.value)


def given(cloud: Aws, server: Server, name: str, *, region: str = "us-east-2", **options: Any) -> ClusterRef:
    """A cluster of EKS by its endpoint, which saves the call to look it up."""
    from kpo_multicluster.clouds import eks

    place = {"endpoint": server.url, "ca_data": server.ca_pem}
    return eks(name, region=region, **{**place, **cloud.endpoints, **options})


# -- exec plugins ----------------------------------------------------------------------------------------------------


def of_plugin(server: Server, directory: Path, entry: dict[str, Any]) -> ClusterRef:
    (directory / "ca.pem").write_text(server.ca_pem)
    cluster = {"server": server.url, "certificate-authority": str(directory / "ca.pem")}
    user = {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "interactiveMode": "Never", **entry}}
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "gpu",
        "contexts": [{"name": "gpu", "context": {"cluster": "gpu", "user": "u"}}],
        "clusters": [{"name": "gpu", "cluster": cluster}],
        "users": [{"name": "u", "user": user}],
    }
    (directory / "kubeconfig").write_text(yaml.safe_dump(content))
    return kubeconfig(str(directory / "kubeconfig"))


@once
def test_a_plugin_that_fails(server: Server, tmp_path: Path) -> None:
    """A run waits half a minute for one that fails before it says so: that may pass."""
    script = tmp_path / "cloud-login"
    script.write_text("#!/bin/sh\necho 'the session is over: log in' >&2\nexit 3\n")
    script.chmod(0o755)
    tokens = resolve(of_plugin(server, tmp_path, {"command": str(script)})).tokens
    assert tokens is not None
    with pytest.raises(ExecPluginError) as caught:
        tokens.current()
    assert f"{str(script)!r} (exec of user 'u' of" in str(caught.value)
    assert "exit code 3" in str(caught.value)
    assert "the session is over: log in" in str(caught.value)


@once
def test_a_plugin_that_is_not_there(server: Server, run: Run, tmp_path: Path) -> None:
    said = refused(run, of_plugin(server, tmp_path, {"command": "no-such-login"}), ExecPluginError)
    assert "'no-such-login' (exec of user 'u' of" in said
    assert "is not on the PATH of this process" in said


# -- EKS, across accounts --------------------------------------------------------------------------------------------


def test_a_principal_that_is_not_mapped(server: Server, eks_cloud: Aws, namespace: str, run: Run) -> None:
    eks_cloud.caller("someone-else")
    stranger = eks_cloud.stranger()
    server.allow(namespace, ROLE, user=stranger.user)
    said = refused(run, stranger.ref, UnauthorizedError)
    name = eks_cloud.cluster.name.name
    assert f"Authenticated to AWS as {stranger.user} (account {ACCOUNT_B}, by boto3's default credentials" in said
    assert f"; the EKS cluster '{name}' in account {ACCOUNT_B} refused it" in said
    assert "it has no access entry or aws-auth mapping" in said
    entry = f"aws eks create-access-entry --cluster-name {name} --region us-east-2 --principal-arn"
    assert f"{entry} arn:aws:iam::{ACCOUNT_B}:role/stranger" in said
    eks_cloud.cluster.add_user(f"arn:aws:iam::{ACCOUNT_B}:role/stranger")
    run(stranger.ref)


def test_a_mapping_with_the_path_of_the_role(
    server: Server, eks_cloud: Aws, aws: FakeAws, namespace: str, run: Run
) -> None:
    """In aws-auth a role counts without its path only; in an access entry with it."""
    arn = f"arn:aws:iam::{ACCOUNT_B}:role/team/runner"
    aws.add_role(arn, trusted=(USER,))
    ref = eks_cloud.cluster.ref(role_arn=arn, session_name="dag")
    server.allow(namespace, ROLE, user=SESSION)
    eks_cloud.cluster.users.add(EksUser(arn, "runner", in_config_map=True))
    assert f"mapUsers item for arn:aws:iam::{ACCOUNT_B}:role/runner in" in refused(run, ref, UnauthorizedError)
    eks_cloud.cluster.add_user(arn)
    run(ref)


@once
@pytest.mark.parametrize("external_id", ["wrong", None])
def test_a_wrong_external_id(eks_cloud: Aws, run: Run, external_id: str | None) -> None:
    eks_cloud.caller("runner")
    ref = eks_cloud.cluster.ref(role_arn=eks_cloud.role("runner"), external_id=external_id)
    said = refused(run, ref, CredentialError)
    assert f"{USER} could not assume the role {eks_cloud.role('runner')} (AccessDenied" in said
    assert f"Let the role's trust policy allow {USER} the action sts:AssumeRole" in said
    gave = "The external id 'wrong' was given" if external_id else "No external id was given"
    assert f"{gave}: if the trust policy has the condition sts:ExternalId, it must be that one" in said


@once
def test_a_role_that_does_not_trust_the_caller(eks_cloud: Aws, aws: FakeAws, run: Run) -> None:
    aws.add_role(eks_cloud.role("runner"), trusted=(f"arn:aws:iam::{ACCOUNT_A}:user/jane",), external_id=EXTERNAL_ID)
    ref = eks_cloud.cluster.ref(role_arn=eks_cloud.role("runner"), external_id=EXTERNAL_ID)
    said = refused(run, ref, CredentialError)
    assert f"{USER} could not assume the role {eks_cloud.role('runner')}" in said
    assert f"The external id '{EXTERNAL_ID}' was given" in said


@once
def test_a_wrong_cluster_name(eks_cloud: Aws, run: Run) -> None:
    runner, name = eks_cloud.caller("runner"), eks_cloud.cluster.name.name
    said = refused(run, renamed(runner.ref, cluster_name="gqu"), ConfigurationError)
    assert f"There is no EKS cluster 'gqu' in us-east-2 of account {ACCOUNT_B}, as seen by" in said
    assert f"in the role {eks_cloud.role('runner')}" in said
    assert f"Clusters seen: {name}." in said


@once
def test_a_wrong_region(eks_cloud: Aws, run: Run) -> None:
    runner, name = eks_cloud.caller("runner"), eks_cloud.cluster.name.name
    said = refused(run, renamed(runner.ref, region="eu-west-1"), ConfigurationError)
    assert f"There is no EKS cluster '{name}' in eu-west-1 of account {ACCOUNT_B}" in said
    assert "Clusters seen: none." in said
    assert "Correct the name or the region" in said


@once
def test_the_account_of_the_caller_instead_of_the_cluster(eks_cloud: Aws, run: Run) -> None:
    said = refused(run, eks_cloud.cluster.ref(), ConfigurationError)
    assert f"in us-east-2 of account {ACCOUNT_A}, as seen by boto3's default credentials" in said
    assert "use credentials of the account that the cluster is in, such as a role_arn there" in said


def test_a_wrong_cluster_name_beside_a_given_endpoint(server: Server, eks_cloud: Aws, aws: FakeAws, run: Run) -> None:
    """Nothing looks the cluster up: its API server is the first to refuse, and says nothing but 401."""
    assumed = {"role_arn": eks_cloud.role("runner"), "external_id": EXTERNAL_ID}
    eks_cloud.caller("runner")
    said = refused(run, given(eks_cloud, server, "gqu", **assumed), UnauthorizedError)
    assert "The token was signed for a cluster that does not exist, so none accepts it." in said
    assert f"Clusters seen: {eks_cloud.cluster.name.name}." in said
    aws.add_cluster("other", account=ACCOUNT_B, endpoint="https://other.example")
    said = refused(run, given(eks_cloud, server, "other", **assumed), UnauthorizedError)
    assert f"whose endpoint is https://other.example; {server.url} is another cluster's" in said


def test_a_wrong_region_beside_a_given_endpoint(server: Server, eks_cloud: Aws, namespace: str, run: Run) -> None:
    """A token may be signed for any region of the partition: it is the name that counts, and the run succeeds."""
    runner, name = eks_cloud.caller("runner"), eks_cloud.cluster.name.name
    server.allow(namespace, ROLE, user=runner.user)
    assumed = {"role_arn": eks_cloud.role("runner"), "external_id": EXTERNAL_ID, "session_name": "dag"}
    run(given(eks_cloud, server, name, region="eu-west-1", **assumed))


@once
@pytest.mark.parametrize(("ahead", "way"), [(20, "behind"), (-20, "ahead of")])
def test_a_clock_that_is_off(eks_cloud: Aws, aws: FakeAws, run: Run, ahead: int, way: str) -> None:
    runner = eks_cloud.caller("runner")
    aws.skew_seconds = ahead * 60
    assert f"The clock of this host is 20 minutes {way} that of AWS" in refused(run, runner.ref, CredentialError)


@pytest.mark.parametrize(("ahead", "way"), [(20, "behind"), (-20, "ahead of")])
def test_a_clock_that_is_off_where_only_the_cluster_notices(
    server: Server, eks_cloud: Aws, aws: FakeAws, run: Run, ahead: int, way: str
) -> None:
    eks_cloud.cluster.add_user(eks_cloud.user.arn)
    aws.skew_seconds = ahead * 60
    said = refused(run, given(eks_cloud, server, eks_cloud.cluster.name.name), UnauthorizedError)
    assert f"The clock of this host is 20 minutes {way} that of AWS, which refuses" in said
    assert "set the clock, by NTP" in said
    assert "AWS itself refuses the credentials of boto3's default credentials of this process: Signature" in said


@once
@pytest.mark.parametrize("host", ["localhost:4566", "sts.us-east-2.amazonaws.com.cn"])
def test_a_custom_sts_host_to_sign_for(eks_cloud: Aws, run: Run, host: str) -> None:
    said = refused(run, renamed(eks_cloud.caller("runner").ref, sts_host=host), ConfigurationError)
    assert f"Tokens signed for the STS host '{host}'" in said
    assert "are refused by EKS in us-east-2, which accepts sts.us-east-2.amazonaws.com," in said
    assert "Drop sts_host; to call STS elsewhere, set sts_endpoint_url." in said


def test_a_custom_sts_host_to_call(
    server: Server, eks_cloud: Aws, aws: FakeAws, namespace: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is called, and not signed for, wherever it is set: cluster and token work."""
    runner = eks_cloud.caller("runner")
    server.allow(namespace, ROLE, user=runner.user)
    for name, value in aws.environment.items():
        monkeypatch.setenv(name, value)
    run(renamed(runner.ref, sts_endpoint_url=None, eks_endpoint_url=None))


@once
def test_a_session_that_ended_and_is_not_renewed(eks_cloud: Aws, aws: FakeAws) -> None:
    """Its end is told by clocks that are put forward, here and there."""
    runner, forward = eks_cloud.caller("runner"), 0.0
    aws.session_seconds = 240
    access = EksResolver(clock=lambda: time.time() + forward).resolve(runner.ref)
    ends = aws.sessions.all()[-1].expires_at
    aws.add_role(eks_cloud.role("runner"), trusted=())
    forward = aws.skew_seconds = 241.0
    assert access.tokens is not None
    with pytest.raises(CredentialError) as caught:
        access.tokens.current()
    at = datetime.fromtimestamp(ends, timezone.utc).strftime("%Y-%m-%d %H:%M")
    assert re.search(rf"session in the role expired at {at}:\d\d UTC and could not be renewed", str(caught.value))
    assert f"{USER} could not assume the role" in str(caught.value)


@once
def test_credentials_that_aws_no_longer_takes(eks_cloud: Aws, aws: FakeAws, run: Run) -> None:
    aws.delete_key(eks_cloud.user.access_key)
    said = refused(run, given(eks_cloud, eks_cloud.server, eks_cloud.cluster.name.name), UnauthorizedError)
    assert "AWS itself refuses the credentials of boto3's default credentials of this process: Invalid" in said


# -- clusters that are not up, and certificates ------------------------------------------------------------------------


@once
def test_clusters_that_are_not_up(
    server: Server, eks_cloud: Aws, aws: FakeAws, gke_cloud: Google, aks_cloud: Azure, run: Run
) -> None:
    eks_caller = eks_cloud.caller("runner")
    aws.add_cluster(
        eks_cloud.cluster.name.name, account=ACCOUNT_B, status="CREATING", endpoint=None, certificateAuthority=None
    )
    said = refused(run, eks_caller.ref, ConnectError)
    assert "in us-east-2 is CREATING and has no endpoint. Wait until it is ACTIVE" in said
    gke_cloud.put_cluster(server, status="PROVISIONING")
    said = refused(run, gke_cloud.caller("runner").ref, ConnectError)
    assert "is PROVISIONING. Wait until it is RUNNING" in said
    aks_cloud.put_cluster(server, powerState={"code": "Stopped"})
    said = refused(run, aks_cloud.caller("runner").ref, ConnectError)
    assert "is Stopped. Start it: az aks start." in said


def test_a_certificate_of_another_ca(server: Server, eks_cloud: Aws, aws: FakeAws, run: Run) -> None:
    """As behind a proxy that opens TLS connections, or after the cluster's CA was rotated."""
    runner, other = eks_cloud.caller("runner"), Authority("other")
    aws.add_cluster(eks_cloud.cluster.name.name, account=ACCOUNT_B, endpoint=server.url, ca_pem=other.pem)
    said = refused(run, runner.ref, TLSError)
    assert "The server shows a certificate of CN=kube-apiserver" in said
    assert "is the CA other-ca" in said
    assert "If that issuer is a proxy that opens TLS connections" in said


# -- GKE -------------------------------------------------------------------------------------------------------------


@once
def test_a_dns_endpoint_that_is_not_there_or_closed(server: Server, gke_cloud: Google, run: Run) -> None:
    runner = gke_cloud.caller("runner")
    said = refused(run, renamed(runner.ref, endpoint="dns"), ConfigurationError)
    assert "has no DNS endpoint that is open to this host" in said
    assert "Use endpoint='public' instead, which it has." in said
    assert "'gcloud container clusters update --enable-dns-access' gives it one" in said
    closed = {"endpoint": "gke-x.europe-west1.gke.goog", "allowExternalTraffic": False}
    gke_cloud.put_cluster(server, controlPlaneEndpointsConfig={"dnsEndpointConfig": closed})
    said = refused(run, renamed(gke_cloud.caller("runner").ref, endpoint="dns"), ConfigurationError)
    assert "Its DNS endpoint takes no traffic from outside" in said


@once
async def test_a_private_endpoint_out_of_reach(server: Server, gke_cloud: Google) -> None:
    config = {"enablePrivateEndpoint": True, "privateEndpoint": "127.0.0.1:1"}
    gke_cloud.put_cluster(server, privateClusterConfig=config)
    ref = renamed(gke_cloud.caller("runner").ref, endpoint="private")
    access = resolve(ref)
    async with ApiClient(access, connect_timeout_seconds=0.5) as client:
        with pytest.raises(ConnectError) as caught:
            await client.request("GET", "/version")
    (said,) = explain_refusal(ref, access, caught.value)
    assert "The private endpoint 127.0.0.1 of the GKE cluster" in said
    assert "is not to be reached from this host" in said
    assert "use endpoint='dns', or register it in a fleet and use endpoint='connect-gateway'" in said


def test_a_service_account_without_rights(server: Server, gke_cloud: Google, namespace: str, run: Run) -> None:
    runner = gke_cloud.caller("runner")
    said = refused(run, runner.ref, ForbiddenError)
    assert f"knows this caller as '{runner.user}', who may not create pods in the namespace '{namespace}'" in said
    assert f"This is {runner.user} (by key_json of the cluster= argument). Grant it the IAM permission" in said
    assert "as roles/container.developer does, or bind a Kubernetes Role to the user" in said


# -- AKS -------------------------------------------------------------------------------------------------------------


@once
def test_local_accounts_that_are_disabled(server: Server, aks_cloud: Azure, run: Run) -> None:
    aks_cloud.put_cluster(server, disableLocalAccounts=True)
    said = refused(run, renamed(aks_cloud.caller("runner").ref, credential="admin"), ConfigurationError)
    assert "has its local accounts disabled, so it has no admin credential: use credential='user'" in said


@once
def test_no_kubelogin_is_needed(
    server: Server, aks_cloud: Azure, namespace: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kubeconfig that Azure writes calls kubelogin, which is not on this PATH: its work is done in process."""
    runner = aks_cloud.caller("runner")
    server.allow(namespace, ROLE, user=runner.user)
    monkeypatch.setenv("PATH", "/nonexistent")
    run(runner.ref)


def test_a_cluster_without_entra(server: Server, aks_cloud: Azure, run: Run) -> None:
    aks_cloud.put_cluster(server, aadProfile=None)
    runner = aks_cloud.caller("runner")
    said = refused(run, runner.ref, UnauthorizedError)
    assert f"has no Microsoft Entra integration, so it takes no token of {runner.shown}" in said
    assert "Enable it with 'az aks update --enable-aad'" in said


def test_another_tenant(server: Server, aks_cloud: Azure, run: Run) -> None:
    said = refused(run, aks_cloud.stranger().ref, UnauthorizedError)
    assert "is of tenant another-tenant, but the AKS cluster" in said


def test_a_token_for_another_application(server: Server, aks_cloud: Azure, run: Run) -> None:
    runner = aks_cloud.caller("runner")
    said = refused(run, renamed(runner.ref, server_id="an-old-server-app"), UnauthorizedError)
    assert "a token for the server application an-old-server-app" in said
    assert "Check that it has Entra integration managed by AKS, that server_id is its own" in said
    assert SERVER_ID not in said


# -- the Kubernetes client -------------------------------------------------------------------------------------------


def test_the_release_that_sends_requests_as_anonymous_is_not_installed() -> None:
    """Release 36.0.0 of the official client; what this package itself asks of clusters goes by another way."""
    (required,) = [
        found for text in requires("kpo-multicluster") or () if (found := Requirement(text)).name == "kubernetes"
    ]
    assert not required.specifier.contains("36.0.0")
    assert required.specifier.contains("36.0.1")


def renamed(ref: ClusterRef, **options: Any) -> ClusterRef:
    """The same, with other options; None drops one."""
    return ClusterRef(ref.kind, {**ref.options, **options}, ref.secrets, ref.namespace)
