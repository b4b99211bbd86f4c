"""An emulated Azure, where this process is no one, and trusts its CA."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kpo_multicluster.testing.clouds.azure import AzureCluster, AzureName, FakeAzure

TENANT, CLIENT, SECRET = "72f988bf-86f1-41af-91ab-2d7cd011db47", "11111111-aaaa", "s3cr3t-value"
SUBSCRIPTION = "00000000-1111"


@pytest.fixture
def azure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeAzure]:
    for name in list(os.environ):
        if name.startswith(("AZURE_", "AAD_", "IDENTITY_", "MSI_", "ARM_")):
            monkeypatch.delenv(name)
    with FakeAzure(tenant=TENANT) as azure:
        azure.add_application(CLIENT, secret=SECRET)
        azure.federate(CLIENT, "eyJ.kubernetes.token")
        for identity in ("identity-1", "identity-2"):
            azure.add_managed_identity(identity)
        bundle = tmp_path / "azure-ca.pem"
        bundle.write_text(azure.ca_pem)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bundle))
        yield azure


@pytest.fixture
def add_gpu(azure: FakeAzure) -> Callable[..., AzureCluster]:
    """Adds, or replaces, the cluster that the tests look up."""

    def add(user: Any = None, **properties: Any) -> AzureCluster:
        return azure.add_cluster(AzureName(SUBSCRIPTION, "ml", "gpu"), user=user, **properties)

    return add


@pytest.fixture
def audience_of(azure: FakeAzure) -> Callable[[str], str]:
    """What a token is for."""
    return lambda token: azure.tokens.good(token).audience
