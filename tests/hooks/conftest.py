from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from kpo_multicluster.cluster import ClusterRef
from kpo_multicluster.operators.pod import KubernetesPodOperator
from kpo_multicluster.testing.cluster import EmbeddedCluster

from ..operators.conftest import FakeTaskInstance, context_of, quiet


@pytest.fixture(scope="session")
def embedded() -> Iterator[EmbeddedCluster]:
    with EmbeddedCluster("alpha") as cluster:
        yield cluster


@pytest.fixture
def cluster(embedded: EmbeddedCluster) -> Iterator[EmbeddedCluster]:
    yield embedded
    embedded.faults.clear()
    embedded.delete_all_pods()


@pytest.fixture
def run() -> Callable[..., KubernetesPodOperator]:
    """Runs a pod task on a cluster, in this process."""

    def run(
        ref: ClusterRef, script: str = "true", operator: KubernetesPodOperator | None = None
    ) -> KubernetesPodOperator:
        operator = operator or quiet(
            KubernetesPodOperator(
                task_id="task", cluster=ref, image="alpine:3", cmds=["sh", "-c"], arguments=[script], deferrable=False
            )
        )
        operator.execute(context_of(FakeTaskInstance("task")))
        return operator

    return run
