"""The fixtures of `fixtures`, for the tests beside it."""

from __future__ import annotations

from .fixtures import make_namespace, real_clusters

__all__ = ["make_namespace", "real_clusters"]
