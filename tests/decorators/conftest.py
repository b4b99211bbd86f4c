"""Runs decorated functions in pods of an embedded cluster: as operators alone, and in DAGs that Airflow runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kpo_multicluster.cluster import ClusterRef
from kpo_multicluster.testing import EmbeddedCluster

from ..operators.conftest import FakeTaskInstance, cluster, config, context_of, embedded, lines, quiet, ref

__all__ = ["FakeTaskInstance", "cluster", "config", "embedded", "lines", "ref"]


@pytest.fixture
def pods(cluster: EmbeddedCluster) -> EmbeddedCluster:
    """The cluster, which has no pods before and after."""
    return cluster


@pytest.fixture
def where(pods: EmbeddedCluster, ref: ClusterRef) -> dict[str, Any]:
    """Arguments of every task: where it runs."""
    return {"cluster": ref, "image": "python:3"}


@pytest.fixture
def run() -> Callable[..., Any]:
    """Executes a task of a decorated function; returns its result."""

    def run(result: Any, **context: Any) -> Any:
        operator = quiet(result.operator)
        return operator.execute(context_of(FakeTaskInstance(operator.task_id), **context))

    return run
