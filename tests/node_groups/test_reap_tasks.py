"""The nightly task that removes what runs have left behind."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG

from kpo_multicluster.airflow_names import AirflowException
from kpo_multicluster.api.client import ApiClient
from kpo_multicluster.auth.registry import resolve
from kpo_multicluster.cluster import kubeconfig
from kpo_multicluster.errors import ConfigurationError
from kpo_multicluster.operators import node_group_task
from kpo_multicluster.operators.reap import ReapOperator
from kpo_multicluster.pods.labels import RunIdentity, run_annotations, run_labels
from kpo_multicluster.reaping.leftovers import ReapRule, RunState
from kpo_multicluster.reaping.reap import Place, reap

from ..decorators.test_dags import database as database
from ..decorators.test_dags import serialized
from .scenes import Scene, create, run
from .scenes import scene as scene

DOCUMENT = Path(__file__).parents[2] / "docs" / "node-groups.md"


def nightly() -> Any:
    """The DAG of the document."""
    text = DOCUMENT.read_text(encoding="utf-8")
    block = next(
        block for block in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL) if "ReapOperator(" in block
    )
    names: dict[str, Any] = {"__name__": "document"}
    exec(block.replace("catchup=False):", "catchup=False) as dag:"), names)
    return names["dag"]


def add_pod(scene: Scene, config: Path, name: str, run_id: str) -> None:
    identity = RunIdentity("t", "3.3.2", dag_id="leaves", run_id=run_id, attempt="0190")
    metadata = {"name": name, "labels": run_labels(identity), "annotations": run_annotations(identity)}
    containers = [{"name": "base", "image": "alpine:3", "command": ["sleep", "3000"]}]

    async def post() -> None:
        async with ApiClient(resolve(kubeconfig(str(scene.embedded.write_kubeconfig(config))))) as api:
            pod = {"metadata": metadata, "spec": {"containers": containers, "terminationGracePeriodSeconds": 0}}
            await api.request("POST", "/api/v1/namespaces/default/pods", body=pod)

    asyncio.run(post())


@pytest.mark.parametrize("bed", ["gke"], indirect=True)
def test_the_documents_nightly_dag(scene: Scene, database: None, tmp_path: Path) -> None:
    with DAG("leaves", schedule=None) as dag:
        create(scene)
    left = serialized(dag).test()
    assert str(left.state) == "success"
    assert scene.bed.emulated() is not None
    add_pod(scene, tmp_path / "kubeconfig", "left", left.run_id)
    add_pod(scene, tmp_path / "kubeconfig", "of-an-unknown-run", "elsewhere")

    dag = nightly()
    dag.get_task("ml").cluster = scene.bed.ref
    done = serialized(dag).test()

    assert str(done.state) == "success"
    assert scene.gone()
    scene.embedded.wait_until(lambda pods: [pod["metadata"]["name"] for pod in pods] == ["of-an-unknown-run"])


@pytest.mark.parametrize("bed", ["gke", "aks"], indirect=True)
def test_what_could_not_be_removed_as_it_was_being_made(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """GKE and AKS delete no pool that is still being made."""
    monkeypatch.setattr(node_group_task, "_KILL_SECONDS", 0.2)
    operator = create(scene, deferrable=False)

    def kill() -> None:
        while scene.bed.emulated() is None:
            time.sleep(0.01)
        operator.on_kill()

    with scene.bed.held() as release:
        killer = threading.Thread(target=kill)
        killer.start()
        with pytest.raises(AirflowException, match="was killed"):
            run(operator)
        killer.join()
        assert scene.bed.emulated() is not None
        release()

    async def ended(runs: list[str]) -> dict[str, RunState]:
        return dict.fromkeys(runs, RunState.ENDED)

    found = asyncio.run(reap(Place("cluster", scene.bed.open()), ReapRule(), states=ended, delete=True))
    assert [one.removed for one in found.judged] == [True]
    assert scene.gone()


class Ti:
    """Of an Airflow that knows no run."""

    @staticmethod
    def get_dr_count(**_: Any) -> int:
        return 0


@pytest.mark.parametrize("bed", ["gke"], indirect=True)
def test_what_cannot_be_removed_fails_the_task(scene: Scene) -> None:
    run(create(scene))
    reap = ReapOperator(task_id="reap", cluster=scene.bed.ref, older_than_seconds=0, delete=False)
    context: Any = {"ti": Ti()}
    assert reap.execute(context) == []
    assert scene.bed.emulated() is not None

    scene.bed.fake.faults.refuse("DELETE .*/nodePools/gpu", 403, "PERMISSION_DENIED", "you may not")
    reap.delete = True
    with pytest.raises(AirflowException, match="you may not"):
        reap.execute(context)
    assert scene.bed.emulated() is not None


def test_a_task_with_nothing_to_look_for() -> None:
    with pytest.raises(ConfigurationError, match="nothing to look for"):
        ReapOperator(task_id="reap", kubernetes_conn_id="k", node_groups=False, pods=False)
    with pytest.raises(ConfigurationError, match="delete must be True or False, not str"):
        ReapOperator(task_id="reap", kubernetes_conn_id="k", delete="False")  # type: ignore[arg-type]
    for kubernetes_conn_id in (None, ""):
        with pytest.raises(ConfigurationError, match="exactly one of"):
            ReapOperator(task_id="reap", kubernetes_conn_id=kubernetes_conn_id)


def test_what_is_rendered_to_nothing_or_to_no_number() -> None:
    reap = ReapOperator(task_id="reap", kubernetes_conn_id="{{ params.conn }}", older_than_seconds="{{ params.age }}")
    reap.render_template_fields({"params": {"conn": "", "age": "soon"}})
    with pytest.raises(ConfigurationError, match=r"older_than_seconds must be a number .* not 'soon'"):
        reap.execute({})
    # It must not clean up the cluster that Airflow runs in instead.
    reap.older_than_seconds = "60"
    with pytest.raises(ConfigurationError, match="kubernetes_conn_id of ReapOperator 'reap' was rendered to nothing"):
        reap.execute({})
