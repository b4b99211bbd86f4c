"""Workerless tasks from start to end, as a triggerer runs them: on its loop, from what is stored."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import weakref
from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG
from airflow.triggers.base import TaskFailedEvent, TaskSkippedEvent, TaskSuccessEvent

from kpo_multicluster.airflow_names import STARTS_IN_TRIGGERER
from kpo_multicluster.cluster import ClusterRef, kubeconfig
from kpo_multicluster.operators.pod import KubernetesPodOperator
from kpo_multicluster.operators.workerless import steps
from kpo_multicluster.operators.workerless.steps import END_KEY
from kpo_multicluster.operators.workerless.trigger import WorkerlessPodTrigger
from kpo_multicluster.testing.cluster import EmbeddedCluster
from kpo_multicluster.triggers.clusters import hubs

from .conftest import gone
from .deferring import first_event, quiet
from .triggering import TriggererSide, started, stored_dag

pytestmark = pytest.mark.skipif(not STARTS_IN_TRIGGERER, reason="needs Airflow 3.3")

Lines = Callable[[], list[str]]
# Far beyond what anything takes; only a test that fails gets there.
PATIENCE_SECONDS = 110.0
MANY = 20


class Workerless:
    """A task of a DAG, and what a triggerer has of it."""

    def __init__(self, ref: ClusterRef) -> None:
        self._ref = ref
        self.operator: Any = None

    def task(self, script: str = "true", **arguments: Any) -> TriggererSide:
        given: dict[str, Any] = {"task_id": "task", "cluster": self._ref, "image": "alpine:3", "cmds": ["sh", "-c"]}
        dag = arguments.pop("dag", None) or DAG("dag", schedule=None, **arguments.pop("of_dag", {}))
        more = {"arguments": [script], "termination_grace_period": 0, "workerless": True}
        self.operator = KubernetesPodOperator(**{**given, **more, "dag": dag, **arguments})
        return TriggererSide(self.operator.task_id)

    def trigger(self, ti: TriggererSide, **context: Any) -> WorkerlessPodTrigger:
        return started(self.operator, ti, **context)


@pytest.fixture
def workerless(ref: ClusterRef, cluster: EmbeddedCluster, monkeypatch: pytest.MonkeyPatch) -> Workerless:
    made = steps.task_of
    monkeypatch.setattr(steps, "task_of", lambda *of: quiet(made(*of)))
    return Workerless(ref)


async def ended(trigger: WorkerlessPodTrigger, *, within_seconds: float = PATIENCE_SECONDS) -> Any:
    """The event that the trigger fires."""
    return await asyncio.wait_for(first_event(trigger), within_seconds)


async def until(holds: Callable[[], Any]) -> None:
    async def wait() -> None:
        while not holds():
            await asyncio.sleep(0.02)

    await asyncio.wait_for(wait(), PATIENCE_SECONDS)


@contextlib.asynccontextmanager
async def running(trigger: WorkerlessPodTrigger) -> AsyncIterator[asyncio.Task[Any]]:
    """Runs a trigger beside; nothing of it is left on the loop after it."""
    task = asyncio.create_task(first_event(trigger))
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await hubs.settle()
        assert not hubs.keys


def runs(cluster: EmbeddedCluster) -> bool:
    return any(
        "running" in status["state"]
        for pod in cluster.pods()
        for status in pod["status"].get("containerStatuses") or ()
        if status["name"] == "base"
    )


async def test_a_run(cluster: EmbeddedCluster, workerless: Workerless, lines: Lines) -> None:
    ti = workerless.task(
        'echo "{{ word }} for $A"; echo \'{"a": [1], "b": "two"}\' > /airflow/xcom/return.json',
        env_vars={"A": "{{ ti.task_id }} {{ ti.try_number }}"},
        do_xcom_push=True,
        multiple_outputs=True,
    )
    event = await ended(workerless.trigger(ti, word="once"))
    assert isinstance(event, TaskSuccessEvent)
    assert event.xcoms is None
    result = {"a": [1], "b": "two"}
    assert {key: ti.pushed[key] for key in ("return_value", "a", "b")} == {"return_value": result, **result}
    assert str(ti.pushed["pod_name"]).startswith("task-")
    assert [line for line in lines() if line.startswith("[base]")] == ["[base] once for task 1"]
    cluster.wait_until(gone)


async def test_results_of_other_tasks(workerless: Workerless, lines: Lines) -> None:
    with DAG("dag", schedule=None) as dag:
        before: Any = KubernetesPodOperator(task_id="before", image="alpine:3")
    script = "echo $A {{ ti.xcom_pull('other', key='k') }}"
    ti = workerless.task(script, env_vars={"A": before.output}, dag=dag)
    ti.others = {("before", "return_value"): "first", ("other", "k"): "second"}
    assert isinstance(await ended(workerless.trigger(ti)), TaskSuccessEvent)
    assert "[base] first second" in lines()


async def test_templates_are_rendered_as_the_dag_says(workerless: Workerless, lines: Lines) -> None:
    ti = workerless.task(arguments="{{ ['echo', 'native'] }}", cmds=[], of_dag={"render_template_as_native_obj": True})
    assert isinstance(await ended(workerless.trigger(ti)), TaskSuccessEvent)
    assert "[base] native" in lines()
    ti = workerless.task("echo {{ nowhere }}")
    assert isinstance(await ended(workerless.trigger(ti)), TaskFailedEvent)
    assert any("'nowhere' is undefined" in line for line in lines())


async def test_failures_and_skips(cluster: EmbeddedCluster, workerless: Workerless, lines: Lines) -> None:
    ti = workerless.task("echo so it is; exit 7", do_xcom_push=True)
    assert isinstance(await ended(workerless.trigger(ti)), TaskFailedEvent)
    assert any("exit code 7" in line and "so it is" in line for line in lines())
    ti = workerless.task("exit 9", skip_on_exit_code=[9])
    assert isinstance(await ended(workerless.trigger(ti)), TaskSkippedEvent)
    ti = workerless.task("echo 1 > /airflow/xcom/return.json", do_xcom_push=True, skip_on_exit_code=0)
    # The second time as after the loss of a triggerer.
    assert isinstance(await ended(workerless.trigger(ti)), TaskSkippedEvent)
    assert isinstance(await ended(workerless.trigger(ti)), TaskSkippedEvent)
    assert "return_value" not in ti.pushed
    cluster.wait_until(gone)


async def test_multiple_outputs_that_are_none(cluster: EmbeddedCluster, workerless: Workerless, lines: Lines) -> None:
    ti = workerless.task("echo 1 > /airflow/xcom/return.json", do_xcom_push=True, multiple_outputs=True)
    assert isinstance(await ended(workerless.trigger(ti)), TaskFailedEvent)
    assert any("multiple_outputs needs a JSON object" in line for line in lines())
    cluster.wait_until(gone)


async def test_requests_of_a_plain_run(cluster: EmbeddedCluster, workerless: Workerless) -> None:
    assert isinstance(await ended(workerless.trigger(workerless.task("sleep 1"))), TaskSuccessEvent)
    counts = cluster.requests.counts()
    # The look for an earlier try's pod, that for the watch's place, and the pod's as it began to be watched.
    assert (counts["create"], counts["delete"], counts["watch"], counts["log"]) == (1, 1, 1, 1)
    assert counts["list"] + counts["get"] <= 4


async def test_a_user_who_ends_the_task_ends_the_pod(cluster: EmbeddedCluster, workerless: Workerless) -> None:
    trigger = workerless.trigger(workerless.task("sleep 3000"))
    async with running(trigger) as task:
        await until(lambda: runs(cluster))
        task.cancel("__airflow_user_action__")
        await asyncio.gather(task, return_exceptions=True)
        killing = asyncio.create_task(trigger.on_kill())
        while not (await asyncio.wait({killing}, timeout=0.1))[0]:
            killing.cancel()
        await until(lambda: not cluster.pods())


async def test_a_task_ended_before_this_triggerer_knew_its_pod(
    cluster: EmbeddedCluster, workerless: Workerless
) -> None:
    ti = workerless.task("sleep 3000")
    async with running(workerless.trigger(ti)):
        await until(lambda: runs(cluster))
    # Another triggerer is told of the end before it has begun.
    await workerless.trigger(ti).on_kill()
    await until(lambda: not cluster.pods())


async def test_a_pod_that_is_to_be_kept(cluster: EmbeddedCluster, workerless: Workerless) -> None:
    trigger = workerless.trigger(workerless.task("sleep 3000", on_kill_action="keep_pod"))
    async with running(trigger) as task:
        await until(lambda: runs(cluster))
        task.cancel("__airflow_user_action__")
        await asyncio.gather(task, return_exceptions=True)
        await trigger.on_kill()
    assert runs(cluster)


async def test_another_triggerer_goes_on_with_the_pod(cluster: EmbeddedCluster, workerless: Workerless) -> None:
    ti = workerless.task("sleep 1.5; echo 5 > /airflow/xcom/return.json", do_xcom_push=True)
    async with running(workerless.trigger(ti)):
        await until(lambda: runs(cluster))
    # It left the pod alone, and nothing of the run but the row.
    assert isinstance(await ended(workerless.trigger(ti)), TaskSuccessEvent)
    assert ti.pushed["return_value"] == 5
    assert cluster.requests.counts()["create"] == 1


async def test_a_try_that_had_ended_is_not_run_again(
    cluster: EmbeddedCluster, workerless: Workerless, lines: Lines
) -> None:
    """The triggerer was lost after the pod was deleted, and before Airflow knew of the end."""
    for script, kind in (("true", TaskSuccessEvent), ("exit 3", TaskFailedEvent), ("exit 9", TaskSkippedEvent)):
        ti = workerless.task(script, skip_on_exit_code=9)
        assert isinstance(await ended(workerless.trigger(ti)), kind)
        cluster.wait_until(gone)
        cluster.requests.reset()
        assert isinstance(await ended(workerless.trigger(ti)), kind)
        assert not cluster.requests.counts()


async def test_a_next_try_forgets_what_an_earlier_one_returned(
    workerless: Workerless, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.sdk.execution_time.xcom import XCom

    forgotten: list[str] = []
    monkeypatch.setattr(XCom, "delete", lambda key, **_of: forgotten.append(key))
    ti = workerless.task("true", do_xcom_push=False)
    ti.pushed[END_KEY] = {"attempt": "earlier", "state": "success", "why": "", "keys": ["return_value", "a"]}
    assert isinstance(await ended(workerless.trigger(ti)), TaskSuccessEvent)
    assert forgotten == ["return_value", "a"]
    assert ti.pushed[END_KEY]["attempt"] == str(ti.id)


async def test_what_a_triggerer_cannot_answer_is_not_asked(workerless: Workerless, lines: Lines) -> None:
    ti = workerless.task("echo {{ prev_start_date_success }}")
    assert isinstance(await ended(workerless.trigger(ti, prev_start_date_success="never asked")), TaskFailedEvent)
    assert any("'prev_start_date_success' is undefined" in line for line in lines())


@pytest.mark.parametrize("given", ["", "{}", json.dumps({"version": 99})])
async def test_what_another_version_has_stored(lines: Lines, given: str) -> None:
    trigger = WorkerlessPodTrigger(given=given, more=1)
    assert trigger.serialize()[1] == {"given": given, "more": 1}
    ti = TriggererSide("task")
    trigger.task_instance = ti  # type: ignore[assignment]
    trigger.render_template_fields({"ti": ti})
    assert isinstance(await ended(trigger), TaskFailedEvent)


@pytest.mark.timeout(600)
async def test_many_share_one_watch_and_no_dag(cluster: EmbeddedCluster, workerless: Workerless) -> None:
    """Each asks for its own pod only; of what Airflow gave each, a copy of the whole DAG, nothing is kept."""
    workerless.task("sleep 2")
    dags = [stored_dag(workerless.operator.dag) for _ in range(MANY)]
    triggers = [started(workerless.operator, TriggererSide("task", run_id=f"r{n}"), dag) for n, dag in enumerate(dags)]
    left = [weakref.ref(dag) for dag in dags]
    del dags
    events = await asyncio.gather(*(ended(trigger, within_seconds=500) for trigger in triggers))
    assert all(isinstance(event, TaskSuccessEvent) for event in events)
    gc.collect()
    assert [dag for dag in left if dag() is not None] == []
    counts = cluster.requests.counts()
    # At the beginning a look for the pod of an earlier try, at the end one at its own; one watch for all.
    assert {verb: counts[verb] for verb in ("watch", "create", "log", "delete")} == {
        "watch": 1,
        **dict.fromkeys(("create", "log", "delete"), MANY),
    }
    assert counts["list"] + counts["get"] <= 2.5 * MANY
    cluster.wait_until(gone, timeout_seconds=60)


async def test_a_user_who_ends_the_task_while_its_pod_is_created(
    cluster: EmbeddedCluster, workerless: Workerless
) -> None:
    trigger = workerless.trigger(workerless.task("sleep 3000"))
    with cluster.faults.delay("^create ", 1) as fault:
        async with running(trigger) as task:
            await asyncio.to_thread(fault.wait, timeout_seconds=PATIENCE_SECONDS)
            task.cancel("__airflow_user_action__")
            await asyncio.gather(task, return_exceptions=True)
            await trigger.on_kill()
    await until(lambda: not cluster.pods())


async def test_a_triggerer_that_ends_while_the_pod_is_created_leaves_it_to_the_next(
    cluster: EmbeddedCluster, workerless: Workerless
) -> None:
    ti = workerless.task("sleep 1")
    with cluster.faults.delay("^create ", 1) as fault:
        async with running(workerless.trigger(ti)):
            await asyncio.to_thread(fault.wait, timeout_seconds=PATIENCE_SECONDS)
    assert isinstance(await ended(workerless.trigger(ti)), TaskSuccessEvent)
    assert cluster.requests.counts()["delete"] == 1
    cluster.wait_until(gone)


async def test_a_time_limit(cluster: EmbeddedCluster, workerless: Workerless, lines: Lines) -> None:
    ti = workerless.task("echo begun; sleep 3000", execution_timeout=timedelta(seconds=30))
    trigger = workerless.trigger(ti)
    # As Airflow says when the limit is up, which counts from the start of the try.
    trigger.timeout_after = datetime.now(timezone.utc) + timedelta(seconds=2)
    assert isinstance(await ended(trigger), TaskFailedEvent)
    assert any("ran longer than its execution_timeout, 0:00:30" in line for line in lines())
    await until(lambda: not cluster.pods())


async def test_a_cluster_that_is_away(workerless: Workerless, lines: Lines, config: Path, tmp_path: Path) -> None:
    ti = workerless.task("true", cluster=kubeconfig(str(tmp_path / "absent")))
    assert isinstance(await ended(workerless.trigger(ti)), TaskFailedEvent)
    assert any(str(tmp_path / "absent") in line for line in lines())


def test_where_airflow_runs_it_in_one_process_all_the_same(workerless: Workerless) -> None:
    """As `dag.test()` does."""
    ti = workerless.task("echo 5 > /airflow/xcom/return.json", do_xcom_push=True)
    assert quiet(workerless.operator).execute({"ti": ti}) == 5
    assert END_KEY not in ti.pushed
