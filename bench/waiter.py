"""Waits for pods as a triggerer does, and tells what that costs: `python -m bench.waiter ARM KUBECONFIG DESCRIPTOR`.

It is ordered by JSON lines on standard input, and answers each with one.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import resource
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from importlib import import_module
from pathlib import Path
from typing import Any, Final

OURS: Final = "ours"
# As in `bench.crowds`.
BASE: Final = "base"
# How often it is looked whether the loop is held.
_TICK_SECONDS = 0.02
_SOCKETS_SECONDS = 0.5


@dataclass(frozen=True)
class Order:
    """What is to be done.

    Attributes:
        do: "wait" for more pods, or "read" what was measured since the last time.
        pods: to be waited for, as the API server gives them.
    """

    do: str
    pods: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Reading:
    """What was measured since the last reading.

    Attributes:
        cpu_seconds: of processor time.
        resident_bytes: memory, now.
        peak_bytes: the most memory since the process was started.
        connections: open at once, at most.
        held_seconds: the longest that the event loop could not go on, garbage collections apart.
        collection_seconds: the longest of Python's garbage collections: they go through all that a process has in
            memory, most of it Airflow itself, and hold each of its threads.
        events: of triggers, so far: by pod's name, the Unix time and the status.
    """

    cpu_seconds: float
    resident_bytes: int
    peak_bytes: int
    connections: int
    held_seconds: float
    collection_seconds: float
    events: dict[str, tuple[float, str]]


class _Gauge:
    """Measures this process."""

    def __init__(self) -> None:
        self.events: dict[str, tuple[float, str]] = {}
        self._collecting_since = self._collecting_seconds = 0.0
        self._reset()
        gc.callbacks.append(self._collecting)

    def _reset(self) -> None:
        self._cpu = time.process_time()
        self._held = self._collected = 0.0
        self._connections = 0

    def read(self) -> Reading:
        reading = Reading(
            cpu_seconds=time.process_time() - self._cpu,
            resident_bytes=_resident_bytes(),
            peak_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            connections=self._connections,
            held_seconds=self._held,
            collection_seconds=self._collected,
            events=self.events,
        )
        self._reset()
        return reading

    async def watch_loop(self) -> None:
        while True:
            before, collecting = time.perf_counter(), self._collecting_seconds
            await asyncio.sleep(_TICK_SECONDS)
            late = time.perf_counter() - before - _TICK_SECONDS
            self._held = max(self._held, late - (self._collecting_seconds - collecting))

    async def count_connections(self) -> None:
        while True:
            self._connections = max(self._connections, _connections())
            await asyncio.sleep(_SOCKETS_SECONDS)

    def _collecting(self, phase: str, info: dict[str, int]) -> None:
        now = time.perf_counter()
        if phase == "start":
            self._collecting_since = now
        else:
            seconds = now - self._collecting_since
            self._collecting_seconds += seconds
            self._collected = max(self._collected, seconds)


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def _connections() -> int:
    """Established connections of this network that this process holds."""
    held = set()
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            held.add(os.readlink(f"/proc/self/fd/{descriptor}"))
        except OSError:  # closed since
            continue
    lines = [line.split() for line in Path("/proc/self/net/tcp").read_text().splitlines()[1:]]
    return sum(1 for line in lines if line[3] == "01" and f"socket:[{line[9]}]" in held)


def _our_trigger(kubeconfig: str) -> Callable[[dict[str, Any]], Any]:
    from kpo_multicluster.cluster import kubeconfig as reference
    from kpo_multicluster.pods.record import RunRecord
    from kpo_multicluster.pods.settings import RunSettings
    from kpo_multicluster.triggers.pod import KubernetesPodTrigger

    ref = reference(kubeconfig)

    def make(pod: dict[str, Any]) -> Any:
        settings = RunSettings(base=BASE, schedule_timeout_seconds=600.0, startup_timeout_seconds=600.0)
        record = RunRecord({"ref": ref.to_json()}, "bench", pod, settings, deferred_at=time.time())
        # As it comes out of the database.
        return KubernetesPodTrigger(json.loads(json.dumps(record.to_json())))

    return make


def _upstream_trigger(kubeconfig: str) -> Callable[[dict[str, Any]], Any]:
    import yaml

    # There in the other environment only.
    trigger: Any = import_module("airflow.providers.cncf.kubernetes.triggers.pod").KubernetesPodTrigger
    document = yaml.safe_load(Path(kubeconfig).read_text())

    def make(pod: dict[str, Any]) -> Any:
        return trigger(
            pod_name=pod["metadata"]["name"],
            pod_namespace=pod["metadata"]["namespace"],
            trigger_start_time=datetime.now(timezone.utc),
            base_container_name=BASE,
            config_dict=document,
            in_cluster=False,
            schedule_timeout=600,
            startup_timeout=600,
        )

    return make


async def _serve(arm: str, kubeconfig: str, answer: Callable[[str], None]) -> None:
    gauge = _Gauge()
    tasks: set[asyncio.Task[None]] = {
        asyncio.create_task(gauge.watch_loop()),
        asyncio.create_task(gauge.count_connections()),
    }
    make: Callable[[dict[str, Any]], Any] | None = None
    answer("ready")
    try:
        async for order in _orders():
            reading = gauge.read()
            if order.do == "wait":
                # As a triggerer does: the class is imported on its loop, and others may go on between two triggers.
                make = make or (_our_trigger if arm == OURS else _upstream_trigger)(kubeconfig)
                for pod in order.pods:
                    tasks.add(asyncio.create_task(_wait(make(pod), pod["metadata"]["name"], gauge)))
                    await asyncio.sleep(0)
            answer(json.dumps(asdict(reading)))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _orders() -> AsyncIterator[Order]:
    while line := await asyncio.to_thread(sys.stdin.readline):
        yield Order(**json.loads(line))


async def _wait(trigger: Any, name: str, gauge: _Gauge) -> None:
    async for event in trigger.run():
        gauge.events[name] = time.time(), str(event.payload["status"])
        return


def main(arm: str, kubeconfig: str, reply_descriptor: int) -> None:
    """Waits until standard input ends."""
    # What a triggerer has imported before its first trigger.
    import airflow.jobs.triggerer_job_runner  # noqa: F401

    with os.fdopen(reply_descriptor, "w", buffering=1) as replies:
        asyncio.run(_serve(arm, kubeconfig, lambda text: print(text, file=replies)))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
