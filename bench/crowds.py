"""Pods that are waited for together: a thousand on an embedded cluster, a hundred on a real node."""

from __future__ import annotations

import contextlib
import multiprocessing
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Protocol

from bench.arms import Arm
from bench.clusters import RealCluster
from bench.subjects import BenchError
from kpo_multicluster.testing.cluster import EmbeddedCluster
from tests.cluster import bed
from tests.cluster.clients import Client

Pod = dict[str, Any]

BASE = "base"
_LABELS = {"kubernetes_pod_operator": "True"}
_IMAGE = "alpine:3.22"
# What no scheduler looks at costs the cluster nothing.
_UNSCHEDULED = {"schedulerName": "nobody"}
_START_SECONDS = 300.0
# Between the ends of two pods.
_APART_SECONDS = 0.1


class Crowd(Protocol):
    """Pods that do nothing until they are told to end.

    Attributes:
        where: they are.
        size: how many.
        kubeconfigs: by arm.
    """

    where: str
    size: int
    kubeconfigs: dict[str, str]

    def start(self) -> list[Pod]:
        """Creates them; gives them, once all run, as they were created."""
        ...

    def end(self) -> dict[str, float]:
        """Has them end well, one after the other; gives the Unix time of each end, by pod's name."""
        ...

    def asked(self, arm: Arm, began: float, ended: float) -> Counter[str]:
        """What an arm asked the API server for between two Unix times."""
        ...


def _manifest(number: int, command: list[str], **spec: Any) -> Pod:
    # With an end of its input it would end its half of a connection, which the node's address translation then forgets.
    base = {"name": BASE, "image": _IMAGE, "command": command, "stdin": True}
    return {
        "metadata": {"name": f"pod-{number}", "labels": _LABELS},
        "spec": {"containers": [base], "restartPolicy": "Never", "terminationGracePeriodSeconds": 0, **spec},
    }


class EmbeddedCrowd:
    """On an embedded cluster without nodes: the kubelet's part is played here, by writing each pod's status.

    A pod's end is when its status is sent to the server.
    """

    where = "embedded cluster"

    def __init__(self, client: Client, kubeconfig: Path, arms: tuple[Arm, ...], size: int, pipe: Connection) -> None:
        self.size = size
        self.kubeconfigs = {arm.name: str(kubeconfig) for arm in arms}
        self._client = client
        self._pipe = pipe
        self._path = "/api/v1/namespaces/default/pods"

    def start(self) -> list[Pod]:
        """Creates them, and writes that they run."""
        manifests = [_manifest(number, ["true"], **_UNSCHEDULED) for number in range(self.size)]
        pods = [self._client.request("POST", self._path, manifest) for manifest in manifests]
        for pod in pods:
            self._report(pod, "Running", {"running": {"startedAt": "2026-01-01T00:00:00Z"}})
        return pods

    def end(self) -> dict[str, float]:
        """Writes that they have ended."""
        ended = {}
        for number in range(self.size):
            name = f"pod-{number}"
            ended[name] = time.time()
            self._report({"metadata": {"name": name}}, "Succeeded", {"terminated": {"exitCode": 0}})
        return ended

    def asked(self, arm: Arm, began: float, ended: float) -> Counter[str]:
        """What anyone asked for: this process asks for nothing while it measures."""
        self._pipe.send((began, ended))
        return Counter(self._pipe.recv())

    def _report(self, pod: Pod, phase: str, state: dict[str, Any]) -> None:
        base = {"name": BASE, "image": _IMAGE, "imageID": "", "ready": False, "restartCount": 0, "state": state}
        conditions = [{"type": "PodScheduled", "status": "True"}]
        status = {"phase": phase, "conditions": conditions, "containerStatuses": [base]}
        self._client.request("PATCH", f"{self._path}/{pod['metadata']['name']}/status", {"status": status})


def _serve(kubeconfig: str, pipe: Connection) -> None:
    """An embedded cluster in a process of its own: tells what it was asked for between two times."""
    with EmbeddedCluster("bench", nodes=()) as cluster:
        cluster.write_kubeconfig(Path(kubeconfig))
        pipe.send("ready")
        while (times := pipe.recv()) is not None:
            began, ended = times
            found = (each for each in cluster.requests.records() if began <= each.at <= ended)
            pipe.send(Counter(f"{each.info.verb} {each.info.qualified_resource}" for each in found))


@contextmanager
def embedded(arms: tuple[Arm, ...], size: int, directory: Path) -> Iterator[EmbeddedCrowd]:
    """A crowd on a cluster of its own."""
    path = directory / "embedded.kubeconfig"
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    server = context.Process(target=_serve, args=(str(path), there), daemon=True)
    server.start()
    try:
        here.recv()
        client = Client(path, "bench")
        try:
            yield EmbeddedCrowd(client, path, arms, size, here)
        finally:
            client.close()
            here.send(None)
    finally:
        server.join(10)


class RealCrowd:
    """On the node of a real cluster: each pod holds a connection to this process, and ends when that is closed.

    A pod's end is when a watch that does nothing else is told of it.
    """

    def __init__(self, cluster: RealCluster, size: int, gate: socket.socket) -> None:
        self.where = "real node"
        self.size = size
        self.kubeconfigs = cluster.kubeconfigs
        self._cluster = cluster
        self._gate = gate
        self._held: list[socket.socket] = []
        self._client = Client(bed.KUBECONFIG, bed.clusters()["alpha"].name)
        self._path = f"/api/v1/namespaces/{cluster.namespace}/pods"

    def start(self) -> list[Pod]:
        """Creates them; waits until all hold their connections."""
        address, port = self._gate.getsockname()
        command = ["nc", address, str(port)]
        pods = [self._client.request("POST", self._path, _manifest(n, command)) for n in range(self.size)]
        self._gate.settimeout(_START_SECONDS)
        try:
            while len(self._held) < self.size:
                self._held.append(self._gate.accept()[0])
        except TimeoutError:
            raise BenchError(f"{len(self._held)} of {self.size} pods ran after {_START_SECONDS:g} s") from None
        self._until(lambda pods: all("running" in _state(pod) for pod in pods))
        return pods

    def end(self) -> dict[str, float]:
        """Closes the connections, one after the other."""
        ended: dict[str, float] = {}
        watching = threading.Thread(target=self._watch, args=(ended,), daemon=True)
        watching.start()
        for connection in self._held:
            connection.close()
            time.sleep(_APART_SECONDS)
        watching.join(_START_SECONDS)
        if len(ended) < self.size:
            raise BenchError(f"{len(ended)} of {self.size} pods ended within {_START_SECONDS:g} s")
        return dict(ended)

    def asked(self, arm: Arm, began: float, ended: float) -> Counter[str]:
        """From the API server's audit log."""
        return self._cluster.requests(arm.name, began, ended)

    def close(self) -> None:
        """Removes them."""
        for connection in self._held:
            connection.close()
        with contextlib.suppress(OSError):
            self._client.request("DELETE", self._path)
        self._cluster.settle()
        self._client.close()

    def _until(self, holds: Callable[[list[Pod]], bool]) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while not holds(self._client.request("GET", self._path)["items"]):
            if time.monotonic() > deadline:
                raise BenchError(f"the pods do not all run after {_START_SECONDS:g} s")
            time.sleep(1)

    def _watch(self, ended: dict[str, float]) -> None:
        version = self._client.request("GET", self._path, limit="1")["metadata"]["resourceVersion"]
        for event in self._client.watch(self._path, timeout_seconds=_START_SECONDS, resourceVersion=version):
            pod = event["object"]
            if "terminated" in _state(pod):
                ended.setdefault(pod["metadata"]["name"], time.time())
            if len(ended) == self.size:
                return


def _state(pod: Pod) -> dict[str, Any]:
    statuses = pod.get("status", {}).get("containerStatuses") or [{}]
    found: dict[str, Any] = statuses[0].get("state") or {}
    return found


@contextmanager
def real(cluster: RealCluster, size: int) -> Iterator[RealCrowd]:
    """A crowd on a cluster of `make cluster-up`."""
    with socket.create_server((bed.clusters()["alpha"].host_address, 0)) as gate:
        crowd = RealCrowd(cluster, size, gate)
        try:
            yield crowd
        finally:
            crowd.close()
