"""Emulated clouds on loopback: what their official client libraries talk to, unmodified, and what issues tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kpo_multicluster.testing.clouds.aws import FakeAws
    from kpo_multicluster.testing.clouds.azure import FakeAzure
    from kpo_multicluster.testing.clouds.google import FakeGoogle
    from kpo_multicluster.testing.clouds.identity import Identity, TokenRefused

__all__ = ["FakeAws", "FakeAzure", "FakeGoogle", "Identity", "TokenRefused"]

_HOMES = {
    "FakeAws": "aws",
    "FakeAzure": "azure",
    "FakeGoogle": "google",
    "Identity": "identity",
    "TokenRefused": "identity",
}


def __getattr__(name: str) -> Any:
    # Whoever emulates one cloud does not pay for what the others need.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
