"""What emulated clouds have in common: a server on loopback, faults, a record, a clock, node groups."""

from __future__ import annotations

import ssl
from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from kpo_multicluster.testing.clouds.joined_nodes import NodeHost
from kpo_multicluster.testing.clouds.node_groups import NodeGroup, NodeGroups
from kpo_multicluster.testing.clouds.server import (
    Clock,
    CloudFaults,
    LoopbackServer,
    Record,
    Request,
    Response,
    Service,
)
from kpo_multicluster.testing.startable import Startable
from kpo_multicluster.testing.topology import NodeSpec

if TYPE_CHECKING:
    from typing_extensions import Self


class EmulatedCluster(Protocol):
    """A cluster of an emulated cloud."""

    @property
    def id(self) -> str:
        """What its cloud calls it, in whole; `node_groups` has its groups by that."""
        ...


class EmulatedCloud(Startable):
    """A cloud on loopback, while in its `with` block.

    Args:
        clock: Unix time in seconds.
        tls: serve https.

    Attributes:
        faults: to inject, aimed at `METHOD PATH`.
        record: what was asked.
        node_groups: its node groups; how fast they become what they are to be, their troubles, and hooks.
        skew_seconds: how far its clock is ahead of the one it was given.
    """

    def __init__(self, clock: Clock, tls: ssl.SSLContext | None = None) -> None:
        self.faults, self.record = CloudFaults(), Record()
        self.skew_seconds = 0.0
        self._clock = clock
        self.node_groups = NodeGroups(self.now)
        self._server = self._make_server(tls)

    def start(self) -> Self:
        """Starts it."""
        self._server.start()
        return self

    def stop(self) -> None:
        """Stops it, and ends the nodes that joined clusters. Harmless when it is not running."""
        self._server.stop()
        self.node_groups.close()

    def now(self) -> float:
        """Its time: Unix time in seconds."""
        return self._clock() + self.skew_seconds

    @property
    def url(self) -> str:
        """Base URL of its services.

        Raises:
            ConfigurationError: it is not running.
        """
        return self._server.url

    def nodes_join(self, cluster: EmulatedCluster, host: NodeHost) -> None:
        """Lets the nodes of a cluster's node groups join, from now on.

        A group is there once as many nodes as it is to have have joined, with the names, labels, taints and GPUs that
        this cloud gives them. As it shrinks or is deleted its nodes are drained and end; all end with this cloud.

        Args:
            cluster: of this cloud.
            host: that they join, such as an embedded cluster.
        """
        self.node_groups.join(cluster.id, host, self._plan)

    def _make_server(self, tls: ssl.SSLContext | None = None) -> LoopbackServer:
        """A server of this cloud's requests, not yet started."""
        service = Service(self._answer, self._refuse, self.now, self._action, tick=self._advance)
        return LoopbackServer(service, self.faults, self.record, tls)

    def _answer(self, request: Request) -> Response:
        self._advance()
        return self._handle(request)

    def _advance(self) -> None:
        self.node_groups.advance(wait=False)

    @abstractmethod
    def _handle(self, request: Request) -> Response:
        """Answers a request."""

    @abstractmethod
    def _refuse(self, request: Request, status: int, code: str, message: str) -> Response:
        """Puts an injected failure into the form of the cloud."""

    @abstractmethod
    def _plan(self, group: NodeGroup) -> Sequence[NodeSpec]:
        """The nodes that a group is to have."""

    def _action(self, request: Request) -> str:
        """What a request asks for, where its path does not say."""
        return ""
