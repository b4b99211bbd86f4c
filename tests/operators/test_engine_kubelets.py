"""Kubelets that do what running ones rarely do: fall silent for good, close a log too soon, meet foreign containers."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kpo_multicluster.cluster import kubeconfig
from kpo_multicluster.errors import PodFailedError, PodLostError, PodStartError
from kpo_multicluster.operators.pod import KubernetesPodOperator
from kpo_multicluster.pods.lost_node import confirmation_seconds

from .conftest import FakeTaskInstance, context_of, quiet
from .deferring import Execute
from .scripted import Pod, Script, ScriptedNode, now, running, scripted_cluster, terminated, waiting
from .test_faults import numbers

Lines = Callable[[], list[str]]
Play = Callable[..., None]

# A deferred run reads logs when the pod has ended, and none of these scripts ends before its log is read.
FOLLOWED = pytest.mark.parametrize("mode", ["sync"])
EVICTED = {
    "type": "DisruptionTarget",
    "status": "True",
    "reason": "DeletionByTaintManager",
    "message": "Taint manager: deleting due to NoExecute taint",
}


@pytest.fixture
def play(tmp_path: Path, execute: Execute) -> Play:
    """Runs a task on a cluster whose kubelet follows a script."""

    def play(script: Script, settings: dict[str, Any] | None = None, **arguments: Any) -> None:
        with scripted_cluster(script) as cluster:
            ref = kubeconfig(str(cluster.write_kubeconfig(tmp_path / "config")))
            operator = KubernetesPodOperator(task_id="task", cluster=ref, image="img:1", cmds=["run"], **arguments)
            made = operator._run_settings
            operator._run_settings = lambda request: dataclasses.replace(  # type: ignore[method-assign]
                made(request), **(settings or {})
            )
            execute(quiet(operator), context_of(FakeTaskInstance("task")))

    return play


# -- nodes that are lost ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("started", [True, False])
def test_a_pod_whose_end_no_node_confirms_is_lost(play: Play, started: bool) -> None:
    async def silent(node: ScriptedNode, pod: Pod) -> None:
        await node.write("1")
        state = running() if started else waiting("ContainerCreating")
        await node.report(pod, "Running" if started else "Pending", conditions=[EVICTED], base=state)
        await node.delete(pod)

    with pytest.raises(PodLostError, match="node 'embedded-node' has not confirmed") as raised:
        play(silent, {"node_confirmation_seconds": 0.5, "log_drain_seconds": 0.2})
    assert raised.value.cause == "node_lost"
    assert "DeletionByTaintManager" in str(raised.value)


def test_a_node_is_given_longer_where_nothing_says_that_it_is_in_trouble() -> None:
    pod: Pod = {"metadata": {"name": "p", "namespace": "n"}, "status": {"conditions": [EVICTED]}}
    assert confirmation_seconds(pod, 60) is None
    pod["metadata"] |= {"deletionTimestamp": "2026-01-01T00:00:30Z", "deletionGracePeriodSeconds": 30}
    assert confirmation_seconds(pod, 60) == 90
    assert confirmation_seconds({**pod, "status": {}}, 60) == 330
    assert confirmation_seconds({**pod, "status": {"reason": "NodeLost"}}, 60) == 90


def test_a_program_that_answers_an_eviction_with_0_succeeds_and_is_doubted_once(play: Play, lines: Lines) -> None:
    async def obeying(node: ScriptedNode, pod: Pod) -> None:
        await node.report(pod, base=running())
        await node.report(pod, conditions=[EVICTED], base=running())
        await node.delete(pod)
        await node.report(pod, "Succeeded", conditions=[EVICTED], base=terminated(at=now(60)))
        await node.close_streams()

    play(obeying)
    told = [line for line in lines() if "which counts as a success" in line]
    assert len(told) == 1
    assert "DeletionByTaintManager" in told[0]


# -- containers that others put into the pod -------------------------------------------------------------------------

PULL = waiting("ErrImagePull", 'failed to resolve reference "mesh:9": not found')


@FOLLOWED
def test_a_foreign_container_that_cannot_start_is_told_of_and_not_waited_for(play: Play, lines: Lines) -> None:
    async def injected(node: ScriptedNode, pod: Pod) -> None:
        await node.report(pod, "Pending", mesh_proxy=PULL, base=waiting("ContainerCreating"))
        await node.write("1")
        await node.report(pod, "Pending", base=running())
        await node.opened(1)
        await node.report(pod, "Pending", base=terminated())
        await node.close_streams()

    play(injected)
    assert numbers(lines()) == [1]
    assert len([line for line in lines() if "'mesh-proxy' cannot start" in line and "none of this task" in line]) == 1


def test_a_container_of_one_s_own_that_cannot_start_fails_the_start(play: Play) -> None:
    async def failing(node: ScriptedNode, pod: Pod) -> None:
        await node.report(pod, "Pending", side=PULL, base=waiting("ContainerCreating"))

    spec = {"spec": {"containers": [{"name": "base"}, {"name": "side", "image": "mesh:9"}]}}
    with pytest.raises(PodStartError, match="'side' cannot start"):
        play(failing, pod_template_dict=spec)


# -- companions ------------------------------------------------------------------------------------------------------


def test_a_companion_that_still_has_something_to_say_is_waited_for(play: Play, lines: Lines) -> None:
    """For longer than a silent one: from its last line on."""

    async def talking(node: ScriptedNode, pod: Pod) -> None:
        await node.report(pod, base=terminated(), side=running())
        for number in range(7):
            await node.write(str(number))
            await asyncio.sleep(1)
        await node.report(pod, side=terminated(3))
        await node.close_streams()

    spec = {"spec": {"containers": [{"name": "base"}, {"name": "side", "image": "img:1"}]}}
    with pytest.raises(PodFailedError, match="container 'side' ended with exit code 3"):
        play(talking, pod_template_dict=spec, container_logs=["side"], sidecar_drain_seconds=5)
    assert [line for line in lines() if line.startswith("[side]")] == [f"[side] {number}" for number in range(7)]
    assert not any("still ran" in line for line in lines())


@pytest.mark.parametrize("drain_seconds", [30, None])
def test_a_companion_that_never_starts_fails_the_run_that_did_not_wait_for_it(
    play: Play, drain_seconds: float | None
) -> None:
    async def unpulled(node: ScriptedNode, pod: Pod) -> None:
        await node.report(pod, "Pending", base=running(), side=waiting("ContainerCreating"))
        await node.report(pod, "Pending", base=terminated())
        await asyncio.sleep(0.1)
        await node.report(pod, "Pending", side=waiting("ErrImagePull", "img:1: not found"))

    spec = {"spec": {"containers": [{"name": "base"}, {"name": "side", "image": "img:1"}]}}
    with pytest.raises(PodStartError, match="'side' cannot start, its image 'img:1' cannot be pulled"):
        play(unpulled, pod_template_dict=spec, sidecar_drain_seconds=drain_seconds, get_logs=False)


def test_a_companion_that_never_starts_hides_no_failure_of_the_base_container(play: Play) -> None:
    async def unpulled(node: ScriptedNode, pod: Pod) -> None:
        await node.report(pod, "Pending", base=running(), side=waiting("ContainerCreating"))
        await node.report(pod, "Pending", base=terminated(3), side=waiting("ErrImagePull", "img:1: not found"))

    spec = {"spec": {"containers": [{"name": "base"}, {"name": "side", "image": "img:1"}]}}
    with pytest.raises(PodFailedError, match="container 'base' ended with exit code 3"):
        play(unpulled, pod_template_dict=spec, get_logs=False)


def test_an_xcom_sidecar_that_never_starts_is_named_and_its_pod_removed(play: Play, lines: Lines) -> None:
    async def unpulled(node: ScriptedNode, pod: Pod) -> None:
        await node.report(pod, "Pending", base=running(), airflow_xcom_sidecar=waiting("ContainerCreating"))
        await node.report(pod, "Pending", base=terminated())
        await asyncio.sleep(0.1)
        await node.report(pod, "Pending", airflow_xcom_sidecar=waiting("ErrImagePull", "alpine: not found"))

    with pytest.raises(PodStartError, match="'airflow-xcom-sidecar' cannot start, its image"):
        play(unpulled, do_xcom_push=True, get_logs=False)
    assert not any("next try" in line or "further try" in line for line in lines())


def test_a_pod_whose_phase_is_late_is_not_active(play: Play, lines: Lines) -> None:
    """A kubelet tells the end of the containers, and up to a second later that of the pod."""

    async def late(node: ScriptedNode, pod: Pod) -> None:
        await node.report(pod, base=running())
        await node.report(pod, base=terminated())

    play(late, on_finish_action="delete_active_pod", get_logs=False)
    assert any("is kept, as on_finish_action is 'delete_active_pod'" in line for line in lines())


# -- logs that end too soon ------------------------------------------------------------------------------------------


@FOLLOWED
def test_a_log_that_is_closed_before_its_last_lines_is_read_on(play: Play, lines: Lines) -> None:
    """Cleanly, as an API server does that is told to stop, and less than two seconds before the container ends."""

    async def closing(node: ScriptedNode, pod: Pod) -> None:
        await node.write("1", "2")
        await node.report(pod, base=running())
        await node.opened(1)
        await node.close_streams()
        await node.write("3", "4")
        await node.report(pod, base=terminated(at=now(later_seconds=30)))

    play(closing)
    assert numbers(lines()) == [1, 2, 3, 4]


@FOLLOWED
@pytest.mark.parametrize("torn", [False, True], ids=["between lines", "within a line"])
def test_a_log_that_is_rotated_while_it_is_read_slowly_is_read_on(play: Play, lines: Lines, torn: bool) -> None:
    """The kubelet reads the old file to its end, sees that the container has ended, and leaves it at that."""

    async def rotating(node: ScriptedNode, pod: Pod) -> None:
        await node.report(pod, base=running())
        await node.write(*(f"{number:>01000}" for number in range(1500)))
        await node.opened(1)
        await node.rotate(torn="15" if torn else "")
        await node.write("00" if torn else "1500", "1501")
        await node.report(pod, base=terminated())
        await node.close_streams()

    play(rotating)
    assert numbers(lines()) == list(range(1502))
    # Nothing can be missing: no file comes and goes in so short a time.
    assert not any("may be missing" in line for line in lines())


@FOLLOWED
def test_a_log_that_fell_silent_as_it_was_rotated_is_read_on_at_once(
    play: Play, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kubelet waits at the end of the old file, while the container goes on in the next."""
    monkeypatch.setattr("kpo_multicluster.pods.follow._SILENT_SECONDS", 0.2)

    async def rotating(node: ScriptedNode, pod: Pod) -> None:
        await node.report(pod, base=running())
        await node.write(*(f"{number:>01000}" for number in range(1500)))
        await node.opened(1)
        await node.rotate()
        await node.write("1500")
        # One that looks, and one that reads on.
        await node.opened(3)
        await node.write("1501")
        await node.report(pod, base=terminated())
        await node.close_streams()

    play(rotating)
    assert numbers(lines()) == list(range(1502))


@FOLLOWED
def test_a_silent_log_is_looked_at_once(play: Play, lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kpo_multicluster.pods.follow._SILENT_SECONDS", 0.2)
    streams = 0

    async def pausing(node: ScriptedNode, pod: Pod) -> None:
        nonlocal streams
        await node.report(pod, base=running())
        await node.write(*(f"{number:>01000}" for number in range(1500)))
        await node.opened(2)
        await asyncio.sleep(1)
        await node.write("1500")
        await asyncio.sleep(1)
        streams = node.streams
        await node.report(pod, base=terminated())
        await node.close_streams()

    play(pausing)
    assert streams == 2
    assert numbers(lines()) == list(range(1501))
