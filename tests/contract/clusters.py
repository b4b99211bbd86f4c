"""The two kinds of cluster that the cases run on, behind one interface for what no API request can do."""

from __future__ import annotations

import contextlib
import uuid
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from kpo_multicluster.auth.access import ClusterAccess
from kpo_multicluster.auth.registry import resolve
from kpo_multicluster.cluster import ClusterRef, kubeconfig
from kpo_multicluster.testing import EmbeddedCluster, NodeSpec, Rule, User

from ..cluster import bed
from ..cluster import kubeconfig as kubeconfigs
from ..cluster.clients import Client
from ..cluster.errors import RefusedError
from ..cluster.fixtures import RealClusters

Rules = Sequence[Mapping[str, Sequence[str]]]

# For what only a real node does. docs/embedded-cluster.md lists every case of this mark, and says what differs.
REAL_ONLY = pytest.mark.parametrize(
    "cluster", [pytest.param("kubernetes", marks=pytest.mark.cluster)], indirect=True, scope="session"
)


@dataclass(frozen=True)
class Account:
    """A service account with few rights.

    Attributes:
        user: its name as the server knows it.
        ref: how to reach the cluster as it.
    """

    user: str
    ref: ClusterRef = field(repr=False)

    @property
    def access(self) -> ClusterAccess:
        return resolve(self.ref)


@dataclass(frozen=True)
class NodeOptions:
    """What a further node is like: its labels, the key of a NoSchedule taint, and extended resources."""

    labels: Mapping[str, str] = field(default_factory=dict)
    taint: str = ""
    capacity: Mapping[str, str] = field(default_factory=dict)

    @property
    def taints(self) -> tuple[Mapping[str, str], ...]:
        return ({"key": self.taint, "effect": "NoSchedule"},) if self.taint else ()


class Cluster(ABC):
    """A cluster under contract.

    Attributes:
        name: also its context's.
        real: whether it is Kubernetes itself.
        kubeconfig: the file that leads to it.
        ref: how to reach it as its administrator.
    """

    real: bool

    def __init__(self, name: str, kubeconfig_path: Path, client: Client) -> None:
        self.name = name
        self.kubeconfig = kubeconfig_path
        self.ref = kubeconfig(str(kubeconfig_path), context=name)
        self._client = client

    @property
    def access(self) -> ClusterAccess:
        return resolve(self.ref)

    def pods(self, namespace: str) -> list[dict[str, Any]]:
        """The pods of a namespace, without those whose deletion has begun."""
        items = self._client.request("GET", f"/api/v1/namespaces/{namespace}/pods")["items"]
        return [item for item in items if "deletionTimestamp" not in item["metadata"]]

    def delete_pods(self, namespace: str) -> None:
        """Deletes all pods of a namespace, as someone else would."""
        self._client.request("DELETE", f"/api/v1/namespaces/{namespace}/pods")

    @abstractmethod
    def make_namespace(self) -> str:
        """A new namespace, in which pods can be created at once."""

    @abstractmethod
    def delete_namespace(self, name: str) -> None:
        """Begins to delete a namespace with all in it."""

    @abstractmethod
    def make_account(self, namespace: str, rules: Rules = (), *, name: str = "") -> Account:
        """A service account that may do in its namespace what RBAC rules say, and nothing else."""

    @abstractmethod
    def asked(self, namespace: str, user: str = "") -> Counter[str]:
        """How often each thing was asked of a namespace's pods and events: list, create, watch, log, exec, ..."""

    @abstractmethod
    def forget_history(self) -> None:
        """Sees to it that watches can no longer begin at resource version 1."""

    @abstractmethod
    def node(self, options: NodeOptions, *, outlived: bool = False) -> AbstractContextManager[str]:
        """A further node while in the `with` block, with a name of its own, which it gives.

        Args:
            options: what it is like.
            outlived: the cluster is not told of its end and keeps its Node object; a real one only.
        """

    @abstractmethod
    def forget_node(self, name: str) -> None:
        """Removes what is left of a node that was outlived by its Node object."""


class Embedded(Cluster):
    """The embedded cluster."""

    real = False

    def __init__(self, cluster: EmbeddedCluster, directory: Path) -> None:
        path = cluster.write_kubeconfig(directory / "kubeconfig")
        super().__init__(cluster.name, path, Client(path, cluster.name))
        self.cluster = cluster
        self._directory = directory

    def close(self) -> None:
        self._client.close()

    def make_namespace(self) -> str:
        name = f"kpo-test-{uuid.uuid4().hex[:10]}"
        self.cluster.create_namespace(name)
        return name

    def delete_namespace(self, name: str) -> None:
        self.cluster.delete_all_pods()

    def make_account(self, namespace: str, rules: Rules = (), *, name: str = "") -> Account:
        name = name or f"account-{uuid.uuid4().hex[:8]}"
        user = f"system:serviceaccount:{namespace}:{name}"
        self._client.request("POST", f"/api/v1/namespaces/{namespace}/serviceaccounts", {"metadata": {"name": name}})
        # It has no roles; its users have rules.
        allowed = tuple(Rule(tuple(rule["verbs"]), tuple(rule["resources"]), (namespace,)) for rule in rules)
        self.cluster.add_user(User(user, rules=allowed))
        path = self.cluster.write_kubeconfig(self._directory / uuid.uuid4().hex, user=user)
        return Account(user, kubeconfig(str(path)))

    def asked(self, namespace: str, user: str = "") -> Counter[str]:
        records = self.cluster.requests.records()
        return Counter(
            record.verb
            for record in records
            if record.info.namespace == namespace
            and record.info.resource in _COUNTED
            and (not user or record.user == user)
        )

    def forget_history(self) -> None:
        self.cluster.compact()

    @contextmanager
    def node(self, options: NodeOptions, *, outlived: bool = False) -> Iterator[str]:
        assert not outlived
        name = f"node-{uuid.uuid4().hex[:8]}"
        self.cluster.add_node(NodeSpec(name, options.labels, options.taints, options.capacity))
        try:
            yield name
        finally:
            self.cluster.remove_node(name)

    def forget_node(self, name: str) -> None:
        """Nothing: there is none."""


class Kubernetes(Cluster):
    """A real cluster: one of ours, or the user's."""

    real = True

    def __init__(self, clusters: RealClusters, context: str, directory: Path) -> None:
        super().__init__(context, clusters.kubeconfig, clusters.client(context))
        self._clusters = clusters
        self._directory = directory
        self._began = datetime.now(timezone.utc)

    def make_namespace(self) -> str:
        return self._client.make_namespace()

    def delete_namespace(self, name: str) -> None:
        self._client.delete_namespace(name)

    def make_account(self, namespace: str, rules: Rules = (), *, name: str = "") -> Account:
        grouped = [{"apiGroups": [""], **rule} for rule in rules]
        account = self._client.make_service_account(namespace, grouped, name=name or None)
        path = kubeconfigs.write(self._directory / uuid.uuid4().hex, [account.entry])
        return Account(account.user, kubeconfig(str(path)))

    def asked(self, namespace: str, user: str = "") -> Counter[str]:
        requests = self._clusters.audit(self.name).requests(namespace=namespace, user=user or None, since=self._began)
        counted = [request for request in requests if request.resource.partition("/")[0] in _COUNTED]
        return Counter(_SUBRESOURCES.get(request.resource, request.verb) for request in counted)

    def forget_history(self) -> None:
        """Nothing: version 1 is older than the API server."""

    @contextmanager
    def node(self, options: NodeOptions, *, outlived: bool = False) -> Iterator[str]:
        if not self._clusters.ours:
            pytest.skip("adds a node, which only the clusters made for the tests allow")
        name = f"{self.name}-{uuid.uuid4().hex[:8]}"
        bed.add_node(self.name, name, labels=options.labels, taints=options.taints, capacity=options.capacity)
        try:
            yield name
        finally:
            bed.remove_node(self.name, name, delete_object=not outlived)

    def forget_node(self, name: str) -> None:
        with contextlib.suppress(RefusedError):
            self._client.request("DELETE", f"/api/v1/nodes/{name}")


_COUNTED = ("pods", "events")
_SUBRESOURCES = {"pods/log": "log", "pods/exec": "exec"}
