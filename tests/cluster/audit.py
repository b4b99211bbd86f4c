"""Reads an API server's audit log: who asked for what.

The log has a line when a request arrives, before anything is answered, and another when the answer starts or is done.
So whoever has an answer finds the request here, without any waiting; only how it ended may come a moment later.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

_ARRIVED = "RequestReceived"
_BINDING = "binding"
_COMPLETION_TIMEOUT_SECONDS = 30.0


@dataclass(frozen=True)
class Request:
    """One request to an API server.

    Attributes:
        verb: as RBAC names it: get, list, watch, create, update, patch, delete, deletecollection.
        resource: plural, with the subresource after a slash, such as `pods/log`; the path when it is no resource.
        namespace: empty for what has none.
        name: of the object; empty for lists and watches.
        user: as the API server knows it, such as `system:serviceaccount:NAMESPACE:NAME`.
        agent: the User-Agent header.
        path: with the query.
        status: the HTTP status; None while there is no answer yet.
        received: when it arrived.
    """

    verb: str
    resource: str
    namespace: str
    name: str
    user: str
    agent: str
    path: str
    status: int | None
    received: datetime

    def __str__(self) -> str:
        return f"{self.verb} {self.resource}"


class AuditLog:
    """The audit log of one API server.

    Args:
        path: of the file, which the server goes on writing.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._events: dict[str, dict[str, Any]] = {}
        self._nodes: dict[tuple[str, str], str] = {}

    def node(self, namespace: str, pod: str) -> str | None:
        """The node that the scheduler has given a pod; None while it has not."""
        self._read()
        return self._nodes.get((namespace, pod))

    def requests(
        self,
        *,
        user: str | None = None,
        namespace: str | None = None,
        pod: str | None = None,
        since: datetime | None = None,
    ) -> list[Request]:
        """The requests that arrived, in order.

        Args:
            user: only those of this user.
            namespace: only those to this namespace.
            pod: only those to the pod of this name; also lists and watches, if their field selector names it.
            since: only those that arrived at that time or later; with a time zone.
        """
        deadline = time.monotonic() + _COMPLETION_TIMEOUT_SECONDS
        while True:
            self._read()
            events = [event for event in self._events.values() if _matches(event, user, namespace, since)]
            if time.monotonic() > deadline or all(event["stage"] != _ARRIVED for event in events):
                break
            time.sleep(0.01)
        found = sorted(map(_request, events), key=lambda request: request.received)
        return [each for each in found if pod is None or _names_pod(each, pod)]

    def counts(
        self,
        *,
        user: str | None = None,
        namespace: str | None = None,
        pod: str | None = None,
        since: datetime | None = None,
    ) -> Counter[str]:
        """How often each thing was asked for, such as `{"create pods": 1, "get pods/log": 2}`; see `requests`."""
        return Counter(map(str, self.requests(user=user, namespace=namespace, pod=pod, since=since)))

    def _read(self) -> None:
        with self._path.open("rb") as log:
            log.seek(self._offset)
            lines = log.read()
        # What follows the last line's end is still being written.
        whole = lines[: lines.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.splitlines():
            event = json.loads(line)
            if event.get("objectRef", {}).get("subresource") == _BINDING:
                self._note_node(event)
            else:
                self._events[event["auditID"]] = event

    def _note_node(self, event: dict[str, Any]) -> None:
        """Of what the scheduler asks for, this alone is in the log: it is no request that anyone counts."""
        if event.get("responseStatus", {}).get("code") == 201:
            reference = event["objectRef"]
            self._nodes[reference["namespace"], reference["name"]] = event["requestObject"]["target"]["name"]


def _matches(event: dict[str, Any], user: str | None, namespace: str | None, since: datetime | None) -> bool:
    return (
        (user is None or event["user"].get("username") == user)
        and (namespace is None or event.get("objectRef", {}).get("namespace") == namespace)
        and (since is None or _received(event) >= since)
    )


def _names_pod(request: Request, pod: str) -> bool:
    return request.name == pod and request.resource.partition("/")[0] == "pods"


def _request(event: dict[str, Any]) -> Request:
    reference = event.get("objectRef", {})
    parts = [part for part in (reference.get("resource"), reference.get("subresource")) if part]
    return Request(
        verb=event["verb"],
        resource="/".join(parts) or event["requestURI"].partition("?")[0],
        namespace=reference.get("namespace", ""),
        name=reference.get("name", ""),
        user=event["user"].get("username", ""),
        agent=event.get("userAgent", ""),
        path=event["requestURI"],
        status=event.get("responseStatus", {}).get("code"),
        received=_received(event),
    )


def _received(event: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(event["requestReceivedTimestamp"].replace("Z", "+00:00"))
