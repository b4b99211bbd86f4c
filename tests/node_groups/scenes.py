"""A cloud with a cluster that its nodes join, and tasks on it, run as Airflow runs them."""

from __future__ import annotations

import asyncio
import copy
import json
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from kpo_multicluster.airflow_names import TaskDeferred
from kpo_multicluster.node_groups import waiting
from kpo_multicluster.node_groups.taints import Taint
from kpo_multicluster.operators.node_groups import CreateNodeGroupOperator
from kpo_multicluster.testing import EmbeddedCluster, NodeSpec, User

from .conftest import CLIENT, SECRET, Bed

TAINT = Taint("nvidia.com/gpu", "present")


@dataclass
class TaskInstance:
    """What these tasks use of theirs."""

    dag_id: str = "train"
    run_id: str = "manual__2026-01-01T00:00:00+00:00"


@dataclass
class Scene:
    """A cloud, and the cluster that its nodes join."""

    bed: Bed
    embedded: EmbeddedCluster
    cluster: Any

    def lose_nodes(self) -> None:
        """From now on nodes start and do not join."""
        self.bed.fake.nodes_join(self.cluster, Nowhere())

    def nodes(self) -> list[str]:
        return [node["metadata"]["name"] for node in self.embedded.objects("nodes")]

    def gone(self, name: str = "gpu") -> bool:
        """Whether a group is gone, or on its way."""
        deadline = time.monotonic() + 30
        while self.bed.emulated(name) is not None and time.monotonic() < deadline:
            time.sleep(0.01)
        return self.bed.emulated(name) is None


@pytest.fixture
def scene(bed: Bed, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Scene]:
    _hurry(monkeypatch)
    connection = bed.connections.get("cloud")
    content = {"conn_type": connection.conn_type, "extra": dict(connection.extra)}
    content |= {"login": connection.login, "password": connection.password}
    monkeypatch.setenv("AIRFLOW_CONN_CLOUD", json.dumps(content))
    with EmbeddedCluster("ml", nodes=()) as embedded:
        made = bed.fake.add_cluster("ml", cluster=embedded, **({"version": "1.34"} if bed.kind == "eks" else {}))
        if bed.kind == "eks":
            made.add_user("arn:aws:iam::111111111111:user/airflow", username="airflow")
            embedded.add_user(User("airflow"))
        elif bed.kind == "gke":
            embedded.add_user(User("airflow@my-project.iam.gserviceaccount.com"))
        else:
            embedded.add_user(User(bed.fake.add_application(CLIENT, secret=SECRET).name))
        bed.ref = made.ref(conn_id="cloud")
        bed.fake.nodes_join(made, embedded)
        yield Scene(bed, embedded, made)


class Nowhere:
    """A cluster that nodes cannot find: what their cloud has started never registers."""

    def add_node(self, spec: NodeSpec) -> None:
        pass

    def drain_node(self, name: str, *, timeout_seconds: float) -> None:
        pass

    def remove_node(self, name: str) -> None:
        pass


def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    from kpo_multicluster.node_groups import lifecycle

    made: Any = lifecycle.NodeGroups.__init__
    monkeypatch.setitem(made.__kwdefaults__, "pace", waiting.Pace(0.02, 0.1))


def run(operator: Any, ti: TaskInstance | None = None) -> Any:
    """Executes a task, its trigger too, with everything that is stored gone through JSON."""
    context: Any = {"ti": ti or TaskInstance()}
    operator._cached_logger = logging.getLogger("task")
    fresh = copy.deepcopy(operator)
    try:
        return operator.execute(context)
    except TaskDeferred as deferred:
        path, kwargs = deferred.trigger.serialize()
        module, _, name = path.rpartition(".")
        trigger = getattr(import_module(module), name)(**json.loads(json.dumps(kwargs)))
        trigger._log = logging.getLogger("task")
        event = asyncio.run(first(trigger))
        # No more than `airflow dags test` hands on.
        given = json.loads(json.dumps({"event": event.payload}))
        fresh._cached_logger = logging.getLogger("task")
        return fresh.resume_execution(deferred.method_name, given, context)


async def first(trigger: Any) -> Any:
    events = trigger.run()
    try:
        return await anext(events)
    finally:
        await events.aclose()


def create(scene: Scene, **given: Any) -> CreateNodeGroupOperator:
    arguments = {"task_id": "create", "cluster": scene.bed.ref, "spec": spec(scene), **given}
    return CreateNodeGroupOperator(**arguments)


def spec(scene: Scene, **given: Any) -> Any:
    return scene.bed.spec(**{"desired_size": 2, "max_size": 3, "taints": (TAINT,), **given})
