"""A DAG file that uses all there is: what it costs to parse is measured, and what it loads is a test's matter."""

from __future__ import annotations

from airflow.sdk import DAG, task

from kpo_multicluster.clouds import aks, eks, gke
from kpo_multicluster.cluster import kubeconfig
from kpo_multicluster.node_groups.spec import EksNodes, NodeGroupSpec
from kpo_multicluster.operators.aks import AksPodOperator
from kpo_multicluster.operators.eks import EksPodOperator
from kpo_multicluster.operators.gke import GKEStartPodOperator
from kpo_multicluster.operators.gpu_nodes import gpu_nodes
from kpo_multicluster.operators.node_groups import (
    CreateNodeGroupOperator,
    DeleteNodeGroupOperator,
    ScaleNodeGroupOperator,
)
from kpo_multicluster.operators.pod import KubernetesPodOperator
from kpo_multicluster.operators.reap import ReapOperator
from kpo_multicluster.sensors.node_groups import NodeGroupSensor

with DAG("every_operator", schedule=None):
    for name, cluster in {
        "file": kubeconfig("/kube", context="gpu"),
        "eks": eks("gpu", region="us-east-2", conn_id="aws_remote"),
        "gke": gke("gpu", location="europe-west1", project="p"),
        "aks": aks("gpu", resource_group="ml", subscription="s"),
    }.items():
        KubernetesPodOperator(task_id=name, cluster=cluster, image="a", cmds=["true"], env_vars={"A": "{{ ds }}"})
    KubernetesPodOperator(task_id="deferred", image="a", deferrable=True)
    EksPodOperator(task_id="eks_front", cluster_name="gpu", region="us-east-2", image="a")
    GKEStartPodOperator(task_id="gke_front", cluster_name="gpu", location="europe-west1", project_id="p", image="a")
    AksPodOperator(task_id="aks_front", cluster_name="gpu", resource_group="ml", subscription_id="s", image="a")

    where = eks("gpu", region="us-east-2")
    nodes = NodeGroupSpec("ml", EksNodes(node_role="arn:aws:iam::111111111111:role/nodes", subnets=("subnet-a",)))
    CreateNodeGroupOperator(task_id="create", cluster=where, spec=nodes)
    ScaleNodeGroupOperator(task_id="scale", cluster=where, name="ml", desired_size=2)
    NodeGroupSensor(task_id="sense", cluster=where, name="ml")
    DeleteNodeGroupOperator(task_id="delete", cluster=where, name="ml")
    ReapOperator(task_id="reap", cluster=where)
    with gpu_nodes(cluster=where, spec=nodes):
        KubernetesPodOperator(task_id="within", cluster=where, image="a")

    @task.pod(image="python:3")
    def function(number: int) -> int:
        """Runs in a pod."""
        return number * 23

    @task.pod_cmd(image="a")
    def command() -> list[str]:
        """Runs here."""
        return ["true"]

    function(2) >> command()
