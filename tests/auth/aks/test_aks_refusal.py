from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from kpo_multicluster.auth import registry
from kpo_multicluster.auth.aks_refusal import AksFacts, forbidden, unauthorized, unreachable
from kpo_multicluster.auth.azure_credentials import claims_of
from kpo_multicluster.auth.diagnose import explain_refusal
from kpo_multicluster.clouds import aks
from kpo_multicluster.errors import ConnectError, ForbiddenError, NotFoundError, UnauthorizedError

SERVER_ID = "6dae42f8-4368-4678-94ff-3960e28e3630"
TENANT = "72f988bf-86f1-41af-91ab-2d7cd011db47"
ENTRA = {"aadProfile": {"managed": True, "tenantID": TENANT, "enableAzureRBAC": False}}
FACTS = AksFacts(
    "connection 'az'", "AKS cluster 'gpu' in resource group 'ml'", SERVER_ID, ENTRA, "/subscriptions/s/gpu"
)
CLAIMS = {"tid": TENANT, "oid": "object-1", "appid": "app-1"}
REFUSED = UnauthorizedError(401, request="GET /")


def test_no_entra_integration() -> None:
    text = unauthorized(replace(FACTS, properties={}), CLAIMS)
    assert "has no Microsoft Entra integration, so it takes no token of app-1 (object id object-1)" in text
    assert "--enable-aad" in text


def test_a_tenant_that_the_cluster_does_not_trust() -> None:
    text = unauthorized(FACTS, {**CLAIMS, "tid": "elsewhere"})
    assert f"is of tenant elsewhere, but the AKS cluster 'gpu' in resource group 'ml' trusts tenant {TENANT}" in text


@pytest.mark.parametrize("properties", [ENTRA, None])
def test_another_401(properties: Any) -> None:
    text = unauthorized(replace(FACTS, properties=properties), CLAIMS)
    assert f"app-1 (object id object-1) from connection 'az' a token for the server application {SERVER_ID}" in text


def test_a_401_of_a_local_account() -> None:
    text = unauthorized(replace(FACTS, server_id=None), {})
    assert "does not take the certificate of its own local account" in text
    assert "credential='user'" in text


def test_a_403() -> None:
    assert forbidden(FACTS, CLAIMS) == (
        "This is app-1 (object id object-1) from connection 'az': bind a Kubernetes Role to the user object-1, or to a "
        "group of its by the group's object id."
    )
    azure = {"aadProfile": {**ENTRA["aadProfile"], "enableAzureRBAC": True}}
    text = forbidden(replace(FACTS, properties=azure), CLAIMS)
    assert "assign it the role 'Azure Kubernetes Service RBAC Writer' on /subscriptions/s/gpu or on a namespace" in text
    text = forbidden(replace(FACTS, properties=None, path=None), {})
    assert "the identity from connection 'az'" in text
    assert "its object id" in text
    assert "where the cluster uses Azure RBAC, assign it" in text
    assert "local account" in forbidden(replace(FACTS, server_id=None), {})


def test_no_answer() -> None:
    assert unreachable(FACTS) == []
    private = {"apiServerAccessProfile": {"enablePrivateCluster": True}}
    (text,) = unreachable(replace(FACTS, properties=private))
    assert "is private: only hosts in its network" in text
    assert "endpoint='public'" not in text
    private["apiServerAccessProfile"]["enablePrivateClusterPublicFQDN"] = True
    assert "endpoint='public'" in unreachable(replace(FACTS, properties=private))[0]
    ranges = {"apiServerAccessProfile": {"authorizedIPRanges": ["198.51.100.0/24"]}}
    assert "authorized IP ranges" in unreachable(replace(FACTS, properties=ranges))[0]


@pytest.mark.parametrize("token", ["", "opaque", "a.b", "a.!!!.c", "a.W10.c", "a.bm90IGpzb24.c"])
def test_tokens_that_say_nothing(token: str) -> None:
    assert claims_of(token) == {}


def test_from_a_cluster_that_was_looked_up(
    azure: Any, add_gpu: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    add_gpu()
    object_id = azure.add_application("11111111-aaaa", secret="s3cr3t-value").name
    ref = aks(
        "gpu",
        resource_group="ml",
        subscription="00000000-1111",
        tenant_id=TENANT,
        client_id="11111111-aaaa",
        client_secret="s3cr3t-value",
        authority_host=azure.url,
        arm_endpoint=azure.url,
    )
    access = registry.resolve(ref)
    (text,) = explain_refusal(ref, access, REFUSED)
    assert f"11111111-aaaa (object id {object_id})" in text
    (text,) = explain_refusal(ref, access, ForbiddenError(403, request="GET /", detail="no"))
    assert f"bind a Kubernetes Role to the user {object_id}" in text
    assert explain_refusal(ref, access, ConnectError("the name cannot be resolved")) == []
    add_gpu(powerState={"code": "Stopped"})
    (text,) = explain_refusal(ref, access, ConnectError("the name cannot be resolved"))
    assert "is Stopped. Start it: az aks start." in text
    assert explain_refusal(ref, access, NotFoundError(404, request="GET /")) == []
    azure.faults.refuse(f"/{TENANT}/oauth2/v2.0/token$", 400, "invalid", "x")
    (text,) = explain_refusal(ref, access, ConnectError("the name cannot be resolved"))
    assert text.startswith("Asking the cloud why failed as well")
