"""Whole deferred runs: what is stored of one, and what becomes of it when its trigger is moved, killed or late."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from kpo_multicluster.airflow_names import AirflowTaskTimeout, TaskDeferralError, TaskDeferralTimeout
from kpo_multicluster.cluster import ClusterRef, kubeconfig
from kpo_multicluster.errors import ConfigurationError, PodFailedError, PodLostError, PodStartTimeoutError, TLSError
from kpo_multicluster.operators.pod import KubernetesPodOperator
from kpo_multicluster.testing.cluster import EmbeddedCluster

from ..operators.conftest import FakeTaskInstance, context_of, gone
from ..operators.deferring import first_event, kwargs_of, row_of
from .conftest import GATE, Defer, is_running, numbers, open_gate, running, until, until_logged

Lines = Callable[[], list[str]]


# -- what is stored --------------------------------------------------------------------------------------------------


def secrets_of(config: Path) -> list[str]:
    """Every credential of a kubeconfig."""
    document = yaml.safe_load(config.read_text())
    found = [value for user in document["users"] for value in user["user"].values() if isinstance(value, str)]
    assert found
    return found


def test_the_row_holds_no_credential(cluster: EmbeddedCluster, defer: Defer, config: Path) -> None:
    deferred = defer("true", env_vars={"PASSWORD": "hunter2-hunter2"}, do_xcom_push=True)
    kwargs = kwargs_of(deferred.row)
    for secret in (*secrets_of(config), "hunter2"):
        assert secret not in deferred.row
    assert set(kwargs) == {"run", "trigger_kwargs", "poll_interval"}
    assert len(json.dumps(kwargs["run"]["cluster"])) < 1000
    assert len(json.dumps(kwargs)) < 3000
    event = asyncio.run(first_event(deferred.trigger()))
    for secret in (*secrets_of(config), "hunter2"):
        assert secret not in json.dumps(event.payload)
    deferred.resume(event)


def test_a_connection_that_holds_a_kubeconfig_is_stored_by_its_id(
    cluster: EmbeddedCluster, defer: Defer, config: Path, monkeypatch: pytest.MonkeyPatch, lines: Lines
) -> None:
    document = json.dumps(yaml.safe_load(config.read_text()))
    connection = {"conn_type": "kubernetes", "extra": {"kube_config": document}}
    monkeypatch.setenv("AIRFLOW_CONN_INLINE", json.dumps(connection))
    deferred = defer("echo 1", cluster=None, kubernetes_conn_id="inline")
    assert kwargs_of(deferred.row)["run"]["cluster"] == {"hook": {"conn_id": "inline"}}
    for secret in secrets_of(config):
        assert secret not in deferred.row
    deferred.finish()
    assert numbers(lines()) == [1]


def test_what_must_not_be_stored_is_refused_before_there_is_a_pod(
    cluster: EmbeddedCluster, config: Path, defer: Defer
) -> None:
    class Inline(KubernetesPodOperator):
        @property
        def hook(self) -> Any:
            from kpo_multicluster.hooks.kubernetes import KubernetesHook

            return KubernetesHook(config_dict=yaml.safe_load(config.read_text()))

    with pytest.raises(ConfigurationError, match="holds document inline"):
        Inline(task_id="task", image="alpine:3", deferrable=True).execute(context_of(FakeTaskInstance("task")))
    assert cluster.pods() == []


@dataclass
class Given:
    """Airflow stores one, and reads none that its settings do not name."""

    number: int = 1


@pytest.mark.parametrize("value", [object(), Given(), b"bytes"], ids=lambda value: type(value).__name__)
def test_arguments_that_cannot_be_stored_are_refused_before_there_is_a_pod(
    cluster: EmbeddedCluster, defer: Defer, ref: ClusterRef, value: Any
) -> None:
    operator = KubernetesPodOperator(
        task_id="task", cluster=ref, image="alpine:3", deferrable=True, trigger_kwargs={"mine": value}
    )
    with pytest.raises(ConfigurationError, match="trigger_kwargs is stored in Airflow's database"):
        operator.execute(context_of(FakeTaskInstance("task")))
    assert cluster.requests.counts()["create"] == 0


# -- waiting ---------------------------------------------------------------------------------------------------------


def test_a_pod_that_has_ended_fires_at_once(cluster: EmbeddedCluster, defer: Defer) -> None:
    deferred = defer("exit 3")
    cluster.wait_until(lambda pods: all(pod["status"].get("phase") == "Failed" for pod in pods))
    with pytest.raises(PodFailedError) as raised:
        deferred.finish()
    assert raised.value.exit_code == 3


def test_a_pod_of_an_earlier_try_that_has_ended_is_not_deferred_for(
    cluster: EmbeddedCluster, defer: Defer, ref: Any, lines: Lines
) -> None:
    first = defer("echo 1")
    cluster.wait_until(lambda pods: all(pod["status"].get("phase") == "Succeeded" for pod in pods))
    again = FakeTaskInstance("task", try_number=2)
    operator = KubernetesPodOperator(task_id="task", cluster=ref, image="alpine:3", deferrable=True)
    operator.execute(context_of(again))
    assert again.pushed["pod_name"] == first.pod_name


async def test_a_trigger_that_is_moved_goes_on_where_the_record_says(
    cluster: EmbeddedCluster, defer: Defer, ref: ClusterRef, lines: Lines
) -> None:
    deferred = await asyncio.to_thread(defer, f"seq 1 100; {GATE}; seq 101 200")
    async with running(deferred.trigger()) as (first,):
        await until(lambda: is_running(cluster, deferred))
        # The triggerer is shut down.
        await first.end()
    assert is_running(cluster, deferred)
    async with running(deferred.trigger()) as (second,):
        await open_gate(ref, deferred)
        event = await second.event()
    await asyncio.to_thread(deferred.resume, event)
    assert numbers(lines()) == list(range(1, 201))


def test_the_rights_of_a_run_in_one_worker_suffice(cluster: EmbeddedCluster, defer: Defer, lines: Lines) -> None:
    with cluster.faults.answer("^(get|list) .*pods", 403, times=None):
        deferred = defer("seq 1 3; echo 5 > /airflow/xcom/return.json", do_xcom_push=True)
        assert deferred.finish() == 5
    assert numbers(lines()) == [1, 2, 3]
    cluster.wait_until(gone)


# -- ends ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("keep", "left"), [(False, 0), (True, 1)])
async def test_a_user_who_ends_the_task_ends_the_pod(
    cluster: EmbeddedCluster, defer: Defer, keep: bool, left: int
) -> None:
    action = "keep_pod" if keep else "delete_pod"
    deferred = await asyncio.to_thread(defer, "sleep 300", on_kill_action=action, termination_grace_period=0)
    async with running(deferred.trigger()) as (trigger,):
        await until(lambda: is_running(cluster, deferred))
        # A server that takes its time is waited for although the deletion is cancelled again and again.
        cluster.faults.delay("^delete ", 1.0)
        await trigger.kill()
        await until(lambda: len(cluster.pods()) == left)


async def test_a_pod_that_ran_out_of_time_is_ended_by_the_trigger(
    cluster: EmbeddedCluster, defer: Defer, ref: ClusterRef, lines: Lines
) -> None:
    deferred = await asyncio.to_thread(
        defer, "seq 1 5; sleep 300", execution_timeout=timedelta(hours=1), termination_grace_period=0
    )
    assert deferred.timeout > timedelta(hours=1)
    await until_logged(ref, deferred, b"5\n")
    kwargs = kwargs_of(deferred.row)
    assert 0 < kwargs["run"]["deadline"] - time.time() <= 3600
    kwargs["run"]["deadline"] = time.time() + 0.5
    deferred.row = row_of(kwargs)
    async with running(deferred.trigger()) as (trigger,):
        event = await trigger.event()
        await until(lambda: cluster.pods() == [])
    assert event.payload["status"] == "timeout"
    assert numbers(lines()) == [1, 2, 3, 4, 5]
    with pytest.raises(AirflowTaskTimeout, match="execution_timeout"):
        await asyncio.to_thread(deferred.resume, event)
    assert numbers(lines()) == [1, 2, 3, 4, 5]


async def test_a_pod_that_is_to_be_kept_outlives_its_time(cluster: EmbeddedCluster, defer: Defer) -> None:
    arguments: dict[str, Any] = {"execution_timeout": timedelta(seconds=1), "on_kill_action": "keep_pod"}
    deferred = await asyncio.to_thread(defer, "sleep 300", **arguments)
    async with running(deferred.trigger()) as (trigger,):
        event = await trigger.event()
    with pytest.raises(AirflowTaskTimeout):
        await asyncio.to_thread(deferred.resume, event)
    assert len(cluster.pods()) == 1
    assert cluster.requests.counts()["delete"] == 0


def test_a_start_that_takes_too_long(cluster: EmbeddedCluster, defer: Defer, lines: Lines) -> None:
    deferred = defer("true", node_selector={"gpu": "yes"}, schedule_timeout_seconds=1)
    event = asyncio.run(first_event(deferred.trigger()))
    assert event.payload["status"] == "timeout"
    with pytest.raises(PodStartTimeoutError, match="nodes are available"):
        deferred.resume(event)
    cluster.wait_until(gone)


@pytest.mark.parametrize(
    ("error", "raised", "max_tries", "left"),
    [
        ("Trigger timeout", TaskDeferralTimeout, 1, 0),
        ("Trigger failure", TaskDeferralError, 0, 0),
        ("Trigger failure", TaskDeferralError, 1, 1),
    ],
)
def test_a_pod_whose_trigger_is_lost_is_ended_unless_another_try_goes_on_with_it(
    cluster: EmbeddedCluster, defer: Defer, error: str, raised: type[Exception], max_tries: int, left: int
) -> None:
    deferred = defer("sleep 300", ti=FakeTaskInstance("task", max_tries=max_tries), termination_grace_period=0)
    other = defer("sleep 300", task_id="other")
    with pytest.raises(raised):
        deferred.resume_with({"error": error}, "__fail__")
    cluster.wait_until(lambda pods: len(pods) == left + 1)
    assert other.pod_name in [pod["metadata"]["name"] for pod in cluster.pods()]


def test_the_pod_of_an_earlier_try_that_was_gone_on_with_is_ended_as_well(
    cluster: EmbeddedCluster, defer: Defer
) -> None:
    """But not that of a later one, which Airflow may have started already."""
    arguments: dict[str, Any] = {"termination_grace_period": 0}
    first = defer("sleep 300", ti=FakeTaskInstance("task", try_number=1, max_tries=1), **arguments)
    second = defer("sleep 300", ti=FakeTaskInstance("task", try_number=2, max_tries=1), **arguments)
    assert second.pod_name == first.pod_name
    third = defer(
        "sleep 300", ti=FakeTaskInstance("task", try_number=3, max_tries=2), reattach_on_restart=False, **arguments
    )
    with pytest.raises(TaskDeferralError):
        second.resume_with({"error": "Trigger failure"}, "__fail__")
    cluster.wait_until(lambda pods: [pod["metadata"]["name"] for pod in pods] == [third.pod_name])


async def test_a_pod_that_someone_deletes_is_lost(cluster: EmbeddedCluster, defer: Defer) -> None:
    deferred = await asyncio.to_thread(defer, "sleep 300", termination_grace_period=0)
    async with running(deferred.trigger()) as (trigger,):
        await until(lambda: is_running(cluster, deferred))
        await asyncio.to_thread(cluster.delete_all_pods)
        event = await trigger.event()
    assert event.payload["status"] == "failed"
    with pytest.raises(PodLostError, match="deleted by someone else"):
        await asyncio.to_thread(deferred.resume, event)


async def test_a_pod_that_is_lost_before_it_started_is_created_and_waited_for_again(
    cluster: EmbeddedCluster, defer: Defer
) -> None:
    from kpo_multicluster.airflow_names import TaskDeferred

    arguments: dict[str, Any] = {"relaunch_on": ["deleted"], "node_selector": {"gpu": "yes"}}
    deferred = await asyncio.to_thread(defer, "true", **arguments)
    async with running(deferred.trigger()) as (trigger,):
        await asyncio.to_thread(cluster.delete_all_pods)
        event = await trigger.event()
    with pytest.raises(TaskDeferred) as again:
        await asyncio.to_thread(deferred.resume, event)
    record = again.value.trigger.serialize()[1]["run"]
    assert record["relaunches_left"] == 2
    (pod,) = cluster.pods()
    assert record["pod"]["metadata"]["uid"] == pod["metadata"]["uid"]


# -- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kwargs",
    [
        {},
        {"run": None},
        {"run": {"version": 0, "pod": {"metadata": {"name": "old", "namespace": "default"}}}},
        {"run": {"version": 1}},
        {"pod_name": "of-upstream", "pod_namespace": "default", "trigger_start_time": 5},
    ],
)
def test_a_record_that_cannot_be_read_ends_the_task_with_its_cause(
    cluster: EmbeddedCluster, defer: Defer, kwargs: dict[str, Any]
) -> None:
    deferred = defer("sleep 300", termination_grace_period=0)
    deferred.row = row_of(kwargs)
    event = asyncio.run(first_event(deferred.trigger()))
    assert event.payload["status"] == "error"
    asyncio.run(deferred.trigger().on_kill())
    with pytest.raises(ConfigurationError, match="deferred") as raised:
        deferred.resume(event)
    assert "clear the task" in str(raised.value)
    cluster.wait_until(gone)


def test_a_connection_that_the_triggerer_lacks(
    cluster: EmbeddedCluster, defer: Defer, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = json.dumps(yaml.safe_load(config.read_text()))
    connection = json.dumps({"conn_type": "kubernetes", "extra": {"kube_config": document}})
    monkeypatch.setenv("AIRFLOW_CONN_INLINE", connection)
    deferred = defer("sleep 300", cluster=None, kubernetes_conn_id="inline", termination_grace_period=0)
    monkeypatch.delenv("AIRFLOW_CONN_INLINE")
    event = asyncio.run(first_event(deferred.trigger()))
    assert event.payload["status"] == "error"
    monkeypatch.setenv("AIRFLOW_CONN_INLINE", connection)
    with pytest.raises(ConfigurationError, match=r"no connection 'inline'.*In the triggerer on host"):
        deferred.resume(event)
    cluster.wait_until(gone)


def test_a_kubeconfig_that_the_triggerer_lacks(
    cluster: EmbeddedCluster, defer: Defer, config: Path, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "config"
    elsewhere.write_text(config.read_text())
    deferred = defer("sleep 300", cluster=kubeconfig(str(elsewhere)), termination_grace_period=0)
    elsewhere.unlink()
    event = asyncio.run(first_event(deferred.trigger()))
    elsewhere.write_text(config.read_text())
    with pytest.raises(ConfigurationError, match=rf"{elsewhere}.*In the triggerer on host"):
        deferred.resume(event)
    cluster.wait_until(gone)


def test_a_connection_that_leads_to_another_cluster_by_now(
    cluster: EmbeddedCluster, defer: Defer, config: Path, tmp_path: Path
) -> None:
    leading = tmp_path / "config"
    leading.write_text(config.read_text())
    deferred = defer("sleep 300", cluster=kubeconfig(str(leading)))
    with EmbeddedCluster("other") as other:
        other.write_kubeconfig(leading)
        event = asyncio.run(first_event(deferred.trigger()))
        with pytest.raises(PodLostError, match=f"{other.server} now is another cluster") as raised:
            deferred.resume(event)
    assert deferred.pod_name in str(raised.value)
    assert is_running(cluster, deferred)


def test_another_cluster_with_certificates_of_its_own_at_the_same_address(
    cluster: EmbeddedCluster, defer: Defer, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leading = tmp_path / "config"
    leading.write_text(config.read_text())
    deferred = defer("sleep 300", cluster=kubeconfig(str(leading)))
    monkeypatch.setattr("kpo_multicluster.pods.hub.OUTAGE_SECONDS", 0.2)
    with EmbeddedCluster("other") as other:
        leading.write_text(config.read_text().replace(cluster.server, other.server))
        event = asyncio.run(first_event(deferred.trigger()))
        assert event.payload["status"] == "error"
        assert "In the triggerer on host" in event.payload["message"]
        # The worker finds the same.
        with pytest.raises(TLSError, match=r"the certificate of 127\.0\.0\.1:\d+ is refused"):
            deferred.resume(event)
    assert is_running(cluster, deferred)


def test_a_trigger_for_what_no_one_foresaw_fires_all_the_same(
    cluster: EmbeddedCluster, defer: Defer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(stored: Any) -> Any:
        raise ZeroDivisionError("by zero")

    deferred = defer("sleep 300", termination_grace_period=0)
    monkeypatch.setattr("kpo_multicluster.triggers.clusters.hook_of", broken)
    event = asyncio.run(first_event(deferred.trigger()))
    assert event.payload["status"] == "error"
    assert "ZeroDivisionError: by zero" in event.payload["message"]
    monkeypatch.undo()
    with pytest.raises(Exception, match="ZeroDivisionError"):
        deferred.resume(event)
    cluster.wait_until(gone)


# -- under upstream's names ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["trigger_reentry", "execute_complete"])
def test_an_override_of_the_re_entry_takes_effect(cluster: EmbeddedCluster, defer: Defer, method: str) -> None:
    seen: list[Any] = []

    def overridden(self: Any, context: Any, event: dict[str, Any]) -> Any:
        seen.append((event["status"], event["mine"]))
        return getattr(KubernetesPodOperator, method)(self, context, event)

    kind = type("Overriding", (KubernetesPodOperator,), {method: overridden})
    script = "echo 5 > /airflow/xcom/return.json"
    deferred = defer(script, kind=kind, do_xcom_push=True, trigger_kwargs={"mine": 1, "status": "not mine"})
    assert deferred.finish() == 5
    assert seen == [("success", 1)]


def test_an_override_of_the_deferral_takes_effect(cluster: EmbeddedCluster, defer: Defer) -> None:
    class Older(KubernetesPodOperator):
        def invoke_defer_method(self, last_log_time: Any = None) -> None:  # type: ignore[override]
            self.log.info("deferring")
            super().invoke_defer_method(last_log_time)

    assert defer("echo 5 > /airflow/xcom/return.json", kind=Older, do_xcom_push=True).finish() == 5
