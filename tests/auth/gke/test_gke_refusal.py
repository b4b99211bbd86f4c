from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from kpo_multicluster.auth import registry
from kpo_multicluster.auth.diagnose import explain_refusal
from kpo_multicluster.auth.gke_cluster import GkeEndpoint
from kpo_multicluster.auth.gke_refusal import GkeFacts, explainer, forbidden, unauthorized, unreachable
from kpo_multicluster.clouds import gke
from kpo_multicluster.errors import ConnectError, ForbiddenError, NotFoundError, TLSError, UnauthorizedError

EMAIL = "airflow@my-project.iam.gserviceaccount.com"
FACTS = GkeFacts("connection 'gcp'", EMAIL, GkeEndpoint("https://34.77.1.2", kind="public"), "GKE cluster 'gpu'")
PRIVATE = GkeEndpoint("https://10.0.0.2", kind="private", others=("dns",))


def refusal(detail: str) -> ForbiddenError:
    return ForbiddenError(403, request="POST /api/v1/namespaces/ns/pods", detail=detail)


def test_a_403_names_the_account_and_both_ways_to_the_right() -> None:
    (text,) = forbidden(FACTS, refusal('requires one of ["container.pods.create"] permission(s).'))
    assert f"This is {EMAIL} (by connection 'gcp')" in text
    assert 'the IAM permission "container.pods.create" on the cluster\'s project, as roles/container.developer' in text
    assert f"bind a Kubernetes Role to the user {EMAIL}" in text
    assert "gatewayEditor" not in text
    (text,) = forbidden(replace(FACTS, email=None), refusal(""))
    assert "This is the account of connection 'gcp'" in text
    assert "or its unique id where the token lacks the scope userinfo.email" in text
    (text,) = forbidden(replace(FACTS, endpoint=GkeEndpoint("https://x", kind="connect-gateway")), refusal(""))
    assert "roles/gkehub.gatewayEditor" in text


def test_a_401() -> None:
    text = unauthorized(FACTS)
    assert f"Google gave {EMAIL} (by connection 'gcp') a token, and the GKE cluster 'gpu' does not take it" in text
    given = unauthorized(replace(FACTS, endpoint=GkeEndpoint("https://10.0.0.2")))
    assert given.endswith("the endpoint is this cluster's: it was given as a URL.")


@pytest.mark.parametrize(
    ("endpoint", "said"),
    [
        (PRIVATE, "The private endpoint 10.0.0.2 of the GKE cluster 'gpu' is not to be reached from this host"),
        (PRIVATE, "The cluster also has dns: use endpoint='dns'."),
        (replace(PRIVATE, others=("public",)), "Enable its DNS endpoint and use endpoint='dns', or register"),
        (replace(PRIVATE, others=("dns", "connect-gateway")), "dns and connect-gateway: use endpoint='dns'."),
        (GkeEndpoint("https://34.77.1.2", kind="public"), "may be missing from its authorized networks"),
    ],
)
def test_no_answer(endpoint: GkeEndpoint, said: str) -> None:
    (text,) = unreachable(replace(FACTS, endpoint=endpoint))
    assert said in text


def test_no_answer_of_a_name() -> None:
    assert unreachable(replace(FACTS, endpoint=GkeEndpoint("https://x.gke.goog", kind="dns"))) == []


def test_errors_of_which_it_knows_nothing() -> None:
    explain = explainer(FACTS)
    assert explain(NotFoundError(404, request="GET /")) == []
    assert explain(TLSError("refused")) == []


def test_from_a_cluster_that_was_looked_up(google: Any, key_file: Callable[..., str]) -> None:
    google.add_cluster(
        "gpu",
        endpoint="10.0.0.2",
        privateClusterConfig={"enablePrivateEndpoint": True, "privateEndpoint": "10.0.0.2"},
        fleet={"membership": "//gkehub.googleapis.com/projects/123/locations/global/memberships/gpu"},
    )
    ref = gke("gpu", location="europe-west1", key_file=key_file(), api_endpoint=google.url)
    access = registry.resolve(ref)
    (text,) = explain_refusal(ref, access, ConnectError("timed out"))
    assert "use endpoint='connect-gateway'" in text
    detail = 'pods is forbidden: User "a@b" cannot list resource "pods" in API group "" in the namespace "ns"'
    rbac, who = explain_refusal(ref, access, refusal(detail))
    assert "may not list pods" in rbac
    assert EMAIL in who
    assert EMAIL in explain_refusal(ref, access, UnauthorizedError(401, request="GET /"))[0]
