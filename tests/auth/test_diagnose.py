from __future__ import annotations

from typing import Any

import pytest
import trustme

from kpo_multicluster.auth.access import ClusterAccess, Token, TokenSource, static_token
from kpo_multicluster.auth.diagnose import certificate, explain_refusal, forbidden
from kpo_multicluster.cluster import token
from kpo_multicluster.errors import CredentialError, ForbiddenError, KpoMulticlusterError, TLSError, UnauthorizedError

REF = token("https://10.0.0.1", token="t").with_source("connection 'k'")
UNAUTHORIZED = UnauthorizedError(401, request="GET /")


def access(**options: Any) -> ClusterAccess:
    return ClusterAccess(**{"server": "https://10.0.0.1", "source": "context 'gpu'", **options})


def test_a_401_no_cloud_knows_of() -> None:
    (text,) = explain_refusal(REF, access(tokens=static_token("secret", source="tokenFile x")), UNAUTHORIZED)
    assert "https://10.0.0.1 (context 'gpu') was sent the token from tokenFile x, and knows no one by it" in text
    assert "connection 'k' names the cluster" in text
    assert "secret" not in text
    plugin = TokenSource(lambda: Token("", None, "pem", "key"), source="user 'gpu'")
    plugin.current()
    (text,) = explain_refusal(REF, access(tokens=plugin), UNAUTHORIZED)
    assert "the client certificate from user 'gpu'" in text
    (text,) = explain_refusal(REF, access(client_certificate="pem"), UNAUTHORIZED)
    assert "the client certificate from context 'gpu'" in text
    (text,) = explain_refusal(REF, access(), UNAUTHORIZED)
    assert "no credential at all" in text


@pytest.mark.parametrize(
    ("detail", "said"),
    [
        (
            'pods is forbidden: User "jane" cannot list resource "pods" in API group "" in the namespace "ns"',
            "knows this caller as 'jane', who may not list pods in the namespace 'ns': bind a Role with",
        ),
        (
            'nodes is forbidden: User "jane" cannot list resource "nodes" in API group "" at the cluster scope',
            "who may not list nodes cluster-wide: bind a ClusterRole",
        ),
        (
            'pods is forbidden: User "system:anonymous" cannot get resource "pods" in API group ""',
            "took the request for an anonymous one",
        ),
    ],
)
def test_a_403(detail: str, said: str) -> None:
    (text,) = forbidden(ForbiddenError(403, request="GET /", detail=detail))
    assert said in text


def test_a_403_in_other_words() -> None:
    assert forbidden(ForbiddenError(403, request="GET /", detail="quota exceeded")) == []


def test_a_cloud_that_cannot_say() -> None:
    def explain(_: KpoMulticlusterError) -> list[str]:
        raise CredentialError("the cloud is out")

    assert explain_refusal(REF, access(explain=explain), UNAUTHORIZED) == [
        "Asking the cloud why failed as well: the cloud is out"
    ]


def test_a_cloud_whose_library_stumbles() -> None:
    def explain(_: KpoMulticlusterError) -> list[str]:
        raise AttributeError("'NoneType' object has no attribute 'get'")

    (text,) = explain_refusal(REF, access(explain=explain), UNAUTHORIZED)
    assert "knows no one by it" in text


def test_a_certificate_of_another_ca(server: Any, other_ca: trustme.CA) -> None:
    # As `openssl x509 -text` writes it.
    trusted = f"Issuer: O=Größe\n{other_ca.cert_pem.bytes().decode()}"
    (text,) = explain_refusal(REF, access(server=server.url, ca_pem=trusted), TLSError("refused"))
    assert "trustme" in text
    assert "trusted for context 'gpu' is the CA" in text
    assert "issued by" in text
    (text,) = certificate(access(server=server.url))
    assert "is what this system trusts" in text


def test_a_certificate_that_cannot_be_had() -> None:
    assert certificate(access(server="https://127.0.0.1:1")) == []
    assert certificate(access(server="https://127.0.0.1:1", proxy_url="http://127.0.0.1:2")) == []
    assert certificate(access(server="http://127.0.0.1:1")) == []
