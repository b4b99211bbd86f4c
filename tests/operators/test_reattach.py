"""A later try, and the pod that an earlier one left."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kpo_multicluster.cluster import ClusterRef
from kpo_multicluster.errors import PodFailedError
from kpo_multicluster.operators.pod import KubernetesPodOperator
from kpo_multicluster.testing.cluster import EmbeddedCluster

from .conftest import FakeTaskInstance, Ran, context_of, gone

Run = Callable[..., Ran]
Lines = Callable[[], list[str]]


class WorkerDied(BaseException):
    """Stands for a worker that was killed: nothing of the task runs after it."""


@pytest.fixture
def abandon(ref: ClusterRef) -> Callable[..., FakeTaskInstance]:
    """Starts a pod and leaves it, as a worker does that is killed at that moment."""

    class Abandoned(KubernetesPodOperator):
        def await_pod_completion(self, pod: object) -> None:
            raise WorkerDied

        def _end_with_task(self, session: object) -> None:
            """The process is gone."""

    def abandon(script: str, ti: FakeTaskInstance | None = None, **arguments: Any) -> FakeTaskInstance:
        ti = ti or FakeTaskInstance("task", max_tries=2)
        operator = Abandoned(
            task_id="task",
            cluster=ref,
            image="alpine:3",
            cmds=["sh", "-c"],
            arguments=[script],
            **{"termination_grace_period": 1, **arguments},
        )
        with pytest.raises(WorkerDied):
            operator.execute(context_of(ti))
        return ti

    return abandon


def again(ti: FakeTaskInstance) -> FakeTaskInstance:
    return FakeTaskInstance("task", try_number=ti.try_number + 1, max_tries=ti.max_tries)


def test_a_pod_that_still_runs_is_gone_on_with(
    cluster: EmbeddedCluster, run: Run, abandon: Callable[..., FakeTaskInstance], lines: Lines
) -> None:
    first = abandon("echo before; sleep 1; echo after")
    ran = run("false", ti=again(first))
    assert ran.ti.pushed["pod_name"] == first.pushed["pod_name"]
    assert [line for line in lines() if line.startswith("[base]")] == ["[base] before", "[base] after"]
    assert cluster.requests.counts()["create"] == 1


def test_a_container_that_the_task_has_got_since_is_not_waited_for(
    cluster: EmbeddedCluster, run: Run, abandon: Callable[..., FakeTaskInstance], lines: Lines
) -> None:
    first = abandon("true", do_xcom_push=True)
    spec = {"spec": {"containers": [{"name": "base"}, {"name": "side", "image": "alpine:3", "command": ["true"]}]}}
    ran = run("false", ti=again(first), pod_template_dict=spec, sidecar_drain_seconds=1, do_xcom_push=True)
    assert ran.ti.pushed["pod_name"] == first.pushed["pod_name"]
    assert not any("still ran" in line for line in lines())


def test_a_pod_that_ended_well_meanwhile_is_harvested(
    cluster: EmbeddedCluster, run: Run, abandon: Callable[..., FakeTaskInstance]
) -> None:
    first = abandon("echo 42 > /airflow/xcom/return.json", do_xcom_push=True)
    cluster.wait_until(lambda pods: all("terminated" in str(pod["status"]) for pod in pods))
    ran = run("exit 1", ti=again(first), do_xcom_push=True)
    assert ran.result == 42
    assert cluster.requests.counts()["create"] == 1


def test_a_pod_that_failed_meanwhile_is_replaced(
    cluster: EmbeddedCluster, run: Run, abandon: Callable[..., FakeTaskInstance]
) -> None:
    first = abandon("exit 1")
    cluster.wait_until(lambda pods: all(pod["status"].get("phase") == "Failed" for pod in pods))
    ran = run("echo new", ti=again(first))
    assert ran.ti.pushed["pod_name"] != first.pushed["pod_name"]
    cluster.wait_until(gone)


def test_a_finished_task_that_is_cleared_starts_a_new_pod(cluster: EmbeddedCluster, run: Run) -> None:
    first = run("true", on_finish_action="keep_pod")
    second = run("true", ti=again(first.ti), on_finish_action="keep_pod")
    assert first.ti.pushed["pod_name"] != second.ti.pushed["pod_name"]
    assert len(cluster.pods()) == 2


def test_a_failed_try_that_keeps_its_pod_is_followed_by_a_new_one(cluster: EmbeddedCluster, run: Run) -> None:
    ti = FakeTaskInstance("task", max_tries=1)
    with pytest.raises(PodFailedError):
        run("exit 1", ti=ti, on_finish_action="keep_pod")
    ran = run("true", ti=again(ti), on_finish_action="keep_pod")
    assert ran.ti.pushed["pod_name"] != ti.pushed["pod_name"]


def test_of_two_left_over_pods_one_is_gone_on_with_and_the_other_removed(
    cluster: EmbeddedCluster, run: Run, abandon: Callable[..., FakeTaskInstance]
) -> None:
    first = abandon("sleep 60")
    second = abandon("sleep 1; echo here", ti=again(first), reattach_on_restart=False)
    ran = run("false", ti=again(second))
    assert ran.ti.pushed["pod_name"] == second.pushed["pod_name"]
    cluster.wait_until(gone)


@pytest.mark.parametrize("action", ["keep_pod", "delete_succeeded_pod"])
def test_of_two_that_run_the_other_is_removed_whatever_becomes_of_finished_pods(
    cluster: EmbeddedCluster, run: Run, abandon: Callable[..., FakeTaskInstance], action: str
) -> None:
    first = abandon("sleep 60")
    second = abandon("sleep 1", ti=again(first), reattach_on_restart=False)
    run("false", ti=again(second), on_finish_action=action)
    cluster.wait_until(lambda pods: first.pushed["pod_name"] not in [pod["metadata"]["name"] for pod in pods])
    assert len(cluster.pods()) == (1 if action == "keep_pod" else 0)


def test_in_the_course_of_a_run_its_own_pod_is_found_as_it_is(cluster: EmbeddedCluster, run: Run) -> None:
    found: list[Any] = []

    class Looking:
        @staticmethod
        def on_pod_completion(*, operator: KubernetesPodOperator, context: Any, **_more: Any) -> None:
            found.append(operator.find_pod("default", context=context))
            assert cluster.requests.counts()["delete"] == cluster.requests.counts()["patch"] == 0

    ti = FakeTaskInstance("task")
    with pytest.raises(PodFailedError, match="exit code 1"):
        run("exit 1", ti=ti, callbacks=Looking)
    (pod,) = found
    assert pod.metadata.name == ti.pushed["pod_name"]
    assert pod.status.container_statuses[0].state.terminated.exit_code == 1


def test_steps_are_called_with_upstream_s_keywords(
    cluster: EmbeddedCluster, ref: ClusterRef, abandon: Callable[..., FakeTaskInstance]
) -> None:
    named: dict[str, set[str]] = {}

    def overridden(step: str) -> Callable[..., Any]:
        def method(self: Any, *args: Any, **kwargs: Any) -> Any:
            named[step] = set(kwargs)
            return getattr(KubernetesPodOperator, step)(self, *args, **kwargs)

        return method

    by_pod = ("await_pod_start", "await_init_containers_completion", "await_pod_completion", "extract_xcom")
    wanted = {
        "find_pod": {"context"},
        "log_matching_pod": {"pod", "context"},
        "get_or_create_pod": {"pod_request_obj", "context"},
        **{step: {"pod"} for step in by_pod},
    }
    kind = type("Overriding", (KubernetesPodOperator,), {step: overridden(step) for step in wanted})
    first = abandon("echo 42 > /airflow/xcom/return.json", do_xcom_push=True)
    operator = kind(task_id="task", cluster=ref, image="alpine:3", cmds=["false"], do_xcom_push=True)
    assert operator.execute(context_of(again(first))) == 42
    assert named == wanted


def test_another_task_s_pod_is_left_alone(
    cluster: EmbeddedCluster, run: Run, abandon: Callable[..., FakeTaskInstance]
) -> None:
    abandon("sleep 60")
    other = FakeTaskInstance("other")
    ran = run("true", ti=other, task_id="other")
    assert ran.ti.pushed["pod_name"].startswith("other-")
    assert len(cluster.pods()) == 1


def test_the_remembered_pod_is_found_where_pods_cannot_be_listed(
    cluster: EmbeddedCluster, run: Run, make: Callable[..., KubernetesPodOperator], lines: Lines
) -> None:
    class Store(dict[str, object]):
        def set(self, key: str, value: object) -> None:
            self[key] = value

    store = Store()
    operator = make(arguments=["echo one"], on_finish_action="keep_pod")
    operator.execute(context_of(FakeTaskInstance("task"), task_state_store=store))
    remembered = store["pod_identifier"]
    assert isinstance(remembered, dict)
    assert set(remembered) == {"namespace", "name", "uid", "cluster"}
    # It was marked as done with: the next try starts another.
    operator = make(arguments=["echo two"])
    operator.execute(context_of(FakeTaskInstance("task"), task_state_store=store))
    assert "[base] two" in lines()
