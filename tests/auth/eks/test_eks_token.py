from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

import pytest

from kpo_multicluster.auth.aws_session import AwsKeys
from kpo_multicluster.auth.eks_token import StsHost, sign_token, sts_host
from kpo_multicluster.errors import ConfigurationError, CredentialError

HOST = StsHost("sts.us-east-2.amazonaws.com", "us-east-2")


def keys(aws: Any, **other: Any) -> AwsKeys:
    return replace(AwsKeys(*aws.key), **other)


def decoded(token: str) -> str:
    text = token.removeprefix("k8s-aws-v1.")
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()


def encoded(url: str) -> str:
    return "k8s-aws-v1." + base64.urlsafe_b64encode(url.encode()).decode().rstrip("=")


def test_the_server_takes_it(aws: Any, verifier: Callable[..., Any]) -> None:
    token = sign_token(keys(aws), cluster_name="gpu", host=HOST)
    assert verifier("gpu").verify(token) == "arn:aws:iam::111111111111:user/airflow"
    assert "=" not in token


@pytest.mark.parametrize(
    ("region", "asked", "host", "signed_in"),
    [
        ("us-east-2", None, "sts.us-east-2.amazonaws.com", "us-east-2"),
        ("us-east-1", None, "sts.us-east-1.amazonaws.com", "us-east-1"),
        ("eu-west-1", "sts-fips.eu-west-1.amazonaws.com", "sts-fips.eu-west-1.amazonaws.com", "eu-west-1"),
        ("us-east-2", "sts.us-east-2.api.aws", "sts.us-east-2.api.aws", "us-east-2"),
        ("us-east-2", "sts.amazonaws.com", "sts.amazonaws.com", "us-east-1"),
        ("cn-north-1", None, "sts.cn-north-1.amazonaws.com.cn", "cn-north-1"),
        ("us-gov-west-1", None, "sts.us-gov-west-1.amazonaws.com", "us-gov-west-1"),
        ("us-iso-east-1", None, "sts.us-iso-east-1.c2s.ic.gov", "us-iso-east-1"),
        ("eusc-de-east-1", None, "sts.eusc-de-east-1.amazonaws.eu", "eusc-de-east-1"),
        ("us-east-99", None, "sts.us-east-99.amazonaws.com", "us-east-99"),
    ],
)
def test_the_host_of_the_region_and_its_partition(region: str, asked: str | None, host: str, signed_in: str) -> None:
    assert sts_host(region, asked, source="test") == StsHost(host, signed_in)


def test_each_host_gives_a_token_the_server_takes(aws: Any, verifier: Callable[..., Any]) -> None:
    for asked in (None, "sts.amazonaws.com", "sts-fips.us-east-2.amazonaws.com", "sts.us-east-2.api.aws"):
        token = sign_token(keys(aws), cluster_name="gpu", host=sts_host("us-east-2", asked, source="test"))
        assert verifier("gpu").verify(token)


@pytest.mark.parametrize(
    ("region", "asked"),
    [
        ("us-east-2", "localhost:4566"),
        ("us-east-2", "sts.us-east-2.amazonaws.com.cn"),
        ("us-east-2", "sts.eu-west-1.amazonaws.com"),
        ("cn-north-1", "sts.amazonaws.com"),
    ],
)
def test_a_host_that_eks_refuses_is_refused_here(region: str, asked: str) -> None:
    with pytest.raises(ConfigurationError, match=r"refused by EKS in .* which accepts sts\..*set sts_endpoint_url"):
        sts_host(region, asked, source="test")


def test_a_region_that_is_none() -> None:
    with pytest.raises(ConfigurationError, match=r"no AWS region 'Frankfurt' \(connection 'x'\)"):
        sts_host("Frankfurt", None, source="connection 'x'")


def test_a_token_longer_than_servers_take(aws: Any) -> None:
    with pytest.raises(CredentialError, match=r"would be \d{4} bytes long.*accept 4096.*session tags") as caught:
        sign_token(keys(aws, token="t" * 3000), cluster_name="gpu", host=HOST)
    assert "ttt" not in str(caught.value)


def test_what_the_server_refuses(aws: Any, verifier: Callable[..., Any], refused: type[Exception]) -> None:
    """The vectors that keep the verifier, and so every test that uses it, honest."""
    token = sign_token(keys(aws), cluster_name="gpu", host=HOST)
    url = decoded(token)
    good = verifier("gpu")
    forged = {
        "wrong cluster": (verifier("other"), token, "SignatureDoesNotMatch"),
        "padded": (good, token + "=", "base64url"),
        "extra parameter": (good, encoded(url + "&" + urlencode({"User-Agent": "x"})), "query parameters"),
        "twice": (good, encoded(url + "&Action=GetCallerIdentity"), "query parameters"),
        "unsigned header": (good, encoded(url.replace("%3Bx-k8s-aws-id", "")), "not signed"),
        "wrong host": (good, encoded(url.replace("sts.us-east-2.amazonaws.com", "localhost:4566")), "host"),
        "other region": (good, encoded(url.replace("sts.us-east-2", "sts.us-east-1")), "SignatureDoesNotMatch"),
        "http": (good, encoded(url.replace("https", "http")), "host"),
        "other partition": (verifier("gpu", partition="aws-cn"), token, "host"),
        "long life": (good, encoded(url.replace("X-Amz-Expires=60", "X-Amz-Expires=901")), "expires"),
        "bad secret": (good, sign_token(keys(aws, secret_key="x" * 40), cluster_name="gpu", host=HOST), "Signature"),
        "unknown key": (good, sign_token(keys(aws, access_key="AKIAX"), cluster_name="gpu", host=HOST), "ClientToken"),
        "stray session": (good, sign_token(keys(aws, token="x"), cluster_name="gpu", host=HOST), "ClientToken"),
    }
    for case, (server, text, why) in forged.items():
        answer = ""
        try:
            answer = f"taken: {server.verify(text)}"
        except refused as error:
            answer = str(error)
        assert why in answer, case


def test_a_token_ends_after_fifteen_minutes(aws: Any, verifier: Callable[..., Any], refused: type[Exception]) -> None:
    import time

    token, now = sign_token(keys(aws), cluster_name="gpu", host=HOST), time.time()
    assert verifier("gpu").verify(token, now=now + 14 * 60)
    with pytest.raises(refused, match="expired"):
        verifier("gpu").verify(token, now=now + 15 * 60 + 2)
