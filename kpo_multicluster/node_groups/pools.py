"""What the clouds have in common whose pools are resources of an API that takes bearer tokens: GKE and AKS."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, ClassVar
from urllib.parse import quote

from kpo_multicluster.auth import options
from kpo_multicluster.auth.access import Token, TokenSource
from kpo_multicluster.auth.cloud_http import Answer, http_session
from kpo_multicluster.auth.connections import CloudConnection, Connections
from kpo_multicluster.cluster import ClusterRef
from kpo_multicluster.errors import ConnectError
from kpo_multicluster.node_groups.group import Change, NodeGroup, Progress
from kpo_multicluster.node_groups.spec import NodeGroupSpec


def connection_of(ref: ClusterRef, connections: Connections) -> CloudConnection | None:
    """The connection whose credentials a ref names; None where it names none.

    Raises:
        ConfigurationError: there is no such connection.
    """
    conn_id = options.text(ref, "conn_id")
    return None if conn_id is None else connections.get(conn_id)


class PoolCloud(ABC):
    """The pools of one cluster. What it is made of is looked up when it is made, connections too; not later.

    Args:
        where: the cluster, a phrase for messages.
        source: of the credentials, likewise.
    """

    # What the cloud calls a pool, and the field of a page of them that holds them.
    _noun: ClassVar[str]
    _items: ClassVar[str]
    # What needs the HTTP library, and the extra that brings it.
    _needs: ClassVar[tuple[str, str]]

    def __init__(self, where: str, source: str) -> None:
        self.where = where
        self._tokens = TokenSource(self._fetch, source=source)

    def check(self, spec: NodeGroupSpec) -> None:
        """Refuses a spec that breaks the rules of the cloud.

        Raises:
            ConfigurationError: with the rule.
        """
        self._check(spec)

    def find(self, name: str) -> NodeGroup | None:
        """The pool of that name; None when there is none."""
        doing = f"Looking up the {self._noun} {name!r} of the {self.where}"
        answer = self._ask("GET", self._pool(name), doing)
        if answer.status == 404:
            self._check_cluster()
            return None
        self._expect(answer, doing)
        return self._group(answer.body)

    def all(self) -> list[NodeGroup]:
        """All pools of the cluster."""
        return [self._group(pool) for pool in self._pools(f"Listing the {self._noun}s of the {self.where}")]

    def delete(self, group: NodeGroup) -> Change:
        """Begins to delete a pool.

        Raises:
            ConfigurationError: the cloud refuses it.
            BusyError: another change of the cluster is under way.
        """
        doing = f"Deleting the {group}"
        answer = self._ask("DELETE", self._pool(group.name), doing)
        if answer.status != 404:
            self._expect(answer, doing)
        return Change("delete", group.name, self._ticket(answer))

    def progress(self, change: Change) -> Progress:
        """How a change is getting on, as its operation tells; the pool's own state does not tell why one failed."""
        if not change.ticket:
            return Progress(True)
        doing = f"Following an operation of the {self.where}"
        answer = self._ask("GET", self._operation(change.ticket), doing)
        if answer.status == 404:
            return Progress(True)
        self._expect(answer, doing)
        return self._progress(answer.body)

    # -- what an API has of its own ------------------------------------------------------------------------------------

    @staticmethod
    @abstractmethod
    def _check(spec: NodeGroupSpec) -> None:
        """Its rules."""

    @property
    @abstractmethod
    def _collection(self) -> str:
        """Path of the pools."""

    @abstractmethod
    def _fetch(self) -> Token:
        """A new token."""

    @abstractmethod
    def _look_up(self) -> Mapping[str, Any] | None:
        """What the API says of the cluster.

        Raises:
            ConfigurationError: there is no such cluster.
            ConnectError: it is not up.
        """

    @abstractmethod
    def _send(self, session: Any, token: Token, method: str, path: str, doing: str, **content: Any) -> Answer:
        """Sends one request; `content` is its `body` and `headers`, where it has any."""

    @abstractmethod
    def _expect(self, answer: Answer, doing: str) -> None:
        """Raises what an answer says that is none of success."""

    @abstractmethod
    def _ticket(self, answer: Answer) -> str:
        """Of the operation that an answer names; empty where it names none."""

    @abstractmethod
    def _operation(self, ticket: str) -> str:
        """Path of an operation."""

    @abstractmethod
    def _progress(self, operation: Mapping[str, Any]) -> Progress:
        """How an operation is getting on."""

    @abstractmethod
    def _group(self, there: Mapping[str, Any]) -> NodeGroup:
        """A pool as all clouds tell it."""

    # -- inside --------------------------------------------------------------------------------------------------------

    def _pool(self, name: str) -> str:
        return f"{self._collection}/{quote(name, safe='')}"

    def _pools(self, doing: str) -> Iterator[Mapping[str, Any]]:
        """All of them, page by page where there are pages."""
        path: str | None = self._collection
        while path is not None:
            answer = self._ask("GET", path, doing)
            if answer.status == 404:
                self._check_cluster()
            self._expect(answer, doing)
            yield from answer.body.get(self._items) or ()
            path = answer.body.get("nextLink")

    def _ask(self, method: str, path: str, doing: str, **content: Any) -> Answer:
        feature, extra = self._needs
        with http_session(feature=feature, extra=extra) as session:
            token = self._tokens.current()
            answer = self._send(session, token, method, path, doing, **content)
            if answer.status == 401:
                # A token can be revoked before its end.
                answer = self._send(session, self._tokens.replace(token), method, path, doing, **content)
        return answer

    def _check_cluster(self) -> None:
        """Refuses a cluster that is not there, as what it lacks is told by the same status."""
        # It is there, and not up.
        with suppress(ConnectError):
            self._look_up()
