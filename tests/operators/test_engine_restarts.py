"""Containers that are restarted: each of their runs is a log of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kpo_multicluster.testing.cluster import EmbeddedCluster

from .conftest import Ran
from .test_faults import numbers

Run = Callable[..., Ran]
Lines = Callable[[], list[str]]

# Fails until it has counted to so many.
SCRIPT = """
run=$(($(cat /count/runs 2>/dev/null || echo 0) + 1)); echo $run > /count/runs
seq $((run * 100)) $((run * 100 + 49)); {pause}
[ $run -ge {runs} ]
"""


class Restarted:
    """The operator's own policy is Never, as upstream's is; who wants another says so at the last moment."""

    @staticmethod
    def on_pod_manifest_created(pod_request: Any, **arguments: object) -> None:
        pod_request.spec.restart_policy = "OnFailure"


def restarting() -> dict[str, Any]:
    volume = {"name": "count", "emptyDir": {}}
    base = {"name": "base", "volumeMounts": [{"name": "count", "mountPath": "/count"}]}
    template = {"spec": {"containers": [base], "volumes": [volume]}}
    return {"pod_template_dict": template, "callbacks": [Restarted]}


def expected(runs: int) -> list[int]:
    return [number for run in range(1, runs + 1) for number in range(run * 100, run * 100 + 50)]


def test_every_run_of_a_restarted_container_is_logged_once(cluster: EmbeddedCluster, run: Run, lines: Lines) -> None:
    run(SCRIPT.format(pause="sleep 0.3", runs=2), **restarting())
    assert numbers(lines()) == expected(2)


@pytest.mark.parametrize("seconds", [0.0, 0.5])
def test_a_run_that_ended_before_its_log_could_be_read_is_read_afterwards(
    cluster: EmbeddedCluster, run: Run, lines: Lines, seconds: float
) -> None:
    """The status still tells of the first run when the kubelet already serves the log of the second."""
    with cluster.faults.delay("^log ", seconds):
        run(SCRIPT.format(pause="", runs=2), **restarting())
    assert sorted(numbers(lines())) == expected(2)


def test_a_restart_while_the_stream_is_broken_loses_nothing(cluster: EmbeddedCluster, run: Run, lines: Lines) -> None:
    with cluster.faults.cut("^log ", after_lines=20):
        run(SCRIPT.format(pause="sleep 0.2", runs=2), **restarting())
    assert numbers(lines()) == expected(2)
