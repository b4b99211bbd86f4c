"""Starts that fail, and those that only look as if they did."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kpo_multicluster.errors import PodStartError
from kpo_multicluster.testing.cluster import EmbeddedCluster

from .conftest import Ran

Run = Callable[..., Ran]
Lines = Callable[[], list[str]]


def init(script: str) -> dict[str, object]:
    """A template whose init container runs a script."""
    container = {"name": "prepare", "image": "alpine:3", "command": ["sh", "-c", script]}
    return {"spec": {"initContainers": [container], "containers": [{"name": "base"}]}}


def test_the_log_of_an_init_container_that_fails_is_read_to_its_end(
    cluster: EmbeddedCluster, run: Run, lines: Lines
) -> None:
    with cluster.faults.delay("^log ", 0.4), pytest.raises(PodStartError, match="exit code 3"):
        run(pod_template_dict=init("seq 2000; exit 3"), init_container_logs=True)
    assert [line for line in lines() if line.startswith("[prepare]")] == [f"[prepare] {i}" for i in range(1, 2001)]
