from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from kpo_multicluster.auth.aws_session import AwsKeys
from kpo_multicluster.auth.eks_token import StsHost, sign_token, sts_host
from kpo_multicluster.errors import ConfigurationError, CredentialError

HOST = StsHost("sts.us-east-2.amazonaws.com", "us-east-2")


def keys(user: Any, **other: Any) -> AwsKeys:
    return replace(AwsKeys(user.access_key, user.secret_key), **other)


def test_the_server_takes_it(user: Any, arn_of: Callable[..., str]) -> None:
    token = sign_token(keys(user), cluster_name="gpu", host=HOST)
    assert arn_of("gpu", token) == "arn:aws:iam::111111111111:user/airflow"
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


def test_each_host_gives_a_token_the_server_takes(user: Any, arn_of: Callable[..., str]) -> None:
    for asked in (None, "sts.amazonaws.com", "sts-fips.us-east-2.amazonaws.com", "sts.us-east-2.api.aws"):
        token = sign_token(keys(user), cluster_name="gpu", host=sts_host("us-east-2", asked, source="test"))
        assert arn_of("gpu", token)


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


def test_a_token_longer_than_servers_take(user: Any) -> None:
    with pytest.raises(CredentialError, match=r"would be \d{4} bytes long.*accept 4096.*session tags") as caught:
        sign_token(keys(user, token="t" * 3000), cluster_name="gpu", host=HOST)
    assert "ttt" not in str(caught.value)
