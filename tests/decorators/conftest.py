"""Runs decorated functions in pods of an embedded cluster: as operators alone, and in DAGs that Airflow runs."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from kpo_multicluster.cluster import ClusterRef, kubeconfig
from kpo_multicluster.testing import EmbeddedCluster


@dataclass
class FakeTaskInstance:
    """What a pod task uses of its task instance."""

    task_id: str = "task"
    try_number: int = 1
    max_tries: int = 0
    dag_id: str = "dag"
    run_id: str = "manual__2026"
    map_index: int = -1
    id: uuid.UUID = field(default_factory=uuid.uuid4)
    pushed: dict[str, Any] = field(default_factory=dict)

    def xcom_push(self, key: str, value: Any) -> None:
        self.pushed[key] = value


@pytest.fixture(scope="session")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedCluster]:
    with EmbeddedCluster("alpha") as cluster:
        yield cluster


@pytest.fixture(scope="session")
def config(embedded: EmbeddedCluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("kube") / "config"
    embedded.write_kubeconfig(path)
    return path


@pytest.fixture
def pods(embedded: EmbeddedCluster) -> Iterator[EmbeddedCluster]:
    """The cluster, which has no pods before and after."""
    embedded.requests.reset()
    yield embedded
    embedded.delete_all_pods()


@pytest.fixture
def where(pods: EmbeddedCluster, config: Path) -> dict[str, Any]:
    """Arguments of every task: where it runs."""
    ref: ClusterRef = kubeconfig(str(config))
    return {"cluster": ref, "image": "python:3"}


@pytest.fixture
def run() -> Callable[..., Any]:
    """Executes a task of a decorated function; returns its result."""

    def run(result: Any, **context: Any) -> Any:
        operator = result.operator
        operator._cached_logger = logging.getLogger("task")
        given = {"ti": FakeTaskInstance(operator.task_id), **context}
        return operator.execute(given)

    return run


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """What was logged so far by the task."""
    caplog.set_level(logging.INFO)

    def lines() -> list[str]:
        return [record.getMessage() for record in caplog.records]

    return lines
