from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from kpo_multicluster.auth import registry
from kpo_multicluster.auth.access import ClusterAccess, TokenSource
from kpo_multicluster.auth.aks import AksResolver
from kpo_multicluster.auth.connections import CloudConnection
from kpo_multicluster.auth.tls import ssl_context
from kpo_multicluster.clouds import aks
from kpo_multicluster.cluster import ClusterRef
from kpo_multicluster.errors import ConfigurationError, ConnectError, CredentialError, MissingExtraError

TENANT, CLIENT, SECRET = "72f988bf-86f1-41af-91ab-2d7cd011db47", "11111111-aaaa", "s3cr3t-value"
SERVER_ID = "6dae42f8-4368-4678-94ff-3960e28e3630"
CLUSTER = "/subscriptions/00000000-1111/resourceGroups/ml/providers/Microsoft.ContainerService/managedClusters/gpu"
TOKEN = f"/{TENANT}/oauth2/v2.0/token"

Gpu = Callable[..., ClusterRef]
AddGpu = Callable[..., Any]


class Connections:
    def __init__(self, connection: CloudConnection) -> None:
        self._connection = connection

    def get(self, conn_id: str) -> CloudConnection:
        return self._connection

    def aws_login(self, conn_id: str, region: str | None) -> None:
        raise AssertionError


def tokens_of(access: ClusterAccess) -> TokenSource:
    assert access.tokens is not None
    return access.tokens


def said_by(ref: ClusterRef, kind: type[Exception], **options: Any) -> str:
    with pytest.raises(kind) as caught:
        registry.resolve(ref, **options)
    return str(caught.value)


def query_of(azure: Any, path: str) -> Any:
    return next(one.query for one in azure.record.all() if one.path == path)


def form_of(azure: Any) -> Any:
    """What the latest login told Entra."""
    return [one.form for one in azure.record.all() if one.path == TOKEN][-1]


@pytest.fixture
def gpu(azure: Any, monkeypatch: pytest.MonkeyPatch) -> Gpu:
    """The cluster of the tests, by a service principal's secret unless they say otherwise."""
    monkeypatch.setenv("AKS_SECRET", SECRET)

    def make(name: str = "gpu", **options: Any) -> ClusterRef:
        if not {"login", "conn_id", "client_secret", "certificate_file", "federated_token_file"} & set(options):
            options = {"tenant_id": TENANT, "client_id": CLIENT, "client_secret": "env:AKS_SECRET", **options}
        common = {"authority_host": azure.url, "arm_endpoint": azure.url}
        place = {} if "/" in name else {"resource_group": "ml", "subscription": "00000000-1111"}
        return aks(name, **{**common, **place, **options})

    return make


def test_the_cluster_is_looked_up(azure: Any, gpu: Gpu, add_gpu: AddGpu) -> None:
    add_gpu()
    access = registry.resolve(gpu(namespace="pods"))
    assert access.server == "https://gpu.hcp.example:443"
    assert access.ca_pem == azure.ca_pem
    assert access.namespace == "pods"
    assert azure.tokens.good(tokens_of(access).current().value).audience == SERVER_ID
    asked = [path for path in azure.record.paths() if path.startswith("/subscriptions")]
    assert asked == [CLUSTER, f"{CLUSTER}/listClusterUserCredential"]
    assert query_of(azure, asked[1])["format"] == "exec"
    assert SECRET not in repr(access)


def test_a_resource_id_names_it_all(azure: Any, gpu: Gpu, add_gpu: AddGpu) -> None:
    add_gpu()
    assert registry.resolve(gpu(CLUSTER)).server == "https://gpu.hcp.example:443"


def test_the_server_id_of_the_kubeconfig_or_of_the_ref(azure: Any, gpu: Gpu, add_gpu: AddGpu) -> None:
    add_gpu(server_id="legacy-server")
    assert azure.tokens.good(tokens_of(registry.resolve(gpu())).current().value).audience == "legacy-server"
    access = registry.resolve(gpu(server_id="mine"))
    assert azure.tokens.good(tokens_of(access).current().value).audience == "mine"


def test_a_given_endpoint_needs_no_resource_manager(azure: Any, gpu: Gpu) -> None:
    access = registry.resolve(gpu(endpoint="https://10.0.0.1/", ca_data=azure.ca_pem))
    assert access.server == "https://10.0.0.1"
    assert azure.tokens.good(tokens_of(access).current().value).audience == SERVER_ID
    assert not any(path.startswith("/subscriptions") for path in azure.record.paths())


def test_names_of_a_private_cluster(azure: Any, gpu: Gpu, add_gpu: AddGpu) -> None:
    add_gpu()
    assert "is not private" in said_by(gpu(endpoint="private"), ConfigurationError)
    add_gpu(apiServerAccessProfile={"enablePrivateCluster": True})
    assert registry.resolve(gpu(endpoint="private")).server
    assert "server-fqdn" not in query_of(azure, f"{CLUSTER}/listClusterUserCredential")
    assert "has no public name" in said_by(gpu(endpoint="public"), ConfigurationError)
    add_gpu(apiServerAccessProfile={"enablePrivateCluster": True, "enablePrivateClusterPublicFQDN": True})
    azure.record.clear()
    assert registry.resolve(gpu(endpoint="public")).server
    assert query_of(azure, f"{CLUSTER}/listClusterUserCredential")["server-fqdn"] == "public"


def test_a_local_account_with_a_certificate(
    azure: Any,
    gpu: Gpu,
    add_gpu: AddGpu,
    identity: Any,
    second_identity: Any,
    as_base64: Callable[[str], str],
) -> None:
    def user(of: Any) -> dict[str, Any]:
        return {
            "client-certificate-data": as_base64(of.certificate),
            "client-key-data": as_base64(of.key),
            "token": f"static-{of.name}",
        }

    add_gpu(user(identity), aadProfile=None)
    access = registry.resolve(gpu())
    first = tokens_of(access).current()
    assert (first.value, first.client_certificate, first.expires_at) == ("static-alice", identity.certificate, None)
    ssl_context(access, first)
    add_gpu(user(second_identity), aadProfile=None)
    assert tokens_of(access).replace(first).client_certificate == second_identity.certificate
    assert "has no Microsoft Entra integration, so a server_id is of no use" in said_by(
        gpu(server_id=SERVER_ID), ConfigurationError
    )


def test_the_admin_credential(
    azure: Any,
    gpu: Gpu,
    add_gpu: AddGpu,
    identity: Any,
    as_base64: Callable[[str], str],
) -> None:
    admin = {
        "client-certificate-data": as_base64(identity.certificate),
        "client-key-data": as_base64(identity.key),
    }
    add_gpu(admin=admin)
    access = registry.resolve(gpu(credential="admin"))
    assert tokens_of(access).current().client_certificate == identity.certificate
    add_gpu(disableLocalAccounts=True)
    text = said_by(gpu(credential="admin"), ConfigurationError)
    assert "has its local accounts disabled, so it has no admin credential: use credential='user'" in text


def test_local_accounts_disabled_as_azure_says_it(azure: Any, gpu: Gpu, add_gpu: AddGpu) -> None:
    add_gpu()
    azure.faults.refuse(f"{CLUSTER}$", 403, "AuthorizationFailed", "may not read")
    message = "Getting static credential is not allowed because this cluster is set to disable local accounts."
    azure.faults.refuse(f"{CLUSTER}/listClusterAdminCredential$", 400, "BadRequest", message)
    assert "use credential='user'" in said_by(gpu(credential="admin"), ConfigurationError)


# -- credentials -------------------------------------------------------------------------------------------------


def test_a_secret_given_inline(azure: Any, gpu: Gpu, add_gpu: AddGpu) -> None:
    add_gpu()
    ref = gpu(tenant_id=TENANT, client_id=CLIENT, client_secret=SECRET)
    assert not ref.portable
    assert SECRET not in repr(ref)
    assert registry.resolve(ref).server
    assert registry.resolve(ClusterRef.from_json(gpu().to_json())).server


@pytest.mark.parametrize("protected", [False, True])
def test_a_certificate(
    azure: Any,
    gpu: Gpu,
    add_gpu: AddGpu,
    tmp_path: Path,
    protected: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import trustme
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.serialization import pkcs12

    made = trustme.CA(key_type=trustme.KeyType.RSA).issue_cert("app", key_type=trustme.KeyType.RSA)
    pem, key = made.cert_chain_pems[0].bytes(), made.private_key_pem.bytes()
    path, more = tmp_path / "app.pem", {}
    path.write_bytes(key + pem)
    azure.add_certificate(CLIENT, pem)
    if protected:
        path = tmp_path / "app.pfx"
        loaded: Any = serialization.load_pem_private_key(key, None)
        certificate = x509.load_pem_x509_certificate(pem)
        seal = serialization.BestAvailableEncryption(b"pass")
        path.write_bytes(pkcs12.serialize_key_and_certificates(b"app", loaded, certificate, None, seal))
        monkeypatch.setenv("PFX_PASSWORD", "pass")
        more = {"certificate_password": "env:PFX_PASSWORD"}
    add_gpu()
    ref = gpu(tenant_id=TENANT, client_id=CLIENT, certificate_file=str(path), **more)
    assert registry.resolve(ref).server
    assert form_of(azure)["client_assertion"].count(".") == 2


def test_managed_identity(azure: Any, gpu: Gpu, add_gpu: AddGpu, monkeypatch: pytest.MonkeyPatch) -> None:
    add_gpu()
    monkeypatch.setenv("IDENTITY_ENDPOINT", f"{azure.machine_url}/msi/token")
    monkeypatch.setenv("IDENTITY_HEADER", "header-secret")
    access = registry.resolve(gpu(login="managed-identity", client_id="identity-1"))
    assert azure.tokens.good(tokens_of(access).current().value).audience == SERVER_ID
    assert azure.record.all()[-1].query["client_id"] == "identity-1"


@pytest.mark.parametrize("named_by", ["options", "environment"])
def test_workload_identity(
    azure: Any,
    gpu: Gpu,
    add_gpu: AddGpu,
    tmp_path: Path,
    named_by: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    add_gpu()
    (tmp_path / "federated").write_text("eyJ.kubernetes.token")
    if named_by == "options":
        ref = gpu(federated_token_file=str(tmp_path / "federated"), tenant_id=TENANT, client_id=CLIENT)
    else:
        monkeypatch.setenv("AZURE_TENANT_ID", TENANT)
        monkeypatch.setenv("AZURE_CLIENT_ID", CLIENT)
        monkeypatch.setenv("AZURE_FEDERATED_TOKEN_FILE", str(tmp_path / "federated"))
        ref = gpu(login="workload-identity")
    assert registry.resolve(ref).server
    assert form_of(azure)["client_assertion"] == "eyJ.kubernetes.token"


def test_the_default_chain(azure: Any, gpu: Gpu, add_gpu: AddGpu, monkeypatch: pytest.MonkeyPatch) -> None:
    add_gpu()
    for name, value in (("TENANT_ID", TENANT), ("CLIENT_ID", CLIENT), ("CLIENT_SECRET", SECRET)):
        monkeypatch.setenv(f"AZURE_{name}", value)
    assert registry.resolve(gpu(login="default")).server


def test_the_azure_cli(
    azure: Any,
    gpu: Gpu,
    add_gpu: AddGpu,
    script: Callable[[str, str], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    add_gpu()
    for_arm, for_cluster = (azure.issue(CLIENT, audience) for audience in (azure.url, SERVER_ID))
    az = script(
        "az",
        f'case "$*" in *{SERVER_ID}*) t={for_cluster};; *) t={for_arm};; esac\n'
        """echo '{"accessToken": "'$t'", "expires_on": 4102444800, "expiresOn": "2100-01-01 00:00:00"}'""",
    )
    monkeypatch.setenv("PATH", f"{az.parent}:{os.environ['PATH']}")
    access = registry.resolve(gpu(login="azure-cli"))
    assert tokens_of(access).current().value == for_cluster
    az.unlink()
    monkeypatch.setenv("PATH", "/nonexistent")
    assert "no usable Azure credentials from the azure-cli login" in said_by(gpu(login="azure-cli"), CredentialError)


@pytest.mark.parametrize("prefix", ["", "extra__azure__"])
def test_a_connection(azure: Any, gpu: Gpu, add_gpu: AddGpu, prefix: str) -> None:
    add_gpu()
    extra = {f"{prefix}tenantId": TENANT, f"{prefix}subscriptionId": "00000000-1111", "cloud_environment": ""}
    connections = Connections(CloudConnection("az", "azure", CLIENT, SECRET, extra))
    access = registry.resolve(gpu(conn_id="az", subscription=None), connections=connections)
    assert azure.tokens.good(tokens_of(access).current().value).audience == SERVER_ID
    assert "connection 'az'" in tokens_of(access).source


def test_the_endpoints_of_a_connection(azure: Any, add_gpu: AddGpu) -> None:
    add_gpu()
    extra = {"tenantId": TENANT, "subscriptionId": "00000000-1111"}
    ref = aks("gpu", resource_group="ml", conn_id="az")
    connections = Connections(CloudConnection("az", "azure", CLIENT, SECRET, {**extra, **azure.endpoints}))
    assert registry.resolve(ref, connections=connections).server == "https://gpu.hcp.example:443"
    wrong = {**azure.endpoints, "authority_host": "http://example.org"}
    connections = Connections(CloudConnection("az", "azure", CLIENT, SECRET, {**extra, **wrong}))
    text = said_by(ref, ConfigurationError, connections=connections)
    assert "'authority_host' of connection 'az' must be an https URL" in text


def test_a_connection_of_a_managed_identity(
    azure: Any, gpu: Gpu, add_gpu: AddGpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_gpu()
    monkeypatch.setenv("IDENTITY_ENDPOINT", f"{azure.machine_url}/msi/token")
    monkeypatch.setenv("IDENTITY_HEADER", "header-secret")
    extra = {"managed_identity_client_id": "identity-2", "workload_identity_tenant_id": TENANT}
    connection = CloudConnection("az", "azure", extra=extra)
    assert registry.resolve(gpu(conn_id="az"), connections=Connections(connection)).server
    assert azure.record.all()[-1].query["client_id"] == "identity-2"


@pytest.mark.parametrize(
    ("connection", "message"),
    [
        (CloudConnection("az", "aws"), "one of type 'azure' is needed"),
        (CloudConnection("az", "azure", CLIENT, SECRET), "has no tenantId for its service principal"),
        (CloudConnection("az", "azure", CLIENT, None), "has an Azure client id but no secret"),
        (CloudConnection("az", "azure", extra={"key_path": "x"}), "sets key_path, a form of credential that Azure has"),
        (CloudConnection("az", "azure", extra={"cloud_environment": "AzureMoon"}), "cloud_environment 'AzureMoon'"),
        (CloudConnection("az", "azure"), "No subscription is known for the AKS cluster 'gpu'"),
    ],
)
def test_connections_that_cannot_work(gpu: Gpu, connection: CloudConnection, message: str) -> None:
    text = said_by(gpu(conn_id="az", subscription=None), ConfigurationError, connections=Connections(connection))
    assert message in text
    assert SECRET not in text


@pytest.mark.parametrize(
    ("name", "authority", "arm"),
    [
        ("AzurePublicCloud", "login.microsoftonline.com", "management.azure.com"),
        ("AzureChinaCloud", "login.chinacloudapi.cn", "management.chinacloudapi.cn"),
        ("AzureUSGovernment", "login.microsoftonline.us", "management.usgovcloudapi.net"),
    ],
)
def test_clouds(name: str, authority: str, arm: str) -> None:
    from kpo_multicluster.auth.azure_logins import connection_login

    extra = {"tenantId": TENANT, "cloud_environment": name}
    login = connection_login(
        CloudConnection("az", "azure", CLIENT, SECRET, extra), aks("gpu", resource_group="g", conn_id="az")
    )
    assert (login.cloud.authority, login.cloud.arm) == (f"https://{authority}", f"https://{arm}")
    assert login.cloud.discovery


def test_what_a_service_principal_lacks(gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    text = said_by(gpu(login="service-principal", client_id=CLIENT), ConfigurationError)
    assert "lacks tenant_id, client_secret or certificate_file" in text
    monkeypatch.delenv("AKS_SECRET")
    assert "The environment variable AKS_SECRET (client_secret of" in said_by(gpu(), CredentialError)
    text = said_by(gpu(certificate_file="/absent.pem", tenant_id=TENANT, client_id=CLIENT), CredentialError)
    assert "/absent.pem" in text


def test_a_missing_sdk(gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "azure.identity", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'kpo-multicluster\[aks\]'"):
        registry.resolve(gpu())


# -- what Azure refuses ------------------------------------------------------------------------------------------


def test_a_wrong_secret(gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AKS_SECRET", "wrong-secret")
    text = said_by(gpu(), CredentialError)
    assert "Microsoft Entra refused the Azure credentials from the service-principal login" in text
    assert "AADSTS7000215" in text
    assert "its value is needed, not its id" in text
    assert "wrong-secret" not in text
    assert "Trace" not in text


def test_azure_out_of_reach(azure: Any, gpu: Gpu, add_gpu: AddGpu) -> None:
    add_gpu()
    text = said_by(gpu(arm_endpoint="https://127.0.0.1:1"), ConnectError)
    assert "127.0.0.1:1 could not be reached (Failed to establish a new connection: [Errno 111]" in text
    text = said_by(gpu(authority_host="https://127.0.0.1:1"), CredentialError)
    assert "https://127.0.0.1:1 could not be reached (Failed to establish a new connection" in text
    assert "object at 0x" not in text


def test_a_wrong_name_group_or_subscription(azure: Any, gpu: Gpu, add_gpu: AddGpu) -> None:
    add_gpu()
    text = said_by(gpu("gqu"), ConfigurationError)
    assert "no AKS cluster 'gqu' in resource group 'ml' of subscription 00000000-1111" in text
    assert "(ResourceNotFound: The Resource 'Microsoft.ContainerService/managedClusters/gqu' was not found.)" in text
    assert "Clusters seen in the subscription: gpu (ml)." in text


def test_no_right_to_the_credential(azure: Any, gpu: Gpu, add_gpu: AddGpu) -> None:
    add_gpu()
    azure.faults.refuse(f"{CLUSTER}/listClusterUserCredential$", 403, "AuthorizationFailed", "no authorization")
    text = said_by(gpu(), CredentialError)
    assert "Fetching the user credential of the AKS cluster 'gpu'" in text
    assert "listClusterUserCredential/action" in text
    assert "'Azure Kubernetes Service Cluster User Role'" in text


def test_a_right_to_the_credential_alone_suffices(azure: Any, gpu: Gpu, add_gpu: AddGpu) -> None:
    add_gpu()
    azure.faults.refuse(f"{CLUSTER}$", 403, "AuthorizationFailed", "may not read")
    assert registry.resolve(gpu()).server


@pytest.mark.parametrize(
    ("properties", "said"),
    [
        ({"powerState": {"code": "Stopped"}}, "is Stopped. Start it: az aks start."),
        ({"provisioningState": "Creating"}, "is Creating. Wait until it runs."),
        ({"provisioningState": "Deleting", "powerState": {"code": "Stopped"}}, "is Deleting"),
    ],
)
def test_a_cluster_that_is_not_up(azure: Any, gpu: Gpu, add_gpu: AddGpu, properties: dict[str, Any], said: str) -> None:
    add_gpu(**properties)
    assert said in said_by(gpu(), ConnectError)


def test_a_kubeconfig_that_is_none(azure: Any, gpu: Gpu, add_gpu: AddGpu) -> None:
    cluster = add_gpu()
    azure.set_kubeconfig(cluster, "User", {"apiVersion": "v1", "kind": "Config"})
    assert "names no server" in said_by(gpu(), ConnectError)
    add_gpu({"token": None})
    assert "Azure gave no credential" in said_by(gpu(), ConfigurationError)


# -- renewal -----------------------------------------------------------------------------------------------------


def test_renewed_before_its_end(azure: Any, gpu: Gpu, add_gpu: AddGpu, clock: Any) -> None:
    clock.now = time.time()
    add_gpu()
    tokens = tokens_of(AksResolver(clock=clock).resolve(gpu()))
    first = tokens.current()
    assert first.expires_at == pytest.approx(clock.now + 3600, abs=10)
    clock.now += 3500
    assert tokens.current() is first
    clock.now += 60
    assert tokens.current() is not first


def test_a_refused_token_is_not_given_again(azure: Any, gpu: Gpu, add_gpu: AddGpu) -> None:
    add_gpu()
    tokens = tokens_of(registry.resolve(gpu()))
    first = tokens.current()
    assert tokens.replace(first).value != first.value


def test_eight_threads_renew_once(azure: Any, gpu: Gpu, add_gpu: AddGpu) -> None:
    add_gpu()
    tokens = tokens_of(registry.resolve(gpu()))
    first = tokens.current()
    before = azure.record.paths().count(TOKEN)
    with ThreadPoolExecutor(8) as threads:
        found = {future.result() for future in [threads.submit(tokens.replace, first) for _ in range(8)]}
    assert len(found) == 1
    assert azure.record.paths().count(TOKEN) == before + 1


def test_a_child_process_renews_by_itself(azure: Any, gpu: Gpu, add_gpu: AddGpu) -> None:
    add_gpu()
    tokens = tokens_of(registry.resolve(gpu()))
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
        assert azure.identify(pipe.read().decode())
    assert os.waitpid(child, 0)[1] == 0
