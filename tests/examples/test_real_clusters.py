"""The example of two clusters on real ones: each pod is on the cluster that its task names, as the API servers tell."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from demo.kubernetes import created

from ..cluster.fixtures import MakeNamespace, RealClusters
from .demos import NODES, ROOT, Demo, Finished

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

EXAMPLE = ROOT / "examples" / "two_clusters.py"
EXPECTED = {
    "alpha_by_cluster": "alpha",
    "beta_by_cluster": "beta",
    "alpha_by_config_file": "alpha",
    "beta_by_context": "beta",
    "beta_by_connection": "beta",
}


def check(finished: Finished, clusters: RealClusters, namespace: str) -> None:
    """Asserts that each task's pod was created on the cluster the task names and on no other.

    The witness is each API server's audit log. What the task itself says, and where, is not looked at.
    """
    audits = {context: clusters.audit(context) for context in clusters.contexts}
    pods = {task_id: str(finished.row("two_clusters", task_id)["pod"]) for task_id in EXPECTED}
    assert all(pods.values()), finished.said
    found = {
        task_id: [context for context, audit in audits.items() if created(audit, namespace, pod)]
        for task_id, pod in pods.items()
    }
    assert found == {task_id: [cluster] for task_id, cluster in EXPECTED.items()}
    # Nor did anyone ask the other about it.
    for task_id, cluster in EXPECTED.items():
        other = next(context for context in audits if context != cluster)
        assert audits[other].requests(namespace=namespace, pod=pods[task_id]) == [], task_id


def run(tmp_path: Path, kubeconfig: Path, namespace: str) -> Finished:
    """Runs the example with the clusters of a kubeconfig, as a user would with clusters of theirs."""
    fields = {"kube_config_path": str(kubeconfig), "cluster_context": "beta"}
    environ = {
        "POD_NAMESPACE": namespace,
        "AIRFLOW_CONN_BETA_CLUSTER": json.dumps({"conn_type": "kubernetes", "extra": fields}),
    }
    return ended_well(Demo(tmp_path, "--dag", str(EXAMPLE), "--kubeconfig", str(kubeconfig), environ=environ))


def ended_well(demo: Demo) -> Finished:
    """Its outcome, once it has ended, well and with nothing left."""
    try:
        finished = demo.finished()
    finally:
        demo.close()
    assert finished.code == 0, finished.said
    assert demo.left_behind() == []
    return finished


def namespace_on_both(clusters: RealClusters, make_namespace: MakeNamespace) -> str:
    """A namespace of one name on both clusters."""
    first, second = clusters.contexts
    name = make_namespace(first)
    make_namespace(second, name)
    return name


def crossed(clusters: RealClusters, path: Path, leads: Mapping[str, str]) -> Path:
    """A kubeconfig whose contexts lead elsewhere than they say: to the cluster of another context."""
    document = yaml.safe_load(clusters.kubeconfig.read_text())
    contexts = {each["name"]: each["context"] for each in document["contexts"]}
    document["contexts"] = [{"name": name, "context": contexts[to]} for name, to in leads.items()]
    path.write_text(yaml.safe_dump(document))
    return path


def test_each_pod_is_on_the_cluster_that_its_task_names(
    real_clusters: RealClusters, make_namespace: MakeNamespace, tmp_path: Path
) -> None:
    real_clusters.audit("alpha")
    namespace = namespace_on_both(real_clusters, make_namespace)
    check(run(tmp_path, real_clusters.kubeconfig, namespace), real_clusters, namespace)


def test_a_pod_on_the_wrong_cluster_is_found_out(
    real_clusters: RealClusters, make_namespace: MakeNamespace, tmp_path: Path
) -> None:
    """By the same check: every task succeeds, but those of one cluster run on the other."""
    real_clusters.audit("alpha")
    namespace = namespace_on_both(real_clusters, make_namespace)
    wrong = crossed(real_clusters, tmp_path / "crossed", {"alpha": "alpha", "beta": "alpha"})
    finished = run(tmp_path, wrong, namespace)
    with pytest.raises(AssertionError, match=r"'beta_by_cluster': \['alpha'\]"):
        check(finished, real_clusters, namespace)


def test_the_demo_runs_the_examples_on_real_clusters(real_clusters: RealClusters, tmp_path: Path) -> None:
    real_clusters.audit("alpha")
    finished = ended_well(Demo(tmp_path, "--cluster", "kubernetes"))
    assert {task_id: finished.row("two_clusters", task_id)["cluster"] for task_id in EXPECTED} == EXPECTED
    # Their nodes are those that joined for them, and have left since.
    nodes = {cloud: finished.row(f"gpu_nodes_{cloud}", "train")["node"] for cloud in NODES}
    assert {cloud: nodes[cloud].startswith(start) for cloud, start in NODES.items()} == dict.fromkeys(NODES, True)
    steps = {finished.row("eks_node_group", f"run_by_{way}")["node"] for way in ("config_file", "cluster")}
    assert len(steps) == 1
    there = real_clusters.client("beta").request("GET", "/api/v1/nodes")["items"]
    assert {node["metadata"]["name"] for node in there}.isdisjoint({*nodes.values(), *steps})
    product = finished.row("xcom", "transform")
    assert product["result"] == {"product": 23 * finished.row("xcom", "extract_data")["result"]}
