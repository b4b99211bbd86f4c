from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kpo_multicluster.auth import registry
from kpo_multicluster.auth.diagnose import explain_refusal
from kpo_multicluster.auth.eks_cluster import EksCluster
from kpo_multicluster.auth.eks_refusal import EksFacts, principal, unauthorized, unreachable
from kpo_multicluster.clouds import eks
from kpo_multicluster.errors import ConnectError, NotFoundError, UnauthorizedError

ROLE_B = "arn:aws:iam::222222222222:role/airflow-pods"
CALLER = "arn:aws:sts::222222222222:assumed-role/airflow-pods/dag"
CLUSTER = EksCluster("gpu", "arn:aws:eks:us-east-2:222222222222:cluster/gpu", "https://gpu.example", "", "API")
FACTS = EksFacts(
    source="connection 'aws_remote'",
    cluster="gpu",
    region="us-east-2",
    server="https://gpu.example",
    caller=CALLER,
    skew=1.0,
    described=CLUSTER,
    entries=(),
)
REFUSED = UnauthorizedError(401, request="GET /api/v1/pods", reason="Unauthorized")


def one(facts: EksFacts) -> str:
    (finding,) = unauthorized(facts)
    return finding


def test_no_access_entry() -> None:
    text = one(FACTS)
    assert f"Authenticated to AWS as {CALLER} (account 222222222222, by connection 'aws_remote')" in text
    assert "EKS cluster 'gpu' in account 222222222222 refused it: it has no access entry." in text
    assert f"create-access-entry --cluster-name gpu --region us-east-2 --principal-arn {ROLE_B}" in text
    assert "aws-auth" not in text


@pytest.mark.parametrize(
    ("mode", "said", "unsaid"),
    [
        ("API_AND_CONFIG_MAP", ["no access entry or aws-auth mapping", "create-access-entry", "mapRoles"], []),
        ("CONFIG_MAP", ["mode is CONFIG_MAP", "mapRoles or mapUsers item for arn:aws:iam"], ["create-access-entry"]),
    ],
)
def test_where_users_are_listed(mode: str, said: list[str], unsaid: list[str]) -> None:
    text = one(replace(FACTS, described=replace(CLUSTER, authentication_mode=mode)))
    assert all(words in text for words in said)
    assert not any(words in text for words in unsaid)


def test_entries_that_may_not_be_listed() -> None:
    assert f"probably it has no access entry for {ROLE_B}" in one(replace(FACTS, entries=None))
    text = one(replace(FACTS, entries=None, described=None))
    assert "probably it has no access entry or aws-auth mapping" in text
    assert "the EKS cluster 'gpu' refused it" in text


@pytest.mark.parametrize(
    "entry", [ROLE_B, "arn:aws:iam::222222222222:role/team/airflow-pods"], ids=["same", "with a path"]
)
def test_an_entry_that_does_not_count(entry: str) -> None:
    assert "although it has an access entry" in one(replace(FACTS, entries=("arn:aws:iam::1:role/x", entry)))


def test_an_entry_of_another_account_is_another() -> None:
    assert "no access entry" in one(replace(FACTS, entries=("arn:aws:iam::333333333333:role/airflow-pods",)))


def test_a_token_for_another_cluster() -> None:
    text = one(replace(FACTS, server="https://other.example"))
    assert "whose endpoint is https://gpu.example; https://other.example is another cluster's" in text


def test_a_token_for_a_cluster_that_is_not_there() -> None:
    text = one(replace(FACTS, described=None, missing="There is no EKS cluster 'gpu' in us-east-2. Clusters seen: a."))
    assert "signed for a cluster that does not exist" in text
    assert "Clusters seen: a." in text


def test_a_clock_that_is_off() -> None:
    skewed, unmapped = unauthorized(replace(FACTS, skew=-1200.0))
    assert "20 minutes behind that of AWS" in skewed
    assert "access entry" in unmapped


def test_credentials_that_aws_itself_refuses() -> None:
    text = one(replace(FACTS, fault="ExpiredToken: The security token is expired", caller=None))
    assert text.startswith("AWS itself refuses the credentials of connection 'aws_remote': ExpiredToken")


@pytest.mark.parametrize(
    ("caller", "who"),
    [
        (CALLER, ROLE_B),
        ("arn:aws-cn:sts::222222222222:assumed-role/r/s", "arn:aws-cn:iam::222222222222:role/r"),
        ("arn:aws:iam::111111111111:user/airflow", "arn:aws:iam::111111111111:user/airflow"),
    ],
)
def test_the_principal_behind_a_caller(caller: str, who: str) -> None:
    assert principal(caller) == who


def test_a_private_endpoint() -> None:
    assert unreachable(CLUSTER) == []
    assert "is private: only hosts in its VPC" in unreachable(replace(CLUSTER, public=False))[0]
    assert "is private" in unreachable(replace(CLUSTER, endpoint="https://10.0.0.7"))[0]


# -- the facts, as AWS tells them --------------------------------------------------------------------------------


def test_asked_of_aws(aws: Any, ca_pem: str) -> None:
    cluster = aws.add_cluster("gpu", ca_pem=ca_pem, account="222222222222")
    ref = eks("gpu", region="us-east-2", role_arn=ROLE_B, session_name="dag")
    access = registry.resolve(ref)
    cluster.add_user("arn:aws:iam::222222222222:role/admin")
    (text,) = explain_refusal(ref, access, REFUSED)
    assert f"Authenticated to AWS as {CALLER} (account 222222222222" in text
    assert "no access entry or aws-auth mapping. Add one" in text
    cluster.add_user(ROLE_B)
    assert "although it has an access entry" in explain_refusal(ref, access, REFUSED)[0]
    aws.faults.refuse("/clusters/gpu/access-entries$", 403, "AccessDeniedException")
    assert "(this identity may not list them)" in explain_refusal(ref, access, REFUSED)[0]


def test_asked_of_aws_about_a_given_endpoint(aws: Any, ca_pem: str) -> None:
    aws.add_cluster("gpu", ca_pem=ca_pem)
    ref = eks("gpu", region="us-east-2", endpoint="https://10.0.0.1", ca_data=ca_pem)
    (text,) = explain_refusal(ref, registry.resolve(ref), REFUSED)
    assert "https://10.0.0.1 is another cluster's" in text
    ref = eks("gqu", region="us-east-2", endpoint="https://10.0.0.1", ca_data=ca_pem)
    (text,) = explain_refusal(ref, registry.resolve(ref), REFUSED)
    assert "Clusters seen: gpu." in text


def test_asked_of_aws_with_a_wrong_clock(aws: Any, ca_pem: str) -> None:
    aws.add_cluster("gpu", ca_pem=ca_pem)
    access = registry.resolve(eks("gpu", region="us-east-2"))
    aws.skew_seconds = -31 * 60
    findings = explain_refusal(eks("gpu", region="us-east-2"), access, REFUSED)
    assert "31 minutes ahead of that of AWS" in findings[0]


def test_aws_refuses_them_itself(aws: Any, ca_pem: str) -> None:
    aws.add_cluster("gpu", ca_pem=ca_pem)
    ref = eks("gpu", region="us-east-2")
    access = registry.resolve(ref)
    aws.faults.refuse(
        "GetCallerIdentity$", 403, "ExpiredToken", "The security token included in the request is expired"
    )
    aws.record.clear()
    (text,) = explain_refusal(ref, access, REFUSED)
    assert "AWS itself refuses the credentials" in text
    assert "ExpiredToken" in text
    assert aws.record.paths() == ["GetCallerIdentity"]


def test_other_errors(aws: Any, ca_pem: str) -> None:
    aws.add_cluster("gpu", ca_pem=ca_pem, resourcesVpcConfig={"endpointPublicAccess": False})
    ref = eks("gpu", region="us-east-2")
    access = registry.resolve(ref)
    assert explain_refusal(ref, access, NotFoundError(404, request="GET /")) == []
    assert "is private" in explain_refusal(ref, access, ConnectError("timed out"))[0]
