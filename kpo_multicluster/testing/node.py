"""A node of the embedded cluster: a kubelet in small, whose containers are processes of this machine."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final

from kpo_multicluster.testing.interfaces import ExecSession, LogOptions, NodeStore
from kpo_multicluster.testing.node_context import NodeContext, NodeSettings, PodContext
from kpo_multicluster.testing.node_images import ImageSource
from kpo_multicluster.testing.node_pod import PodWorker
from kpo_multicluster.testing.runtime.local import LocalRuntime

_logger = logging.getLogger(__name__)

_CAPACITY: Final = {"cpu": "8", "memory": "16Gi", "ephemeral-storage": "100Gi", "pods": "110"}


class LocalNode:
    """Runs pods on this machine, in Linux namespaces, with or without root.

    A container sees this machine's files copy-on-write, a `/tmp`, `/run` and `/dev` of its own, its volumes where it
    mounts them, and no processes but its own. It shares the machine's network. What it asks of resources is recorded,
    not enforced, and what it writes outside its volumes is held in memory. Probes, `shareProcessNamespace`,
    capabilities and `readOnlyRootFilesystem` are not acted on.

    Args:
        store: the server's side.
        name: the node's name.
        images: what runs for which image. An image that is not declared is accepted with a notice, and its command runs
            with the files of this machine.
        labels: the node's labels, for selectors.
        capacity: what it has of each resource, as quantities, for the scheduler.
        settings: how it differs from a kubelet's defaults.
    """

    def __init__(
        self,
        store: NodeStore,
        *,
        name: str,
        images: Mapping[str, ImageSource],
        labels: Mapping[str, str] | None = None,
        capacity: Mapping[str, str] | None = None,
        settings: NodeSettings | None = None,
    ) -> None:
        self._name = name
        self._runtime = LocalRuntime()
        self._pods: dict[str, PodWorker] = {}
        self._stops: set[asyncio.Task[None]] = set()
        # Loopback is 127.0.0.0/8: each pod gets an address of its own in it, and each node a part of its own.
        self._network = secrets.randbelow(254) + 1
        self._addresses = 0
        self.labels: Mapping[str, str] = dict(labels or {})
        self.capacity: Mapping[str, str] = {**_CAPACITY, **(capacity or {})}
        self._context = NodeContext(
            name=name,
            store=store,
            runtime=self._runtime,
            images=images,
            capacity=self.capacity,
            settings=settings or NodeSettings(),
        )

    @property
    def name(self) -> str:
        """The node's name, as pods carry it in `spec.nodeName`."""
        return self._name

    async def start(self) -> None:
        """Readies the node.

        Raises:
            ConfigurationError: this machine cannot run containers; names the setting and the fix.
        """
        await self._runtime.start()

    async def run_pod(self, pod: dict[str, Any]) -> None:
        """Begins to run a pod that was bound to this node; returns at once."""
        uid = pod["metadata"]["uid"]
        if uid in self._pods:
            return
        context = PodContext(self._context, pod, self._next_address())
        worker = self._pods[uid] = PodWorker(context, self._runtime.directory / "pods" / uid)
        worker.begin()

    async def update_pod(self, pod: dict[str, Any]) -> None:
        """Takes on what may change in a pod that runs: its `activeDeadlineSeconds`."""
        worker = self._pods.get(pod["metadata"]["uid"])
        if worker is not None:
            await worker.update(pod)

    async def stop_pod(self, pod: dict[str, Any], grace_seconds: float) -> None:
        """Ends a pod whose deletion began, then calls `NodeStore.remove`; returns at once.

        A later call with a shorter grace period shortens it.
        """
        task = asyncio.create_task(self._stop(pod, grace_seconds))
        self._stops.add(task)
        task.add_done_callback(self._stops.discard)

    def read_log(self, uid: str, container: str, options: LogOptions) -> AsyncIterator[bytes]:
        """A container's log.

        Raises:
            LookupError: there is no such log; the text is what a real server answers.
            ValueError: `since_time` is no RFC 3339 time.
        """
        return self._worker(uid).read_log(container, options)

    async def exec(self, uid: str, container: str, command: Sequence[str], *, stdin: bool, tty: bool) -> ExecSession:
        """Runs a command in a running container.

        Raises:
            LookupError: the pod or container does not run here; the text is what a real server answers.
            OSError: the command cannot be started; errno and text are the runtime's.
        """
        return await self._worker(uid).exec(container, command, stdin=stdin, tty=tty)

    async def close(self) -> None:
        """Ends every container and removes all that the node made on this machine."""
        for task in tuple(self._stops):
            task.cancel()
        await asyncio.gather(*self._stops, return_exceptions=True)
        workers, self._pods = tuple(self._pods.values()), {}
        await asyncio.gather(*(worker.close() for worker in workers))
        await self._runtime.close()

    def _worker(self, uid: str) -> PodWorker:
        worker = self._pods.get(uid)
        if worker is None:
            raise LookupError(f'pod with uid "{uid}" cannot be found on node "{self._name}"')
        return worker

    async def _stop(self, pod: Mapping[str, Any], grace_seconds: float) -> None:
        metadata = pod["metadata"]
        worker = self._pods.get(metadata["uid"])
        if worker is not None:
            await worker.stop(grace_seconds)
            if self._pods.pop(metadata["uid"], None) is None:
                return  # a later, shorter stop was first to finish
            await worker.remove()
        await self._context.store.remove(metadata["namespace"], metadata["name"], metadata["uid"])

    def _next_address(self) -> str:
        self._addresses = self._addresses % 65_000 + 1
        return f"127.{self._network}.{self._addresses >> 8}.{self._addresses & 255}"
