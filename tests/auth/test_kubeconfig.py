from __future__ import annotations

import http.client
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kubernetes.client import VersionApi  # noqa: TID253 - one of those that use what is resolved

from kpo_multicluster.auth.clients import api_client
from kpo_multicluster.auth.kubeconfig import KubeconfigResolver
from kpo_multicluster.auth.tls import ssl_context
from kpo_multicluster.cluster import ClusterRef, kubeconfig
from kpo_multicluster.errors import ConfigurationError, CredentialError, KubeconfigError

Document = Callable[..., dict[str, Any]]
Encode = Callable[[str], str]


def resolve(document: Any, **options: Any) -> Any:
    return KubeconfigResolver().resolve(kubeconfig(document=document, **options))


def test_everything_a_cluster_can_say(document: Document, as_base64: Encode, server: Any) -> None:
    access = resolve(
        document(
            {"token": "good"},
            {
                "server": f"{server.url}/",
                "certificate-authority-data": as_base64(server.ca_pem),
                "certificate-authority": "/never/read",
                "tls-server-name": "kubernetes",
                "proxy-url": "http://me:s3cret@proxy:3128",
            },
            {"namespace": "jobs"},
        )
    )
    assert access.server == server.url
    assert access.ca_pem == server.ca_pem
    assert access.tls_server_name == "kubernetes"
    assert access.proxy_url == "http://me:s3cret@proxy:3128"
    assert access.verify_tls
    assert access.namespace == "jobs"
    assert dict(access.headers) == {}
    assert access.source == "context 'main' of the inline kubeconfig from the cluster= argument"
    assert "s3cret" not in repr(access)


def test_the_refs_namespace_and_context_go_before_the_kubeconfigs(document: Document) -> None:
    content = document({"token": "t"}, None, {"namespace": "jobs"})
    content["contexts"].append({"name": "other", "context": {"cluster": "c", "user": "u"}})
    assert resolve(content, namespace="mine").namespace == "mine"
    assert resolve(content, context="other").namespace is None
    del content["current-context"]
    assert resolve(content, context="other").source.startswith("context 'other'")


def test_a_client_certificate_reaches_the_server(
    document: Document, as_base64: Encode, identity: Any, make_server: Any, tmp_path: Path
) -> None:
    server = make_server(accepted_certificates={"alice"})
    (tmp_path / "alice.crt").write_text(identity.certificate)
    (tmp_path / "alice.key").write_text(identity.key)
    by_data = {
        "client-certificate-data": as_base64(identity.certificate),
        "client-key-data": as_base64(identity.key),
    }
    by_file = {"client-certificate": str(tmp_path / "alice.crt"), "client-key": str(tmp_path / "alice.key")}
    cluster = {"server": server.url, "certificate-authority-data": as_base64(server.ca_pem)}
    for user in (by_data, by_file):
        access = resolve(document(user, cluster))
        assert (access.tokens is None) is (user is by_data)
        connection = http.client.HTTPSConnection("127.0.0.1", server.port, context=ssl_context(access), timeout=10)
        connection.request("GET", "/version")
        assert connection.getresponse().status == 200
        connection.close()


def test_a_client_certificate_that_is_replaced_where_it_is_kept(
    document: Document,
    as_base64: Encode,
    identity: Any,
    second_identity: Any,
    make_server: Any,
    tmp_path: Path,
    clock: Any,
) -> None:
    """As those of a node or of a short-lived login are, while a pod runs for days."""
    server = make_server(accepted_certificates={"alice"})
    certificate, key = tmp_path / "client.crt", tmp_path / "client.key"
    certificate.write_text(identity.certificate)
    key.write_text(identity.key)
    user = {"client-certificate": str(certificate), "client-key": str(key)}
    cluster = {"server": server.url, "certificate-authority-data": as_base64(server.ca_pem)}
    access = KubeconfigResolver(clock=clock).resolve(kubeconfig(document=document(user, cluster)))
    with api_client(access) as client:
        assert VersionApi(client).get_code().minor == "cluster"
        certificate.write_text(second_identity.certificate)
        clock.now += 61
        # In the middle of being replaced they do not belong together: those that were there serve on.
        assert VersionApi(client).get_code().minor == "cluster"
        key.write_text(second_identity.key)
        server.accepted_certificates = {"bob"}
        assert VersionApi(client).get_code().minor == "cluster"
    assert {seen.certificate for seen in server.seen} == {"alice", "bob"}


def test_insecure(document: Document) -> None:
    assert not resolve(document({"token": "t"}, {"insecure-skip-tls-verify": True})).verify_tls


def test_a_token_file_goes_before_a_token_and_is_read_again(document: Document, tmp_path: Path, clock: Any) -> None:
    path = tmp_path / "token"
    path.write_text("from-file\n")
    ref = kubeconfig(document=document({"token": "inline", "tokenFile": str(path)}))
    tokens = KubeconfigResolver(clock=clock).resolve(ref).tokens
    assert tokens is not None
    assert tokens.current().value == "from-file"
    path.write_text("rotated\n")
    clock.now += 60
    assert tokens.current().value == "rotated"
    path.unlink()
    with pytest.raises(CredentialError, match=r"tokenFile of user 'u' of .* \(context 'main'\)"):
        KubeconfigResolver().resolve(ref)


def test_a_static_token_that_is_refused_says_where_to_replace_it(document: Document) -> None:
    tokens = resolve(document({"token": "s3cret"})).tokens
    with pytest.raises(CredentialError, match=r"token of user 'u' of the inline kubeconfig .* \(context 'main'\)"):
        tokens.replace(tokens.current())


def test_impersonation(document: Document) -> None:
    user = {
        "token": "t",
        "as": "jané@example.org",
        "as-uid": "1-2",
        "as-groups": ["dev", "ops"],
        "as-user-extra": {"example.org/scope %": ["view", "edit"], "dept": ["a"]},
    }
    assert list(resolve(document(user)).headers.items()) == [
        ("Impersonate-User", "jané@example.org"),
        ("Impersonate-Uid", "1-2"),
        ("Impersonate-Group", "dev"),
        ("Impersonate-Group", "ops"),
        ("Impersonate-Extra-example.org%2Fscope%20%25", "view"),
        ("Impersonate-Extra-example.org%2Fscope%20%25", "edit"),
        ("Impersonate-Extra-dept", "a"),
    ]


@pytest.mark.parametrize(
    ("user", "message"),
    [
        (None, "holds no credential, so requests would be anonymous: give it a token"),
        ({}, "holds no credential"),
        ({"token": ""}, "holds no credential"),
        ({"token": 5}, "field token of user 'u' .* must be text; put the value in quotes"),
        ({"username": "me", "password": "s3cret"}, "has a username and password, which Kubernetes takes no longer"),
        ({"auth-provider": {"name": "gcp"}}, "auth-provider 'gcp'; .* gke-gcloud-auth-plugin"),
        ({"auth-provider": {"name": "azure"}}, "auth-provider 'azure'; .* kubelogin"),
        ({"auth-provider": {"name": "oidc", "config": {"x": "s3cret"}}}, "auth-provider 'oidc'; .* oidc-login"),
        ({"auth-provider": {"name": "x"}}, "auth-provider 'x'; .* an exec entry or a token"),
        ({"client-key-data": "CERT"}, "has a client-key but no client-certificate: add it"),
        ({"client-certificate-data": "CERT"}, "has a client-certificate but no client-key: add it"),
        ({"client-certificate-data": "CERT", "client-key-data": "KEY2"}, "do not belong together"),
        ({"client-certificate-data": "s3cret!", "client-key-data": "KEY"}, "must be base64 of PEM text"),
        (
            {"client-certificate": "/absent/crt"},
            "client-certificate of user 'u' .* /absent/crt, cannot be read on host",
        ),
        ({"token": "t", "as-groups": ["a"]}, "as-uid, as-groups or as-user-extra without as"),
        ({"token": "t", "as": "a\r\nX-Evil: s3cret"}, "impersonation field of user 'u' .* control characters"),
        ({"token": "t", "as": "a", "as-groups": "s3cret"}, "field as-groups .* must be a list of texts"),
    ],
)
def test_a_user_that_cannot_work(
    document: Document,
    as_base64: Encode,
    identity: Any,
    second_identity: Any,
    user: dict[str, Any] | None,
    message: str,
) -> None:
    known = {
        "CERT": as_base64(identity.certificate),
        "KEY": as_base64(identity.key),
        "KEY2": as_base64(second_identity.key),
    }
    filled = user and {key: known.get(value, value) if isinstance(value, str) else value for key, value in user.items()}
    with pytest.raises(KubeconfigError, match=message) as caught:
        resolve(document(filled))
    assert "user 'u' of the inline kubeconfig from the cluster= argument (context 'main')" in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_a_token_that_cannot_stand_in_a_header(document: Document) -> None:
    with pytest.raises(CredentialError, match=r"token of user 'u' .* is not a bearer token") as caught:
        resolve(document({"token": "s3cret\r\nX-Evil: 1"}))
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("cluster", "message"),
    [
        ({"server": None}, "has no server"),
        ({"server": "10.0.0.1"}, "is not an https URL"),
        ({"server": "http://10.0.0.1"}, "in the clear"),
        ({"proxy-url": "ftp://s3cret@proxy"}, "proxy-url of .* is not a URL with a host and one of the schemes http"),
        ({"certificate-authority-data": "s3cret!"}, "must be base64"),
        ({"certificate-authority-data": "aGVsbG8="}, "The CA of cluster 'c' .* cannot be read as PEM"),
        ({"certificate-authority": "/absent/ca"}, "/absent/ca, cannot be read .* into certificate-authority-data"),
        ({"insecure-skip-tls-verify": "true"}, "must be true or false"),
    ],
)
def test_a_cluster_that_cannot_work(document: Document, cluster: dict[str, Any], message: str) -> None:
    with pytest.raises(KubeconfigError, match=message) as caught:
        resolve(document({"token": "t"}, cluster))
    assert "cluster 'c' of the inline kubeconfig from the cluster= argument (context 'main')" in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_names_that_are_not_there_come_with_those_that_are(document: Document) -> None:
    content = document({"token": "t"})
    with pytest.raises(
        KubeconfigError, match=r"no context 'gpu' \(named by connection 'k'\); its contexts are: main\."
    ):
        KubeconfigResolver().resolve(kubeconfig(document=content, context="gpu").with_source("connection 'k'"))
    with pytest.raises(KubeconfigError, match=r"no context 'lost' \(its current-context\); its contexts are: main\."):
        resolve({**content, "current-context": "lost"})
    with pytest.raises(KubeconfigError, match=r"sets no current-context; its contexts are: main\. Name one"):
        resolve({**content, "current-context": ""})
    with pytest.raises(KubeconfigError, match=r"context 'main' .* names the user 'x', .* users there are: u\."):
        resolve(document({"token": "t"}, None, {"user": "x"}))
    with pytest.raises(KubeconfigError, match=r"context 'main' .* names the cluster 'x', .* clusters there are: c\."):
        resolve(document({"token": "t"}, None, {"cluster": "x"}))
    with pytest.raises(KubeconfigError, match=r"context 'main' .* names no user: give it one of the users there"):
        resolve(document({"token": "t"}, None, {"user": None}))


@pytest.mark.parametrize(
    ("options", "secrets", "message"),
    [
        ({"pth": "/a"}, {}, "unknown option pth; .* takes context, document, insecure_skip_tls_verify, path"),
        ({"path": ["/a"]}, {}, "option path .* must be text, not list"),
        ({"path": "/a"}, {"document": {}}, "has a path and a document: drop one"),
        ({}, {"document": 5}, "must be a mapping or text, not int"),
    ],
)
def test_a_ref_that_cannot_work(options: dict[str, Any], secrets: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        KubeconfigResolver().resolve(ClusterRef("kubeconfig", options, secrets))
