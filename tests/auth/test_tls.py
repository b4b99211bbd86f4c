from __future__ import annotations

import http.client
import os
import ssl
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from kpo_multicluster.auth.access import ClusterAccess, Token
from kpo_multicluster.auth.tls import pem_from_base64, ssl_context
from kpo_multicluster.errors import ConfigurationError

SOURCE = "context 'gpu' of /etc/kubeconfig"


def get(server: Any, context: ssl.SSLContext, host: str = "127.0.0.1") -> int:
    connection = http.client.HTTPSConnection(host, server.port, context=context, timeout=10)
    try:
        connection.request("GET", "/version", headers={"Authorization": "Bearer good"})
        return connection.getresponse().status
    finally:
        connection.close()


def access(server: Any, **fields: Any) -> ClusterAccess:
    return ClusterAccess(**{"server": server.url, "source": SOURCE, "ca_pem": server.ca_pem, **fields})


def test_the_clusters_ca_is_trusted_and_no_other(server: Any, other_ca: trustme.CA) -> None:
    assert get(server, ssl_context(access(server))) == 200
    for pem in (other_ca.cert_pem.bytes().decode(), None):
        with pytest.raises(ssl.SSLCertVerificationError):
            get(server, ssl_context(access(server, ca_pem=pem)))


def test_an_intermediate_ca_alone_is_an_anchor(make_server: Any, ca: trustme.CA) -> None:
    intermediate = ca.create_child_ca()
    server = make_server(ca=intermediate, accepted={"good"})
    assert get(server, ssl_context(access(server))) == 200


def test_text_around_the_certificates_is_passed_over(server: Any) -> None:
    pem = f"# Autorité de certification\r\n{server.ca_pem}\n証明書\n"
    assert get(server, ssl_context(access(server, ca_pem=pem))) == 200


def test_the_name_is_verified_unless_told_otherwise(make_server: Any) -> None:
    server = make_server(names=("kubernetes.default.svc",), accepted={"good"})
    with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
        get(server, ssl_context(access(server)))
    assert get(server, ssl_context(access(server, verify_tls=False))) == 200


def test_a_client_certificate_is_presented(server: Any, identity: Any, second_identity: Any) -> None:
    own = access(server, client_certificate=identity.certificate, client_key=identity.key)
    assert get(server, ssl_context(own)) == 200
    assert server.seen[-1].certificate == "alice"
    token = Token("", client_certificate=second_identity.certificate, client_key=second_identity.key)
    get(server, ssl_context(own, token))
    assert server.seen[-1].certificate == "bob"
    get(server, ssl_context(own, Token("good")))
    assert server.seen[-1].certificate == "alice"


def test_no_file_is_left_and_no_descriptor(
    server: Any, identity: Any, descriptors: Callable[[], int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = descriptors()
    own = access(server, client_certificate=identity.certificate, client_key=identity.key)
    contexts = [ssl_context(own) for _ in range(20)]
    assert descriptors() <= before
    assert len(contexts) == 20
    assert list(tmp_path.iterdir()) == []


def test_without_memfd_a_file_serves_and_is_gone_after_the_call(
    server: Any, identity: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.delattr(os, "memfd_create")
    own = access(server, client_certificate=identity.certificate, client_key=identity.key)
    assert get(server, ssl_context(own)) == 200
    assert server.seen[-1].certificate == "alice"
    with pytest.raises(ConfigurationError):
        ssl_context(access(server, client_certificate=identity.certificate, client_key="rubbish"))
    assert list(tmp_path.iterdir()) == []


BROKEN = "-----BEGIN CERTIFICATE-----\nc2VjcmV0LXNlY3JldA==\n-----END CERTIFICATE-----"
BROKEN_KEY = "-----BEGIN PRIVATE KEY-----\nc2VjcmV0LXNlY3JldA==\n-----END PRIVATE KEY-----"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"ca_pem": ""}, "The CA of"),
        ({"ca_pem": "rubbish c2VjcmV0"}, "The CA of"),
        ({"ca_pem": BROKEN}, "The CA of"),
        ({"client_certificate": "alice", "client_key": None}, "client key of .* is not a PEM private key"),
        ({"client_certificate": None, "client_key": "alice"}, "client certificate of .* is not a PEM certificate"),
        ({"client_certificate": "alice", "client_key": "bob"}, "do not belong together"),
        ({"client_certificate": BROKEN, "client_key": "alice"}, "The client certificate of .* cannot be read"),
        ({"client_certificate": "alice", "client_key": BROKEN_KEY}, "The client key of .* cannot be read"),
    ],
)
def test_bad_pem_is_named_with_its_source_and_not_shown(
    server: Any, identity: Any, second_identity: Any, fields: dict[str, Any], message: str
) -> None:
    keys = {"alice": identity.key, "bob": second_identity.key}
    if fields.get("client_certificate") == "alice":
        fields = {**fields, "client_certificate": identity.certificate}
    fields = {key: keys.get(value, value) if key == "client_key" else value for key, value in fields.items()}
    with pytest.raises(ConfigurationError, match=message) as caught:
        ssl_context(access(server, **fields))
    assert SOURCE in str(caught.value)
    assert "c2VjcmV0" not in str(caught.value)


@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
def test_an_encrypted_key_is_refused_without_asking_for_its_password(
    server: Any, identity: Any, form: PrivateFormat
) -> None:
    key = load_pem_private_key(identity.key.encode(), None)
    encrypted = key.private_bytes(Encoding.PEM, form, BestAvailableEncryption(b"password")).decode()
    with pytest.raises(ConfigurationError, match="is encrypted"):
        ssl_context(access(server, client_certificate=identity.certificate, client_key=encrypted))


def test_pem_from_base64() -> None:
    assert pem_from_base64("aGVs\nbG8=\n") == "hello"
    assert pem_from_base64("not base64!") is None
    assert pem_from_base64("/w==") is None
