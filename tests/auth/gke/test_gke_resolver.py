from __future__ import annotations

import base64
import json
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
from kpo_multicluster.auth.connections import CloudConnection
from kpo_multicluster.auth.gke import GkeResolver
from kpo_multicluster.clouds import gke
from kpo_multicluster.cluster import ClusterRef
from kpo_multicluster.errors import ConfigurationError, ConnectError, CredentialError, MissingExtraError

EMAIL = "airflow@my-project.iam.gserviceaccount.com"
CLUSTER = "/v1/projects/my-project/locations/europe-west1/clusters/gpu"
GATEWAY = "https://europe-west1-connectgateway.googleapis.com/v1/projects/123/locations/europe-west1/gkeMemberships/gpu"


class Connections:
    def __init__(self, connection: CloudConnection) -> None:
        self._connection = connection

    def get(self, conn_id: str) -> CloudConnection:
        assert conn_id == self._connection.conn_id
        return self._connection

    def aws_login(self, conn_id: str, region: str | None) -> None:
        raise AssertionError


def tokens_of(access: ClusterAccess) -> TokenSource:
    assert access.tokens is not None
    return access.tokens


def said_by(ref: ClusterRef, kind: type[Exception]) -> str:
    with pytest.raises(kind) as caught:
        registry.resolve(ref)
    return str(caught.value)


@pytest.fixture
def gpu(google: Any, key_file: Callable[..., str]) -> Callable[..., ClusterRef]:
    """The cluster that the tests look up, by a service account's key unless they say otherwise."""

    def make(**options: Any) -> ClusterRef:
        if not {"key_file", "key_json", "conn_id", "credential_config_file", "adc"} & set(options):
            options["key_file"] = key_file()
        options.pop("adc", None)
        return gke("gpu", **{"location": "europe-west1", "api_endpoint": google.url, **options})

    return make


def test_the_cluster_is_looked_up(google: Any, gpu: Callable[..., ClusterRef], ca: Any) -> None:
    google.add_cluster("gpu", ca_pem=ca.cert_pem.bytes().decode())
    access = registry.resolve(gpu(namespace="pods"))
    assert access.server == "https://203.0.113.7"
    assert access.ca_pem == ca.cert_pem.bytes().decode()
    assert access.namespace == "pods"
    assert google.identify(tokens_of(access).current().value).name == EMAIL
    assert google.record.paths() == ["/token", CLUSTER]
    assert "ya29" not in repr(access)


def test_a_path_names_it_all(google: Any, key_file: Callable[..., str]) -> None:
    google.add_cluster("batch", project="other", location="us-central1-a")
    path = "projects/other/locations/us-central1-a/clusters/batch"
    access = registry.resolve(gke(path, key_file=key_file(), api_endpoint=google.url))
    assert access.server == "https://203.0.113.7"
    assert "GKE cluster 'batch' in us-central1-a of project other" in access.source


IP = {"enabled": True, "enablePublicEndpoint": True, "publicEndpoint": "203.0.113.7", "privateEndpoint": "10.0.0.2"}
DNS = {"endpoint": "gke-1.europe-west1.gke.goog", "allowExternalTraffic": True}
FLEET = {"membership": "//gkehub.googleapis.com/projects/123/locations/europe-west1/memberships/gpu"}


@pytest.mark.parametrize(
    ("fields", "asked", "server"),
    [
        ({}, None, "https://203.0.113.7"),
        ({}, "public", "https://203.0.113.7"),
        ({"privateClusterConfig": {"privateEndpoint": "10.0.0.2"}}, "private", "https://10.0.0.2"),
        ({"controlPlaneEndpointsConfig": {"ipEndpointsConfig": IP}}, "private", "https://10.0.0.2"),
        (
            {"controlPlaneEndpointsConfig": {"dnsEndpointConfig": DNS}},
            "dns",
            "https://gke-1.europe-west1.gke.goog",
        ),
        (
            {"controlPlaneEndpointsConfig": {"dnsEndpointConfig": DNS, "ipEndpointsConfig": {"enabled": False}}},
            None,
            "https://gke-1.europe-west1.gke.goog",
        ),
        (
            {
                "endpoint": "10.0.0.2",
                "privateClusterConfig": {"enablePrivateEndpoint": True, "privateEndpoint": "10.0.0.2"},
            },
            None,
            "https://10.0.0.2",
        ),
        ({"fleet": FLEET}, "connect-gateway", GATEWAY),
    ],
)
def test_which_endpoint(
    google: Any, gpu: Callable[..., ClusterRef], fields: dict[str, Any], asked: str | None, server: str
) -> None:
    google.add_cluster("gpu", **fields)
    access = registry.resolve(gpu(endpoint=asked))
    assert access.server == server
    assert (access.ca_pem is None) == ("goog" in server)


@pytest.mark.parametrize(
    ("fields", "asked", "message"),
    [
        (
            {},
            "dns",
            "has no DNS endpoint that is open to this host. Use endpoint='public' instead, which it has. 'gcloud",
        ),
        (
            {"controlPlaneEndpointsConfig": {"dnsEndpointConfig": {**DNS, "allowExternalTraffic": False}}},
            "dns",
            "Its DNS endpoint takes no traffic from outside",
        ),
        ({}, "private", "has no private IP endpoint. Use endpoint='public'"),
        ({}, "connect-gateway", "is in no fleet"),
        (
            {
                "endpoint": "10.0.0.2",
                "controlPlaneEndpointsConfig": {
                    "dnsEndpointConfig": DNS,
                    "ipEndpointsConfig": {"enablePublicEndpoint": False, "privateEndpoint": "10.0.0.2"},
                },
            },
            "public",
            "has no public IP endpoint. Use endpoint='private' or 'dns' instead",
        ),
        ({"endpoint": None}, None, "has no public IP endpoint. It offers no other"),
        ({"masterAuth": {}}, None, "has no CA certificate"),
    ],
)
def test_an_endpoint_it_lacks(
    google: Any, gpu: Callable[..., ClusterRef], fields: dict[str, Any], asked: str | None, message: str
) -> None:
    google.add_cluster("gpu", **fields)
    assert message in said_by(gpu(endpoint=asked), ConfigurationError)


def test_an_endpoint_or_membership_that_is_given_needs_no_look_up(
    google: Any, key_file: Callable[..., str], ca: Any
) -> None:
    access = registry.resolve(gke("gpu", key_file=key_file(), endpoint="https://gke-1.gke.goog/"))
    assert (access.server, access.ca_pem) == ("https://gke-1.gke.goog", None)
    ca_data = base64.b64encode(ca.cert_pem.bytes()).decode()
    access = registry.resolve(gke("gpu", key_file=key_file(), endpoint="https://10.0.0.2", ca_data=ca_data))
    assert access.ca_pem == ca.cert_pem.bytes().decode()
    member = "projects/123/locations/global/memberships/gpu"
    access = registry.resolve(gke("gpu", key_file=key_file(), endpoint="connect-gateway", membership=member))
    assert access.server == (
        "https://connectgateway.googleapis.com/v1/projects/123/locations/global/gkeMemberships/gpu"
    )
    assert set(google.record.paths()) == {"/token"}
    wrong = gke("gpu", key_file=key_file(), endpoint="connect-gateway", membership="my-cluster")
    assert "not like projects/123456/locations/global/memberships/name" in said_by(wrong, ConfigurationError)


# -- credentials -------------------------------------------------------------------------------------------------


def test_key_json_by_reference_and_inline(
    google: Any,
    gpu: Callable[..., ClusterRef],
    make_key: Callable[..., dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    google.add_cluster("gpu")
    monkeypatch.setenv("GKE_KEY", json.dumps(make_key()))
    ref = gpu(key_json="env:GKE_KEY")
    assert registry.resolve(ClusterRef.from_json(ref.to_json())).server
    inline = gpu(key_json=json.dumps(make_key()))
    assert not inline.portable
    assert "PRIVATE KEY" not in repr(inline)
    assert registry.resolve(inline).server
    monkeypatch.delenv("GKE_KEY")
    assert "The environment variable GKE_KEY" in said_by(ref, CredentialError)


def test_a_chain_of_impersonation(google: Any, gpu: Callable[..., ClusterRef]) -> None:
    google.add_cluster("gpu")
    ref = gpu(impersonation_chain=["a@p.iam", "b@p.iam"], iam_endpoint=google.url)
    access = registry.resolve(ref)
    assert google.identify(tokens_of(access).current().value).name == "b@p.iam"
    (asked,) = [one for one in google.record.all() if one.path.endswith("b@p.iam:generateAccessToken")]
    assert asked.json["delegates"] == ["a@p.iam"]
    assert registry.resolve(gpu(impersonation_chain="c@p.iam", iam_endpoint=google.url)).server
    assert google.tokens.all()[-1].identity.name == "c@p.iam"


def test_federation(google: Any, gpu: Callable[..., ClusterRef], key_file: Callable[..., str], tmp_path: Path) -> None:
    google.add_cluster("gpu")
    (tmp_path / "subject").write_text("subject-token")
    audience = "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/q"
    config = {
        "type": "external_account",
        "audience": audience,
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": f"{google.url}/v1/token",
        "credential_source": {"file": str(tmp_path / "subject")},
    }
    google.federate(audience=audience, subject_token="subject-token", principal="principal://airflow")
    access = registry.resolve(gpu(credential_config_file=key_file(config, "wif.json"), project="my-project"))
    assert google.identify(tokens_of(access).current().value).name == "principal://airflow"


@pytest.mark.parametrize("place", ["named", "well-known"])
def test_application_default_credentials(
    google: Any,
    gpu: Callable[..., ClusterRef],
    key_file: Callable[..., str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    place: str,
) -> None:
    google.add_cluster("gpu")
    if place == "named":
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", key_file())
    else:
        user = {"type": "authorized_user", "client_id": "i", "client_secret": "s", "refresh_token": "r"}
        user["token_uri"] = f"{google.url}/token"
        google.add_user("jane@example.org", refresh_token="r")
        (tmp_path / "gcloud").mkdir()
        key_file(user, "gcloud/application_default_credentials.json")
        monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "my-project")
        # The library ignores the address in a user's file.
        monkeypatch.setattr("google.oauth2.credentials._GOOGLE_OAUTH2_TOKEN_ENDPOINT", f"{google.url}/token")
    access = registry.resolve(gpu(adc=True))
    assert google.identify(tokens_of(access).current().value).name in (EMAIL, "jane@example.org")


def test_the_metadata_server(google: Any, gpu: Callable[..., ClusterRef], monkeypatch: pytest.MonkeyPatch) -> None:
    from google.auth.compute_engine import _metadata

    if not hasattr(_metadata, "_NO_GCE_CHECK"):
        pytest.skip("this google-auth looks nowhere but where it did when it was imported")
    google.add_cluster("gpu")
    google.node_account = "node@x.iam"
    host = google.metadata_host
    # Both are read from the environment when the library is imported.
    monkeypatch.setattr(_metadata, "_NO_GCE_CHECK", False)
    monkeypatch.setattr(_metadata, "_GCE_METADATA_HOST", host)
    monkeypatch.setenv("GCE_METADATA_IP", host)
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "my-project")
    access = registry.resolve(gpu(adc=True))
    assert google.identify(tokens_of(access).current().value).name == "node@x.iam"


def test_a_quota_project(google: Any, gpu: Callable[..., ClusterRef]) -> None:
    google.add_cluster("gpu")
    registry.resolve(gpu(quota_project="billing"))
    assert google.record.all()[-1].headers["x-goog-user-project"] == "billing"
    registry.resolve(gpu())
    assert "x-goog-user-project" not in google.record.all()[-1].headers


@pytest.mark.parametrize("prefix", ["", "extra__google_cloud_platform__"])
@pytest.mark.parametrize("form", ["key_path", "keyfile_dict", "keyfile_dict as text", "credential_config_file"])
def test_a_connection(
    google: Any,
    gpu: Callable[..., ClusterRef],
    make_key: Callable[..., dict[str, Any]],
    key_file: Callable[..., str],
    form: str,
    prefix: str,
) -> None:
    google.add_cluster("gpu")
    key = make_key()
    value = {
        "key_path": key_file(),
        "keyfile_dict": {**key, "private_key": key["private_key"].replace("\n", "\\n")},
        "keyfile_dict as text": json.dumps(key),
        "credential_config_file": json.dumps(key),
    }[form]
    extra = {
        prefix + form.partition(" ")[0]: value,
        prefix + "impersonation_chain": "a@p.iam, b@p.iam",
        prefix + "project": "my-project",
        prefix + "quota_project_id": "billing",
        prefix + "key_secret_name": "",
    }
    connection = CloudConnection("gcp", "google_cloud_platform", extra=extra)
    ref = gpu(conn_id="gcp", iam_endpoint=google.url)
    access = registry.resolve(ref, connections=Connections(connection))
    assert google.identify(tokens_of(access).current().value).name == "b@p.iam"
    assert google.record.all()[-1].headers["x-goog-user-project"] == "billing"
    assert "connection 'gcp'" in tokens_of(access).source
    assert "PRIVATE" not in repr(connection)


@pytest.mark.parametrize(
    ("connection", "message"),
    [
        (CloudConnection("gcp", "aws"), "one of type 'google_cloud_platform' is needed"),
        (
            CloudConnection("gcp", "google_cloud_platform", extra={"key_path": "a", "keyfile_dict": "{}"}),
            "fills in key_path and keyfile_dict",
        ),
        (
            CloudConnection("gcp", "google_cloud_platform", extra={"key_secret_name": "s"}),
            "sets key_secret_name, which is not supported here",
        ),
    ],
)
def test_connections_that_cannot_work(
    gpu: Callable[..., ClusterRef], connection: CloudConnection, message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        registry.resolve(gpu(conn_id="gcp"), connections=Connections(connection))


def test_the_endpoints_of_a_connection(google: Any, make_key: Callable[..., dict[str, Any]]) -> None:
    google.add_cluster("gpu")
    extra = {
        "keyfile_dict": make_key(),
        "impersonation_chain": "a@p.iam",
        "api_endpoint": google.url,
        "iam_endpoint": google.url,
    }
    ref = gke("gpu", location="europe-west1", conn_id="gcp")
    connections = Connections(CloudConnection("gcp", "google_cloud_platform", extra=extra))
    access = registry.resolve(ref, connections=connections)
    assert google.identify(tokens_of(access).current().value).name == "a@p.iam"
    connections = Connections(CloudConnection("gcp", extra={**extra, "api_endpoint": "http://example.org"}))
    with pytest.raises(ConfigurationError, match="'api_endpoint' of connection 'gcp' must be an https URL"):
        registry.resolve(ref, connections=connections)


def test_keys_that_are_none(gpu: Callable[..., ClusterRef], key_file: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "text").write_text("SECRET")
    for path, message in (
        (str(tmp_path / "absent.json"), "cannot be read: No such file or directory. Put it there, on the triggerer"),
        (str(tmp_path / "text"), "is not a credential file of Google's"),
        (key_file({"type": "gdch_service_account"}), "of the type 'gdch_service_account', which is not supported"),
        (key_file({"type": "service_account"}, "half.json"), "not a complete credential file"),
        (key_file(name="bad.json", private_key="SECRET"), "not a complete credential file"),
        (
            key_file({"type": "external_account", "credential_source": "SECRET"}, "odd.json"),
            "not a complete credential",
        ),
    ):
        text = said_by(gpu(key_file=path), CredentialError)
        assert message in text
        assert "SECRET" not in text


def test_a_key_in_a_connection_that_is_none() -> None:
    for keyfile in ({"private_key": "SECRET"}, '{"private_key": "SECRET"}'):
        connection = CloudConnection("gcp", "google_cloud_platform", extra={"keyfile_dict": keyfile})
        with pytest.raises(CredentialError, match="'keyfile_dict' of connection 'gcp' holds is not a credential file"):
            registry.resolve(gke("gpu", location="l", project="p", conn_id="gcp"), connections=Connections(connection))


def test_a_login_of_the_workforce_asks_its_token_endpoint(
    gpu: Callable[..., ClusterRef], key_file: Callable[..., str]
) -> None:
    login = {
        "type": "external_account_authorized_user",
        "audience": "//iam.googleapis.com/locations/global/workforcePools/p/providers/q",
        "client_id": "c",
        "client_secret": "s",
        "refresh_token": "r",
        "token_url": "http://127.0.0.1:1/v1/oauthtoken",
        "token_info_url": "http://127.0.0.1:1/v1/introspect",
    }
    text = said_by(gpu(key_file=key_file(login)), CredentialError)
    assert "Google could not be reached" in text


def test_a_key_is_parsed_once(
    google: Any, gpu: Callable[..., ClusterRef], key_file: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from google.auth.crypt import RSASigner

    parsed: list[str] = []
    parse: Any = RSASigner.from_service_account_info

    def noted(info: Any) -> Any:
        parsed.append(info["project_id"])
        return parse(info)

    monkeypatch.setattr(RSASigner, "from_service_account_info", noted)
    google.add_cluster("gpu")
    tokens = tokens_of(registry.resolve(gpu(key_file=key_file(), project="my-project")))
    for _ in range(3):
        tokens.replace(tokens.current())
    assert parsed == ["my-project"]
    key_file(project_id="replaced")
    tokens.replace(tokens.current())
    assert parsed == ["my-project", "replaced"]


def test_no_credentials(google: Any, gpu: Callable[..., ClusterRef]) -> None:
    text = said_by(gpu(adc=True, project="my-project"), CredentialError)
    assert "no Google credentials here" in text
    assert "conn_id" in text


def test_a_missing_sdk(gpu: Callable[..., ClusterRef], monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("google.auth", "google.auth.transport.requests"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=r"pip install 'kpo-multicluster\[gke\]'"):
        registry.resolve(gpu())


# -- what Google refuses -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("description", "hint"),
    [
        ("Invalid JWT Signature.", "The key was deleted from the service account"),
        ("Invalid JWT: Token must be a short-lived token. Check your iat and exp values.", "clock of this host is off"),
        ("Invalid grant: account not found", "Check that the service account exists"),
    ],
)
def test_a_key_that_is_refused(google: Any, gpu: Callable[..., ClusterRef], description: str, hint: str) -> None:
    google.faults.refuse("POST /token", 400, "invalid_grant", description)
    text = said_by(gpu(), CredentialError)
    assert description in text
    assert hint in text
    assert "key.json" in text


def test_impersonation_that_is_refused(google: Any, gpu: Callable[..., ClusterRef]) -> None:
    path = "/v1/projects/-/serviceAccounts/b@p.iam:generateAccessToken"
    google.faults.refuse(f"{path}$", 403, "PERMISSION_DENIED", "Permission 'iam.serviceAccounts.getAccessToken' denied")
    text = said_by(gpu(impersonation_chain="a@p.iam,b@p.iam", iam_endpoint=google.url), CredentialError)
    assert "may not impersonate a@p.iam -> b@p.iam (PERMISSION_DENIED" in text
    assert "roles/iam.serviceAccountTokenCreator" in text


def test_google_out_of_reach(gpu: Callable[..., ClusterRef], key_file: Callable[..., str]) -> None:
    ref = gpu(key_file=key_file(token_uri="http://127.0.0.1:1/token"))
    text = said_by(ref, CredentialError)
    assert "Google could not be reached" in text
    assert "refused" in text
    assert "object at 0x" not in text
    assert "127.0.0.1:1 could not be reached" in said_by(gpu(api_endpoint="http://127.0.0.1:1"), ConnectError)


def test_a_wrong_name_location_or_project(google: Any, gpu: Callable[..., ClusterRef]) -> None:
    google.add_cluster("gpu")
    text = said_by(gpu(location="europe-west1-b"), ConfigurationError)
    assert "no GKE cluster 'gpu' in europe-west1-b of project my-project, as seen by" in text
    assert "Clusters seen in the project: gpu (europe-west1)." in text
    google.faults.refuse("/v1/projects/my-project/locations/-/clusters$", 403, "PERMISSION_DENIED", "denied")
    text = said_by(gpu(location="europe-west1-b"), ConfigurationError)
    assert "clusters may not be listed (PERMISSION_DENIED: denied)" in text


@pytest.mark.parametrize(
    ("status", "code", "message", "kind", "said"),
    [
        (403, "PERMISSION_DENIED", 'Required "container.clusters.get" permission(s)', CredentialError, "clusterViewer"),
        (
            403,
            "PERMISSION_DENIED",
            "API has not been used in project 1",
            CredentialError,
            "Enable the Kubernetes Engine",
        ),
        (401, "UNAUTHENTICATED", "invalid", CredentialError, "does not take the token"),
        (409, "ABORTED", "busy", ConnectError, "status page"),
    ],
)
def test_the_look_up_is_refused(
    google: Any,
    gpu: Callable[..., ClusterRef],
    status: int,
    code: str,
    message: str,
    kind: type[Exception],
    said: str,
) -> None:
    google.faults.refuse(f"{CLUSTER}$", status, code, message)
    text = said_by(gpu(), kind)
    assert f"answered with {status} ({code}: {message})" in text
    assert said in text


def test_a_fault_that_passes_is_tried_again(google: Any, gpu: Callable[..., ClusterRef]) -> None:
    google.add_cluster("gpu")
    google.faults.refuse(f"{CLUSTER}$", 503, "UNAVAILABLE", "later", times=1)

    assert registry.resolve(gpu()).server
    assert google.record.paths().count(CLUSTER) == 2


@pytest.mark.parametrize("status", ["PROVISIONING", "STOPPING", "ERROR"])
def test_a_cluster_that_is_not_up(google: Any, gpu: Callable[..., ClusterRef], status: str) -> None:
    google.add_cluster("gpu", status=status, conditions=[{"canonicalCode": "INTERNAL", "message": "no quota"}])
    text = said_by(gpu(), ConnectError)
    assert f"GKE cluster 'gpu' in europe-west1 of project my-project is {status} (no quota)" in text


def test_no_project(gpu: Callable[..., ClusterRef], key_file: Callable[..., str]) -> None:
    assert "No project is known" in said_by(gpu(key_file=key_file(project_id=None)), ConfigurationError)


# -- renewal -----------------------------------------------------------------------------------------------------


def test_renewed_before_its_end(google: Any, key_file: Callable[..., str], clock: Any) -> None:
    clock.now = time.time()
    google.add_cluster("gpu")
    google.token_life_seconds = 3599
    ref = gke("gpu", key_file=key_file(), location="europe-west1", api_endpoint=google.url)
    tokens = tokens_of(GkeResolver(clock=clock).resolve(ref))
    first = tokens.current()
    assert first.expires_at == pytest.approx(clock.now + 3599, abs=5)
    clock.now += 3500
    assert tokens.current() is first
    clock.now += 60
    assert tokens.current() is not first
    assert google.record.paths().count("/token") == 2


def test_the_end_is_in_utc_whatever_the_time_zone(
    google: Any, gpu: Callable[..., ClusterRef], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "America/Los_Angeles")
    time.tzset()
    try:
        google.add_cluster("gpu")
        end = tokens_of(registry.resolve(gpu())).current().expires_at
    finally:
        monkeypatch.undo()
        time.tzset()
    assert end == pytest.approx(time.time() + 3600, abs=10)


def test_a_refused_token_is_replaced_and_a_new_key_taken_up(
    google: Any, gpu: Callable[..., ClusterRef], key_file: Callable[..., str]
) -> None:
    google.add_cluster("gpu")
    tokens = tokens_of(registry.resolve(gpu()))
    first = tokens.current()
    key_file(client_email="rotated@my-project.iam.gserviceaccount.com")
    second = tokens.replace(first)
    assert google.identify(second.value).name == "rotated@my-project.iam.gserviceaccount.com"


def test_eight_threads_renew_once(google: Any, gpu: Callable[..., ClusterRef]) -> None:
    google.add_cluster("gpu")
    tokens = tokens_of(registry.resolve(gpu()))
    first = tokens.current()
    with ThreadPoolExecutor(8) as threads:
        found = {future.result() for future in [threads.submit(tokens.replace, first) for _ in range(8)]}
    assert len(found) == 1
    assert google.record.paths().count("/token") == 2


def test_a_child_process_renews_by_itself(google: Any, gpu: Callable[..., ClusterRef]) -> None:
    google.add_cluster("gpu")
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
        assert google.identify(pipe.read().decode())
    assert os.waitpid(child, 0)[1] == 0


def test_a_netrc_does_not_take_the_tokens_place(
    google: Any, gpu: Callable[..., ClusterRef], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login someone password else\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    google.add_cluster("gpu")
    assert registry.resolve(gpu(impersonation_chain="c@p.iam", iam_endpoint=google.url)).server
    assert not any(
        headers.get("authorization", "").startswith("Basic") for headers in (one.headers for one in google.record.all())
    )
