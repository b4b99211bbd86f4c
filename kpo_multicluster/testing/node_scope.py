"""What the containers of a pod share while it runs: its directory, its status, and whether it is being stopped."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kpo_multicluster.testing.apiserver.timestamps import to_seconds
from kpo_multicluster.testing.node_context import PodContext
from kpo_multicluster.testing.node_status import ContainerRecord, PodView, build_status
from kpo_multicluster.testing.runtime.spec import VolumeContent


class PodScope:
    """One pod on the node.

    Args:
        context: the pod and its node.
        directory: of the pod.
        records: of all its containers, init containers first.

    Attributes:
        logs: where the containers' logs go.
        messages: where their termination messages go.
        volume_directory: where the pod's own volumes lie.
        volumes: once they are set up.
        stopping: set once nothing of the pod is to be started any more.
        ending: the node ends the pod: a kubelet then waits for all its containers, and tells of their ends in one.
        over: nothing of it runs or will run again.
        has_ip: whether the pod has got its address.
        started: Unix time at which the node took it on.
        generation: the pod's, as far as the node knows it.
    """

    def __init__(self, context: PodContext, directory: Path, records: Sequence[ContainerRecord]) -> None:
        self.context = context
        self.directory = directory
        self.logs = directory / "logs"
        self.messages = directory / "messages"
        self.volume_directory = directory / "volumes"
        self.records = records
        self.volumes: Mapping[str, Path | VolumeContent] = {}
        self.stopping = asyncio.Event()
        self.ending = False
        self.over = False
        self.has_ip = False
        self.started = time.time()
        self.generation: int | None = context.pod["metadata"].get("generation")
        self._reason = ""
        self._message = ""
        self._status: Mapping[str, Any] = context.pod.get("status") or {}
        self._publishing = asyncio.Lock()

    def make_directories(self) -> None:
        """Makes the pod's directories, in that of the node; never that one itself, which may be gone for good."""
        for path in (self.directory, self.logs, self.messages, self.volume_directory):
            path.mkdir()

    def fail(self, reason: str, message: str) -> None:
        """Makes the pod a failed one from its next status on."""
        self._reason, self._message = reason, message

    async def publish(self) -> None:
        """Tells the server the pod's status as it is now."""
        if self.ending and not self.over:
            return
        async with self._publishing:
            view = PodView(
                spec=self.context.spec,
                records=self.records,
                ip=self.context.ip if self.has_ip else "",
                started_at=to_seconds(self.started),
                over=self.over,
                reason=self._reason,
                message=self._message,
                generation=self.generation,
            )
            status = build_status(view, self._status, time.time())
            if status != self._status:
                self._status = status
                # The server gets its own copy: the records go on changing.
                await self.context.node.store.set_status(
                    self.context.namespace, self.context.name, self.context.uid, _copied(status)
                )

    async def event(self, reason: str, message: str, *, kind: str = "Normal", container: str = "") -> None:
        """Records an event about the pod, or about one of its containers."""
        path = ""
        if container:
            init = any(record.name == container and record.init for record in self.records)
            path = f"spec.{'initContainers' if init else 'containers'}{{{container}}}"
        await self.context.node.store.record_event(
            dict(self.context.pod), type=kind, reason=reason, message=message, field_path=path
        )

    async def pause(self, seconds: float) -> bool:
        """Waits; True, and at once, when the pod is being stopped."""
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self.stopping.wait(), seconds)
        return self.stopping.is_set()


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copied(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_copied(inner) for inner in value]
    return value
