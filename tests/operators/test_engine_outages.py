"""Runs during which the API server is away, or parts of it do not answer: nothing lost, nothing twice."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from kpo_multicluster.operators.pod import KubernetesPodOperator
from kpo_multicluster.testing.cluster import EmbeddedCluster

from .conftest import FakeTaskInstance, Ran, gone
from .test_faults import numbers

Run = Callable[..., Ran]
Lines = Callable[[], list[str]]
Make = Callable[..., KubernetesPodOperator]


def context() -> Any:
    return {"ti": FakeTaskInstance("task")}


def has_ended(pods: list[dict[str, Any]]) -> bool:
    """For `wait_until`: the pod's container has ended."""
    return any(
        status["state"].get("terminated") for pod in pods for status in pod["status"].get("containerStatuses", ())
    )


class Away:
    """Takes the API server away at a moment of the run, for some seconds."""

    def __init__(self, cluster: EmbeddedCluster, seconds: float) -> None:
        self._cluster, self._seconds = cluster, seconds
        self._gone = threading.Event()
        self._thread = threading.Thread(target=self._stay_away)

    def _stay_away(self) -> None:
        with self._cluster.outage():
            self._gone.set()
            time.sleep(self._seconds)

    def on(self, moment: str) -> type:
        """A class of callbacks that begins it."""

        return type("Callbacks", (), {moment: staticmethod(lambda **arguments: self.begin())})

    def begin(self) -> None:
        self._thread.start()
        assert self._gone.wait(10)

    def __enter__(self) -> Away:
        return self

    def __exit__(self, *error: object) -> None:
        self._thread.join()


def patient(operator: KubernetesPodOperator, **changes: Any) -> KubernetesPodOperator:
    """Has the run's settings changed."""
    made = operator._run_settings
    operator._run_settings = lambda request: dataclasses.replace(made(request), **changes)  # type: ignore[method-assign]
    return operator


@pytest.mark.parametrize("sleep", ["0.5", "3"])
def test_a_server_that_is_away_for_a_while_costs_no_line(
    cluster: EmbeddedCluster, make: Make, lines: Lines, sleep: str
) -> None:
    """Whether the pod ends meanwhile or goes on."""
    with Away(cluster, 2.0) as away:
        script = f"for i in $(seq 1 50); do echo $i; sleep 0.01; done; sleep {sleep}; seq 51 100"
        operator = make(arguments=[script], callbacks=[away.on("on_pod_starting")])
        patient(operator, log_drain_seconds=0.1).execute(context())
    assert numbers(lines()) == list(range(1, 101))
    assert not any("missing" in line for line in lines())
    cluster.wait_until(gone)


def test_a_server_that_goes_away_while_the_log_is_drained_costs_no_line(
    cluster: EmbeddedCluster, make: Make, lines: Lines
) -> None:
    """The watch tells the end while the log is silent; then nobody answers, for longer than silence is allowed."""
    with Away(cluster, 2.0) as away, cluster.faults.black_hole("^log ", times=1):
        operator = patient(make(arguments=["seq 100; sleep 0.3"]), log_drain_seconds=0.5)

        def leave() -> None:
            cluster.wait_until(has_ended)
            away.begin()

        ended = threading.Thread(target=leave)
        ended.start()
        operator.execute(context())
        ended.join()
    assert numbers(lines()) == list(range(1, 101))


def test_a_log_that_cannot_be_read_when_the_container_ends_is_read_when_it_can(
    cluster: EmbeddedCluster, make: Make, lines: Lines
) -> None:
    """The follower waits for its next try, many seconds away, when the watch sees the end."""
    started = time.monotonic()
    with cluster.faults.answer("^log ", 503, retry_after_seconds=60):
        patient(make(arguments=["seq 100; sleep 0.3"]), log_drain_seconds=0.5).execute(context())
    assert numbers(lines()) == list(range(1, 101))
    assert time.monotonic() - started < 30


def test_a_log_that_never_answers_is_given_up_and_said_so(cluster: EmbeddedCluster, make: Make, lines: Lines) -> None:
    with cluster.faults.black_hole("^log ") as silence:
        patient(make(arguments=["seq 100"]), log_drain_seconds=0.3).execute(context())
    assert silence.hits == 2
    assert any("last lines may be missing" in line for line in lines())


def test_a_start_that_the_server_hid_is_no_start_that_came_too_late(
    cluster: EmbeddedCluster, run: Run, lines: Lines
) -> None:
    with Away(cluster, 2.0) as away:
        run("echo 1; sleep 1", startup_timeout_seconds=1, callbacks=[away.on("on_pod_creation")])
    assert numbers(lines()) == [1]
