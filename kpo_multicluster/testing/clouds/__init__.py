"""Emulated clouds on loopback: what their official client libraries talk to, unmodified, and what issues tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kpo_multicluster.testing.names_on_demand import names_on_demand

if TYPE_CHECKING:
    from kpo_multicluster.testing.clouds.aws import FakeAws
    from kpo_multicluster.testing.clouds.azure import FakeAzure
    from kpo_multicluster.testing.clouds.google import FakeGoogle
    from kpo_multicluster.testing.clouds.identity import Identity, TokenRefused

__all__ = ["FakeAws", "FakeAzure", "FakeGoogle", "Identity", "TokenRefused"]

# Whoever emulates one cloud does not pay for what the others need.
__getattr__ = names_on_demand(
    __name__,
    {
        "FakeAws": "aws",
        "FakeAzure": "azure",
        "FakeGoogle": "google",
        "Identity": "identity",
        "TokenRefused": "identity",
    },
)
