"""Times as Kubernetes writes them."""

from __future__ import annotations

from datetime import datetime, timezone


def to_seconds(moment: float) -> str:
    """Unix time as RFC 3339 in whole seconds, as in `creationTimestamp`."""
    return datetime.fromtimestamp(int(moment), timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def to_microseconds(moment: float) -> str:
    """Unix time as RFC 3339 with six decimals, as in `eventTime`."""
    return datetime.fromtimestamp(moment, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def from_rfc3339(text: str) -> float:
    """Unix time from what `to_seconds` wrote."""
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc).timestamp()
