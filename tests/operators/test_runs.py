"""Whole runs of the operator on an embedded cluster."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from kpo_multicluster.airflow_names import AirflowSkipException
from kpo_multicluster.errors import (
    BadRequestError,
    ConflictError,
    InvalidError,
    PodFailedError,
    PodStartError,
    XComError,
)
from kpo_multicluster.operators.pod import KubernetesPodOperator
from kpo_multicluster.testing.cluster import EmbeddedCluster

from .conftest import FakeTaskInstance, Ran, context_of, gone

Run = Callable[..., Ran]
Lines = Callable[[], list[str]]


# What each kind of run may ask of the API server, beyond the plain LIST, POST, WATCH, LOG, DELETE.
PLAIN = {"list": 1, "create": 1, "watch": 1, "log": 1, "delete": 1}
BUDGETS: list[tuple[str, str, dict[str, Any], dict[str, int]]] = [
    ("plain", "echo hello", {}, PLAIN),
    ("with XCom", "echo 1 > /airflow/xcom/return.json", {"do_xcom_push": True}, {**PLAIN, "exec": 1}),
    (
        "with XCom by termination message",
        "echo 1 > /airflow/xcom/return.json",
        {"do_xcom_push": True, "xcom_transport": "termination-message"},
        PLAIN,
    ),
    ("without logs", "echo hello", {"get_logs": False}, {k: n for k, n in PLAIN.items() if k != "log"}),
    (
        "without reattaching",
        "echo hello",
        {"reattach_on_restart": False},
        {k: n for k, n in PLAIN.items() if k != "list"},
    ),
    ("kept", "echo hello", {"on_finish_action": "keep_pod"}, {**PLAIN, "delete": 0, "patch": 1}),
]


@pytest.mark.parametrize(("name", "script", "arguments", "budget"), BUDGETS, ids=[case[0] for case in BUDGETS])
def test_a_run_asks_for_no_more_than_its_budget(
    cluster: EmbeddedCluster,
    run: Run,
    mode: str,
    name: str,
    script: str,
    arguments: dict[str, Any],
    budget: dict[str, int],
) -> None:
    run(script, **arguments)
    check_budget(cluster, mode, budget)


def check_budget(cluster: EmbeddedCluster, mode: str, budget: dict[str, int]) -> None:
    counts, allowed = cluster.requests.counts(), Counter(budget)
    if mode == "sync":
        assert counts == +allowed
    else:
        # One page for the watch to begin at; the pod as the triggerer, and as the second worker finds it.
        assert counts <= allowed + Counter({"list": 1, "get": 2})


def test_a_failed_run_asks_for_no_more_than_a_plain_one(cluster: EmbeddedCluster, run: Run, mode: str) -> None:
    with pytest.raises(PodFailedError):
        run("exit 3")
    check_budget(cluster, mode, PLAIN)


def test_the_log_and_the_pod_s_place_are_told(cluster: EmbeddedCluster, run: Run, lines: Lines) -> None:
    ran = run("echo hello; echo grüße >&2; printf 'no newline'")
    assert ran.result is None
    assert [line for line in lines() if line.startswith("[base]")] == [
        "[base] hello",
        "[base] grüße",
        "[base] no newline",
    ]
    assert ran.ti.pushed["pod_namespace"] == "default"
    assert ran.ti.pushed["pod_name"].startswith("task-")
    assert any(cluster.server in line for line in lines())
    cluster.wait_until(gone)


def test_a_result_is_returned(run: Run) -> None:
    script = """echo '{"n": [1, 2, "grüße"]}' > /airflow/xcom/return.json"""
    assert run(script, do_xcom_push=True).result == {"n": [1, 2, "grüße"]}


def test_a_large_result_is_returned_whole(run: Run) -> None:
    script = """{ printf '"'; head -c 1000000 /dev/zero | tr '\\0' x; printf '"'; } > /airflow/xcom/return.json"""
    result = run(script, do_xcom_push=True).result
    assert result == "x" * 1_000_000


def test_no_result_is_none(run: Run) -> None:
    assert run("true", do_xcom_push=True).result is None


def test_a_result_that_is_no_json_fails_the_task_and_the_pod_is_gone(cluster: EmbeddedCluster, run: Run) -> None:
    with pytest.raises(XComError, match="JSON") as raised:
        run("echo '{secret' > /airflow/xcom/return.json", do_xcom_push=True)
    assert "secret" not in str(raised.value)
    cluster.wait_until(gone)


def test_a_result_of_a_failed_run_is_pushed_all_the_same(run: Run) -> None:
    ti = FakeTaskInstance("task")
    with pytest.raises(PodFailedError, match="exit code 4"):
        run("echo 7 > /airflow/xcom/return.json; exit 4", do_xcom_push=True, ti=ti)
    assert ti.pushed["return_value"] == 7


def test_a_failure_says_exit_code_and_last_lines(run: Run) -> None:
    with pytest.raises(PodFailedError) as raised:
        run("for i in $(seq 30); do echo line $i; done; exit 3")
    error = raised.value
    assert error.exit_code == 3
    assert "container 'base' ended with exit code 3" in str(error)
    assert "line 30" in str(error)
    assert "line 20\n" not in str(error)


def test_a_signal_that_killed_the_container_is_named(run: Run) -> None:
    with pytest.raises(PodFailedError, match="killed by signal 9"):
        run("sleep 60 & kill -9 $!; wait $!")


def test_a_failed_pod_s_manifest_is_logged_without_its_values(run: Run, lines: Lines) -> None:
    with pytest.raises(PodFailedError):
        run("exit 1", env_vars={"PASSWORD": "hunter2-hunter2"})
    text = "\n".join(lines())
    assert "name: PASSWORD" in text
    assert "hunter2" not in text


def test_events_of_a_failed_run_are_logged(run: Run, lines: Lines) -> None:
    with pytest.raises(PodFailedError):
        run("exit 1", log_events_on_failure=True)
    assert any(line.startswith("Pod event: Started - ") for line in lines())


def test_an_exit_code_to_skip_on(run: Run) -> None:
    with pytest.raises(AirflowSkipException, match="exit code 99"):
        run("exit 99", skip_on_exit_code=99)
    with pytest.raises(PodFailedError):
        run("exit 98", skip_on_exit_code=[99])
    with pytest.raises(AirflowSkipException, match="exit code 0"):
        run("exit 0", skip_on_exit_code=[0, 99])


def test_a_command_that_does_not_exist_fails_as_a_kubelet_says(run: Run) -> None:
    with pytest.raises(PodFailedError) as raised:
        run(cmds=["no-such-command"], arguments=[])
    assert "StartError" in str(raised.value)
    assert "no-such-command" in str(raised.value)


def test_a_pod_that_finds_no_node_ends_with_the_scheduler_s_reason(
    cluster: EmbeddedCluster, run: Run, lines: Lines
) -> None:
    with pytest.raises(PodStartError) as raised:
        run(node_selector={"gpu": "yes"}, schedule_timeout_seconds=1, startup_check_interval_seconds=0)
    assert "schedule_timeout_seconds" in str(raised.value)
    assert "nodes are available" in str(raised.value)
    assert any("FailedScheduling" in line for line in lines())
    assert any(" has not started since " in line for line in lines())
    cluster.wait_until(gone)


def test_a_pod_that_the_server_refuses_shows_the_fields(cluster: EmbeddedCluster, run: Run) -> None:
    with pytest.raises(InvalidError, match=r"spec\.containers"):
        run(volume_mounts=[{"name": "nowhere", "mountPath": "/x"}])
    cluster.wait_until(gone)


@pytest.mark.parametrize("arguments", [{}, {"do_xcom_push": True, "xcom_transport": "termination-message"}])
def test_containers_without_a_name_are_the_server_s_to_refuse(run: Run, arguments: dict[str, Any]) -> None:
    for nameless, field in (("containers", "containers[1].name"), ("initContainers", "initContainers[0].name")):
        spec = {"containers": [{"name": "base"}], "initContainers": []}
        spec[nameless].append({"image": "alpine:3"})
        with pytest.raises(InvalidError, match=re.escape(field)):
            run(pod_template_dict={"spec": spec}, **arguments)


def test_a_sidecar_that_never_ends_holds_the_task_no_longer_than_asked(run: Run, lines: Lines) -> None:
    spec = {
        "spec": {"containers": [{"name": "base"}, {"name": "side", "image": "alpine:3", "command": ["sleep", "60"]}]}
    }
    started = time.monotonic()
    run("echo done", full_pod_spec=spec, sidecar_drain_seconds=0.5)
    assert time.monotonic() - started < 30
    assert any("'side' still ran 0.5 s later" in line for line in lines())


def test_all_containers_are_followed_at_once(run: Run, lines: Lines) -> None:
    side = {"name": "side", "image": "alpine:3", "command": ["sh", "-c", "echo from side"]}
    init = {"name": "first", "image": "alpine:3", "command": ["sh", "-c", "echo from init"]}
    spec = {"spec": {"containers": [{"name": "base"}, side], "initContainers": [init]}}
    run("sleep 0.3; echo from base", full_pod_spec=spec, container_logs=True, init_container_logs=True)
    written = [line for line in lines() if line.startswith("[")]
    assert sorted(written) == ["[base] from base", "[first] from init", "[side] from side"]
    assert written[0] == "[first] from init"


def test_a_log_formatter_and_levels(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("DEBUG"):
        run(
            "echo ERROR: bad; echo '[warning] hm'; echo fine",
            log_formatter=lambda container, line: f"<{container}> {line}",
        )
    written = {
        record.getMessage(): record.levelname for record in caplog.records if record.getMessage().startswith("<")
    }
    assert written == {"<base> ERROR: bad": "ERROR", "<base> [warning] hm": "WARNING", "<base> fine": "INFO"}


def test_a_fixed_name_that_is_taken_is_told(cluster: EmbeddedCluster, run: Run) -> None:
    run("true", name="fixed", random_name_suffix=False, on_finish_action="keep_pod")
    with pytest.raises(ConflictError, match="random_name_suffix=True"):
        run("true", name="fixed", random_name_suffix=False)


@pytest.mark.parametrize(
    ("action", "script", "left"),
    [
        ("delete_pod", "true", 0),
        ("delete_pod", "exit 1", 0),
        ("keep_pod", "true", 1),
        ("delete_succeeded_pod", "true", 0),
        ("delete_succeeded_pod", "exit 1", 1),
        ("delete_active_pod", "true", 1),
        ("delete_active_pod", "exit 1", 1),
    ],
)
def test_on_finish_action(cluster: EmbeddedCluster, run: Run, action: str, script: str, left: int) -> None:
    try:
        run(script, on_finish_action=action)
    except PodFailedError:
        assert script != "true"
    pods = cluster.pods()
    assert len(pods) == left
    # A later try starts a new one.
    assert all(pod["metadata"]["labels"]["already_checked"] == "True" for pod in pods)


def test_a_failed_run_whose_result_cannot_be_pushed_ends_as_it_failed(
    cluster: EmbeddedCluster, run: Run, lines: Lines
) -> None:
    with pytest.raises(PodFailedError, match="exit code 3"):
        run("echo [1] > /airflow/xcom/return.json; exit 3", do_xcom_push=True, multiple_outputs=True)
    assert any("multiple_outputs needs a JSON object" in line for line in lines())
    cluster.wait_until(gone)


def test_what_fails_while_a_failure_is_told_leaves_no_pod(
    cluster: EmbeddedCluster, make: Callable[..., KubernetesPodOperator], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(ti: FakeTaskInstance, key: str, value: Any) -> None:
        if key == "return_value":
            raise RuntimeError("Airflow's API server is away")

    monkeypatch.setattr(FakeTaskInstance, "xcom_push", refused)
    operator = make(arguments=["echo 1 > /airflow/xcom/return.json; exit 3"], do_xcom_push=True)
    with pytest.raises(RuntimeError, match="is away"):
        operator.execute(context_of(FakeTaskInstance("task")))
    cluster.wait_until(gone)


def test_a_result_that_went_with_its_pod_is_lost(cluster: EmbeddedCluster, run: Run, lines: Lines) -> None:
    with (
        cluster.faults.answer("^exec ", 404),
        pytest.raises(XComError, match="was removed before its result was read: it is lost"),
    ):
        run("echo 1 > /airflow/xcom/return.json", do_xcom_push=True, ti=FakeTaskInstance("task", max_tries=1))
    assert not any("the next try" in line for line in lines())


def test_a_finished_pod_that_is_to_be_kept_is_kept_where_its_result_cannot_be_read(
    cluster: EmbeddedCluster, run: Run
) -> None:
    with cluster.faults.answer("^exec ", 400), pytest.raises(BadRequestError):
        run("echo 1 > /airflow/xcom/return.json", do_xcom_push=True, on_finish_action="keep_pod")
    (pod,) = cluster.pods()
    assert "deletionTimestamp" not in pod["metadata"]
    assert pod["metadata"]["labels"]["already_checked"] == "True"


def test_is_delete_operator_pod_is_honoured(make: Callable[..., KubernetesPodOperator]) -> None:
    with pytest.warns(DeprecationWarning, match="on_finish_action='keep_pod'"):
        assert make(is_delete_operator_pod=False).on_finish_action.value == "keep_pod"
    with pytest.warns(DeprecationWarning, match="on_finish_action='delete_pod'"):
        assert make(is_delete_operator_pod=True).on_finish_action.value == "delete_pod"


def test_a_run_of_20000_lines_is_complete_and_in_order(run: Run, lines: Lines) -> None:
    run("seq 20000")
    assert [line for line in lines() if line.startswith("[base]")] == [f"[base] {n}" for n in range(1, 20001)]
