"""The pytest fixtures for tests that need real clusters; a `conftest.py` imports those it wants.

Such a test is marked `cluster` and runs only when asked for by that mark (`make test-cluster`, or `pytest -m cluster`
while the clusters are up); otherwise it is skipped, and the summary says why.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import pytest

from . import bed
from .audit import AuditLog
from .clients import Client
from .layout import CLUSTER_NAMES, CONTEXTS_VARIABLE, KUBECONFIG_VARIABLE, MISSING_VARIABLE


@dataclass(frozen=True)
class RealClusters:
    """Two clusters, or two contexts of a kubeconfig of the user's.

    Attributes:
        kubeconfig: the file that leads to both.
        contexts: its two contexts; they may lead to the same cluster if they are the user's.
        ours: whether they are `alpha` and `beta`, made for the tests, with audit logs and nodes to add.
    """

    kubeconfig: Path
    contexts: tuple[str, str]
    ours: bool
    _clients: dict[str, Client] = field(init=False, repr=False)
    _audit_logs: dict[str, AuditLog] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        # At once: the official client writes certificates to temporary files, which would count as a test's own.
        clients = {context: Client(self.kubeconfig, context) for context in self.contexts}
        object.__setattr__(self, "_clients", clients)

    def client(self, context: str) -> Client:
        """Requests to a cluster as the kubeconfig's own user, who should be its administrator."""
        return self._clients[context]

    def audit(self, context: str) -> AuditLog:
        """What was asked of a cluster; skips the test where that cannot be known."""
        if not self.ours:
            pytest.skip("needs the API server's audit log, which the user's own cluster does not give")
        if context not in self._audit_logs:
            self._audit_logs[context] = AuditLog(bed.clusters()[context].audit_log)
        return self._audit_logs[context]

    def close(self) -> None:
        """Close the connections."""
        for client in self._clients.values():
            client.close()


class MakeNamespace(Protocol):
    """Makes a namespace on the cluster of a context, and gives its name."""

    def __call__(self, context: str, name: str = "", /) -> str:
        """The name is an unused one by default."""


@pytest.fixture(scope="session")
def real_clusters(pytestconfig: pytest.Config) -> Iterator[RealClusters]:
    """The real clusters; skips the test when they were not asked for or cannot be had, with the reason."""
    expression = pytestconfig.getoption("markexpr")
    if "cluster" not in expression or "not cluster" in expression:
        pytest.skip("needs real clusters: `make test-cluster` runs it")
    if missing := os.environ.get(MISSING_VARIABLE):
        pytest.skip(f"needs real clusters: {missing}")
    found = _of_user() or _ours()
    yield found
    found.close()


@pytest.fixture
def make_namespace(real_clusters: RealClusters) -> Iterator[MakeNamespace]:
    """Makes namespaces, and has them deleted after the test."""
    made: list[tuple[str, str]] = []

    def make(context: str, name: str = "", /) -> str:
        name = real_clusters.client(context).make_namespace(name=name)
        made.append((context, name))
        return name

    yield make
    for context, name in made:
        real_clusters.client(context).delete_namespace(name)


def _of_user() -> RealClusters | None:
    contexts = os.environ.get(CONTEXTS_VARIABLE)
    if not contexts:
        return None
    first, _, second = contexts.partition(",")
    path = Path(os.environ.get(KUBECONFIG_VARIABLE) or Path.home() / ".kube" / "config")
    if not path.is_file():
        pytest.fail(f"there is no kubeconfig {path}, which KUBECONFIG names")
    return RealClusters(path, (first, second or first), ours=False)


def _ours() -> RealClusters:
    if not bed.KUBECONFIG.exists():
        pytest.skip("needs real clusters: they are not up; `make cluster-up` brings them up")
    return RealClusters(bed.KUBECONFIG, (CLUSTER_NAMES[0], CLUSTER_NAMES[1]), ours=True)
