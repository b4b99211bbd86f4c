"""What the documents tell a reader to type or write works."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from kpo_multicluster import cluster as constructors
from kpo_multicluster.cluster import ClusterRef
from kpo_multicluster.testing import EmbeddedCluster

from .demos import ROOT, code_blocks


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md"])
def test_every_make_target_exists(document: str) -> None:
    told = subprocess.run(["make", "help"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    targets = set(re.findall(r"^  make (\S+)", told, flags=re.MULTILINE))
    text = (ROOT / document).read_text(encoding="utf-8")
    named = set(re.findall(r"(?:`make|\$ make) ([a-z][a-z-]+)", text))
    assert named
    assert named <= targets


@pytest.mark.parametrize(
    ("given", "handed_on"),
    [
        ([], ""),
        (["DAG=my dags/first.py"], "--dag 'my dags/first.py'"),
        (["DAG=a.py", "KUBECONFIG=my/config"], "--dag 'a.py' --kubeconfig 'my/config'"),
        (["CLUSTER=kubernetes"], "--cluster 'kubernetes'"),
    ],
)
def test_make_hands_a_users_dag_on(monkeypatch: pytest.MonkeyPatch, given: list[str], handed_on: str) -> None:
    monkeypatch.setenv("KUBECONFIG", "/exported/but/not/given")
    monkeypatch.setenv("CLUSTER", "exported-but-not-given")
    command = ["make", "--no-print-directory", "--dry-run", "demo", *given]
    told = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    assert told.stdout.splitlines()[-1].partition(" -m demo ")[2].strip() == handed_on


def test_what_is_shown_of_the_examples_is_in_them() -> None:
    blocks = code_blocks("docs/examples.md", "python")
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "examples").glob("*.py")]
    assert blocks
    assert [block for block in blocks if not any(block in source for source in sources)] == []


def test_every_example_is_told_of() -> None:
    text = (ROOT / "docs" / "examples.md").read_text(encoding="utf-8")
    linked = re.findall(r"\]\(\.\./examples/(\w+\.py)\)", text)
    assert sorted(linked) == sorted(path.name for path in (ROOT / "examples").glob("*.py"))


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_every_linked_file_exists(document: str) -> None:
    links = re.findall(r"\]\((?!https?://)([^)#]+)", (ROOT / document).read_text(encoding="utf-8"))
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_every_way_to_name_a_cluster_in_the_readme_makes_a_reference() -> None:
    named = re.findall(r"`cluster=(\w+\(.*?\))`", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert len(named) >= 4
    for expression in named:
        assert isinstance(eval(expression, {**vars(constructors), "path": "/k"}), ClusterRef), expression


def test_the_readmes_client_lists_namespaces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # The first block is the DAG that the demo of the user's DAGs runs.
    snippet = code_blocks("README.md", "python")[1]
    with EmbeddedCluster("beta", namespaces=("default", "jobs")) as beta:
        monkeypatch.setenv("KUBECONFIG", str(beta.write_kubeconfig(tmp_path / "kubeconfig")))
        exec(compile(snippet, "README.md", "exec"), {})
    printed = capsys.readouterr().out
    assert "'default'" in printed
    assert "'jobs'" in printed


def test_the_readmes_gpus_are_made_for_their_task_and_deleted_after_it() -> None:
    defined: dict[str, Any] = {}
    exec(code_blocks("README.md", "python")[2], defined)
    train = defined["train"]
    names = [task.task_id for task in train.topological_sort()]
    assert names == ["train-gpu_create", "train", "train-gpu_delete", "train-gpu_done"]
    assert train.get_task("train-gpu_delete").is_teardown
    assert train.get_task("train").tolerations[0]["key"] == "nvidia.com/gpu"


def test_the_embedded_clusters_document_shows_how(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    (snippet,) = code_blocks("docs/embedded-cluster.md", "python")
    exec(compile(snippet, "embedded-cluster.md", "exec"), {})
    assert capsys.readouterr().out.startswith("https://127.0.0.1:")
    assert (tmp_path / "kubeconfig").is_file()


def test_the_readmes_test_passes(pod_cluster: EmbeddedCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    defined: dict[str, Any] = {}
    exec(code_blocks("README.md", "python")[3], defined)
    defined["test_my_dag"](pod_cluster, tmp_path, monkeypatch)
