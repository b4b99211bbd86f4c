"""Tasks that make, scale and remove node groups; their nodes join an embedded cluster."""

from __future__ import annotations

import asyncio
import copy
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG

from kpo_multicluster.airflow_names import AirflowException, TaskDeferralError, TaskDeferred
from kpo_multicluster.clouds import eks
from kpo_multicluster.errors import (
    ConfigurationError,
    NodeGroupError,
    NodeGroupFailedError,
    NodeGroupMismatchError,
    NodeGroupTimeoutError,
)
from kpo_multicluster.node_groups import waiting
from kpo_multicluster.node_groups.placement import NODE_LABELS, placement_of
from kpo_multicluster.node_groups.taints import Taint
from kpo_multicluster.operators.gpu_nodes import gpu_nodes
from kpo_multicluster.operators.node_groups import (
    CreateNodeGroupOperator,
    DeleteNodeGroupOperator,
    ScaleNodeGroupOperator,
)
from kpo_multicluster.operators.pod import KubernetesPodOperator
from kpo_multicluster.sensors.node_groups import NodeGroupSensor
from kpo_multicluster.testing import EmbeddedCluster, NodeSpec, User
from kpo_multicluster.testing.clouds.node_groups import ChangeKind, Trouble
from kpo_multicluster.testing.clouds.node_groups import NodeGroup as Emulated

from ..decorators.test_dags import database as database
from ..decorators.test_dags import serialized
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
        scene = Scene(bed, embedded)

        def join(group: Emulated) -> None:
            there = [name for name in scene.nodes() if name.startswith(f"{group.name}-")]
            for number in range(len(there), group.count):
                labels, taint = {NODE_LABELS[bed.kind]: group.name}, TAINT
                taints = ({"key": taint.key, "value": taint.value, "effect": taint.effect},)
                spec = NodeSpec(
                    f"{group.name}-{number}", labels=labels, taints=taints, capacity={"nvidia.com/gpu": "1"}
                )
                embedded.add_node(spec)
            for name in there[group.count :]:
                embedded.remove_node(name)

        def leave(group: Emulated) -> None:
            for name in scene.nodes():
                if name.startswith(f"{group.name}-"):
                    embedded.remove_node(name)

        bed.fake.node_groups.on_active, bed.fake.node_groups.on_deleting = join, leave
        yield scene
        bed.fake.node_groups.on_active = bed.fake.node_groups.on_deleting = lambda _: None


def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    from kpo_multicluster.node_groups import lifecycle

    made: Any = lifecycle.NodeGroups.__init__
    monkeypatch.setitem(made.__kwdefaults__, "pace", waiting.Pace(0.02, 0.1))


@pytest.fixture(params=["sync", "deferred"])
def execute(request: pytest.FixtureRequest) -> Callable[..., Any]:
    def execute(operator: Any, ti: TaskInstance | None = None) -> Any:
        operator.deferrable = request.param == "deferred"
        return run(operator, ti)

    return execute


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
        given = json.loads(json.dumps({"event": event.payload, **(deferred.kwargs or {})}))
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


def test_a_group_for_a_run(scene: Scene, execute: Callable[..., Any], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    made = execute(create(scene))

    assert made["name"] == "gpu"
    assert scene.nodes() == ["gpu-0", "gpu-1"]
    assert "ready: 2 nodes take pods, 2 nvidia.com/gpu allocatable" in caplog.text
    assert "SECRET" not in caplog.text

    execute(ScaleNodeGroupOperator(task_id="scale", cluster=scene.bed.ref, name="gpu", desired_size=3))
    assert len(scene.nodes()) == 3
    execute(ScaleNodeGroupOperator(task_id="empty", cluster=scene.bed.ref, name="gpu", desired_size=0))
    assert scene.nodes() == []

    delete = DeleteNodeGroupOperator(task_id="delete", cluster=scene.bed.ref, name="gpu")
    with pytest.raises(NodeGroupError, match="was made for train/manual__2026"):
        execute(copy.deepcopy(delete), TaskInstance(run_id="other"))
    execute(copy.deepcopy(delete))
    assert scene.bed.emulated() is None
    execute(copy.deepcopy(delete))


def test_waiting_for_what_others_do(scene: Scene, execute: Callable[..., Any]) -> None:
    where: dict[str, Any] = {"cluster": scene.bed.ref, "name": "gpu"}
    run(create(scene))
    execute(NodeGroupSensor(task_id="ready", nodes=2, gpus=2, **where))
    with pytest.raises(NodeGroupTimeoutError, match="2 of 3 nodes registered"):
        execute(NodeGroupSensor(task_id="late", nodes=3, timeout_seconds=1, **where))
    run(DeleteNodeGroupOperator(task_id="delete", any_run=True, **where))
    execute(NodeGroupSensor(task_id="gone", target="gone", **where))
    with pytest.raises(NodeGroupError, match="is gone"):
        execute(NodeGroupSensor(task_id="none", **where))


def test_a_creation_that_fails_leaves_nothing(scene: Scene, execute: Callable[..., Any]) -> None:
    scene.bed.fake.node_groups.fail_next(ChangeKind.CREATE, Trouble("GCE_STOCKOUT", "there are no such machines"))

    with pytest.raises(NodeGroupFailedError, match="there are no such machines") as caught:
        execute(create(scene))

    assert isinstance(caught.value, AirflowException)
    assert scene.gone()


def test_nodes_that_do_not_come_leave_nothing(scene: Scene, execute: Callable[..., Any]) -> None:
    scene.bed.fake.node_groups.on_active = lambda _: None
    # An earlier try came as far as this.
    run(create(scene, see_nodes=False))

    with pytest.raises(NodeGroupTimeoutError, match="0 of 2 nodes registered") as caught:
        execute(create(scene, execution_timeout=timedelta(seconds=1), timeout_seconds=600))

    assert caught.value.stage == "registered"
    assert scene.gone()


def test_a_killed_creation_leaves_nothing(scene: Scene) -> None:
    scene.bed.fake.node_groups.on_active = lambda _: None
    operator = create(scene, deferrable=False)

    def kill() -> None:
        while scene.bed.emulated() is None:
            time.sleep(0.01)
        operator.on_kill()

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(AirflowException, match="was killed"):
        run(operator)
    killer.join()
    assert scene.gone()


def test_a_killed_deferred_creation_leaves_nothing(scene: Scene) -> None:
    scene.bed.fake.node_groups.on_active = lambda _: None
    operator = create(scene, deferrable=True)
    with pytest.raises(TaskDeferred) as caught:
        operator.execute({"ti": TaskInstance()})  # type: ignore[typeddict-item]
    assert scene.bed.emulated() is not None

    asyncio.run(caught.value.trigger.on_kill())
    assert scene.gone()


def test_a_triggerer_that_fails_leaves_nothing(scene: Scene) -> None:
    operator = create(scene, deferrable=True)
    context: Any = {"ti": TaskInstance()}
    with pytest.raises(TaskDeferred):
        operator.execute(context)
    assert scene.bed.emulated() is not None

    with pytest.raises(TaskDeferralError):
        create(scene).resume_execution("__fail__", {"error": "Trigger failure"}, context)
    assert scene.gone()


def test_a_group_of_another_run(scene: Scene) -> None:
    run(create(scene))
    other = TaskInstance(run_id="other")
    with pytest.raises(NodeGroupMismatchError, match="adopt is False"):
        run(create(scene, adopt=False), other)
    assert run(create(scene), other)["owned"] is False
    assert scene.bed.emulated() is not None


def test_what_is_wrong_is_said_when_a_dag_is_parsed(bed: Bed) -> None:
    ref = eks("ml", region="us-east-2")
    options = {"cloud": "eks", "node_role": "arn:aws:iam::111111111111:role/n", "subnets": ["subnet-a"]}
    for given, match in (
        ({"spec": {"name": "g", "options": {**options, "amiType": "x"}}}, "unknown field amiType"),
        ({"spec": {"name": "g!", "options": options}}, "1 to 63 letters"),
        ({"spec": {"name": "g", "options": options}, "kubernetes_conn_id": "k"}, "exactly one of"),
        ({"spec": {"name": "g", "options": options}, "timeout_seconds": 0}, "more than 0"),
    ):
        with pytest.raises(ConfigurationError, match=match):
            CreateNodeGroupOperator(task_id="create", cluster=ref, **given)
    with pytest.raises(ConfigurationError, match="'ready' or 'gone'"):
        NodeGroupSensor(task_id="s", cluster=ref, name="g", target="ACTIVE")
    # What holds templates is looked at when they are rendered.
    CreateNodeGroupOperator(task_id="create", cluster=ref, spec={"name": "g{{ ds_nodash }}", "options": options})


def test_pods_are_placed(scene: Scene) -> None:
    made = spec(scene)
    with DAG("placed", schedule=None), gpu_nodes(cluster=scene.bed.ref, spec=made) as nodes:
        plain = KubernetesPodOperator(task_id="plain", image="i", cluster=scene.bed.ref)
        own = KubernetesPodOperator(
            task_id="own",
            image="i",
            cluster=scene.bed.ref,
            node_selector={"zone": "b"},
            container_resources={"limits": {"cpu": "1"}},
        )
    label = {NODE_LABELS[scene.bed.kind]: "gpu"}
    assert plain.node_selector == label
    assert plain.tolerations == [TAINT.toleration()]
    assert nodes.pod_arguments()["container_resources"] == {"limits": {"nvidia.com/gpu": "1"}}
    assert own.node_selector == {"zone": "b", **label}
    assert own.container_resources == {"limits": {"cpu": "1"}}
    assert (nodes.create.is_setup, nodes.delete.is_teardown) == (True, True)
    assert placement_of(made).node_selector == label


@pytest.mark.parametrize(("script", "state"), [("echo hello", "success"), ("exit 3", "failed")])
def test_a_dag_with_gpu_nodes(scene: Scene, database: None, script: str, state: str) -> None:
    name = f"gpus_{scene.bed.kind}_{state}"
    ran: list[str] = []

    def see(pods: list[dict[str, Any]]) -> bool:
        ran.extend(pod["spec"]["nodeName"] for pod in pods if pod["spec"].get("nodeName"))
        return bool(ran)

    with DAG(name, schedule=None) as dag, gpu_nodes(cluster=scene.bed.ref, spec=spec(scene)):
        KubernetesPodOperator(
            task_id="train", image="alpine:3", cmds=["sh", "-c", script], cluster=scene.bed.ref, namespace="default"
        )
    watcher = threading.Thread(target=lambda: scene.embedded.wait_until(see, timeout_seconds=100))
    watcher.start()
    done = serialized(dag).test()
    watcher.join()

    assert str(done.state) == state
    assert set(ran) <= {"gpu-0", "gpu-1"}
    assert scene.bed.emulated() is None
    assert scene.nodes() == []
