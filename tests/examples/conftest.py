"""Demos that run side by side while the tests wait for the first of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from kpo_multicluster.airflow_names import STARTS_IN_TRIGGERER
from kpo_multicluster.testing import EmbeddedCluster

from ..cluster.fixtures import make_namespace, real_clusters
from .demos import Demo, code_blocks

__all__ = ["make_namespace", "real_clusters"]

# Goes on in the README's `with DAG("first", ...)` block.
_FAILING = """
    fails = KubernetesPodOperator(task_id="fails", image="alpine:3", cmds=["sh", "-c", "echo so it is; exit 3"])
    fails >> KubernetesPodOperator(task_id="never", image="alpine:3", cmds=["true"])
"""


@dataclass(frozen=True)
class Demos:
    """Of the examples; of a user's DAG on a user's cluster; of a file that Airflow cannot import."""

    examples: Demo
    users: Demo
    broken: Demo
    users_cluster: EmbeddedCluster


@pytest.fixture(scope="session")
def demos(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demos]:
    if not STARTS_IN_TRIGGERER:
        pytest.skip("the demo runs on the Airflow of requirements/dev.txt; an older one needs a server for each task")
    directory = tmp_path_factory.mktemp("users")
    dags, broken, kubeconfig = directory / "first.py", directory / "broken.py", directory / "kubeconfig"
    dags.write_text(code_blocks("README.md", "python")[0] + _FAILING)
    broken.write_text("import no_such_module_anywhere\n")
    with EmbeddedCluster("users") as cluster:
        cluster.write_kubeconfig(kubeconfig, context="alpha")
        named = ("--kubeconfig", str(kubeconfig))
        running = Demos(
            examples=Demo(tmp_path_factory.mktemp("demo")),
            users=Demo(tmp_path_factory.mktemp("demo"), "--dag", str(dags), *named),
            broken=Demo(tmp_path_factory.mktemp("demo"), "--dag", str(broken), *named),
            users_cluster=cluster,
        )
        try:
            yield running
        finally:
            for demo in (running.examples, running.users, running.broken):
                demo.close()
