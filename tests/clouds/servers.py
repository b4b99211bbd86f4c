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
from kpo_multicluster.cluster import ClusterRef, kubeconfig, token
from kpo_multicluster.testing import EmbeddedCluster, Rule, User
from kpo_multicluster.testing import kubeconfig as kubeconfigs
from kpo_multicluster.testing.clouds.identity import Identifier, Identity, TokenRefused
from kpo_multicluster.testing.clouds.webhook import TokenReviewer, TokenWebhook
from kpo_multicluster.testing.faults import Fault

from ..cluster.fixtures import RealClusters
from ..cluster.further_server import FurtherServer, further_api_server, webhook_flags

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
        remembers_seconds: for how long it may still let in whom it let in before.
        reviewer: whom it asks, since `trust`.
    """

    remembers_seconds = 0.0

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
    def begin_outage(self) -> None:
        """From now on no one tells it whose a token is."""

    @abstractmethod
    def end_outage(self) -> None:
        """From now on it is told again. Harmless when it is."""

    @property
    @abstractmethod
    def administrator(self) -> ClusterRef:
        """The cluster, for one who may do anything and needs no cloud."""

    def touch(self, namespace: str, path: str, pod: str = "") -> None:
        """Makes a file in the base container of a pod, by default of the only one of a namespace."""
        name = pod or self.only_pod(namespace)["metadata"]["name"]

        async def touch() -> None:
            async with ApiClient(resolve(self.administrator)) as client:
                await client.exec(f"/api/v1/namespaces/{namespace}/pods/{name}/exec", ["touch", path], container="base")

        asyncio.run(touch())

    def only_pod(self, namespace: str) -> dict[str, Any]:
        """The pod of a namespace."""
        (pod,) = self.pods(namespace)
        return pod

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
        self._asked: Identifier | None = None
        cluster.accept_tokens_of(self)

    def identify(self, token: str) -> Identity:
        """Asks whom it asks at the time."""
        return (self._asked or self.reviewer).identify(token)

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

    @property
    def administrator(self) -> ClusterRef:
        return token(self.url, token=self._cluster.token(), ca_data=self.ca_pem)

    def begin_outage(self) -> None:
        self._asked = _Nobody()

    def end_outage(self) -> None:
        self._asked = None

    def pods(self, namespace: str) -> list[dict[str, Any]]:
        return [pod for pod in self._cluster.pods(namespace) if "deletionTimestamp" not in pod["metadata"]]


class RealServer(Server):
    """A kube-apiserver of a real cluster, which asks a webhook, and remembers whom it let in by a rule of its own."""

    remembers_seconds = 10.0

    def __init__(self, server: FurtherServer, webhook: TokenWebhook, clusters: RealClusters, context: str) -> None:
        super().__init__(server.url, server.authority)
        self._server, self._webhook, self._client = server, webhook, clusters.client(context)
        self.audit = server.audit
        self._kubeconfig = kubeconfig(str(clusters.kubeconfig), context=context)
        self._fault: Fault | None = None

    def trust(self, identifier: Identifier) -> TokenReviewer:
        reviewer = super().trust(identifier)
        self._webhook.serve(_CLUSTER, reviewer)
        return reviewer

    @property
    def administrator(self) -> ClusterRef:
        return self._kubeconfig

    def begin_outage(self) -> None:
        self._fault = self._webhook.faults.refuse(f"POST /{_CLUSTER}", 500, "", "out of order")

    def end_outage(self) -> None:
        if self._fault is not None:
            self._fault.remove()

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
        with further_api_server(context, webhook_flags(config)) as server:
            yield RealServer(server, webhook, clusters, context)


class _Nobody:
    def identify(self, token: str) -> Identity:
        raise TokenRefused("no cloud is trusted")
