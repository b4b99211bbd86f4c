from __future__ import annotations

import http.client
from pathlib import Path
from typing import Any

import pytest

from kpo_multicluster.auth.in_cluster import InClusterResolver
from kpo_multicluster.auth.tls import ssl_context
from kpo_multicluster.cluster import in_cluster
from kpo_multicluster.errors import ConfigurationError, CredentialError

ENVIRON = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443"}


@pytest.fixture
def account(tmp_path: Path, server: Any) -> Path:
    (tmp_path / "token").write_text("good\n")
    (tmp_path / "ca.crt").write_text(server.ca_pem)
    (tmp_path / "namespace").write_text("jobs\n")
    return tmp_path


def test_the_mounted_service_account_reaches_the_server(account: Path, server: Any) -> None:
    environ = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(server.port)}
    access = InClusterResolver(account, environ=environ).resolve(in_cluster())
    assert (access.server, access.namespace) == (server.url, "jobs")
    assert access.tokens is not None
    connection = http.client.HTTPSConnection("127.0.0.1", server.port, context=ssl_context(access), timeout=10)
    connection.request("GET", "/version", headers={"Authorization": f"Bearer {access.tokens.current().value}"})
    assert connection.getresponse().status == 200
    connection.close()


def test_the_token_file_is_read_again_each_minute_and_when_refused(account: Path, clock: Any) -> None:
    access = InClusterResolver(account, environ=ENVIRON, clock=clock).resolve(in_cluster())
    assert access.tokens is not None
    first = access.tokens.current()
    (account / "token").write_text("second")
    assert access.tokens.current().value == "good"
    clock.now += 60
    assert access.tokens.current().value == "second"
    (account / "token").write_text("third")
    assert access.tokens.replace(access.tokens.current()).value == "third"
    assert access.tokens.replace(first).value == "third"


def test_a_token_file_that_vanishes_is_an_error_once_what_was_read_is_a_minute_old(account: Path, clock: Any) -> None:
    access = InClusterResolver(account, environ=ENVIRON, clock=clock).resolve(in_cluster())
    assert access.tokens is not None
    (account / "token").unlink()
    clock.now += 50
    assert access.tokens.current().value == "good"
    clock.now += 10
    with pytest.raises(CredentialError, match="No such file or directory"):
        access.tokens.current()


def test_ipv6(account: Path) -> None:
    environ = {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "6443"}
    assert InClusterResolver(account, environ=environ).resolve(in_cluster()).server == "https://[fd00::1]:6443"


def test_namespaces(account: Path) -> None:
    resolver = InClusterResolver(account, environ=ENVIRON)
    assert resolver.resolve(in_cluster(namespace="mine")).namespace == "mine"
    (account / "namespace").unlink()
    assert resolver.resolve(in_cluster()).namespace is None


@pytest.mark.parametrize("missing", ENVIRON)
def test_outside_a_pod(account: Path, missing: str) -> None:
    environ = {key: value for key, value in ENVIRON.items() if key != missing}
    with pytest.raises(ConfigurationError, match=r"connection 'k' is the one .* runs in no pod\. Name a cluster"):
        InClusterResolver(account, environ=environ).resolve(in_cluster().with_source("connection 'k'"))


@pytest.mark.parametrize(
    ("name", "content", "error", "message"),
    [
        ("ca.crt", None, ConfigurationError, r"ca\.crt cannot be read: No such .* automountServiceAccountToken"),
        ("ca.crt", "rubbish", ConfigurationError, r"The CA of .*ca\.crt cannot be read as PEM"),
        ("token", None, CredentialError, r"token file .*token .* cannot be read: No such"),
        ("token", " \n", CredentialError, r"token .* is empty"),
        ("token", "se cret", CredentialError, r"is not a bearer token"),
    ],
)
def test_a_broken_service_account(
    account: Path, name: str, content: str | None, error: type[Exception], message: str
) -> None:
    (account / name).unlink() if content is None else (account / name).write_text(content)
    with pytest.raises(error, match=message) as caught:
        InClusterResolver(account, environ=ENVIRON).resolve(in_cluster())
    assert content is None or not content.strip() or content not in str(caught.value)


def test_a_port_that_is_none(account: Path) -> None:
    environ = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "tcp://10.0.0.1:443"}
    with pytest.raises(ConfigurationError, match="KUBERNETES_SERVICE_PORT give"):
        InClusterResolver(account, environ=environ).resolve(in_cluster())
