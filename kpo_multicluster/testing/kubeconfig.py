"""Kubeconfigs of embedded clusters."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml


@dataclass(frozen=True)
class KubeconfigEntry:
    """One context of a kubeconfig.

    Attributes:
        context: its name.
        server: URL of the API server.
        ca_pem: of the API server.
        user: name of the user entry.
        credential: of the user entry, such as `{"token": ...}`.
        namespace: of the context.
    """

    context: str
    server: str
    ca_pem: str
    user: str
    credential: Mapping[str, Any] = field(repr=False)
    namespace: str = "default"


def encoded(pem: str | bytes) -> str:
    """PEM as the `-data` fields of a kubeconfig hold it."""
    return base64.b64encode(pem.encode() if isinstance(pem, str) else pem).decode()


def document(entries: Iterable[KubeconfigEntry]) -> dict[str, Any]:
    """A kubeconfig with a context for each entry; the first is current."""
    kept = list(entries)
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": kept[0].context if kept else "",
        "clusters": [
            {
                "name": entry.context,
                "cluster": {"server": entry.server, "certificate-authority-data": encoded(entry.ca_pem)},
            }
            for entry in kept
        ],
        "users": [{"name": entry.user, "user": dict(entry.credential)} for entry in kept],
        "contexts": [
            {
                "name": entry.context,
                "context": {"cluster": entry.context, "user": entry.user, "namespace": entry.namespace},
            }
            for entry in kept
        ],
    }


def merged(documents: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """One kubeconfig of several; of entries with the same name the first is kept, as `kubectl` does."""
    result: dict[str, Any] = {"apiVersion": "v1", "kind": "Config", "current-context": ""}
    for section in ("clusters", "users", "contexts"):
        result[section] = []
    for part in documents:
        result["current-context"] = result["current-context"] or part.get("current-context", "")
        for section in ("clusters", "users", "contexts"):
            known = {entry["name"] for entry in result[section]}
            result[section] += [entry for entry in part.get(section) or [] if entry["name"] not in known]
    return result


def write(path: str | os.PathLike[str], content: Mapping[str, Any]) -> Path:
    """Writes a kubeconfig that only its owner can read; a reader never sees half of it."""
    target = Path(path)
    beside = target.with_name(f".{target.name}.{os.getpid()}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        yaml.safe_dump(dict(content), file, sort_keys=False)
    beside.replace(target)
    return target
