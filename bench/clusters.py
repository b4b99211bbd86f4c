"""Where the pods run, and what was asked of the API server there."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Protocol

from kpo_multicluster.testing import EmbeddedCluster, User
from tests.cluster import bed, build, kubeconfig
from tests.cluster.audit import AuditLog
from tests.cluster.clients import Client
from tests.cluster.errors import NotPossibleHereError

_SETTLED_SECONDS = 60.0
_RULES = (
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["create", "get", "list", "watch", "patch", "delete"]},
    {"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]},
    {"apiGroups": [""], "resources": ["pods/exec"], "verbs": ["create", "get"]},
    {"apiGroups": [""], "resources": ["events"], "verbs": ["get", "list", "watch"]},
)


class Cluster(Protocol):
    """A cluster that pods are run on. Each arm has a user of its own there.

    Attributes:
        title: what it is.
        real: whether it is a real one.
        namespace: of the pods.
        kubeconfigs: by arm.
    """

    title: str
    real: bool
    namespace: str
    kubeconfigs: dict[str, str]

    def requests(self, arm: str, began: float, ended: float) -> Counter[str]:
        """What an arm asked for between two Unix times, such as `{"create pods": 1}`."""
        ...

    def settle(self) -> None:
        """Waits until no pod is left: what a node does to clear one away is not to slow down the next."""
        ...


class RealCluster:
    """One of the clusters of `make cluster-up`."""

    real = True

    def __init__(self, arms: Iterable[str], directory: Path) -> None:
        layout = bed.clusters()["alpha"]
        self.title = f"one-node Kubernetes {build.version()}"
        self._client = Client(bed.KUBECONFIG, layout.name)
        self._audit = AuditLog(layout.audit_log)
        self.namespace = self._client.make_namespace("kpo-bench")
        self.kubeconfigs: dict[str, str] = {}
        self._users: dict[str, str] = {}
        for arm in arms:
            account = self._client.make_service_account(self.namespace, _RULES, name=arm)
            self._users[arm] = account.user
            self.kubeconfigs[arm] = str(kubeconfig.write(directory / f"{arm}.kubeconfig", [account.entry]))

    def requests(self, arm: str, began: float, ended: float) -> Counter[str]:
        """From the API server's audit log."""
        since = datetime.fromtimestamp(began, timezone.utc)
        found = self._audit.requests(user=self._users[arm], since=since)
        return Counter(str(request) for request in found if request.received.timestamp() <= ended)

    def settle(self) -> None:
        """Asks until no pod is left."""
        deadline = time.monotonic() + _SETTLED_SECONDS
        while self._client.request("GET", f"/api/v1/namespaces/{self.namespace}/pods")["items"]:
            if time.monotonic() > deadline:
                return
            time.sleep(0.1)

    def close(self) -> None:
        """Removes what was made in the cluster."""
        self._client.delete_namespace(self.namespace)
        self._client.close()


class EmbeddedBenchCluster:
    """The cluster that this package ships for tests: pods are processes of this machine."""

    title = "embedded cluster"
    real = False
    namespace = "default"

    def __init__(self, cluster: EmbeddedCluster, arms: Iterable[str], directory: Path) -> None:
        self._cluster = cluster
        self.kubeconfigs: dict[str, str] = {}
        for arm in arms:
            cluster.add_user(User(arm))
            self.kubeconfigs[arm] = str(cluster.write_kubeconfig(directory / f"{arm}.kubeconfig", user=arm))

    def requests(self, arm: str, began: float, ended: float) -> Counter[str]:
        """From the cluster's own record."""
        return Counter(
            f"{record.info.verb} {record.info.qualified_resource}"
            for record in self._cluster.requests.records()
            if record.user == arm and began <= record.at <= ended
        )

    def settle(self) -> None:
        """Waits until no pod is left."""
        self._cluster.wait_until(lambda pods: not pods, timeout_seconds=_SETTLED_SECONDS)


@contextmanager
def cluster(arms: Iterable[str], directory: Path, say: Callable[[str], None]) -> Iterator[Cluster]:
    """A real cluster, started if it is not up; where there can be none, an embedded one."""
    try:
        started = bed.up(say)
    except NotPossibleHereError as error:
        say(f"real clusters are not possible here: {error}")
        with EmbeddedCluster("bench") as embedded:
            yield EmbeddedBenchCluster(embedded, arms, directory)
        return
    try:
        real = RealCluster(arms, directory)
        try:
            yield real
        finally:
            real.close()
    finally:
        if started:
            bed.down(say)
