"""Two clusters, embedded or real, whose users are those of clouds, and what they themselves tell of where pods ran."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from kpo_multicluster.testing import EmbeddedCluster
from kpo_multicluster.testing.clouds.joined_nodes import NodeHost

from ..clouds.servers import EmbeddedServer, Server, real_server
from ..clouds.test_acceptance import ROLE
from ..cluster.fixtures import RealClusters
from ..cluster.joining import RealNodes

NAMES = ("alpha", "beta")


class Placed(NamedTuple):
    """Where a pod was, and who had it created."""

    cluster: str
    node: str
    user: str


class Member(ABC):
    """One of the two clusters.

    Attributes:
        name: `alpha` or `beta`.
        server: its API server, which takes the tokens of clouds.
        host: that nodes join.
        namespace: for pods.
        node: that it begins with.
    """

    node: str

    def __init__(self, name: str, server: Server, host: NodeHost) -> None:
        self.name, self.server, self.host = name, server, host
        self.namespace = server.make_namespace()

    @abstractmethod
    def kubeconfig(self) -> dict[str, Any]:
        """A kubeconfig of an administrator."""

    @abstractmethod
    def token_fields(self) -> dict[str, Any]:
        """Fields of the form for a token that may run pods in its namespace."""

    @abstractmethod
    def placed(self, namespace: str) -> dict[str, Placed]:
        """The pods that were created in a namespace, by name."""


class EmbeddedMember(Member):
    """An embedded cluster. Its witnesses are its log of requests and the events of its scheduler."""

    def __init__(self, cluster: EmbeddedCluster) -> None:
        super().__init__(cluster.name, EmbeddedServer(cluster), cluster)
        self._cluster = cluster
        (self.node,) = (node["metadata"]["name"] for node in cluster.objects("nodes"))

    def kubeconfig(self) -> dict[str, Any]:
        return self._cluster.kubeconfig()

    def token_fields(self) -> dict[str, Any]:
        return {"server": self._cluster.server, "token": self._cluster.token(), "ca_data": self._cluster.ca_pem}

    def placed(self, namespace: str) -> dict[str, Placed]:
        events = [event for event in self._cluster.events(namespace) if event["reason"] == "Scheduled"]
        nodes = {event["involvedObject"]["name"]: event["message"].rpartition(" ")[2] for event in events}
        return {name: Placed(self.name, node, self._creator(namespace, name)) for name, node in nodes.items()}

    def _creator(self, namespace: str, name: str) -> str:
        """Whoever deleted it, which a run does itself: no request to create a pod has its name."""
        path = f"/api/v1/namespaces/{namespace}/pods/{name}"
        deletions = self._cluster.requests.matching(f"^delete DELETE {path}")
        return deletions[0].user if deletions else ""


class RealMember(Member):
    """A real cluster. Its witnesses are the audit logs of its API servers."""

    def __init__(self, clusters: RealClusters, name: str, directory: Path, stack: ExitStack) -> None:
        server = stack.enter_context(real_server(clusters, name, directory))
        super().__init__(name, server, RealNodes(name))
        self._document = yaml.safe_load(clusters.kubeconfig.read_text())
        self._client = clusters.client(name)
        # Others may have nodes of theirs join for a while.
        self.node = f"{name}-1"
        self._audit, self._server_audit = clusters.audit(name), server.audit

    def kubeconfig(self) -> dict[str, Any]:
        document: dict[str, Any] = {**self._document, "current-context": self.name}
        return document

    def token_fields(self) -> dict[str, Any]:
        account = self._client.make_service_account(self.namespace, [{"apiGroups": [""], **rule} for rule in ROLE])
        authority = (account.entry.authority or b"").decode()
        return {"server": account.entry.server, "token": account.token, "ca_data": authority}

    def placed(self, namespace: str) -> dict[str, Placed]:
        requests = [*self._audit.requests(namespace=namespace), *self._server_audit.requests(namespace=namespace)]
        return {
            request.name: Placed(self.name, self._audit.node(namespace, request.name) or "", request.user)
            for request in requests
            if str(request) == "create pods" and request.status == 201
        }


@contextmanager
def embedded_members() -> Iterator[Mapping[str, Member]]:
    """Two embedded clusters while in the `with` block."""
    with EmbeddedCluster("alpha") as alpha, EmbeddedCluster("beta") as beta:
        yield {cluster.name: EmbeddedMember(cluster) for cluster in (alpha, beta)}


@contextmanager
def real_members(clusters: RealClusters, directory: Path) -> Iterator[Mapping[str, Member]]:
    """The two real clusters, with an API server more each while in the `with` block."""
    with ExitStack() as stack:
        members: dict[str, Member] = {}
        for name in NAMES:
            (directory / name).mkdir()
            members[name] = RealMember(clusters, name, directory / name, stack)
            stack.callback(members[name].server.delete_namespace, members[name].namespace)
        yield members
