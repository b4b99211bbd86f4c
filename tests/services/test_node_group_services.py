"""Node groups whose tasks, workers, triggerer and runs are ended from outside: `make test-airflow`.

After each of these the group is gone, by a teardown, by what made it, or by the reaper.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from airflow.triggers.base import BaseTrigger

from kpo_multicluster.cli import main
from kpo_multicluster.testing import EmbeddedCluster, User
from kpo_multicluster.testing.clouds import FakeAws
from kpo_multicluster.testing.clouds.node_groups import Pace

from .airflow import Airflow

pytestmark = [
    pytest.mark.skipif("KPO_AIRFLOW_SERVICES" not in os.environ, reason="run by `make test-airflow`, in minutes"),
    pytest.mark.timeout(1500),
]

DAGS = """
from airflow.sdk import DAG
from kpo_multicluster.clouds import eks
from kpo_multicluster.node_groups.spec import EksNodes, Gpu, NodeGroupSpec
from kpo_multicluster.operators.gpu_nodes import gpu_nodes
from kpo_multicluster.operators.pod import KubernetesPodOperator
from kpo_multicluster.operators.reap import ReapOperator

CLUSTER = eks("ml", region="us-east-2", conn_id="cloud")
NODES = EksNodes(node_role="arn:aws:iam::111111111111:role/nodes", subnets=("subnet-a",))


def with_gpus(name, script, deferrable=False):
    spec = NodeGroupSpec(name, NODES, machine_types=("g5.xlarge",), gpu=Gpu(), taints=("gpu=yes:NoSchedule",))
    with (
        DAG(name, schedule=None, is_paused_upon_creation=False) as dag,
        gpu_nodes(cluster=CLUSTER, spec=spec, deferrable=deferrable),
    ):
        KubernetesPodOperator(
            task_id=f"{name}_work",
            image="alpine:3",
            cmds=["sh", "-c", script],
            cluster=CLUSTER,
            namespace="default",
            termination_grace_period=0,
        )
    return dag


killed = with_gpus("killed", "echo done")
marked = with_gpus("marked", "echo done")
deferred = with_gpus("deferred", "echo done", deferrable=True)
moved = with_gpus("moved", "echo done", deferrable=True)
worker = with_gpus("worker", "sleep 3000")
failed = with_gpus("failed", "sleep 3000")

with DAG("reap", schedule=None, is_paused_upon_creation=False) as reap:
    ReapOperator(task_id="reap_ml", cluster=CLUSTER)
"""


@dataclass
class Bed:
    """An Airflow, and a cluster of an emulated cloud."""

    airflow: Airflow
    aws: FakeAws
    embedded: EmbeddedCluster
    cluster: str
    environ: dict[str, str]

    def trigger(self, dag_id: str) -> None:
        self.airflow.ask("POST", f"/api/v2/dags/{dag_id}/dagRuns", {"logical_date": None})

    def there(self, name: str) -> bool:
        return self.aws.node_groups.find(self.cluster, name) is not None

    def until_made(self, name: str, state: str) -> None:
        """Returns once a setup waits for its group."""
        self.airflow.until(lambda: self.there(name), f"the group {name} is being made")
        self.until_state(f"{name}_create", state)

    def until_state(self, task_id: str, state: str) -> None:
        def reached() -> bool:
            found = self.airflow.state(task_id)
            assert found == state or found not in ("success", "failed", "upstream_failed"), self.airflow.log(task_id)
            return found == state

        self.airflow.until(reached, f"{task_id} is {state}")

    def until_gone(self, name: str) -> None:
        self.airflow.until(lambda: not self.there(name), f"the group {name} is gone")
        nodes = [node["metadata"]["labels"] for node in self.embedded.objects("nodes")]
        assert name not in [labels["eks.amazonaws.com/nodegroup"] for labels in nodes]

    def until_run(self, dag_id: str, state: str) -> None:
        def reached() -> bool:
            return self.airflow.query("SELECT state FROM dag_run WHERE dag_id = ?", dag_id) == [(state,)]

        self.airflow.until(reached, f"the run of {dag_id} is {state}")

    def kill_worker(self, task_id: str) -> None:
        """Ends a running task's process without a word."""
        ((pid,),) = self.airflow.query("SELECT pid FROM task_instance WHERE task_id = ?", task_id)
        os.kill(int(pid), signal.SIGKILL)

    def run_work(self, name: str) -> None:
        self.trigger(name)

        def runs() -> bool:
            pods = [pod for pod in self.embedded.pods() if pod["metadata"]["labels"]["task_id"] == f"{name}_work"]
            return any("running" in status["state"] for pod in pods for status in pod["status"]["containerStatuses"])

        self.airflow.until(runs, f"the pod of {name} runs")


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    home = tmp_path_factory.mktemp("airflow")
    (home / "dags").mkdir()
    (home / "dags" / "node_groups.py").write_text(DAGS)
    with FakeAws() as aws, EmbeddedCluster("ml", nodes=()) as embedded:
        made = aws.add_cluster("ml", cluster=embedded, version="1.34")
        user = aws.add_user("airflow")
        made.add_user(user.arn, username="airflow")
        embedded.add_user(User("airflow"))
        aws.nodes_join(made, embedded)
        # What is asked for stays under way.
        aws.node_groups.pace = Pace(create_seconds=3600)
        services = {service: {"endpoint_url": aws.url} for service in ("eks", "sts")}
        cloud = {"conn_type": "aws", "login": user.access_key, "password": user.secret_key}
        cloud["extra"] = {"service_config": services}  # type: ignore[assignment]
        environ = {
            "AIRFLOW_CONN_CLOUD": json.dumps(cloud),
            "AIRFLOW__CORE__PARALLELISM": "4",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        airflow = Airflow(home, home / "dags", environ)
        keys = {"AWS_ACCESS_KEY_ID": user.access_key, "AWS_SECRET_ACCESS_KEY": user.secret_key}
        bed = Bed(airflow, aws, embedded, made.id, {**keys, **aws.environment})
        try:
            airflow.start()
            for dag_id in ("killed", "marked", "deferred", "moved"):
                bed.trigger(dag_id)
            yield bed
        finally:
            airflow.stop()


def reap_command(bed: Bed, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """What the command tells of the groups, as Airflow's REST API knows their runs."""
    for name, value in bed.environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("THE_TOKEN", bed.airflow.token)
    where = ["--eks", "ml", "--region", "us-east-2", "--only", "node-groups"]
    asked = ["--airflow-url", bed.airflow.url, "--airflow-token", "env:THE_TOKEN"]
    assert main(["reap", *where, *asked, "--json"]) == 0
    return {one["name"]: (one["run_state"], one["reason"] is not None) for one in json.loads(capsys.readouterr().out)}


def test_a_setup_whose_worker_is_killed_is_reaped(
    bed: Bed, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bed.until_made("killed", "running")
    bed.until_made("moved", "deferred")
    bed.kill_worker("killed_create")
    bed.until_run("killed", "failed")
    # No one was left to remove it, and the teardown of a setup that failed is not run.
    assert bed.there("killed")

    told = reap_command(bed, monkeypatch, capsys)
    assert told["killed"] == ("ended", True)
    assert told["moved"] == ("under way", False)

    bed.trigger("reap")
    bed.until_run("reap", "success")
    bed.until_gone("killed")
    assert bed.there("moved")


def test_a_setup_that_a_user_ends_leaves_nothing(bed: Bed) -> None:
    bed.until_made("marked", "running")
    bed.airflow.mark("marked", "marked_create", "failed")
    bed.until_gone("marked")
    bed.until_run("marked", "failed")


@pytest.mark.skipif(not hasattr(BaseTrigger, "on_kill"), reason="triggers are not told before Airflow 3.3")
def test_a_deferred_setup_that_a_user_ends_leaves_nothing(bed: Bed) -> None:
    bed.until_made("deferred", "deferred")
    bed.airflow.mark("deferred", "deferred_create", "failed")
    bed.until_gone("deferred")
    bed.until_run("deferred", "failed")


def test_another_triggerer_goes_on(bed: Bed) -> None:
    bed.until_made("moved", "deferred")
    bed.airflow.kill("triggerer")
    bed.airflow.start_triggerer()
    groups, leap = bed.aws.node_groups, 7200.0
    groups.pace = Pace()
    groups._clock = lambda: time.time() + leap
    bed.until_run("moved", "success")
    bed.until_gone("moved")


def test_work_whose_worker_is_killed_leaves_nothing(bed: Bed) -> None:
    bed.aws.node_groups.pace = Pace()
    bed.run_work("worker")
    bed.kill_worker("worker_work")
    bed.until_run("worker", "failed")
    assert bed.airflow.state("worker_delete") == "success"
    bed.until_gone("worker")


def test_a_run_that_is_marked_failed_leaves_nothing(bed: Bed) -> None:
    bed.aws.node_groups.pace = Pace()
    bed.run_work("failed")
    ((run_id,),) = bed.airflow.query("SELECT run_id FROM dag_run WHERE dag_id = 'failed'")
    bed.airflow.ask("PATCH", f"/api/v2/dags/failed/dagRuns/{run_id.replace('+', '%2B')}", {"state": "failed"})
    bed.until_gone("failed")
    bed.until_run("failed", "failed")
