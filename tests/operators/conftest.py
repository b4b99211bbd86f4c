"""Runs operators against embedded clusters; Airflow itself is stood in for by the few attributes a task uses of it."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from kpo_multicluster.cluster import ClusterRef, kubeconfig
from kpo_multicluster.operators.pod import KubernetesPodOperator
from kpo_multicluster.testing.cluster import EmbeddedCluster

from .deferring import Execute, execute_deferred, quiet

__all__ = ["FakeTaskInstance", "Ran", "context_of", "gone", "quiet", "sync_only"]


@dataclass
class FakeTaskInstance:
    """What a pod task uses of its task instance."""

    task_id: str
    try_number: int = 1
    max_tries: int = 0
    dag_id: str = "dag"
    run_id: str = "manual__2026"
    map_index: int = -1
    id: uuid.UUID = field(default_factory=uuid.uuid4)
    pushed: dict[str, Any] = field(default_factory=dict)

    def xcom_push(self, key: str, value: Any) -> None:
        self.pushed[key] = value


@dataclass
class Ran:
    """What came of a run."""

    result: Any
    ti: FakeTaskInstance


def context_of(ti: FakeTaskInstance, **more: Any) -> Any:
    """As much of a task's context as a pod task uses."""
    return {"ti": ti, **more}


def gone(pods: list[dict[str, Any]]) -> bool:
    """For `wait_until`: no pod is left."""
    return not pods


@pytest.fixture(scope="session")
def embedded() -> Iterator[EmbeddedCluster]:
    with EmbeddedCluster("alpha") as cluster:
        yield cluster


@pytest.fixture(scope="session")
def config(embedded: EmbeddedCluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("kube") / "config"
    embedded.write_kubeconfig(path)
    return path


@pytest.fixture
def cluster(embedded: EmbeddedCluster, config: Path) -> Iterator[EmbeddedCluster]:
    """The cluster with a clean record and no faults; whatever pods a test left are removed after it."""
    embedded.requests.reset()
    yield embedded
    embedded.faults.clear()
    embedded.delete_all_pods()


@pytest.fixture
def ref(config: Path) -> ClusterRef:
    return kubeconfig(str(config))


# For tests that do something at a moment which a deferred run passes without a worker.
sync_only = pytest.mark.parametrize("mode", ["sync"], indirect=True)


@pytest.fixture(params=["sync", "deferred"])
def mode(request: pytest.FixtureRequest) -> str:
    """Where a task waits for its pod: what it does is the same."""
    return str(request.param)


@pytest.fixture
def execute(mode: str) -> Execute:
    """Executes a task, in this process or deferred."""

    def execute(operator: KubernetesPodOperator, context: Any) -> Any:
        operator.deferrable = mode == "deferred"
        return execute_deferred(operator, context)

    return execute


@pytest.fixture
def make(ref: ClusterRef) -> Callable[..., KubernetesPodOperator]:
    def make(**arguments: Any) -> KubernetesPodOperator:
        defaults = {"task_id": "task", "cluster": ref, "image": "alpine:3", "cmds": ["sh", "-c"]}
        return quiet(KubernetesPodOperator(**{**defaults, **arguments}))

    return make


@pytest.fixture
def run(make: Callable[..., KubernetesPodOperator], execute: Execute) -> Callable[..., Ran]:
    """Runs an operator made of the arguments; `ti` names another task instance."""

    def run(script: str = "true", *, ti: FakeTaskInstance | None = None, **arguments: Any) -> Ran:
        operator = make(**{"arguments": [script], **arguments})
        ti = ti or FakeTaskInstance(operator.task_id)
        return Ran(execute(operator, context_of(ti)), ti)

    return run


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """What was logged so far by the task."""
    caplog.set_level(logging.INFO)

    def lines() -> list[str]:
        return [record.getMessage() for record in caplog.records]

    return lines
