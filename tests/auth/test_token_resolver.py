from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
import trustme

from kpo_multicluster.auth.token import TokenResolver
from kpo_multicluster.cluster import ClusterRef, token
from kpo_multicluster.errors import ConfigurationError, CredentialError

SERVER = "https://10.0.0.1:6443"


def test_an_inline_token() -> None:
    access = TokenResolver().resolve(token(f"{SERVER}/", token=" s3cret\n", namespace="jobs"))
    assert (access.server, access.namespace, access.verify_tls, access.ca_pem) == (SERVER, "jobs", True, None)
    assert access.tokens is not None
    held = access.tokens.current()
    assert held.value == "s3cret"
    with pytest.raises(CredentialError, match="a fixed token cannot be renewed"):
        access.tokens.replace(held)
    assert "s3cret" not in repr(access)


def test_a_token_in_the_environment_is_read_again_when_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPU_TOKEN", "first")
    ref = token(SERVER, token="env:GPU_TOKEN")
    assert ref.portable
    tokens = TokenResolver().resolve(ref).tokens
    assert tokens is not None
    first = tokens.current()
    with pytest.raises(CredentialError, match=r"GPU_TOKEN .* still holds the same") as caught:
        tokens.replace(first)
    assert "first" not in str(caught.value)
    monkeypatch.setenv("GPU_TOKEN", "second")
    assert tokens.replace(first).value == "second"
    assert tokens.current().value == "second"


def test_a_variable_that_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GPU_TOKEN", raising=False)
    with pytest.raises(CredentialError, match=r"GPU_TOKEN .* is not set .* triggerer"):
        TokenResolver().resolve(token(SERVER, token="env:GPU_TOKEN"))


def test_a_token_file_is_read_again_as_it_rotates(tmp_path: Path, clock: Any) -> None:
    path = tmp_path / "token"
    path.write_text("first\n")
    tokens = TokenResolver(clock=clock).resolve(token(SERVER, token_file=str(path))).tokens
    assert tokens is not None
    path.write_text("second\n")
    assert tokens.current().value == "first"
    clock.now += 60
    assert tokens.current().value == "second"


def test_a_missing_token_file(tmp_path: Path) -> None:
    ref = token(SERVER, token_file=str(tmp_path / "absent")).with_source("connection 'k'")
    with pytest.raises(CredentialError, match=r"absent .*connection 'k'.* cannot be read: No such file"):
        TokenResolver().resolve(ref)


def test_the_ca_as_pem_as_base64_and_by_file(ca: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pem = ca.cert_pem.bytes().decode()
    (tmp_path / "ca.crt").write_text(pem)
    monkeypatch.setenv("HOME", str(tmp_path))
    for options in (
        {"ca_data": pem},
        {"ca_data": base64.b64encode(pem.encode()).decode()},
        {"ca_file": str(tmp_path / "ca.crt")},
        {"ca_file": "~/ca.crt"},
    ):
        assert TokenResolver().resolve(token(SERVER, token="t", **options)).ca_pem == pem  # type: ignore[arg-type]


def test_insecure() -> None:
    assert not TokenResolver().resolve(token(SERVER, token="t", insecure_skip_tls_verify=True)).verify_tls


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "names no server"),
        ({"server": 5}, "server .* must be text, not int"),
        ({"server": "10.0.0.1:6443"}, "is not an https URL"),
        ({"server": "https://[::1"}, "is not an https URL"),
        ({"server": "https://h:port"}, "is not an https URL"),
        ({"server": "https://h ost"}, "is not an https URL"),
        ({"server": "http://10.0.0.1:6443"}, "in the clear"),
        ({"server": "https://me:s3cret@10.0.0.1"}, "holds a user name or password"),
        ({"server": "https://10.0.0.1/?token=s3cret"}, "query or fragment"),
        ({"server": SERVER}, "exactly one of token and token_file"),
        ({"server": SERVER, "token": "env:T", "token_file": "/t"}, "exactly one of token and token_file"),
        ({"server": SERVER, "token": "s3cret", "ca_data": "rub bish"}, "neither PEM nor base64"),
        ({"server": SERVER, "token": "s3cret", "ca_data": "aGVsbG8="}, "The CA of .* cannot be read"),
        ({"server": SERVER, "token": "s3cret", "ca_file": "/absent/ca"}, "ca_file /absent/ca .* No such file"),
        ({"server": SERVER, "token": "s3cret", "ca_file": "/a", "ca_data": "b"}, "ca_data or ca_file, not both"),
        ({"server": SERVER, "token": "s3cret", "insecure_skip_tls_verify": "false"}, "must be true or false, not str"),
        ({"server": SERVER, "tokn": "s3cret"}, "unknown option tokn; .* takes ca_data, ca_file"),
    ],
)
def test_what_cannot_work_is_refused_with_where_it_came_from(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        TokenResolver().resolve(ClusterRef("token", options, source="connection 'gpu'"))
    assert "connection 'gpu'" in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_loopback_needs_no_tls() -> None:
    for server in ("http://localhost:8001", "http://127.0.0.1:8001", "http://[::1]:8001"):
        assert TokenResolver().resolve(token(server, token="t")).server == server
