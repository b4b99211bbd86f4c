"""One DAG with every operator, on two clusters that are named by connections made through the REST API."""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from urllib.parse import quote

import pytest

from kpo_multicluster.airflow_names import STARTS_IN_TRIGGERER
from kpo_multicluster.hooks.connection_form import FORM_TYPE
from kpo_multicluster.testing.clouds import FakeAws, FakeAzure, FakeGoogle

from ..clouds.test_acceptance import ROLE
from ..cluster.fixtures import RealClusters, real_clusters
from .airflow import Airflow
from .clouds import AnyOf, OnCloud, connection, on_aks, on_eks, on_gke
from .two_clusters import Member, Placed, embedded_members, real_members

__all__ = ["real_clusters"]

pytestmark = [
    pytest.mark.skipif("KPO_AIRFLOW_SERVICES" not in os.environ, reason="run by `make test-airflow`, in minutes"),
    pytest.mark.timeout(1500),
]

DAG = """
from airflow.sdk import DAG, task
from kpo_multicluster.clouds import eks
from kpo_multicluster.node_groups.spec import EksNodes, Gpu, NodeGroupSpec
from kpo_multicluster.operators.aks import AksPodOperator
from kpo_multicluster.operators.eks import EksPodOperator
from kpo_multicluster.operators.gke import GKEStartPodOperator
from kpo_multicluster.operators.gpu_nodes import gpu_nodes
from kpo_multicluster.operators.node_groups import (
    CreateNodeGroupOperator, DeleteNodeGroupOperator, ScaleNodeGroupOperator,
)
from kpo_multicluster.operators.pod import KubernetesPodOperator
from kpo_multicluster.sensors.node_groups import NodeGroupSensor

POD = dict(image="alpine:3.22", cmds=["sh", "-c"], arguments=["true"], termination_grace_period=0)
GATED = {**POD, "arguments": ["while [ ! -e /tmp/open ]; do sleep 0.1; done"]}
NODES = EksNodes(node_role="arn:aws:iam::222222222222:role/nodes", subnets=("subnet-a",))


def group(name):
    taints = ("nvidia.com/gpu=present:NoSchedule",)
    return NodeGroupSpec(name, NODES, machine_types=("g4dn.xlarge",), gpu=Gpu(), taints=taints)


with DAG("every_operator", schedule=None, is_paused_upon_creation=False):
    KubernetesPodOperator(task_id="by_pasted_kubeconfig", kubernetes_conn_id="alpha_pasted", **POD)
    KubernetesPodOperator(task_id="deferred", kubernetes_conn_id="alpha_file", deferrable=True, **GATED)
    KubernetesPodOperator(task_id="by_token", kubernetes_conn_id="beta_token", **POD)
    KubernetesPodOperator(task_id="by_form_of_eks", kubernetes_conn_id="eks", **POD)
    EksPodOperator(
        task_id="on_eks", cluster_name="gpu", region="us-east-2", aws_conn_id="aws_remote", namespace=ALPHA,
        cluster_options=EKS, **GATED,
    )
    GKEStartPodOperator(
        task_id="on_gke", cluster_name="gpu", location="europe-west1", project_id="my-project",
        gcp_conn_id="google_ml", impersonation_chain=ACCOUNT, namespace=BETA, deferrable=True, **GATED,
    )
    AksPodOperator(task_id="on_aks", azure_conn_id="azure_ml", namespace=BETA, **AKS, **POD)
    if WORKERLESS:
        KubernetesPodOperator(task_id="workerless", kubernetes_conn_id="gke", workerless=True, **POD)

    @task.pod(image="python:3.11-slim", kubernetes_conn_id="beta_token", termination_grace_period=0)
    def function(number):
        return number * 23

    @task.pod_cmd(image="alpine:3.22", kubernetes_conn_id="aks", termination_grace_period=0)
    def command(product):
        return ["test", str(product), "-eq", "46"]

    command(function(2))

    with gpu_nodes(kubernetes_conn_id="eks", spec=group("train")):
        KubernetesPodOperator(task_id="train", kubernetes_conn_id="eks", **POD)

    spare = dict(kubernetes_conn_id="eks")
    (
        CreateNodeGroupOperator(task_id="create", spec=group("spare"), **spare)
        >> NodeGroupSensor(task_id="sense", name="spare", **spare)
        >> ScaleNodeGroupOperator(task_id="scale", name="spare", desired_size=0, **spare)
        >> DeleteNodeGroupOperator(task_id="delete", name="spare", **spare)
    )
"""
LINKED, DEFERRED = "on_eks", ("deferred", "on_gke")
# Which cluster each task's pod belongs on.
EXPECTED = {
    "by_pasted_kubeconfig": "alpha",
    "deferred": "alpha",
    "by_form_of_eks": "alpha",
    "on_eks": "alpha",
    "train": "alpha",
    "by_token": "beta",
    "on_gke": "beta",
    "on_aks": "beta",
    "function": "beta",
    "command": "beta",
    **({"workerless": "beta"} if STARTS_IN_TRIGGERER else {}),
}
PARTS = ("cleanup", "run", "schedule", "start")


@dataclass
class Scene:
    """What the DAG runs in."""

    airflow: Airflow
    members: Mapping[str, Member]
    clouds: Mapping[str, OnCloud]
    aws: FakeAws
    metrics: socket.socket
    run_id: str = ""
    secrets: tuple[str, ...] = field(default=(), repr=False)

    def of_run(self, path: str = "") -> Any:
        return self.airflow.ask("GET", f"/api/v2/dags/every_operator/dagRuns/{quote(self.run_id)}{path}")

    def of_task(self, task_id: str, path: str) -> Any:
        return self.of_run(f"/taskInstances/{task_id}/{path}")


@pytest.fixture(scope="module", params=["embedded", pytest.param("kubernetes", marks=pytest.mark.cluster)])
def scene(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    home = tmp_path_factory.mktemp("airflow")
    with ExitStack() as stack:
        if request.param == "embedded":
            members = stack.enter_context(embedded_members())
        else:
            clusters: RealClusters = request.getfixturevalue("real_clusters")
            if not clusters.ours:
                pytest.skip("starts API servers and nodes, which only the clusters made for the tests allow")
            members = stack.enter_context(real_members(clusters, home))
        aws, google = stack.enter_context(FakeAws()), stack.enter_context(FakeGoogle())
        azure = stack.enter_context(FakeAzure())
        alpha, beta = members["alpha"], members["beta"]
        clouds = {
            "eks": on_eks(aws, alpha.server),
            "gke": on_gke(google, beta.server),
            "aks": on_aks(azure, beta.server),
        }
        alpha.server.trust(clouds["eks"].cluster)
        beta.server.trust(AnyOf(clouds["gke"].cluster, clouds["aks"].cluster))
        for kind, cloud in clouds.items():
            member = alpha if kind == "eks" else beta
            member.server.allow(member.namespace, ROLE, user=cloud.user)
        aws.nodes_join(clouds["eks"].cluster, alpha.host)

        metrics = stack.enter_context(closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)))
        metrics.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        metrics.bind(("127.0.0.1", 0))
        metrics.setblocking(False)
        (home / "azure-ca.pem").write_text(azure.ca_pem)
        environ = {
            "REQUESTS_CA_BUNDLE": str(home / "azure-ca.pem"),
            "AIRFLOW__METRICS__STATSD_ON": "True",
            "AIRFLOW__METRICS__STATSD_HOST": "127.0.0.1",
            "AIRFLOW__METRICS__STATSD_PORT": str(metrics.getsockname()[1]),
            "AIRFLOW__METRICS__STATSD_INFLUXDB_ENABLED": "True",
            "AIRFLOW__METRICS__METRICS_ALLOW_LIST": "kpo_multicluster",
        }
        dags = home / "dags"
        dags.mkdir()
        given = {
            "ACCOUNT": clouds["gke"].user,
            "AKS": {
                "cluster_name": "gpu",
                "resource_group": clouds["aks"].fields["resource_group"],
                "subscription_id": clouds["aks"].fields["subscription"],
            },
            "ALPHA": alpha.namespace,
            "BETA": beta.namespace,
            "EKS": {name: clouds["eks"].fields[name] for name in ("role_arn", "external_id")},
            "WORKERLESS": STARTS_IN_TRIGGERER,
        }
        settings = "".join(f"{name} = {value!r}\n" for name, value in given.items())
        (dags / "every_operator.py").write_text(settings + DAG)
        airflow = Airflow(home, dags, environ)
        stack.callback(airflow.stop)
        airflow.start()
        yield Scene(airflow, members, clouds, aws, metrics)


def connect(scene: Scene) -> None:
    """Makes all connections through the REST API, and sees to it that it tells no secret again."""
    alpha, beta = scene.members["alpha"], scene.members["beta"]
    path = scene.airflow.home / "kubeconfig"
    path.touch(0o600)
    path.write_text(json.dumps(alpha.kubeconfig()))
    token = beta.token_fields()
    filled = {
        "alpha_pasted": {"cluster_kind": "kubeconfig", "kubeconfig_secret": json.dumps(alpha.kubeconfig())},
        "alpha_file": {"cluster_kind": "kubeconfig", "kubeconfig_path": str(path)},
        "beta_token": {"cluster_kind": "token", **token},
        **{kind: dict(cloud.fields) for kind, cloud in scene.clouds.items()},
    }
    for conn_id, fields in filled.items():
        on_alpha = conn_id.startswith("alpha") or conn_id == "eks"
        fields["namespace"] = (alpha if on_alpha else beta).namespace
        scene.airflow.ask("POST", "/api/v2/connections", connection(conn_id, FORM_TYPE, fields))
    for cloud in scene.clouds.values():
        scene.airflow.ask("POST", "/api/v2/connections", cloud.connection)
    told = json.dumps(scene.airflow.ask("GET", "/api/v2/connections?limit=100"))
    scene.secrets = (token["token"], *secrets_of(alpha.kubeconfig()))
    assert [secret for secret in scene.secrets if secret in told] == []
    assert told.count("***") >= len(scene.secrets)


def secrets_of(kubeconfig: Mapping[str, Any]) -> list[str]:
    users = [entry["user"] for entry in kubeconfig["users"]]
    return [user[key] for user in users for key in ("token", "client-key-data") if key in user]


def test_every_operator_on_two_clusters(scene: Scene) -> None:
    connect(scene)
    airflow = scene.airflow
    scene.run_id = airflow.ask("POST", "/api/v2/dags/every_operator/dagRuns", {"logical_date": None})["dag_run_id"]

    # The link to a pod is answered while the pod runs.
    def linked() -> str:
        links = scene.of_task(LINKED, "links")["extra_links"] if airflow.state(LINKED) else {}
        return links.get("Pod") or ""

    airflow.until(lambda: linked() or airflow.state(LINKED) == "failed", f"{LINKED} has a link")
    assert airflow.state(LINKED) == "running", airflow.log(LINKED)
    pod = scene.of_task(LINKED, "xcomEntries/pod_name")["value"]
    assert f"/eks/clusters/gpu/pods/{pod}?namespace={scene.members['alpha'].namespace}" in linked()
    open_gate(scene, LINKED)
    for task_id in DEFERRED:
        # Of a task that is resumed before the scheduler has heard of its first process's end, Airflow 3.3.2 may take
        # that for the end of the second.
        airflow.until(partial(scheduler_knows, airflow, task_id), f"{task_id} is deferred")
        open_gate(scene, task_id)

    airflow.until(lambda: scene.of_run()["state"] in ("success", "failed"), "the run ends", within_seconds=900)
    states = {task["task_id"]: task["state"] for task in scene.of_run("/taskInstances?limit=100")["task_instances"]}
    failed = [task_id for task_id, state in states.items() if state != "success"]
    assert not failed, "\n".join([str(states), *(airflow.log(task_id) for task_id in failed), airflow.told()])

    check_placement(scene)
    check_metrics(scene)
    logs = "".join(airflow.log(task_id) for task_id in states)
    assert [secret for secret in scene.secrets if secret in logs] == []
    for member in scene.members.values():
        assert member.server.pods(member.namespace) == []
    assert scene.aws.node_groups.of(scene.clouds["eks"].cluster.id) == ()


def scheduler_knows(airflow: Airflow, task_id: str) -> bool:
    """Whether the scheduler has heard that the process in which a task was deferred has ended."""
    assert airflow.state(task_id) != "failed", airflow.log(task_id)
    log = (airflow.home / "scheduler.log").read_text()
    return re.search(rf"Received executor event .*task_id='{task_id}'", log) is not None


def open_gate(scene: Scene, task_id: str) -> None:
    """Lets the pod of a task end."""
    member, pod = scene.members[EXPECTED[task_id]], scene.of_task(task_id, "xcomEntries/pod_name")["value"]
    scene.airflow.until(lambda: runs(member.server.pods(member.namespace), pod), f"the pod of {task_id} runs")
    member.server.touch(member.namespace, "/tmp/open", pod)


def runs(pods: list[dict[str, Any]], name: str) -> bool:
    statuses = [
        status
        for pod in pods
        if pod["metadata"]["name"] == name
        for status in pod["status"].get("containerStatuses") or ()
    ]
    return any("running" in status["state"] for status in statuses)


def check_placement(scene: Scene) -> None:
    """Where each pod was, and for whom, by what the clusters have on record."""
    placed: dict[str, list[Placed]] = {}
    for member in scene.members.values():
        for name, where in member.placed(member.namespace).items():
            placed.setdefault(name, []).append(where)
    pods = {task_id: scene.of_task(task_id, "xcomEntries/pod_name")["value"] for task_id in EXPECTED}
    assert set(placed) == set(pods.values())
    found = {task_id: placed[pod] for task_id, pod in pods.items()}
    assert {task_id: [where.cluster for where in places] for task_id, places in found.items()} == {
        task_id: [cluster] for task_id, cluster in EXPECTED.items()
    }
    nodes = {task_id: where.node for task_id, (where,) in found.items()}
    joined = nodes.pop("train")
    for member in scene.members.values():
        of_member = {node for task_id, node in nodes.items() if EXPECTED[task_id] == member.name}
        assert of_member == {member.node}
        assert joined != member.node
    users = {task_id: where.user for task_id, (where,) in found.items()}
    for task_ids, kind in (
        (("on_eks", "by_form_of_eks", "train"), "eks"),
        (("on_gke", *(["workerless"] if STARTS_IN_TRIGGERER else [])), "gke"),
        (("on_aks", "command"), "aks"),
    ):
        assert {users[task_id] for task_id in task_ids} == {scene.clouds[kind].user}


def check_metrics(scene: Scene) -> None:
    """What arrived at the metrics daemon of runs that a worker waited for, and of deferred ones."""
    told = []
    while True:
        try:
            told.append(scene.metrics.recv(65536).decode())
        except BlockingIOError:
            break
    pattern = re.compile(r"airflow\.kpo_multicluster\.pod\.(\w+),dag_id=every_operator,task_id=(\w+):[\d.]+\|ms")
    found = [match.groups() for match in map(pattern.fullmatch, told) if match]
    for task_id in ("by_token", "deferred"):
        assert sorted(part for part, named in found if named == task_id) == sorted(PARTS), task_id
