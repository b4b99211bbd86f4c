"""Writes kubeconfig files."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from .layout import ClusterLayout, write_whole
from .pki import KeyPair


@dataclass(frozen=True)
class Entry:
    """One context, with the cluster and the user that it joins; all three carry its name.

    Attributes:
        name: of the context.
        server: URL of the API server.
        authority: the certificates to trust, PEM; None for those of the machine.
        user: what a kubeconfig says under `user`.
        namespace: the context's default namespace.
    """

    name: str
    server: str
    authority: bytes | None
    user: Mapping[str, Any]
    namespace: str | None = None


def document(entries: Sequence[Entry]) -> dict[str, Any]:
    """A kubeconfig as plain data; the first context is the current one."""
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": entries[0].name,
        "clusters": [{"name": entry.name, "cluster": _cluster(entry)} for entry in entries],
        "users": [{"name": entry.name, "user": dict(entry.user)} for entry in entries],
        "contexts": [{"name": entry.name, "context": _context(entry)} for entry in entries],
    }


def write(path: Path, entries: Sequence[Entry]) -> Path:
    """Write a kubeconfig that only its owner can read; it is there whole or not at all."""
    write_whole(path, yaml.safe_dump(document(entries), sort_keys=False), mode=0o600)
    return path


def certificate_user(pair: KeyPair) -> dict[str, str]:
    """A user who shows a client certificate, given inline."""
    return {
        "client-certificate-data": _inline(pair.certificate.read_bytes()),
        "client-key-data": _inline(pair.key.read_bytes()),
    }


def certificate_entry(layout: ClusterLayout, pair: KeyPair) -> Entry:
    """A context of one of our clusters for the owner of a client certificate."""
    authority = (layout.pki / "ca.crt").read_bytes()
    return Entry(layout.name, layout.server, authority, certificate_user(pair))


def _cluster(entry: Entry) -> dict[str, str]:
    trusted = {} if entry.authority is None else {"certificate-authority-data": _inline(entry.authority)}
    return {"server": entry.server, **trusted}


def _context(entry: Entry) -> dict[str, str]:
    namespace = {} if entry.namespace is None else {"namespace": entry.namespace}
    return {"cluster": entry.name, "user": entry.name, **namespace}


def _inline(pem: bytes) -> str:
    return base64.b64encode(pem).decode()
