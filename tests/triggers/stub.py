"""An API server that serves made-up pods: thousands of them cost it next to nothing."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from kpo_multicluster.auth.access import ClusterAccess


class StubServer:
    """Lists and watches the pods of one namespace.

    Attributes:
        counts: requests by what they ask for.
        watching: watches open at this moment.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.watching = 0
        self._pods: dict[str, dict[str, Any]] = {}
        self._version = 0
        self._history: list[bytes] = []
        self._moved = asyncio.Condition()
        self._port = 0

    @property
    def access(self) -> ClusterAccess:
        return ClusterAccess(server=f"http://127.0.0.1:{self._port}", source="stub")

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[StubServer]:
        app = web.Application()
        app.router.add_get("/api/v1/namespaces/default/pods", self._collection)
        app.router.add_get("/api/v1/namespaces/default/pods/{name}", self._pod)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self._port = runner.addresses[0][1]
        try:
            yield self
        finally:
            await runner.cleanup()

    async def put(self, *names: str, phase: str = "Pending") -> list[dict[str, Any]]:
        """Creates pods, or moves them to another phase."""
        made = [self._make(name, phase) for name in names]
        for pod in made:
            kind = "MODIFIED" if pod["metadata"]["name"] in self._pods else "ADDED"
            self._pods[pod["metadata"]["name"]] = pod
            self._history.append(json.dumps({"type": kind, "object": pod}).encode() + b"\n")
        async with self._moved:
            self._moved.notify_all()
        return made

    def _make(self, name: str, phase: str) -> dict[str, Any]:
        self._version += 1
        state: dict[str, Any] = {"running": {}}
        if phase == "Succeeded":
            state = {"terminated": {"exitCode": 0, "reason": "Completed"}}
        status: dict[str, Any] = {"phase": phase}
        if phase != "Pending":
            status["containerStatuses"] = [{"name": "base", "image": "alpine:3", "state": state, "restartCount": 0}]
        return {
            "metadata": {
                "name": name,
                "namespace": "default",
                "uid": f"uid-of-{name}",
                "resourceVersion": str(self._version),
                "labels": {"kubernetes_pod_operator": "True", "filler": "x" * 40},
                "annotations": {"filler": "y" * 500},
            },
            "spec": {
                "nodeName": "node",
                "restartPolicy": "Never",
                "containers": [{"name": "base", "image": "alpine:3", "env": [{"name": "A", "value": "z" * 200}]}],
            },
            "status": status,
        }

    async def _collection(self, request: web.Request) -> web.StreamResponse:
        if "watch" in request.query:
            return await self._watch(request)
        self.counts["list"] += 1
        start, limit = int(request.query.get("continue") or 0), int(request.query.get("limit") or 10**9)
        pods = list(self._pods.values())
        metadata = {"resourceVersion": str(self._version)}
        if start + limit < len(pods):
            metadata["continue"] = str(start + limit)
        return web.json_response({"metadata": metadata, "items": pods[start : start + limit]})

    async def _pod(self, request: web.Request) -> web.StreamResponse:
        self.counts["get"] += 1
        pod = self._pods.get(request.match_info["name"])
        return web.json_response(pod or {"kind": "Status", "code": 404}, status=200 if pod else 404)

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        self.counts["watch"] += 1
        # Each change is one version.
        sent = int(request.query["resourceVersion"])
        response = web.StreamResponse()
        await response.prepare(request)
        self.watching += 1
        try:
            while True:
                async with self._moved:
                    await self._moved.wait_for(lambda sent=sent: len(self._history) > sent)  # type: ignore[misc]
                batch, sent = self._history[sent:], len(self._history)
                await response.write(b"".join(batch))
        finally:
            self.watching -= 1
