"""Tasks that make, scale and remove node groups; their nodes join an embedded cluster."""

from __future__ import annotations

import asyncio
import copy
import logging
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from airflow.sdk import DAG, task

from kpo_multicluster.airflow_names import AirflowException, TaskDeferralError, TaskDeferred
from kpo_multicluster.clouds import eks
from kpo_multicluster.errors import (
    ConfigurationError,
    NodeGroupError,
    NodeGroupFailedError,
    NodeGroupMismatchError,
    NodeGroupTimeoutError,
)
from kpo_multicluster.hooks.node_groups import NodeGroupWait
from kpo_multicluster.node_groups.group import Change
from kpo_multicluster.node_groups.placement import NODE_LABELS, placement_of
from kpo_multicluster.operators.gpu_nodes import gpu_nodes
from kpo_multicluster.operators.node_groups import (
    CreateNodeGroupOperator,
    DeleteNodeGroupOperator,
    ScaleNodeGroupOperator,
)
from kpo_multicluster.operators.pod import KubernetesPodOperator
from kpo_multicluster.sensors.node_groups import NodeGroupSensor
from kpo_multicluster.testing.clouds.node_groups import ChangeKind, Trouble
from kpo_multicluster.triggers.node_groups import NodeGroupTrigger

from ..decorators.test_dags import database as database
from ..decorators.test_dags import serialized
from .conftest import Bed
from .scenes import TAINT, Scene, TaskInstance, create, first, run, spec
from .scenes import scene as scene


@pytest.fixture(params=["sync", "deferred"])
def execute(request: pytest.FixtureRequest) -> Callable[..., Any]:
    def execute(operator: Any, ti: TaskInstance | None = None) -> Any:
        operator.deferrable = request.param == "deferred"
        return run(operator, ti)

    return execute


def test_a_group_for_a_run(scene: Scene, execute: Callable[..., Any], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    made = execute(create(scene))

    assert made == {"name": "gpu", "created": True, "owned": True}
    assert len(scene.nodes()) == 2
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
    scene.lose_nodes()
    # An earlier try came as far as this.
    run(create(scene, see_nodes=False))

    with pytest.raises(NodeGroupTimeoutError, match="0 of 2 nodes registered") as caught:
        execute(create(scene, execution_timeout=timedelta(seconds=1), timeout_seconds=600))

    assert caught.value.stage == "registered"
    assert scene.gone()


def test_a_killed_creation_leaves_nothing(scene: Scene) -> None:
    scene.lose_nodes()
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
    scene.lose_nodes()
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


@pytest.mark.parametrize("bed", ["gke"], indirect=True)
def test_one_triggerer_awaits_fifty_groups_with_one_login(scene: Scene) -> None:
    scene.lose_nodes()
    run(create(scene, see_nodes=False))
    made, fake = scene.bed.emulated(), scene.bed.fake
    assert made is not None
    names = [f"gpu-{number}" for number in range(50)]
    for name in names:
        fake.node_groups.create(scene.bed.cluster, name, 1, {**made.spec, "name": name})
    stored = {"ref": scene.bed.ref.to_json()}

    async def wait() -> list[Any]:
        waits = [
            NodeGroupWait(name, Change("create", name).to_json(), time.time() + 100, see_nodes=False) for name in names
        ]
        return await asyncio.gather(*(first(NodeGroupTrigger(stored, wait.to_json())) for wait in waits))

    before = len([request for request in fake.record.all() if request.path == "/token"])
    events = asyncio.run(wait())
    assert {event.payload["status"] for event in events} == {"success"}
    assert len([request for request in fake.record.all() if request.path == "/token"]) == before + 1


def test_a_group_of_another_run(scene: Scene) -> None:
    run(create(scene))
    # Another try of the same task, as after a worker that was killed.
    assert run(create(scene, adopt=False))["owned"] is True
    other = TaskInstance(run_id="other")
    with pytest.raises(NodeGroupMismatchError, match="adopt is False"):
        run(create(scene, adopt=False), other)
    assert run(create(scene), other)["owned"] is False
    assert scene.bed.emulated() is not None


def test_what_is_wrong_is_said_when_a_dag_is_parsed(bed: Bed) -> None:
    ref = eks("ml", region="us-east-2")
    options = {"cloud": "eks", "node_role": "arn:aws:iam::111111111111:role/n", "subnets": ["subnet-a"]}
    create_group: Any = partial(CreateNodeGroupOperator, task_id="create")
    for given, match in (
        ({"spec": {"name": "g", "options": {**options, "amiType": "x"}}}, "unknown field amiType"),
        ({"spec": {"name": "g!", "options": options}}, "1 to 63 letters"),
        ({"spec": {"name": "g", "options": options}, "kubernetes_conn_id": "k"}, "exactly one of"),
        ({"spec": {"name": "g", "options": options}, "timeout_seconds": 0}, "more than 0"),
        ({"spec": {"name": "g", "options": options}, "timeout_seconds": "60"}, "must be a number of seconds"),
        ({"spec": {"name": "g", "options": options}, "deferrable": "False"}, "deferrable must be True, False or None"),
        ({"spec": {"name": "g", "options": options}, "adopt": "no"}, "adopt must be True or False, not str"),
        ({"spec": {"name": "g", "options": options}, "expires_after_seconds": -1}, "expires_after_seconds must be"),
        ({"spec": {"name": "g", "options": options}, "cluster": "gpu"}, "cluster must be made by a function of"),
    ):
        with pytest.raises(ConfigurationError, match=match):
            create_group(**{"cluster": ref, **given})
    with pytest.raises(ConfigurationError, match="'ready' or 'gone'"):
        NodeGroupSensor(task_id="s", cluster=ref, name="g", target="ACTIVE")
    # It would have been taken for yes.
    with pytest.raises(ConfigurationError, match="force must be True or False, not str"):
        DeleteNodeGroupOperator(task_id="delete", cluster=ref, name="g", force="False")  # type: ignore[arg-type]
    # What holds templates, or what other tasks return, is looked at when they are rendered.
    create_group(cluster=ref, spec={"name": "g{{ ds_nodash }}", "options": options})
    with DAG("sized", schedule=None):

        @task
        def size() -> int:
            return 2

        sized = create_group(cluster=ref, spec={"name": "g", "desired_size": size(), "options": options})
    assert sized.upstream_task_ids == {"size"}


def test_numbers_that_are_templates(scene: Scene) -> None:
    fields = {**spec(scene).to_json(), "desired_size": "{{ params.nodes }}", "disk_gb": "{{ params.disk }}"}
    task_of_it = create(scene, spec=fields)
    task_of_it.render_template_fields({"params": {"nodes": 1, "disk": 200}})
    run(task_of_it)
    assert len(scene.nodes()) == 1
    other = create(scene, spec=fields)
    other.render_template_fields({"params": {"nodes": "all", "disk": 200}})
    with pytest.raises(ConfigurationError, match="desired_size must be a whole number, 0 or more, not 'all'"):
        run(other)


@pytest.mark.parametrize("number", ["many", "-1", -1, 1.5, True, None])
def test_a_number_that_is_none(number: Any) -> None:
    ref = eks("ml", region="us-east-2")
    scale = ScaleNodeGroupOperator(task_id="scale", cluster=ref, name="g", desired_size=number)
    wait = NodeGroupSensor(task_id="wait", cluster=ref, name="g", nodes=number)
    for task_of_it, name in ((scale, "desired_size"), (wait, "nodes")):
        with pytest.raises(ConfigurationError, match=f"{name} must be a whole number, 0 or more, not {number!r}"):
            run(task_of_it)


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
    # The cluster has no nodes but these.
    assert len(set(ran)) == 1
    assert scene.bed.emulated() is None
    assert scene.nodes() == []


@pytest.mark.parametrize("bed", ["gke"], indirect=True)
def test_a_teardown_that_fails_fails_the_run(scene: Scene, database: None) -> None:
    with DAG("refused", schedule=None) as dag, gpu_nodes(cluster=scene.bed.ref, spec=spec(scene)):
        task(task_id="work")(lambda: None)()
    scene.bed.fake.faults.refuse("DELETE .*/nodePools/gpu", 403, "PERMISSION_DENIED", "you may not")

    assert str(serialized(dag).test().state) == "failed"
    assert scene.bed.emulated() is not None
