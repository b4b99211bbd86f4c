"""Emulated clouds, in a process that is no one; a `conftest.py` imports those it wants."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from kpo_multicluster.testing.clouds import FakeAws, FakeAzure, FakeGoogle

_SETTINGS = ("AWS_", "AZURE_", "AAD_", "IDENTITY_", "MSI_", "ARM_", "GOOGLE_", "GCE_", "CLOUDSDK_")


@pytest.fixture
def no_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Leaves this process without credentials of any cloud."""
    for name in [name for name in os.environ if name.startswith(_SETTINGS)]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path / "gcloud"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "aws-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "aws-credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
def aws(no_one: None) -> Iterator[FakeAws]:
    with FakeAws() as aws:
        yield aws


@pytest.fixture
def google(no_one: None) -> Iterator[FakeGoogle]:
    with FakeGoogle() as google:
        yield google


@pytest.fixture
def azure(no_one: None) -> Iterator[FakeAzure]:
    with FakeAzure() as azure:
        yield azure


@pytest.fixture
def azure_ca(azure: FakeAzure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The path of the CA of the emulated Azure, which this process trusts."""
    path = tmp_path / "azure-ca.pem"
    path.write_text(azure.ca_pem)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(path))
    return str(path)
