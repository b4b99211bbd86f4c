"""What acts on objects by itself: the scheduler, the end of namespaces, and the link to the nodes.

Everything runs on the server's event loop, and nothing awaits between reading an object and writing it.
"""

from __future__ import annotations

import asyncio
import copy
import logging
import uuid
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from kpo_multicluster.testing.apiserver.events import SCHEDULER, EventRecorder
from kpo_multicluster.testing.apiserver.timestamps import to_seconds
from kpo_multicluster.testing.interfaces import Node, NodeStore
from kpo_multicluster.testing.scheduler import place
from kpo_multicluster.testing.store import Store
from kpo_multicluster.testing.topology import NodeSpec, node_object

_log = logging.getLogger(__name__)
_TERMINAL = frozenset({"Succeeded", "Failed"})
# Conditions a kubelet does not write, which its status updates must not lose.
_CORDONED = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}
_FOREIGN_CONDITIONS = frozenset({"PodScheduled", "DisruptionTarget"})

NodeFactory = Callable[[NodeStore, NodeSpec], Node]
Item = dict[str, Any]


class _Courier:
    """Hands pods to one node, in order: a pod is never stopped before it was started."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self._jobs: asyncio.Queue[tuple[Item, Callable[[Item], Awaitable[None]]]] = asyncio.Queue()
        self._task = asyncio.create_task(self._deliver(), name=f"courier of {node.name}")

    def run(self, pod: Item) -> None:
        self._jobs.put_nowait((copy.deepcopy(pod), self.node.run_pod))

    def update(self, pod: Item) -> None:
        self._jobs.put_nowait((copy.deepcopy(pod), self.node.update_pod))

    def stop(self, pod: Item, grace_seconds: float) -> None:
        self._jobs.put_nowait((copy.deepcopy(pod), lambda stopped: self.node.stop_pod(stopped, grace_seconds)))

    async def _deliver(self) -> None:
        while True:
            pod, deliver = await self._jobs.get()
            try:
                await deliver(pod)
            except Exception:  # noqa: BLE001 - one pod's failure must not take the others' node away
                _log.exception("Node %s could not take pod %s", self.node.name, pod["metadata"]["name"])

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self.node.close()


class ControlPlane:
    """The controllers of one cluster; also what its nodes report to (`interfaces.NodeStore`).

    Args:
        store: of the cluster.
        make_node: makes what runs the pods of a node; None leaves bound pods pending.
        clock: Unix time in seconds.
        root_ca_pem: the server's CA, which every namespace is given in a configmap.
    """

    def __init__(
        self, store: Store, *, make_node: NodeFactory | None, clock: Callable[[], float], root_ca_pem: str = ""
    ) -> None:
        self._store = store
        self._root_ca_pem = root_ca_pem
        self._make_node = make_node
        self._clock = clock
        self._events = EventRecorder(store, clock, new_uid)
        self._couriers: dict[str, _Courier] = {}
        self._waiting: dict[tuple[str, str], None] = {}
        self._wake = asyncio.Event()
        self._scheduler: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Starts the scheduler."""
        self._scheduler = asyncio.create_task(self._schedule(), name="scheduler")

    async def close(self) -> None:
        """Ends the scheduler and closes every node."""
        if self._scheduler is not None:
            self._scheduler.cancel()
            await asyncio.gather(self._scheduler, return_exceptions=True)
        couriers, self._couriers = list(self._couriers.values()), {}
        results = await asyncio.gather(*(courier.close() for courier in couriers), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result

    # ---- nodes -------------------------------------------------------------------------------------------------------

    async def add_node(self, spec: NodeSpec) -> None:
        """Registers a node and readies what runs its pods.

        Raises:
            ConfigurationError: this machine cannot run one.
        """
        if self._make_node is not None and spec.name not in self._couriers:
            node = self._make_node(self, spec)
            await node.start()
            self._couriers[spec.name] = _Courier(node)
        self._store.put("nodes", node_object(spec, uid=new_uid(), now=self._clock()))
        self._wake.set()

    async def remove_node(self, name: str) -> None:
        """Takes a node away as a machine that is switched off for good, and what ran on it.

        Raises:
            KeyError: there is no such node.
        """
        if self._store.get("nodes", "", name) is None:
            raise KeyError(name)
        self._store.delete("nodes", "", name)
        courier = self._couriers.pop(name, None)
        if courier is not None:
            await courier.close()
        for pod in self._store.objects("pods"):
            if pod["spec"].get("nodeName") == name:
                await self._collect(pod)

    def evict_from(self, name: str) -> list[Item]:
        """Cordons a node, and marks the pods there as evicted; gives those, which are to be deleted.

        Raises:
            KeyError: there is no such node.
        """
        found = self._store.get("nodes", "", name)
        if found is None:
            raise KeyError(name)
        node = copy.deepcopy(found)
        taints = [taint for taint in node["spec"].get("taints", ()) if taint["key"] != _CORDONED["key"]]
        node["spec"] |= {"unschedulable": True, "taints": [*taints, _CORDONED]}
        self._store.put("nodes", node)
        there = [pod for pod in self._store.objects("pods") if pod["spec"].get("nodeName") == name]
        return [self._evicted(pod) for pod in there]

    def _evicted(self, pod: Item) -> Item:
        """A pod, with the condition that says that it is evicted."""
        if pod["status"].get("phase") in _TERMINAL:
            return pod
        changed = copy.deepcopy(pod)
        _set_condition(changed, self._disruption("EvictionByEvictionAPI", "Eviction API: evicting"))
        return self._store.put("pods", changed)

    def _disruption(self, reason: str, message: str) -> Item:
        since = {"lastTransitionTime": to_seconds(self._clock())}
        return {"type": "DisruptionTarget", "status": "True", **since, "reason": reason, "message": message}

    async def _collect(self, pod: Item) -> None:
        """Fails and removes a pod whose node is gone; on a real cluster a controller does so after a minute."""
        metadata, status = pod["metadata"], copy.deepcopy(pod["status"])
        if status.get("phase") not in _TERMINAL:
            status = {**status, "phase": "Failed"}
            why = self._disruption("DeletionByPodGC", "PodGC: node no longer exists")
            status["conditions"] = [*status.get("conditions", []), why]
            await self.set_status(metadata["namespace"], metadata["name"], metadata["uid"], status)
        await self.remove(metadata["namespace"], metadata["name"], metadata["uid"])

    def node_of(self, pod: Mapping[str, Any]) -> Node | None:
        """What runs a pod; None when its node is not there."""
        courier = self._couriers.get(pod["spec"].get("nodeName", ""))
        return courier.node if courier else None

    # ---- what nodes report (NodeStore) -------------------------------------------------------------------------------

    def get(self, resource: str, namespace: str, name: str) -> Item | None:
        """A stored object; None when there is none."""
        return self._store.get(resource, namespace, name)

    async def set_status(self, namespace: str, name: str, uid: str, status: Item) -> None:
        """Replaces a pod's status; ignored once the pod of that uid is gone."""
        current = self._pod(namespace, name, uid)
        if current is None:
            return
        pod = copy.deepcopy(current)
        foreign = [entry for entry in pod["status"].get("conditions", []) if entry["type"] in _FOREIGN_CONDITIONS]
        given = {entry["type"] for entry in status.get("conditions", [])}
        conditions = [*status.get("conditions", []), *(entry for entry in foreign if entry["type"] not in given)]
        pod["status"] = {"qosClass": current["status"].get("qosClass", "BestEffort"), **copy.deepcopy(status)}
        if conditions:
            pod["status"]["conditions"] = conditions
        self.updated("pods", self._store.put("pods", pod))

    async def remove(self, namespace: str, name: str, uid: str) -> None:
        """Removes a pod whose containers have stopped; ignored once the pod of that uid is gone."""
        current = self._pod(namespace, name, uid)
        if current is None:
            return
        pod = copy.deepcopy(current)
        # A kubelet removes a pod by a deletion without grace, and that writes its own time.
        pod["metadata"]["deletionTimestamp"] = to_seconds(self._clock())
        pod["metadata"]["deletionGracePeriodSeconds"] = 0
        self.settle("pods", self._store.put("pods", pod))

    async def record_event(
        self, pod: dict[str, Any], *, type: str, reason: str, message: str, field_path: str = ""
    ) -> None:
        """Records an event about a pod as its kubelet."""
        namespace = self._store.get("namespaces", "", pod["metadata"]["namespace"])
        # As a real server, which refuses new objects in a namespace that ends.
        if namespace is not None and namespace["status"]["phase"] == "Active":
            self._events.from_kubelet(pod, type, reason, message, field_path)

    def _pod(self, namespace: str, name: str, uid: str) -> Item | None:
        pod = self._store.get("pods", namespace, name)
        return pod if pod is not None and pod["metadata"]["uid"] == uid else None

    # ---- what happened to objects ------------------------------------------------------------------------------------

    def created(self, resource: str, item: Item) -> None:
        """An object was created."""
        if resource == "pods" and (courier := self._couriers.get(item["spec"].get("nodeName", ""))):
            courier.run(item)
        elif resource == "namespaces":
            self._furnish(item["metadata"]["name"])
        self.updated(resource, item)

    def updated(self, resource: str, item: Item) -> None:
        """An object changed."""
        if resource == "pods":
            key = (item["metadata"]["namespace"], item["metadata"]["name"])
            if _waits(item):
                self._waiting[key] = None
            elif item["status"].get("phase") not in _TERMINAL:
                self._waiting.pop(key, None)
                return
        if resource in ("pods", "nodes"):
            self._wake.set()

    def respecified(self, pod: Item) -> None:
        """A pod's spec changed."""
        if courier := self._couriers.get(pod["spec"].get("nodeName", "")):
            courier.update(pod)

    def stop_pod(self, pod: Item, grace_seconds: float) -> None:
        """Tells a pod's node that its deletion began."""
        if courier := self._couriers.get(pod["spec"].get("nodeName", "")):
            courier.stop(pod, grace_seconds)

    def settle(self, resource: str, item: Item) -> Item:
        """Removes an object whose deletion has nothing left to wait for; gives back its last state."""
        metadata = item["metadata"]
        if metadata.get("finalizers") or "deletionTimestamp" not in metadata:
            return item
        if metadata.get("deletionGracePeriodSeconds"):
            return item
        namespace, name = metadata.get("namespace", ""), metadata["name"]
        if self._store.get(resource, namespace, name) is None:
            return item
        last = self._store.delete(resource, namespace, name)
        if resource == "pods":
            self._waiting.pop((namespace, name), None)
            self._wake.set()
        self.finish_namespace(namespace)
        return last

    # ---- namespaces --------------------------------------------------------------------------------------------------

    def _furnish(self, namespace: str) -> None:
        """What controllers put into every namespace."""
        for resource, kind, name, body in (
            ("serviceaccounts", "ServiceAccount", "default", {}),
            ("configmaps", "ConfigMap", "kube-root-ca.crt", {"data": {"ca.crt": self._root_ca_pem}}),
        ):
            metadata = {
                "name": name,
                "namespace": namespace,
                "uid": new_uid(),
                "creationTimestamp": to_seconds(self._clock()),
            }
            self._store.put(resource, {"kind": kind, "apiVersion": "v1", "metadata": metadata, **body})

    def finish_namespace(self, name: str) -> None:
        """Removes a namespace that is being deleted once its last pod is gone, with all else in it."""
        namespace = self._store.get("namespaces", "", name)
        if namespace is None or "deletionTimestamp" not in namespace["metadata"] or self._store.objects("pods", name):
            return
        for resource in ("events", "secrets", "configmaps", "serviceaccounts"):
            for item in self._store.objects(resource, name):
                self._store.delete(resource, name, item["metadata"]["name"])
        self._store.delete("namespaces", "", name)

    # ---- scheduling --------------------------------------------------------------------------------------------------

    async def _schedule(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            for key in list(self._waiting):
                pod = self._store.get("pods", *key)
                if pod is None or not _waits(pod):
                    self._waiting.pop(key, None)
                else:
                    self._attempt(pod)

    def _attempt(self, pod: Item) -> None:
        placement = place(pod, self._store.objects("nodes"), self._store.objects("pods"))
        now = to_seconds(self._clock())
        changed = copy.deepcopy(pod)
        condition: Item = {"type": "PodScheduled", "lastProbeTime": None, "lastTransitionTime": now}
        if placement.node:
            changed["spec"]["nodeName"] = placement.node
            _set_condition(changed, {**condition, "status": "True"})
            bound = self._store.put("pods", changed)
            where = f"{pod['metadata']['namespace']}/{pod['metadata']['name']} to {placement.node}"
            self._events.from_scheduler(bound, "Normal", "Scheduled", f"Successfully assigned {where}", "Binding")
            self._waiting.pop((pod["metadata"]["namespace"], pod["metadata"]["name"]), None)
            if courier := self._couriers.get(placement.node):
                courier.run(bound)
            return
        conditions = pod["status"].get("conditions", [])
        if any(known["type"] == "PodScheduled" and known.get("message") == placement.message for known in conditions):
            return
        why = {"reason": "Unschedulable", "message": placement.message}
        generation = pod["metadata"].get("generation", 1)
        _set_condition(changed, {**condition, "observedGeneration": generation, "status": "False", **why})
        refused = self._store.put("pods", changed)
        self._events.from_scheduler(refused, "Warning", "FailedScheduling", placement.message, "Scheduling")


def new_uid() -> str:
    """A uid for an object."""
    return str(uuid.uuid4())


def _waits(pod: Mapping[str, Any]) -> bool:
    spec = pod["spec"]
    return (
        not spec.get("nodeName")
        and spec.get("schedulerName") == SCHEDULER
        and not spec.get("schedulingGates")
        and "deletionTimestamp" not in pod["metadata"]
        and pod["status"].get("phase") not in _TERMINAL
    )


def _set_condition(pod: Item, condition: Item) -> None:
    others = [entry for entry in pod["status"].get("conditions", []) if entry["type"] != condition["type"]]
    pod["status"]["conditions"] = [*others, condition]
