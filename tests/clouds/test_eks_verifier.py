"""The vectors that keep the verifier, and so every test that uses it, honest."""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from kpo_multicluster.auth.aws_session import AwsKeys
from kpo_multicluster.auth.eks_token import StsHost, sign_token, sts_host
from kpo_multicluster.testing.clouds.identity import Identity, TokenRefused
from kpo_multicluster.testing.clouds.verify_eks import AccessKey, EksTokenVerifier

HOST = StsHost("sts.us-east-2.amazonaws.com", "us-east-2")
USER = AwsKeys("AKIAUSER", "user-secret")
SESSION = AwsKeys("ASIASESSION", "session-secret", "session-token+/=")
USER_ARN = "arn:aws:iam::111111111111:user/airflow"
ROLE_ARN = "arn:aws:sts::222222222222:assumed-role/airflow-pods/dag"


def known(**other: float) -> Callable[[str], AccessKey | None]:
    """What AWS knows of the two keys."""
    return {
        "AKIAUSER": AccessKey(USER_ARN, "user-secret"),
        "ASIASESSION": AccessKey(ROLE_ARN, "session-secret", "session-token+/=", **other),
    }.get


def verifier(cluster: str = "gpu", *, partition: str = "aws", now: float | None = None) -> EksTokenVerifier:
    return EksTokenVerifier(known(), cluster, partition=partition, clock=time.time if now is None else lambda: now)


def signed(keys: AwsKeys = USER, *, cluster: str = "gpu", host: StsHost = HOST) -> str:
    return sign_token(keys, cluster_name=cluster, host=host)


def decoded(token: str) -> str:
    text = token.removeprefix("k8s-aws-v1.")
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()


def encoded(url: str) -> str:
    return "k8s-aws-v1." + base64.urlsafe_b64encode(url.encode()).decode().rstrip("=")


def signed_otherwise(*, method: str = "GET", header: str = "x-k8s-aws-id", region: str = "us-east-2") -> str:
    """A token that is properly signed, but for something else."""
    from botocore.auth import SigV4QueryAuth
    from botocore.awsrequest import AWSRequest

    url = f"https://{HOST.name}/?Action=GetCallerIdentity&Version=2011-06-15"
    request = AWSRequest(method=method, url=url, headers={header: "gpu"})
    SigV4QueryAuth(USER, "sts", region, expires=60).add_auth(request)
    return encoded(str(request.url))


def altered(old: str, new: str) -> str:
    url = decoded(signed())
    assert old in url
    return encoded(url.replace(old, new))


def with_another_day(token: str, day: str) -> str:
    return encoded(re.sub(r"(Date=\d{4})\d{4}", rf"\g<1>{day}", decoded(token)))


def with_another_last_digit(token: str) -> str:
    url = decoded(token)
    return encoded(url[:-1] + ("0" if url[-1] != "0" else "1"))


@pytest.mark.parametrize(("keys", "arn"), [(USER, USER_ARN), (SESSION, ROLE_ARN)], ids=["user", "role"])
def test_a_good_token(keys: AwsKeys, arn: str) -> None:
    assert verifier().identify(signed(keys)) == Identity(arn)


@pytest.mark.parametrize(
    ("region", "asked", "partition"),
    [
        ("us-east-2", None, "aws"),
        ("us-east-2", "sts.amazonaws.com", "aws"),
        ("us-east-2", "sts-fips.us-east-2.amazonaws.com", "aws"),
        ("us-east-2", "sts.us-east-2.api.aws", "aws"),
        ("cn-north-1", None, "aws-cn"),
        ("us-gov-west-1", None, "aws-us-gov"),
        ("us-iso-east-1", None, "aws-iso"),
        ("eusc-de-east-1", None, "aws-eusc"),
    ],
)
def test_a_host_of_each_kind(region: str, asked: str | None, partition: str) -> None:
    token = signed(host=sts_host(region, asked, source="test"))
    assert verifier(partition=partition).identify(token).name == USER_ARN


REFUSED: dict[str, tuple[Callable[[], str], str]] = {
    "wrong prefix": (lambda: signed().replace("v1.", "v2."), "lacks the prefix"),
    "too large": (lambda: signed() + "A" * 4096, "too large"),
    "padded": (lambda: signed() + "=", "not raw base64url"),
    "standard base64": (lambda: signed()[:-2] + "+/", "not raw base64url"),
    "not a URL": (lambda: "k8s-aws-v1." + base64.urlsafe_b64encode(b"\xff\xfe\xfd").decode(), "holds no URL"),
    "http": (lambda: altered("https://", "http://"), "unexpected scheme 'http'"),
    "a path": (lambda: altered(".com/?", ".com/x?"), "path '/x'"),
    "wrong host": (lambda: altered(HOST.name, "sts.localhost"), "unexpected host 'sts.localhost'"),
    "a port": (lambda: altered(HOST.name, f"{HOST.name}:4566"), "unexpected host"),
    "not STS": (lambda: altered("//sts.", "//ec2."), "unexpected host 'ec2."),
    "a host of another partition": (lambda: altered(".amazonaws.com/", ".amazonaws.com.cn/"), "unexpected host"),
    "a host of another region": (lambda: altered("//sts.us-east-2", "//sts.us-east-1"), "SignatureDoesNotMatch"),
    "extra query parameter": (lambda: encoded(decoded(signed()) + "&User-Agent=x"), "not allowed: user-agent"),
    "a parameter twice": (lambda: encoded(decoded(signed()) + "&action=GetCallerIdentity"), "occurs twice"),
    "another action": (lambda: altered("=GetCallerIdentity", "=GetSessionToken"), "unexpected action"),
    "another version": (lambda: altered("2011-06-15", "2011-06-16"), "SignatureDoesNotMatch"),
    "the cluster taken from what was signed": (lambda: altered("%3Bx-k8s-aws-id", ""), "did not sign the header"),
    "the cluster never signed": (lambda: signed_otherwise(header="x-other"), "did not sign the header x-k8s-aws-id"),
    "too long X-Amz-Expires": (lambda: altered("X-Amz-Expires=60", "X-Amz-Expires=901"), "not 0 to 900"),
    "negative X-Amz-Expires": (lambda: altered("X-Amz-Expires=60", "X-Amz-Expires=-1"), "not 0 to 900"),
    "another X-Amz-Expires": (lambda: altered("X-Amz-Expires=60", "X-Amz-Expires=900"), "SignatureDoesNotMatch"),
    "malformed date": (lambda: altered("X-Amz-Date=20", "X-Amz-Date="), "X-Amz-Date is missing or malformed"),
    "no such date": (lambda: with_another_day(signed(), "1399"), "X-Amz-Date is missing or malformed"),
    "wrong method": (lambda: signed_otherwise(method="POST"), "SignatureDoesNotMatch"),
    "signed in another region": (lambda: signed_otherwise(region="eu-west-1"), "SignatureDoesNotMatch"),
    "wrong cluster": (lambda: signed(cluster="other"), "SignatureDoesNotMatch"),
    "wrong signature": (lambda: with_another_last_digit(signed()), "SignatureDoesNotMatch"),
    "no signature": (lambda: encoded(decoded(signed()).partition("&X-Amz-Signature=")[0]), "SignatureDoesNotMatch"),
    "wrong secret": (lambda: signed(replace(USER, secret_key="x")), "SignatureDoesNotMatch"),
    "unknown access key": (lambda: signed(replace(USER, access_key="AKIAX")), "the access key is not known"),
    "no session token": (lambda: signed(replace(SESSION, token=None)), "InvalidClientTokenId"),
    "stray session token": (lambda: signed(replace(USER, token="x")), "InvalidClientTokenId"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(case: str) -> None:
    make, why = REFUSED[case]
    with pytest.raises(TokenRefused, match=why) as refused:
        verifier().identify(make())
    # A reason goes to logs.
    assert "secret" not in refused.value.reason
    assert "Signature=" not in refused.value.reason


def test_the_global_host_of_another_partition() -> None:
    token = signed(host=sts_host("us-east-2", "sts.amazonaws.com", source="test"))
    with pytest.raises(TokenRefused, match="not supported in the partition aws-cn"):
        verifier(partition="aws-cn").identify(token)


def test_the_life_of_a_token() -> None:
    token, now = signed(SESSION), time.time()
    assert verifier(now=now + 14 * 60).identify(token).name == ROLE_ARN
    with pytest.raises(TokenRefused, match="expired: X-Amz-Date is more than 900 s old"):
        verifier(now=now + 15 * 60 + 2).identify(token)
    assert verifier(now=now - 4 * 60).identify(token).name == ROLE_ARN
    with pytest.raises(TokenRefused, match="signature not yet current"):
        verifier(now=now - 6 * 60).identify(token)
    ended = EksTokenVerifier(known(expires_at=now + 60), "gpu", clock=lambda: now + 60)
    with pytest.raises(TokenRefused, match="ExpiredToken"):
        ended.identify(token)
    short = EksTokenVerifier(known(), "gpu", clock=lambda: now + 6, life_seconds=4)
    with pytest.raises(TokenRefused, match="expired"):
        short.identify(token)
