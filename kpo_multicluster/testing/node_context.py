"""What the parts of a node know of it and of the pod they work for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kpo_multicluster.testing.interfaces import NodeStore
from kpo_multicluster.testing.node_images import ImageSource
from kpo_multicluster.testing.runtime.local import LocalRuntime

HOST_IP = "127.0.0.1"


class ConfigError(Exception):
    """A container's configuration cannot be made (`CreateContainerConfigError`); the text is the kubelet's."""


@dataclass(frozen=True)
class NodeSettings:
    """What may differ between nodes; the defaults are a kubelet's.

    Attributes:
        backoff_seconds: how long a container that crashed twice waits for its next start; doubles from then on.
        max_backoff_seconds: the longest of these waits.
        minimum_grace_seconds: how long a container has between SIGTERM and SIGKILL however short the grace period is.
        retry_seconds: how long after a failure to set up (a missing secret, say) the node tries again.
        log_max_bytes: the size at which a container's log is rotated (`containerLogMaxSize`); None: never.
        api_server: host and port of the API server, for `KUBERNETES_SERVICE_HOST` and `_PORT` in containers.
        service_account_token: makes the token of a projected volume from (namespace, service account, audience,
            lifetime in seconds); None: this node has none.
    """

    backoff_seconds: float = 10.0
    max_backoff_seconds: float = 300.0
    minimum_grace_seconds: float = 2.0
    retry_seconds: float = 1.0
    log_max_bytes: int | None = 10 * 1024 * 1024
    api_server: tuple[str, int] | None = None
    service_account_token: Callable[[str, str, str, int], str] | None = field(default=None, repr=False)


@dataclass(frozen=True)
class NodeContext:
    """One node, as its pods see it.

    Attributes:
        name: of the node.
        store: the server's side.
        runtime: runs the containers.
        images: declared images.
        capacity: what the node has of each resource, as quantities.
        settings: its settings.
        undeclared: images that were run without being declared, each noticed once.
    """

    name: str
    store: NodeStore
    runtime: LocalRuntime
    images: Mapping[str, ImageSource]
    capacity: Mapping[str, str]
    settings: NodeSettings
    undeclared: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class PodContext:
    """One pod on one node.

    Attributes:
        node: the node.
        pod: its manifest, as it was when it came to the node.
        ip: its address, a loopback one.
    """

    node: NodeContext
    pod: Mapping[str, Any]
    ip: str

    @property
    def name(self) -> str:
        """`metadata.name`."""
        return str(self.pod["metadata"]["name"])

    @property
    def namespace(self) -> str:
        """`metadata.namespace`."""
        return str(self.pod["metadata"]["namespace"])

    @property
    def uid(self) -> str:
        """`metadata.uid`."""
        return str(self.pod["metadata"]["uid"])

    @property
    def spec(self) -> Mapping[str, Any]:
        """`spec`."""
        spec: Mapping[str, Any] = self.pod["spec"]
        return spec

    @property
    def label(self) -> str:
        """How a kubelet names a pod in messages."""
        return f"{self.name}_{self.namespace}({self.uid})"

    @property
    def hostname(self) -> str:
        """The host name its containers see."""
        return str(self.spec.get("hostname") or self.name)[:63].rstrip("-.")

    def stored(self, kind: str, name: str) -> dict[str, Any] | None:
        """A `secrets` or `configmaps` object of the pod's namespace."""
        return self.node.store.get(kind, self.namespace, name)
