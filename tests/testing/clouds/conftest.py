"""The fixtures of `fixtures`, for the tests beside it."""

from __future__ import annotations

from .fixtures import aws, azure, azure_ca, google, no_one

__all__ = ["aws", "azure", "azure_ca", "google", "no_one"]
