"""The examples of node groups, on emulated clouds: what is made for a task is used by it, and gone after it."""

from __future__ import annotations

import pytest

from .conftest import Demos

pytestmark = pytest.mark.timeout(600)

# How each cloud calls nodes of a group.
NODES = {"eks": "i-0", "gke": "gke-gpu-train-", "aks": "aks-train-"}


def test_the_steps_of_a_node_group_on_eks(demos: Demos) -> None:
    finished = demos.examples.finished()
    made = finished.row("eks_node_group", "create_gpu_nodegroup")
    assert made["result"] == {"name": "gpu-nodes", "created": True, "owned": True}, finished.said
    # Both ways to name the cluster lead to the node that joined.
    ways = [finished.row("eks_node_group", f"run_by_{way}") for way in ("config_file", "cluster")]
    assert [row["cluster"] for row in ways] == ["eks", "eks"]
    (node,) = {row["node"] for row in ways}
    assert node.startswith(NODES["eks"])
    assert {row["result"] for row in ways} == {f"hello from {node}"}
    assert finished.row("eks_node_group", "check_nodegroup_termination")["state"] == "success"


@pytest.mark.parametrize("cloud", ["eks", "gke", "aks"])
def test_gpus_for_a_task_on_each_cloud(demos: Demos, cloud: str) -> None:
    finished = demos.examples.finished()
    dag = f"gpu_nodes_{cloud}"
    # Airflow's own side is another cluster.
    assert finished.row(dag, "prepare")["cluster"] == "alpha"
    train = finished.row(dag, "train")
    assert (train["cluster"], train["state"]) == (cloud, "success"), finished.said
    assert train["node"].startswith(NODES[cloud])
    assert train["result"] == f"Trained on node {train['node']}"
    assert finished.row(dag, "train_delete")["state"] == "success"


def test_what_an_earlier_run_left_behind_is_removed(demos: Demos) -> None:
    finished = demos.examples.finished()
    found = {cloud: finished.row("nightly_reap", f"reap_{cloud}")["result"] for cloud in NODES}
    assert (found["eks"], found["gke"]) == ([], []), finished.said
    (removed,) = found["aks"]
    assert (removed["name"], removed["removed"]) == ("leftover", True)
    # Nor is anything else there in the end.
    assert "; left behind" not in finished.said
