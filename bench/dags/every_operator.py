"""A DAG file that uses all there is: what it costs to parse is measured, and what it loads is a test's matter."""

from __future__ import annotations

from airflow.sdk import DAG, task

from kpo_multicluster.clouds import aks, eks, gke
from kpo_multicluster.cluster import kubeconfig
from kpo_multicluster.operators.aks import AksPodOperator
from kpo_multicluster.operators.eks import EksPodOperator
from kpo_multicluster.operators.gke import GKEStartPodOperator
from kpo_multicluster.operators.pod import KubernetesPodOperator

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

    @task.pod(image="python:3")
    def function(number: int) -> int:
        """Runs in a pod."""
        return number * 23

    @task.pod_cmd(image="a")
    def command() -> list[str]:
        """Runs here."""
        return ["true"]

    function(2) >> command()
