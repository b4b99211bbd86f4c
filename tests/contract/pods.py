"""Pods for the cases: how they are made, and how one is watched through its life by the product's own client."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from kpo_multicluster.api.client import ApiClient, ExecResult
from kpo_multicluster.errors import ExecError, GoneError

Object = dict[str, Any]

# Both kinds of cluster have it: a shell, and the tools that come with one.
IMAGE = "alpine:3.22"
# On top of the shell a language with the same behaviour everywhere.
PYTHON_IMAGE = "python:3.11-slim"
# The embedded cluster is told that it cannot be pulled; a real one finds that out.
UNKNOWN_IMAGE = "example.test/no/such-image:1"
# Idle until something is done to the container; without `&` a shell would look at signals only when it has slept.
IDLE = "sleep 3600 & wait"
# Ends at once when asked to. Without the handler a first process ignores that and holds its pod for the whole grace.
WAIT = f"trap 'exit 0' TERM; {IDLE}"
# Pods of a scheduler that does not exist: they wait for ever, at no cost.
NOBODY: Object = {"schedulerName": "nobody"}
# Goes on once a case says so (`Pod.go`): what it wants to see before that, it has all the time to see.
UNTIL_TOLD = "until [ -e /tmp/go ]; do sleep 0.1; done"
# A kubelet of a busy machine takes its time, and waits on its own: ten seconds between restarts, and then twenty.
_WAIT_SECONDS = 120.0


def container(script: str = "true", *, name: str = "base", **fields: Any) -> Object:
    """A container that runs a shell script."""
    return {"name": name, "image": IMAGE, "command": ["sh", "-c", script], **fields}


def manifest(*containers: Object, labels: dict[str, str] | None = None, name: str = "", **spec: Any) -> Object:
    """A pod of these containers, which is not restarted unless `spec` says so."""
    metadata: Object = {"name": name or f"pod-{uuid.uuid4().hex[:10]}"}
    if labels:
        metadata["labels"] = labels
    return {"metadata": metadata, "spec": {"restartPolicy": "Never", "containers": list(containers), **spec}}


@dataclass
class Pod:
    """One pod.

    Attributes:
        api: talks to its cluster.
        seen: the pod as last seen.
        history: every state of it that was seen, in order.
        deleted: whether it is gone.
    """

    api: ApiClient
    seen: Object
    history: list[Object] = field(default_factory=list)
    deleted: bool = False

    def __post_init__(self) -> None:
        self.history.append(self.seen)

    @property
    def name(self) -> str:
        return str(self.seen["metadata"]["name"])

    @property
    def namespace(self) -> str:
        return str(self.seen["metadata"]["namespace"])

    @property
    def uid(self) -> str:
        return str(self.seen["metadata"]["uid"])

    @property
    def collection(self) -> str:
        return f"/api/v1/namespaces/{self.namespace}/pods"

    @property
    def path(self) -> str:
        return f"{self.collection}/{self.name}"

    @property
    def status(self) -> Object:
        found: Object = self.seen["status"]
        return found

    @property
    def phase(self) -> str:
        return str(self.status.get("phase", ""))

    def container(self, name: str = "base") -> Object:
        """The status of a container of either kind; empty while there is none."""
        return _container(self.seen, name)

    def conditions(self) -> dict[str, Object]:
        """The conditions by type."""
        return {each["type"]: each for each in self.status.get("conditions", [])}

    def steps(self, name: str = "base") -> list[tuple[str, str]]:
        """The phases, and states of a container, that were seen, without repetitions."""
        seen: list[tuple[str, str]] = []
        for past in self.history:
            step = (past["status"]["phase"], next(iter(_state(past, name)), ""))
            if step not in seen[-1:]:
                seen.append(step)
        return seen

    async def until(self, holds: Callable[[Object], bool], *, timeout_seconds: float = _WAIT_SECONDS) -> Object:
        """Watches the pod from where it was last seen until something holds of it; gives it back as it was then."""
        if holds(self.seen):
            return self.seen
        try:
            await asyncio.wait_for(self._watch(holds), timeout_seconds)
        except asyncio.TimeoutError:
            raise AssertionError(f"not within {timeout_seconds:g} s: {self.name} is at {self.status}") from None
        return self.seen

    async def _watch(self, holds: Callable[[Object], bool]) -> None:
        try:
            await self._watch_on(holds)
        except GoneError:
            # It was last looked at too long ago for a busy server.
            self.seen = await self.api.request("GET", self.path)
            self.history.append(self.seen)
            if not holds(self.seen):
                await self._watch(holds)

    async def _watch_on(self, holds: Callable[[Object], bool]) -> None:
        version = self.seen["metadata"]["resourceVersion"]
        selected = {"fieldSelector": f"metadata.name={self.name}"}
        events = self.api.watch(self.collection, resource_version=version, params=selected)
        async with contextlib.aclosing(events):
            async for event in events:
                self.seen = event.object
                self.history.append(self.seen)
                self.deleted = event.type == "DELETED"
                if holds(self.seen):
                    return
                assert not self.deleted, f"{self.name} was deleted at {self.status}"

    async def running(self, name: str = "base") -> Object:
        """Waits until a container runs; gives its state."""
        await self.until(lambda pod: "running" in _state(pod, name))
        state: Object = self.container(name)["state"]["running"]
        return state

    async def began(self, name: str = "base") -> None:
        """Waits until a container runs or has already ended."""
        await self.until(lambda pod: bool({"running", "terminated"} & _state(pod, name).keys()))

    async def go(self, name: str = "base") -> None:
        """Lets a container go on that waits `UNTIL_TOLD`."""
        await self.until(lambda pod: "running" in _state(pod, name))
        # It may be ended by its container's end, which follows at once, before it can tell of its own.
        with contextlib.suppress(ExecError):
            assert (await self.execute("touch", "/tmp/go", name=name)).exit_code in (0, 137)

    async def ended(self, name: str = "base") -> Object:
        """Waits until a container has ended; gives its `terminated` state."""
        await self.until(lambda pod: "terminated" in _state(pod, name))
        state: Object = self.container(name)["state"]["terminated"]
        return state

    async def waiting(self, *reasons: str, name: str = "base", message: str = "") -> Object:
        """Waits until a container waits for one of these reasons, with this message if given; gives that state."""

        def waits(pod: Object) -> bool:
            found = _state(pod, name).get("waiting", {})
            return found.get("reason") in reasons and message in ("", found.get("message"))

        await self.until(waits)
        state: Object = self.container(name)["state"]["waiting"]
        return state

    async def over(self, *, timeout_seconds: float = _WAIT_SECONDS) -> str:
        """Waits until the pod as a whole has ended; gives its phase."""
        ended = ("Succeeded", "Failed")
        await self.until(lambda pod: pod["status"].get("phase") in ended, timeout_seconds=timeout_seconds)
        return self.phase

    async def gone(self) -> None:
        """Waits until there is no such pod any more."""
        await self.until(lambda _: self.deleted)

    async def log(self, name: str = "base", **params: Any) -> str:
        """A container's log as text."""
        return (await self.raw_log(name, **params)).decode()

    async def raw_log(self, name: str = "base", **params: Any) -> bytes:
        """A container's log."""
        parts = self.api.stream(f"{self.path}/log", params={"container": name, **params})
        return b"".join([part async for part in parts])

    async def said(self, text: str, name: str = "base") -> None:
        """Waits until a container has printed something."""

        async def follow() -> None:
            so_far = b""
            parts = self.api.stream(f"{self.path}/log", params={"container": name, "follow": "true"})
            async with contextlib.aclosing(parts):
                async for part in parts:
                    so_far += part
                    if text.encode() in so_far:
                        return
            raise AssertionError(f"{self.name} never printed {text!r} but {so_far!r}")

        await self.began(name)
        await asyncio.wait_for(follow(), _WAIT_SECONDS)

    async def execute(self, *command: str, name: str = "base", stdin: bytes | None = None) -> ExecResult:
        """Runs a command in a container."""
        return await self.api.exec(f"{self.path}/exec", command, container=name, stdin=stdin)

    async def delete(self, **options: Any) -> Object:
        """Begins to delete the pod; `options` are those of DeleteOptions."""
        return await self.api.request("DELETE", self.path, body=options or None)

    async def events(self) -> list[Object]:
        """What was recorded of it so far, in the order of its first occurrence."""
        selected = {"fieldSelector": f"involvedObject.uid={self.uid}"}
        answer = await self.api.request("GET", f"/api/v1/namespaces/{self.namespace}/events", params=selected)
        found: list[Object] = answer["items"]
        return sorted(found, key=_event_order)

    async def event(self, reason: str, message: str = "") -> Object:
        """Waits for an event of this reason, and with this message if one is given."""
        path = f"/api/v1/namespaces/{self.namespace}/events"
        params = {"fieldSelector": f"involvedObject.uid={self.uid},reason={reason}"}

        async def watch() -> Object:
            # Version 0: what there is, and then what comes.
            events = self.api.watch(path, resource_version="0", params=params)
            async with contextlib.aclosing(events):
                async for event in events:
                    if message in ("", event.object["message"]):
                        return event.object
            raise AssertionError

        try:
            return await asyncio.wait_for(watch(), _WAIT_SECONDS)
        except asyncio.TimeoutError:
            raise AssertionError(f"no event {reason}; there are {await self.events()}") from None


def _event_order(event: Object) -> tuple[str, int]:
    return (event.get("firstTimestamp") or event.get("eventTime") or "", int(event["metadata"]["resourceVersion"]))


def _container(pod: Object, name: str) -> Object:
    status = pod.get("status", {})
    listed = [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]
    return next((each for each in listed if each["name"] == name), {})


def _state(pod: Object, name: str) -> Object:
    found: Object = _container(pod, name).get("state", {})
    return found
