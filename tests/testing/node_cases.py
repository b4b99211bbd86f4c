"""A server's side for a node under test, and pods for it."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import itertools
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from kpo_multicluster.testing.interfaces import STDERR, STDOUT, ExecSession, LogOptions
from kpo_multicluster.testing.node import LocalNode
from kpo_multicluster.testing.node_context import NodeSettings
from kpo_multicluster.testing.node_images import ImageSource

# A shell script that ends itself on SIGTERM, with a code.
TRAP = "trap 'echo stopping; exit {code}' TERM; echo up; while :; do sleep 0.01; done"

# Goes on once a test says so (`Pod.go`).
UNTIL_TOLD = "until [ -e /tmp/go ]; do sleep 0.01; done"

_WAIT_SECONDS = 60.0
_numbers = itertools.count(1)


class FakeStore:
    """Keeps what a node says.

    Attributes:
        history: statuses of each pod in order, by uid.
        events: (type, reason, message, field path) in order.
        removed: uids.
        objects: what `get` finds, by (resource, namespace, name).
    """

    def __init__(self) -> None:
        self.history: dict[str, list[dict[str, Any]]] = {}
        self.events: list[tuple[str, str, str, str]] = []
        self.removed: list[str] = []
        self.objects: dict[tuple[str, str, str], dict[str, Any]] = {}
        self._changed = asyncio.Event()

    async def set_status(self, namespace: str, name: str, uid: str, status: dict[str, Any]) -> None:
        self.history.setdefault(uid, []).append(copy.deepcopy(status))
        self._changed.set()

    async def remove(self, namespace: str, name: str, uid: str) -> None:
        self.removed.append(uid)
        self._changed.set()

    async def record_event(
        self, pod: dict[str, Any], *, type: str, reason: str, message: str, field_path: str = ""
    ) -> None:
        self.events.append((type, reason, message, field_path))
        self._changed.set()

    def get(self, resource: str, namespace: str, name: str) -> dict[str, Any] | None:
        return self.objects.get((resource, namespace, name))

    async def until(self, condition: Callable[[], bool]) -> None:
        """Waits until something that the node says makes a condition true."""
        deadline = asyncio.get_running_loop().time() + _WAIT_SECONDS
        while not condition():
            self._changed.clear()
            left = deadline - asyncio.get_running_loop().time()
            last = {uid: statuses[-1] for uid, statuses in self.history.items()}
            assert left > 0, f"never came true; statuses {last}, events {self.events[-10:]}"
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._changed.wait(), left)

    def reasons(self) -> list[str]:
        return [reason for _, reason, _, _ in self.events]


class NodeUnderTest:
    """A node and its fake server."""

    def __init__(self, node: LocalNode, store: FakeStore) -> None:
        self.node = node
        self.store = store

    async def run(self, *argv: str, **spec: Any) -> Pod:
        """Begins to run a pod of one container, `base`; the spec's fields are the pod's, those in `base` its own."""
        base = {"name": "base", "image": "alpine", "command": list(argv), **spec.pop("base", {})}
        return await self.run_spec({"containers": [base], **spec})

    async def run_spec(self, spec: Mapping[str, Any], **metadata: Any) -> Pod:
        manifest = pod_manifest(spec, **metadata)
        await self.node.run_pod(manifest)
        return Pod(self, manifest)


class Pod:
    """A pod that was given to a node."""

    def __init__(self, owner: NodeUnderTest, manifest: dict[str, Any]) -> None:
        self._owner = owner
        self._looked_at = 0
        self.manifest = manifest
        self.uid: str = manifest["metadata"]["uid"]

    @property
    def status(self) -> dict[str, Any]:
        history = self._owner.store.history.get(self.uid)
        return history[-1] if history else {}

    @property
    def history(self) -> list[dict[str, Any]]:
        return self._owner.store.history.get(self.uid, [])

    def container(self, name: str = "base") -> dict[str, Any]:
        return _container(self.status, name)

    def state(self, name: str = "base") -> dict[str, Any]:
        return _state(self.status, name)

    async def over(self) -> str:
        """Waits for the pod's end; its phase."""
        await self._owner.store.until(lambda: self.status.get("phase") in ("Succeeded", "Failed"))
        return str(self.status["phase"])

    async def running(self, name: str = "base") -> None:
        """Waits until a container runs, or has done so since the last call, however short it was."""

        def ran() -> bool:
            return any("running" in _state(status, name) for status in self.history[self._looked_at :])

        await self._owner.store.until(ran)
        self._looked_at = len(self.history) - 1

    async def waiting(self, reason: str, name: str = "base") -> dict[str, Any]:
        await self._owner.store.until(lambda: self.state(name).get("waiting", {}).get("reason") == reason)
        waiting: dict[str, Any] = self.state(name)["waiting"]
        return waiting

    async def log(self, name: str = "base", **options: Any) -> str:
        batches = self._owner.node.read_log(self.uid, name, LogOptions(**options))
        return b"".join([batch async for batch in batches]).decode()

    async def said(self, text: str, name: str = "base") -> None:
        """Waits until a container's log contains something."""
        await self._owner.store.until(lambda: bool(self.state(name)) and "waiting" not in self.state(name))
        said = ""
        batches = self._owner.node.read_log(self.uid, name, LogOptions(follow=True))
        async for batch in batches:
            said += batch.decode()
            if text in said:
                return
        raise AssertionError(f"{text!r} is not in {said!r}")

    async def result(self) -> str:
        """Waits for the pod's success; its log."""
        phase = await self.over()
        log = await self.log()
        assert phase == "Succeeded", f"{self.status}\n{log}"
        return log

    async def exec(self, *argv: str, name: str = "base", stdin: bytes | None = None, tty: bool = False) -> Output:
        session = await self._owner.node.exec(self.uid, name, argv, stdin=stdin is not None, tty=tty)
        if stdin is not None:
            await session.write_stdin(stdin)
            await session.close_stdin()
        return await Output.of(session)

    async def go(self, name: str = "base") -> None:
        """Lets a container go on that waits `UNTIL_TOLD`."""
        await self.running(name)
        # It may be ended by its container's end, which follows at once, before it can end by itself.
        assert (await self.exec("touch", "/tmp/go", name=name)).code in (0, 137)

    async def stop(self, grace_seconds: float) -> None:
        """Deletes the pod and waits until it is gone."""
        await self._owner.node.stop_pod(self.manifest, grace_seconds)
        await self._owner.store.until(lambda: self.uid in self._owner.store.removed)


def _container(status: Mapping[str, Any], name: str) -> dict[str, Any]:
    everyone = [*status.get("containerStatuses", []), *status.get("initContainerStatuses", [])]
    return next((entry for entry in everyone if entry["name"] == name), {"state": {}})


def _state(status: Mapping[str, Any], name: str) -> dict[str, Any]:
    state: dict[str, Any] = _container(status, name)["state"]
    return state


class Output:
    """What a command said and how it ended."""

    def __init__(self, stdout: bytes, stderr: bytes, code: int) -> None:
        self.stdout, self.stderr, self.code = stdout, stderr, code

    @classmethod
    async def of(cls, session: ExecSession) -> Output:
        said = {STDOUT: b"", STDERR: b""}
        async for stream, data in session.read():
            said[stream] += data
        return cls(said[STDOUT], said[STDERR], await session.wait())


@contextlib.asynccontextmanager
async def running_node(
    *, images: Mapping[str, ImageSource] | None = None, **settings: Any
) -> AsyncIterator[NodeUnderTest]:
    """A started node; restarts and retries are quick unless the settings say otherwise."""
    quick = {"backoff_seconds": 0.05, "retry_seconds": 0.02, "minimum_grace_seconds": 0.05, **settings}
    store = FakeStore()
    node = LocalNode(store, name="node-1", images=images or {}, settings=NodeSettings(**quick))
    await node.start()
    try:
        yield NodeUnderTest(node, store)
    finally:
        await node.close()


def pod_manifest(spec: Mapping[str, Any], **metadata: Any) -> dict[str, Any]:
    """A pod as a server hands it to a node: with its defaults filled in."""
    name = f"pod-{next(_numbers)}"
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "uid": f"uid-{name}", **metadata},
        "spec": {"restartPolicy": "Never", "terminationGracePeriodSeconds": 30, "nodeName": "node-1", **spec},
        "status": {
            "phase": "Pending",
            "qosClass": "BestEffort",
            "conditions": [
                {
                    "type": "PodScheduled",
                    "status": "True",
                    "lastProbeTime": None,
                    "lastTransitionTime": "2026-01-01T00:00:00Z",
                }
            ],
        },
    }


def container(name: str, script: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "image": "alpine", "command": ["sh", "-c", script], **fields}


def events_of(under_test: NodeUnderTest, name: str = "base") -> list[tuple[str, str, str]]:
    return [
        (kind, reason, message)
        for kind, reason, message, path in under_test.store.events
        if path.endswith(f"{{{name}}}")
    ]


def pod_states(status: dict[str, Any]) -> list[str]:
    return [next(iter(entry["state"])) for entry in status["containerStatuses"]]
