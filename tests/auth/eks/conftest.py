"""An emulated AWS in which this process has the keys of a user in account A."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme

from kpo_multicluster.testing.clouds.aws import AwsUser, FakeAws
from kpo_multicluster.testing.clouds.identity import TokenRefused
from kpo_multicluster.testing.clouds.verify_eks import EksTokenVerifier

ROLES = ("arn:aws:iam::222222222222:role/airflow-pods", "arn:aws:iam::333333333333:role/hub")


@pytest.fixture
def running_aws() -> Iterator[FakeAws]:
    with FakeAws() as aws:
        for role in ROLES:
            aws.add_role(role, web_identity_tokens=("eyJ.jwt.signature",))
        yield aws


@pytest.fixture
def user(running_aws: FakeAws) -> AwsUser:
    return running_aws.add_user("airflow")


@pytest.fixture
def aws(running_aws: FakeAws, user: AwsUser, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeAws:
    """With boto3's own chain leading there."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "aws-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "aws-credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name, value in running_aws.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", user.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", user.secret_key)
    return running_aws


@pytest.fixture(scope="session")
def ca_pem(ca: trustme.CA) -> str:
    return ca.cert_pem.bytes().decode()


@pytest.fixture
def arn_of(running_aws: FakeAws) -> Callable[[str, str], str]:
    """Whom a cluster's server takes the holder of a token for."""

    def identify(cluster: str, token: str) -> str:
        return EksTokenVerifier(running_aws.access_key, cluster).identify(token).name

    return identify


@pytest.fixture(scope="session")
def refused() -> type[Exception]:
    return TokenRefused
