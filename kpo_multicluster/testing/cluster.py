"""A Kubernetes cluster inside this process: an API server on loopback whose pods are processes of this machine."""

from __future__ import annotations

import asyncio
import copy
import os
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kpo_multicluster.testing import kubeconfig as kubeconfigs
from kpo_multicluster.testing.apiserver.deletion import DeleteOptions
from kpo_multicluster.testing.apiserver.handlers import Handlers
from kpo_multicluster.testing.apiserver.identity import ADMIN, Identities, Rule, User
from kpo_multicluster.testing.apiserver.objects import ObjectApi
from kpo_multicluster.testing.apiserver.resources import NAMESPACES, PODS
from kpo_multicluster.testing.apiserver.server import ApiServer
from kpo_multicluster.testing.clouds.identity import Identifier
from kpo_multicluster.testing.control_plane import ControlPlane, NodeFactory
from kpo_multicluster.testing.faults import Faults
from kpo_multicluster.testing.interfaces import Node, NodeStore
from kpo_multicluster.testing.loop_thread import CALL_SECONDS, LoopThread
from kpo_multicluster.testing.node import LocalNode
from kpo_multicluster.testing.node_context import NodeSettings
from kpo_multicluster.testing.node_images import ImageSource
from kpo_multicluster.testing.requests import RequestLog
from kpo_multicluster.testing.startable import Startable
from kpo_multicluster.testing.store import DEFAULT_HISTORY, Store
from kpo_multicluster.testing.tls import Authority
from kpo_multicluster.testing.topology import DEFAULT_CAPACITY, NodeSpec

if TYPE_CHECKING:
    from typing_extensions import Self

_NODE_SECONDS = 90.0
DEFAULT_NODES = (NodeSpec("embedded-node"),)


class EmbeddedCluster(Startable):
    """A cluster for tests and demonstrations; several may run in one process.

    Its API server speaks HTTPS with a CA of its own and takes bearer tokens. Its nodes run containers as local
    processes; images are not pulled, an image's entrypoint comes from `images`. It lives in a thread with an event loop
    of its own, so that it serves synchronous and asynchronous tests alike. Use it in a `with` block:

        with EmbeddedCluster("gpu") as cluster:
            cluster.write_kubeconfig("kubeconfig")

    Args:
        name: of the cluster, and of its kubeconfig context.
        images: what the images that pods name consist of.
        nodes: the cluster begins with; see `NodeSpec`.
        namespaces: the cluster begins with.
        users: besides `admin`, who may do everything.
        history: how many changes of each resource are held for watches; older versions are answered with 410.
        make_node: makes what runs a node's pods; default local processes.

    Attributes:
        name: of the cluster.
        faults: to inject.
        requests: what was asked of the API server.
        bookmark_seconds: how often watches that take bookmarks are sent one; to be set before `start`.
    """

    def __init__(
        self,
        name: str = "embedded",
        *,
        images: Mapping[str, ImageSource] | None = None,
        nodes: Sequence[NodeSpec] = DEFAULT_NODES,
        namespaces: Sequence[str] = ("default",),
        users: Iterable[User] = (),
        history: int = DEFAULT_HISTORY,
        make_node: NodeFactory | None = None,
    ) -> None:
        self.name = name
        self.faults = Faults()
        self.requests = RequestLog(time.time)
        self.bookmark_seconds = 60.0
        self._images = dict(images or {})
        self._nodes = tuple(nodes)
        self._namespaces = tuple(namespaces)
        self._identities = Identities(users)
        self._authority = Authority(name)
        self._make_node = make_node or self._local_node
        self._store = Store(history=history)
        self._address = ("127.0.0.1", 0)
        self._thread = LoopThread(f"embedded cluster {name!r}", self._live)

    def __repr__(self) -> str:
        parts = self._thread.parts
        return f"EmbeddedCluster({self.name!r}, {parts.api.address if parts else 'not running'})"

    # ---- life --------------------------------------------------------------------------------------------------------

    def start(self) -> Self:
        """Starts the cluster; returns once it answers.

        Raises:
            ConfigurationError: this machine cannot run its nodes, or it was started before.
        """
        self._thread.start()
        return self

    def stop(self) -> None:
        """Ends all pods and the server; leaves no thread, process, socket or mount. Harmless when not running."""
        self._thread.stop()

    @asynccontextmanager
    async def _live(self) -> AsyncIterator[_Parts]:
        control = ControlPlane(self._store, make_node=self._make_node, clock=time.time, root_ca_pem=self.ca_pem)
        objects = ObjectApi(self._store, control, time.time)
        handlers = Handlers(self._store, objects, control, self._identities, time.time, self.bookmark_seconds)
        api = ApiServer(
            handlers.handle,
            identities=self._identities,
            faults=self.faults,
            requests=self.requests,
            tls=self._authority.server_context(),
        )
        try:
            # Nodes tell their pods where the server is, so that it listens before they are made.
            await api.start()
            self._address = api.host_and_port
            for namespace in self._namespaces:
                _create_namespace(objects, namespace)
            for spec in self._nodes:
                await control.add_node(spec)
            await control.start()
            yield _Parts(control, objects, api)
        finally:
            try:
                await api.stop()
            finally:
                await control.close()

    def _local_node(self, store: NodeStore, spec: NodeSpec) -> Node:
        return LocalNode(
            store,
            name=spec.name,
            images=self._images,
            labels=spec.labels,
            capacity={**DEFAULT_CAPACITY, **spec.capacity},
            settings=NodeSettings(api_server=self._address, service_account_token=self._service_account_token),
        )

    def _service_account_token(self, namespace: str, account: str, audience: str, lifetime_seconds: int) -> str:
        return self._identities.issue_to_service_account(namespace, account, lifetime_seconds=lifetime_seconds)

    # ---- how to reach it ---------------------------------------------------------------------------------------------

    @property
    def server(self) -> str:
        """URL of the API server."""
        return f"https://{self._thread.running().api.address}"

    @property
    def ca_pem(self) -> str:
        """The CA of the API server, PEM."""
        return self._authority.pem

    def kubeconfig(
        self, *, context: str | None = None, user: str = ADMIN, namespace: str = "default", certificate: bool = False
    ) -> dict[str, Any]:
        """A kubeconfig for one user.

        Args:
            context: its name; default the cluster's.
            user: who it is for.
            namespace: of the context.
            certificate: identify by a client certificate in place of the user's token.

        Raises:
            KeyError: there is no such user.
        """
        known = self._identities.user(user)
        credential: dict[str, Any] = {"token": known.token}
        if certificate:
            issued = self._authority.client_certificate(user, known.groups)
            credential = {
                "client-certificate-data": kubeconfigs.encoded(issued.certificate_pem),
                "client-key-data": kubeconfigs.encoded(issued.key_pem),
            }
        context = context or self.name
        entry = kubeconfigs.KubeconfigEntry(
            context, self.server, self.ca_pem, f"{context}-{user}", credential, namespace
        )
        return kubeconfigs.document([entry])

    def write_kubeconfig(self, path: str | os.PathLike[str], *, context: str | None = None, user: str = ADMIN) -> Path:
        """Writes a kubeconfig that only its owner can read; gives back its path."""
        return kubeconfigs.write(path, self.kubeconfig(context=context, user=user))

    # ---- users and their tokens --------------------------------------------------------------------------------------

    def token(self, user: str = ADMIN) -> str:
        """The token of a user that does not expire."""
        return self._identities.user(user).token

    def add_user(self, user: User) -> User:
        """Adds or replaces a user; gives it back with its token."""
        return self._identities.add(user)

    def issue_token(self, user: str = ADMIN, *, lifetime_seconds: float | None = None) -> str:
        """A further token of a user, which is refused after its lifetime."""
        return self._identities.issue(user, lifetime_seconds=lifetime_seconds)

    def expire_token(self, token: str) -> None:
        """Refuses a token from now on; streams that are open go on, as on a real server."""
        self._identities.revoke(token)

    def accept_tokens_of(self, identifier: Identifier) -> None:
        """Lets in whoever shows a token that someone else vouches for, such as an emulated cloud.

        Who is known by that way may do what `add_user` says of a user of that name, and `bind_group` of their groups.
        """
        self._identities.ask_also(identifier)

    def bind_group(self, group: str, rules: Iterable[Rule]) -> None:
        """Lets the members of a group do something, besides what rules of their own allow."""
        self._identities.bind_group(group, rules)

    # ---- what is in it -----------------------------------------------------------------------------------------------

    def objects(self, resource: str, namespace: str = "") -> list[dict[str, Any]]:
        """Objects as they are now.

        Args:
            resource: plural name, such as `events`.
            namespace: empty for all.
        """

        async def read() -> list[dict[str, Any]]:
            return copy.deepcopy(self._store.objects(resource, namespace))

        return self._thread.call(read())

    def pods(self, namespace: str = "") -> list[dict[str, Any]]:
        """Pods as they are now; without a namespace those of all."""
        return self.objects("pods", namespace)

    def events(self, namespace: str = "") -> list[dict[str, Any]]:
        """Events as they are now; without a namespace those of all."""
        return self.objects("events", namespace)

    def wait_until(
        self,
        condition: Callable[[list[dict[str, Any]]], bool],
        *,
        resource: str = "pods",
        namespace: str = "",
        timeout_seconds: float = 60.0,
    ) -> list[dict[str, Any]]:
        """Blocks until the objects of a resource are as wanted; gives them back.

        Args:
            condition: is given the objects, at once and after every change; it runs in the cluster's thread.
            resource: plural name.
            namespace: empty for all.
            timeout_seconds: how long to wait.

        Raises:
            TimeoutError: they did not become so in time.
        """

        async def wait() -> list[dict[str, Any]]:
            with self._store.subscribed(resource) as subscription:
                while True:
                    subscription.changed.clear()
                    found = copy.deepcopy(self._store.objects(resource, namespace))
                    if condition(found):
                        return found
                    await subscription.changed.wait()

        async def wait_in_time() -> list[dict[str, Any]]:
            try:
                return await asyncio.wait_for(wait(), timeout_seconds)
            except asyncio.TimeoutError:
                names = [item["metadata"]["name"] for item in self._store.objects(resource, namespace)]
                raise TimeoutError(
                    f"The {resource} of {self.name!r} were not as wanted within {timeout_seconds:g} s: {names}"
                ) from None

        return self._thread.call(wait_in_time(), timeout_seconds + CALL_SECONDS)

    def delete_all_pods(self, *, wait: bool = True) -> None:
        """Deletes every pod without grace, as someone else would; by default waits until their processes are gone."""

        async def delete() -> None:
            _delete(self._thread.running().objects, self._store.objects("pods"), DeleteOptions(grace_period_seconds=0))

        self._thread.call(delete())
        if wait:
            self.wait_until(lambda pods: not pods)

    def create_namespace(self, name: str) -> None:
        """Adds a namespace, with what controllers put into each."""

        async def create() -> None:
            _create_namespace(self._thread.running().objects, name)

        self._thread.call(create())

    def add_node(self, spec: NodeSpec) -> None:
        """Adds a node, as one that joins.

        Raises:
            ConfigurationError: this machine cannot run one.
        """

        async def add() -> None:
            await self._thread.running().control.add_node(spec)

        self._thread.call(add(), _NODE_SECONDS)

    def drain_node(self, name: str, *, timeout_seconds: float = 60.0) -> None:
        """Lets no more pods come to a node and evicts those that are there; returns once they are gone.

        Raises:
            KeyError: there is no such node.
            TimeoutError: some of them took longer to end.
        """

        async def evict() -> None:
            parts = self._thread.running()
            _delete(parts.objects, parts.control.evict_from(name), DeleteOptions())

        self._thread.call(evict())
        self.wait_until(
            lambda pods: all(pod["spec"].get("nodeName") != name for pod in pods), timeout_seconds=timeout_seconds
        )

    def remove_node(self, name: str) -> None:
        """Takes a node away as a machine that is switched off for good; its pods are failed and removed.

        Raises:
            KeyError: there is no such node.
        """

        async def remove() -> None:
            await self._thread.running().control.remove_node(name)

        self._thread.call(remove(), _NODE_SECONDS)

    # ---- trouble -----------------------------------------------------------------------------------------------------

    def compact(self, *, end_watches: bool = False) -> None:
        """Forgets the history: watches and lists from before now are answered with 410.

        Args:
            end_watches: end those under way in the same way.
        """

        async def compact() -> None:
            self._store.compact(end_watches=end_watches)

        self._thread.call(compact())

    @contextmanager
    def outage(self) -> Iterator[None]:
        """While in the `with` block, nothing listens at the server's address; pods go on."""
        parts = self._thread.running()
        self._thread.call(parts.api.stop())
        try:
            yield
        finally:
            self._thread.call(parts.api.start())


@dataclass(frozen=True)
class _Parts:
    """What a running cluster consists of."""

    control: ControlPlane
    objects: ObjectApi
    api: ApiServer


def _create_namespace(objects: ObjectApi, name: str) -> None:
    objects.create(NAMESPACES, "", {"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": name}})


def _delete(objects: ObjectApi, pods: Iterable[Mapping[str, Any]], options: DeleteOptions) -> None:
    for pod in pods:
        objects.delete(PODS, pod["metadata"]["namespace"], pod["metadata"]["name"], options)


def merged_kubeconfig(*clusters: EmbeddedCluster) -> dict[str, Any]:
    """One kubeconfig with a context for each cluster, named as the cluster; the first is current."""
    return kubeconfigs.merged(cluster.kubeconfig() for cluster in clusters)
