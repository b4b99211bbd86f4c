"""How long a run outlasts credentials that fail."""

from __future__ import annotations

import time

import pytest

from kpo_multicluster.api.client import ApiClient
from kpo_multicluster.auth.access import ClusterAccess, Token, TokenSource
from kpo_multicluster.errors import CredentialError
from kpo_multicluster.pods import patience
from kpo_multicluster.pods.patience import Patience


class SilentIssuer:
    """Takes its time to fail, as one behind a firewall does."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self) -> Token:
        self.asked += 1
        # One that is asked without end ends the test another way.
        if self.asked > 100:
            raise AssertionError
        time.sleep(0.05)
        raise CredentialError("The issuer does not answer.")


@pytest.fixture
def issuer(monkeypatch: pytest.MonkeyPatch) -> SilentIssuer:
    monkeypatch.setattr(patience, "_WORKED_SECONDS", 0.01)
    monkeypatch.setattr(patience, "_FIRST_PAUSE_SECONDS", 0.05)
    return SilentIssuer()


async def test_an_issuer_that_fails_slowly_is_not_asked_without_end(issuer: SilentIssuer) -> None:
    told: list[str] = []

    async def warn(text: str) -> None:
        told.append(text)

    access = ClusterAccess("https://127.0.0.1:1", "test", tokens=TokenSource(issuer, source="test"))
    async with ApiClient(access) as api:
        waiting = Patience(api, warn, unproven_seconds=0.5)
        with pytest.raises(CredentialError, match="does not answer"):
            await waiting.insist(lambda: api.request("GET", "/version"))
    assert issuer.asked < 50
    assert len(told) == 1, "once for each time that credentials fail"
