"""The examples, run as `make demo` runs them, and what the demo does with a DAG of one's own."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from demo.examples import EXAMPLES

from .conftest import Demos
from .demos import NODES, ROOT, Demo

pytestmark = pytest.mark.timeout(600)


def test_every_example_ends_well_and_nothing_is_left(demos: Demos) -> None:
    finished = demos.examples.finished()
    assert finished.code == 0, finished.said
    assert demos.examples.left_behind() == []
    not_run = {key: row["state"] for key, row in finished.rows.items() if not row["ok"]}
    ghc = shutil.which("runghc")
    assert not_run == ({} if ghc else {("haskell_hello", "say_hello_name_in_haskell"): "skipped: no ghc"})
    table = finished.said[finished.said.index("DAG  ") :]
    assert all(row["node"] in table and row["state"] in table for row in finished.rows.values())
    assert all(bool(row["node"]) == bool(row["pod"]) for row in finished.rows.values())


def test_every_example_is_run() -> None:
    assert {dag.path for dag in EXAMPLES} == set((ROOT / "examples").glob("*.py"))


def test_the_basic_pod_greets(demos: Demos) -> None:
    row = demos.examples.finished().row("basic_pod", "hello")
    assert (row["cluster"], row["result"]) == ("alpha", "Hello from a pod, in a run of basic_pod")
    assert row["pod"].startswith("hello-")
    assert row["seconds"] > 0


@pytest.mark.skipif(shutil.which("runghc") is None, reason="no ghc")
def test_the_haskell_program_greets(demos: Demos) -> None:
    row = demos.examples.finished().row("haskell_hello", "say_hello_name_in_haskell")
    assert (row["cluster"], row["result"]) == ("alpha", "Hello, Haskell Curry")


def test_a_number_goes_into_a_pod_and_its_product_comes_out(demos: Demos) -> None:
    finished = demos.examples.finished()
    number = finished.row("xcom", "extract_data")
    product = finished.row("xcom", "transform")
    assert 0 <= number["result"] <= 100
    assert (number["pod"], number["cluster"]) == ("", "")
    assert product["result"] == {"product": 23 * number["result"]}
    assert product["cluster"] == "alpha"
    assert finished.row("xcom", "load_data")["result"] == f"23 * {number['result']} = {23 * number['result']}"


def test_functions_run_in_pods(demos: Demos) -> None:
    finished = demos.examples.finished()
    measured, told = finished.row("task_pod", "measure"), finished.row("task_pod", "tell")
    assert measured["result"] == {"words": 7, "longest": "multitudes"}
    assert told["result"] == "7 words, of which multitudes is the longest"
    assert (measured["cluster"], told["cluster"]) == ("alpha", "alpha")


def test_a_deferred_pod(demos: Demos) -> None:
    finished = demos.examples.finished()
    row = finished.row("deferrable", "wait_without_a_worker")
    assert (row["cluster"], row["state"], row["result"]) == ("alpha", "success", "part 3 of 3")
    parts = [line.partition(" | ")[2] for line in finished.said.splitlines() if "wait_without_a_worker | " in line]
    assert parts == [f"part {number} of 3" for number in (1, 2, 3)]


@pytest.mark.parametrize(
    ("task_id", "cluster"),
    [
        ("alpha_by_cluster", "alpha"),
        ("beta_by_cluster", "beta"),
        ("alpha_by_config_file", "alpha"),
        ("beta_by_context", "beta"),
        ("beta_by_connection", "beta"),
    ],
)
def test_each_task_runs_on_the_cluster_it_names(demos: Demos, task_id: str, cluster: str) -> None:
    row = demos.examples.finished().row("two_clusters", task_id)
    # By the cluster's own record, and by what the pod itself says.
    assert row["cluster"] == cluster
    assert row["result"].startswith(f"Running on node {cluster}")


@pytest.mark.parametrize("cloud", ["eks", "gke", "aks"])
def test_a_pod_on_each_cloud(demos: Demos, cloud: str) -> None:
    row = demos.examples.finished().row(f"clouds_{cloud}", f"on_{cloud}")
    assert (row["cluster"], row["state"]) == (cloud, "success")
    assert row["result"] == f"Hello from a pod on {cloud.upper()}"
    assert row["pod"].startswith(f"on-{cloud}-")


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


def test_a_users_dag_runs_on_a_users_cluster(demos: Demos) -> None:
    finished = demos.users.finished()
    row = finished.row("first", "hello")
    assert (row["state"], row["result"]) == ("success", "hello"), finished.said
    assert row["cluster"] == urlsplit(demos.users_cluster.server).netloc
    assert "127.0.0.1" in row["server"]
    assert demos.users.left_behind() == []


def test_a_failed_task_fails_the_demo_and_tells_why(demos: Demos) -> None:
    finished = demos.users.finished()
    failed, never = finished.row("first", "fails"), finished.row("first", "never")
    assert finished.code == 1
    assert (failed["state"], failed["ok"]) == ("failed", False)
    assert "exit code 3" in failed["result"]
    assert (never["state"], never["ok"], never["pod"]) == ("upstream_failed", False, "")
    assert "fails | so it is" in finished.said
    assert "2 FAILED" in finished.said


def test_a_file_that_cannot_be_imported_is_told(demos: Demos) -> None:
    finished = demos.broken.finished()
    assert finished.code == 1
    assert "broken.py cannot be imported" in finished.said
    assert "no_such_module_anywhere" in finished.said
    assert demos.broken.left_behind() == []


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (("--dag", "/nowhere/dag.py"), "There is no file /nowhere/dag.py: DAG= takes the path"),
        (("--dag", __file__, "--kubeconfig", "/nowhere/config"), "There is no file /nowhere/config: KUBECONFIG= takes"),
        (("--kubeconfig", __file__), "KUBECONFIG= needs DAG="),
        (("--cluster", "kubernetes", "--kubeconfig", __file__), "CLUSTER= and KUBECONFIG= each say where to run"),
    ],
)
def test_a_misuse_is_told_at_once(tmp_path: Path, arguments: tuple[str, ...], what: str) -> None:
    demo = Demo(tmp_path, *arguments)
    finished = demo.finished()
    assert finished.code == 1
    assert what in finished.said
    assert demo.left_behind() == []


def test_a_terminated_demo_leaves_nothing(tmp_path: Path) -> None:
    demo = Demo(tmp_path)
    try:
        deadline = time.monotonic() + 60
        while "makes a database" not in demo.said():
            assert demo.process.poll() is None, demo.said()
            assert time.monotonic() < deadline, demo.said()
            time.sleep(0.02)
        assert demo.left_behind() != []
        demo.process.terminate()
        assert demo.process.wait() == 143, demo.said()
        assert demo.left_behind() == []
    finally:
        demo.close()
