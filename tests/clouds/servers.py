"""API servers that ask a reviewer whose a token is: an embedded one, and a real kube-apiserver through the webhook."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from kpo_multicluster.api.client import ApiClient
from kpo_multicluster.auth.registry import resolve
from kpo_multicluster.cluster import token
from kpo_multicluster.testing import EmbeddedCluster, Rule, User
from kpo_multicluster.testing import kubeconfig as kubeconfigs
from kpo_multicluster.testing.clouds.identity import Identifier, Identity, TokenRefused
from kpo_multicluster.testing.clouds.webhook import TokenReviewer, TokenWebhook

from ..cluster.fixtures import RealClusters
from ..cluster.further_server import FurtherServer, further_api_server

_CLUSTER = "cloud"
_RBAC = "/apis/rbac.authorization.k8s.io/v1"
_COUNTED = ("pods", "events")
_SUBRESOURCES = {"pods/log": "log", "pods/exec": "exec"}

Rules = Sequence[Mapping[str, Sequence[str]]]


class Server(ABC):
    """An API server whose users are those of a cloud.

    Attributes:
        url: of it.
        ca_pem: its CA.
        reviewer: whom it asks, since `trust`.
    """

    def __init__(self, url: str, ca_pem: str) -> None:
        self.url, self.ca_pem = url, ca_pem
        self.reviewer = TokenReviewer(_Nobody())

    def trust(self, identifier: Identifier) -> TokenReviewer:
        """From now on it takes the tokens of this cloud, and no other's."""
        self.reviewer = TokenReviewer(identifier)
        return self.reviewer

    @abstractmethod
    def make_namespace(self) -> str:
        """A new namespace, in which pods can be created at once."""

    @abstractmethod
    def delete_namespace(self, name: str) -> None:
        """Begins to delete a namespace with all in it."""

    @abstractmethod
    def allow(self, namespace: str, rules: Rules, *, user: str = "", group: str = "") -> None:
        """Lets a user, or the members of a group, do in a namespace what RBAC rules say."""

    @abstractmethod
    def asked(self, namespace: str, user: str) -> Counter[str]:
        """How often a user asked each thing of a namespace's pods and events."""

    @abstractmethod
    def pods(self, namespace: str) -> list[dict[str, Any]]:
        """The pods of a namespace, without those whose deletion has begun."""


class EmbeddedServer(Server):
    """That of an embedded cluster."""

    def __init__(self, cluster: EmbeddedCluster) -> None:
        super().__init__(cluster.server, cluster.ca_pem)
        self._cluster = cluster
        cluster.accept_tokens_of(_Current(self))

    def make_namespace(self) -> str:
        name = f"clouds-{uuid.uuid4().hex[:10]}"
        self._cluster.create_namespace(name)
        return name

    def delete_namespace(self, name: str) -> None:
        self._cluster.delete_all_pods()

    def allow(self, namespace: str, rules: Rules, *, user: str = "", group: str = "") -> None:
        allowed = tuple(Rule(tuple(rule["verbs"]), tuple(rule["resources"]), (namespace,)) for rule in rules)
        if user:
            self._cluster.add_user(User(user, rules=allowed))
        if group:
            self._cluster.bind_group(group, allowed)

    def asked(self, namespace: str, user: str) -> Counter[str]:
        records = self._cluster.requests.records()
        return Counter(
            record.verb
            for record in records
            if record.info.namespace == namespace and record.info.resource in _COUNTED and record.user == user
        )

    def touch(self, namespace: str, path: str) -> None:
        """Makes a file in the base container of the only pod of a namespace."""

        async def touch() -> None:
            ref = token(self.url, token=self._cluster.token(), ca_data=self.ca_pem)
            (pod,) = self.pods(namespace)
            async with ApiClient(resolve(ref)) as client:
                exec_path = f"/api/v1/namespaces/{namespace}/pods/{pod['metadata']['name']}/exec"
                await client.exec(exec_path, ["touch", path], container="base")

        asyncio.run(touch())

    def pods(self, namespace: str) -> list[dict[str, Any]]:
        return [pod for pod in self._cluster.pods(namespace) if "deletionTimestamp" not in pod["metadata"]]


class RealServer(Server):
    """A kube-apiserver of a real cluster, which has a webhook asked."""

    def __init__(self, server: FurtherServer, webhook: TokenWebhook, clusters: RealClusters, context: str) -> None:
        super().__init__(server.url, server.authority)
        self._server, self._webhook, self._client = server, webhook, clusters.client(context)

    def trust(self, identifier: Identifier) -> TokenReviewer:
        reviewer = super().trust(identifier)
        self._webhook.serve(_CLUSTER, reviewer)
        return reviewer

    def make_namespace(self) -> str:
        return self._client.make_namespace()

    def delete_namespace(self, name: str) -> None:
        self._client.delete_namespace(name)

    def allow(self, namespace: str, rules: Rules, *, user: str = "", group: str = "") -> None:
        path, metadata = f"{_RBAC}/namespaces/{namespace}", {"metadata": {"name": f"role-{uuid.uuid4().hex[:8]}"}}
        self._client.request("POST", f"{path}/roles", {**metadata, "rules": [{"apiGroups": [""], **r} for r in rules]})
        role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", **metadata["metadata"]}
        named = {"User": user, "Group": group}
        subjects = [
            {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name}
            for kind, name in named.items()
            if name
        ]
        binding = {**metadata, "roleRef": role, "subjects": subjects}
        self._client.request("POST", f"{path}/rolebindings", binding)

    def asked(self, namespace: str, user: str) -> Counter[str]:
        requests = self._server.audit.requests(namespace=namespace, user=user)
        counted = [request for request in requests if request.resource.partition("/")[0] in _COUNTED]
        return Counter(_SUBRESOURCES.get(request.resource, request.verb) for request in counted)

    def pods(self, namespace: str) -> list[dict[str, Any]]:
        items = self._client.request("GET", f"/api/v1/namespaces/{namespace}/pods")["items"]
        return [item for item in items if "deletionTimestamp" not in item["metadata"]]


@contextlib.contextmanager
def real_server(clusters: RealClusters, context: str, directory: Path) -> Iterator[RealServer]:
    """A kube-apiserver that has a webhook asked, while in the `with` block."""
    with TokenWebhook() as webhook:
        webhook.serve(_CLUSTER, TokenReviewer(_Nobody()))
        config = kubeconfigs.write(directory / "webhook", webhook.kubeconfig(_CLUSTER))
        flags = [
            f"--authentication-token-webhook-config-file={config}",
            "--authentication-token-webhook-version=v1",
            "--authentication-token-webhook-cache-ttl=1s",
        ]
        with further_api_server(context, flags) as server:
            yield RealServer(server, webhook, clusters, context)


class _Current:
    """Whom a server asks at the time."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def identify(self, token: str) -> Identity:
        return self._server.reviewer.identify(token)


class _Nobody:
    def identify(self, token: str) -> Identity:
        raise TokenRefused("no cloud is trusted")
