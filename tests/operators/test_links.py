"""The link from a task to its pod, and what is told to Airflow's metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from kpo_multicluster.clouds import aks, eks, gke
from kpo_multicluster.cluster import ClusterRef, kubeconfig
from kpo_multicluster.errors import PodFailedError
from kpo_multicluster.operators.links import PodConsoleLink, console_url
from kpo_multicluster.operators.pod import KubernetesPodOperator
from kpo_multicluster.operators.timings import phase_seconds
from kpo_multicluster.testing import EmbeddedCluster, User
from kpo_multicluster.testing.clouds.google import FakeGoogle

from .conftest import FakeTaskInstance, Ran, context_of
from .deferring import Execute, quiet

ELSEWHERE = "https://10.0.0.1"
ACCOUNT = "airflow@my-project.iam.gserviceaccount.com"
KEY = PodConsoleLink().xcom_key


@pytest.mark.parametrize(
    ("ref", "server", "url"),
    [
        (
            eks("gpu", region="us-east-2"),
            ELSEWHERE,
            "https://us-east-2.console.aws.amazon.com/eks/clusters/gpu/pods/p-1?namespace=ml&region=us-east-2",
        ),
        (
            eks("arn:aws-cn:eks:cn-north-1:111111111111:cluster/gpu"),
            ELSEWHERE,
            "https://cn-north-1.console.amazonaws.cn/eks/clusters/gpu/pods/p-1?namespace=ml&region=cn-north-1",
        ),
        (
            eks("gpu", conn_id="aws_remote"),
            "https://0A1B.gr7.us-gov-west-1.eks.amazonaws.com",
            "https://us-gov-west-1.console.amazonaws-us-gov.com/eks/clusters/gpu/pods/p-1"
            "?namespace=ml&region=us-gov-west-1",
        ),
        (eks("gpu"), ELSEWHERE, ""),
        (
            gke("gpu", location="europe-west1", project="p"),
            ELSEWHERE,
            "https://console.cloud.google.com/kubernetes/pod/europe-west1/gpu/ml/p-1/details?project=p",
        ),
        (
            gke("projects/q/locations/us-east1-b/clusters/gpu"),
            ELSEWHERE,
            "https://console.cloud.google.com/kubernetes/pod/us-east1-b/gpu/ml/p-1/details?project=q",
        ),
        (gke("gpu", location="europe-west1"), ELSEWHERE, ""),
        (
            aks("gpu", resource_group="ml", subscription="s", cloud="china"),
            ELSEWHERE,
            "https://portal.azure.cn/#resource/subscriptions/s/resourceGroups/ml"
            "/providers/Microsoft.ContainerService/managedClusters/gpu/workloads",
        ),
        (aks("gpu", resource_group="ml", conn_id="azure_remote"), ELSEWHERE, ""),
        (kubeconfig("/kube"), ELSEWHERE, ""),
    ],
)
def test_where_a_link_leads(ref: ClusterRef, server: str, url: str) -> None:
    assert console_url(ref, server, "ml", "p-1") == url


@pytest.fixture
def google() -> Iterator[FakeGoogle]:
    with FakeGoogle() as google:
        yield google


def test_it_is_left_as_soon_as_there_is_a_pod(
    google: FakeGoogle, execute: Execute, monkeypatch: pytest.MonkeyPatch
) -> None:
    import json

    with EmbeddedCluster("gpu") as cluster:
        cluster.accept_tokens_of(google)
        cluster.add_user(User(ACCOUNT))
        monkeypatch.setenv("GCP_KEY", json.dumps(google.add_service_account(ACCOUNT).key()))
        ref = google.add_cluster("gpu", cluster=cluster).ref(key_json="env:GCP_KEY")
        seen: list[str | None] = []
        ti = FakeTaskInstance("task")

        class Look:
            @staticmethod
            def on_pod_creation(**_: Any) -> None:
                seen.append(ti.pushed.get(KEY))

        operator = quiet(KubernetesPodOperator(task_id="task", cluster=ref, image="a", cmds=["true"], callbacks=Look))
        links: Any = operator.operator_extra_links
        (link,) = links
        assert link.get_link(operator, ti_key=None) == ""
        execute(operator, context_of(ti))
        url = link.get_link(operator, ti_key=None)
    assert url.endswith(f"/europe-west1/gpu/default/{ti.pushed['pod_name']}/details?project=my-project")
    assert seen == [url]


def test_there_is_none_where_no_console_shows_it(
    make: Callable[..., KubernetesPodOperator], run: Callable[..., Ran]
) -> None:
    assert make().operator_extra_links == ()
    assert KEY not in run().ti.pushed


def test_airflow_keeps_it_with_the_dag() -> None:
    from airflow.sdk import DAG
    from airflow.serialization import serialized_objects

    module: Any = serialized_objects
    # Before 3.2 it had another name.
    serialization = module.DagSerialization if hasattr(module, "DagSerialization") else module.SerializedDAG
    with DAG("dag", schedule=None) as dag:
        KubernetesPodOperator(task_id="eks", cluster=eks("gpu", region="us-east-2"))
        KubernetesPodOperator(task_id="file", cluster=kubeconfig("/kube"))
    read = serialization.deserialize_dag(serialization.serialize_dag(dag))
    assert [link.name for link in read.get_task("eks").operator_extra_links] == ["Pod"]
    assert list(read.get_task("file").operator_extra_links) == []


# -- metrics ---------------------------------------------------------------------------------------------------------

POD: dict[str, Any] = {
    "metadata": {"creationTimestamp": "2026-01-01T00:00:00Z"},
    "status": {
        "conditions": [{"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-01-01T00:00:02Z"}],
        "containerStatuses": [
            {
                "name": "base",
                "state": {
                    "terminated": {"startedAt": "2026-01-01T00:00:05Z", "finishedAt": "2026-01-01T00:01:05Z"},
                },
            }
        ],
    },
}


def test_phases_of_a_run() -> None:
    assert phase_seconds(POD, "base") == {"schedule": 2.0, "start": 3.0, "run": 60.0}


def test_a_run_that_came_less_far() -> None:
    status = POD["status"]
    never = {"terminated": {"startedAt": "1970-01-01T00:00:00Z", "finishedAt": "1970-01-01T00:00:00Z"}}
    running = {"running": {"startedAt": "2026-01-01T00:00:05Z"}}
    for state, phases in [(never, {"schedule"}), (running, {"schedule", "start"}), ({}, {"schedule"})]:
        pod = {**POD, "status": {**status, "containerStatuses": [{"name": "base", "state": state}]}}
        assert phase_seconds(pod, "base").keys() == phases
    assert phase_seconds({"metadata": {}}, "base") == {}


class Backend:
    """What Airflow hands metrics to."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Any, Any]] = []
        self.fault: Exception | None = None

    def timing(self, name: str, seconds: Any, *, tags: Any = None) -> None:
        if self.fault is not None:
            raise self.fault
        self.told.append((name, seconds, tags))


@pytest.fixture
def metrics() -> Iterator[Backend]:
    stats: Any = pytest.importorskip("airflow.sdk.observability.stats")
    if not hasattr(stats, "timing"):
        pytest.skip("this Airflow takes no other backend")
    backend = Backend()
    module = __import__(stats.timing.__module__, fromlist=["x"])
    before = module._factory, module._export_legacy_names
    stats.initialize(factory=lambda: backend, export_legacy_names=False)
    yield backend
    stats.initialize(factory=before[0], export_legacy_names=before[1])


@pytest.mark.parametrize("script", ["true", "exit 3"])
def test_they_are_told_of_every_run(metrics: Backend, run: Callable[..., Ran], script: str) -> None:
    if script == "true":
        run(script)
    else:
        with pytest.raises(PodFailedError):
            run(script)
    told = {name: seconds for name, seconds, _ in metrics.told}
    assert sorted(told) == [f"kpo_multicluster.pod.{phase}" for phase in ("cleanup", "run", "schedule", "start")]
    assert all(isinstance(seconds, timedelta) for seconds in told.values())
    assert {str(tags) for _, _, tags in metrics.told} == {str({"dag_id": "dag", "task_id": "task"})}


def test_what_is_wrong_with_them_is_no_matter_of_the_run(metrics: Backend, run: Callable[..., Ran]) -> None:
    metrics.fault = OSError("no one listens")
    run("true")
    assert metrics.told == []
