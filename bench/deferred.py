"""What deferred pods cost the process that waits for them: `python -m bench.deferred [pods] [seconds]`.

The pods are made on an embedded cluster in a process of its own and moved by hand, as a kubelet would: what is measured
is the waiting alone. Prints JSON.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import resource
import statistics
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from kpo_multicluster.api.client import ApiClient
from kpo_multicluster.auth.registry import resolve
from kpo_multicluster.cluster import kubeconfig
from kpo_multicluster.pods.record import RunRecord
from kpo_multicluster.pods.settings import RunSettings
from kpo_multicluster.testing.cluster import EmbeddedCluster
from kpo_multicluster.triggers.pod import KubernetesPodTrigger

PODS = "/api/v1/namespaces/default/pods"
_AT_ONCE = 10


def serve(config: str, pipe: Connection) -> None:
    """The cluster's process: answers each message with the requests since the one before."""
    with EmbeddedCluster("bench", nodes=()) as cluster:
        cluster.write_kubeconfig(Path(config))
        pipe.send("ready")
        while pipe.recv() == "count":
            pipe.send(dict(cluster.requests.counts()))
            cluster.requests.reset()


def manifest(name: str) -> dict[str, Any]:
    """A pod that stays as it is."""
    metadata = {"name": name, "labels": {"kubernetes_pod_operator": "True"}}
    spec = {"containers": [{"name": "base", "image": "alpine:3"}], "restartPolicy": "Never"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def status(phase: str, state: dict[str, Any]) -> dict[str, Any]:
    """As a kubelet writes it."""
    base = {"name": "base", "image": "alpine:3", "imageID": "", "ready": False, "restartCount": 0, "state": state}
    conditions = [{"type": "PodScheduled", "status": "True"}]
    return {"status": {"phase": phase, "conditions": conditions, "containerStatuses": [base]}}


RUNNING = status("Running", {"running": {"startedAt": "2026-01-01T00:00:00Z"}})
ENDED = status("Succeeded", {"terminated": {"exitCode": 0, "reason": "Completed"}})


class Bench:
    """One run of it."""

    def __init__(self, config: str, pipe: Connection, pods: int, seconds: float) -> None:
        self._ref = kubeconfig(config)
        self._pipe = pipe
        self._pods = pods
        self._seconds = seconds
        self._ended: dict[str, float] = {}
        self._delays: list[float] = []
        self._longest_block = 0.0

    async def run(self) -> dict[str, Any]:
        """What was measured."""
        async with ApiClient(resolve(self._ref)) as api:
            names = [f"pod-{number}" for number in range(self._pods)]
            pods = await self._each(names, lambda name: api.request("POST", PODS, body=manifest(name)))
            await self._move(api, names, RUNNING)
            # The first trigger brings the imports with it.
            first = asyncio.create_task(self._wait(pods[0]))
            await asyncio.sleep(3)
            memory = resident_mb()
            await self._count()
            watchdog = asyncio.create_task(self._watch_loop())
            waits = [first, *(asyncio.create_task(self._wait(pod)) for pod in pods[1:])]
            await asyncio.sleep(5)
            begun = await self._count()
            grown = resident_mb() - memory
            cpu = time.process_time()
            await asyncio.sleep(self._seconds)
            cpu = time.process_time() - cpu
            waiting = await self._count()
            block = self._longest_block
            await self._move(api, names, ENDED)
            await asyncio.gather(*waits)
            watchdog.cancel()
        delays = sorted(self._delays)
        return {
            "pods": self._pods,
            "requests to begin": begun,
            "requests a second while waiting": round(sum(waiting.values()) / self._seconds, 3),
            "CPU seconds a minute while waiting": round(cpu * 60 / self._seconds, 3),
            "MB grown for all pods": round(grown, 1),
            "MB resident at most": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
            "longest the loop was held, s": round(block, 3),
            "event after the end, median s": round(statistics.median(delays), 3),
            "event after the end, p99 s": round(delays[int(len(delays) * 0.99)], 3),
        }

    async def _wait(self, pod: dict[str, Any]) -> None:
        record = RunRecord(
            cluster={"ref": self._ref.to_json()},
            server="bench",
            pod=pod,
            settings=RunSettings(base="base"),
            deferred_at=time.time(),
        )
        events = KubernetesPodTrigger(json.loads(json.dumps(record.to_json()))).run()
        async for event in events:
            assert event.payload["status"] == "success", event.payload
            self._delays.append(time.monotonic() - self._ended[pod["metadata"]["name"]])

    async def _move(self, api: ApiClient, names: list[str], to: dict[str, Any]) -> None:
        async def move(name: str) -> None:
            kind = "application/merge-patch+json"
            self._ended[name] = time.monotonic()
            await api.request("PATCH", f"{PODS}/{name}/status", body=to, content_type=kind)

        await self._each(names, move)

    @staticmethod
    async def _each(names: list[str], work: Any) -> list[Any]:
        results: list[Any] = []
        for start in range(0, len(names), _AT_ONCE):
            results.extend(await asyncio.gather(*map(work, names[start : start + _AT_ONCE])))
        return results

    async def _count(self) -> dict[str, int]:
        self._pipe.send("count")
        counts: dict[str, int] = await asyncio.to_thread(self._pipe.recv)
        return counts

    async def _watch_loop(self) -> None:
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.01)
            self._longest_block = max(self._longest_block, time.monotonic() - before - 0.01)


def resident_mb() -> float:
    """Of this process, now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def main() -> None:
    """Runs the bench."""
    pods, seconds = (float(argument) for argument in (*sys.argv[1:], *("1000", "30")[len(sys.argv) - 1 :]))
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    with tempfile.TemporaryDirectory() as directory:
        config = f"{directory}/config"
        server = context.Process(target=serve, args=(config, theirs), daemon=True)
        server.start()
        ours.recv()
        try:
            found = asyncio.run(Bench(config, ours, int(pods), seconds).run())
            sys.stdout.write(json.dumps(found, indent=2) + "\n")
        finally:
            ours.send("end")
            server.join(10)


if __name__ == "__main__":
    main()
