"""Whole tasks: the operator on either kind of cluster, and how much it asks of the server."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from kpo_multicluster.cluster import ClusterRef
from kpo_multicluster.errors import PodFailedError, PodLostError, PodRunError, PodStartError
from kpo_multicluster.operators.pod import KubernetesPodOperator

from ..operators.conftest import FakeTaskInstance, Ran, context_of, execute, mode, quiet, sync_only
from ..operators.deferring import Execute
from .clusters import Cluster
from .pods import IDLE, IMAGE, UNKNOWN_IMAGE

__all__ = ["execute", "mode"]

Make = Callable[..., KubernetesPodOperator]
Run = Callable[..., Ran]
Lines = Callable[[], list[str]]
Asked = Callable[..., Counter[str]]

# List (to reattach), create, watch, log, delete: nothing is polled.
PLAIN = Counter(list=1, create=1, watch=1, log=1, delete=1)
# These depend on what a worker does with a pod that has ended, or on how it is told of the end: the same either way.
alike = sync_only


@pytest.fixture
def namespace(task_namespace: str) -> str:
    """It is what requests are counted by."""
    return task_namespace


@pytest.fixture
def make(cluster: Cluster, namespace: str) -> Make:
    def make(*, ref: ClusterRef | None = None, **arguments: Any) -> KubernetesPodOperator:
        defaults: dict[str, Any] = {
            "task_id": "task",
            "cluster": ref or cluster.ref,
            "namespace": namespace,
            "image": IMAGE,
            "cmds": ["sh", "-c"],
        }
        made: KubernetesPodOperator = quiet(KubernetesPodOperator(**{**defaults, **arguments}))
        return made

    return make


@pytest.fixture
def run(make: Make, execute: Execute) -> Run:
    """Runs a task, in this process and deferred."""

    def run(script: str = "true", *, ti: FakeTaskInstance | None = None, **arguments: Any) -> Ran:
        operator = make(**{"arguments": [script], **arguments})
        ti = ti or FakeTaskInstance(operator.task_id)
        return Ran(execute(operator, context_of(ti)), ti)

    return run


@pytest.fixture
def asked(cluster: Cluster, namespace: str, mode: str) -> Asked:
    """What was asked for, but for what a deferred task asks for more."""

    def asked(user: str = "") -> Counter[str]:
        found = cluster.asked(namespace, user)
        if mode == "deferred":
            # The worker that goes on looks at the pod; so does the triggerer, unless its watch tells of the end before.
            assert found.pop("get") in (1, 2)
            # Where its watch begins.
            found -= Counter(list=1)
            # A base container may have ended before its XCom sidecar is shown to run, which the worker then awaits.
            if found["exec"]:
                assert found["watch"] in (1, 2)
                found["watch"] = 1
        return found

    return asked


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Lines:
    caplog.set_level("INFO")
    return lambda: [record.getMessage() for record in caplog.records]


def printed(lines: list[str]) -> list[str]:
    """What the base container wrote, as the task's log has it."""
    return [line.removeprefix("[base] ") for line in lines if line.startswith("[base] ")]


def test_a_plain_task(cluster: Cluster, namespace: str, run: Run, asked: Asked, lines: Lines) -> None:
    ran = run("echo hello; sleep 0.2; echo grüße >&2; sleep 0.2; printf 'no newline'")
    assert asked() == PLAIN
    assert ran.result is None
    assert printed(lines()) == ["hello", "grüße", "no newline"]
    assert ran.ti.pushed["pod_namespace"] == namespace
    assert cluster.pods(namespace) == []


def test_a_task_with_a_result(cluster: Cluster, namespace: str, run: Run, asked: Asked) -> None:
    ran = run("""echo '{"n": [1, "ä"]}' > /airflow/xcom/return.json""", do_xcom_push=True)
    assert asked() == PLAIN + Counter(exec=1)
    assert ran.result == {"n": [1, "ä"]}
    assert cluster.pods(namespace) == []


@alike
def test_a_large_result(run: Run) -> None:
    script = """(printf '"'; head -c 1000000 /dev/zero | tr '\\0' x; printf '"') > /airflow/xcom/return.json"""
    assert run(script, do_xcom_push=True).result == "x" * 1_000_000


def test_a_result_by_termination_message(cluster: Cluster, namespace: str, run: Run, asked: Asked) -> None:
    ran = run("echo 7 > /airflow/xcom/return.json", do_xcom_push=True, xcom_transport="termination-message")
    assert asked() == PLAIN
    assert ran.result == 7


def test_a_task_that_fails(cluster: Cluster, namespace: str, run: Run, asked: Asked) -> None:
    with pytest.raises(PodFailedError) as raised:
        run("echo the reason; exit 3")
    assert asked() == PLAIN
    assert raised.value.exit_code == 3
    assert "container 'base' ended with exit code 3" in str(raised.value)
    assert "the reason" in str(raised.value)
    assert cluster.pods(namespace) == []


@alike
def test_a_task_that_is_killed_by_a_signal(run: Run) -> None:
    with pytest.raises(PodFailedError, match="killed by signal 9"):
        run("sh -c 'kill -9 $$$$'; exit $?")


def test_a_pod_that_is_kept(cluster: Cluster, namespace: str, run: Run, asked: Asked) -> None:
    run("true", on_finish_action="keep_pod")
    # The pod is marked as dealt with, in place of being deleted.
    assert asked() == PLAIN - Counter(delete=1) + Counter(patch=1)
    (pod,) = cluster.pods(namespace)
    assert pod["metadata"]["labels"]["already_checked"] == "True"


@alike
def test_a_failed_pod_that_is_kept(cluster: Cluster, namespace: str, run: Run) -> None:
    with pytest.raises(PodFailedError):
        run("exit 1", on_finish_action="delete_succeeded_pod")
    assert len(cluster.pods(namespace)) == 1


def test_a_pod_that_finds_no_node(cluster: Cluster, namespace: str, run: Run) -> None:
    with pytest.raises(PodStartError) as raised:
        run(node_selector={"example.com/kind": "none-such"}, schedule_timeout_seconds=10 if cluster.real else 2)
    assert "node(s) didn't match Pod's node affinity/selector" in str(raised.value)
    assert cluster.pods(namespace) == []


CANNOT_START: list[tuple[str, dict[str, Any], str]] = [
    ("no-image", {"image": UNKNOWN_IMAGE}, f"{UNKNOWN_IMAGE}: not found"),
    ("no-secret", {"env_from": [{"secretRef": {"name": "no-such-secret"}}]}, 'secret "no-such-secret" not found'),
    ("no-name", {"image": "Not-Lower-Case:1"}, "InvalidImageName"),
]


@pytest.mark.parametrize(("arguments", "text"), [case[1:] for case in CANNOT_START], ids=[c[0] for c in CANNOT_START])
def test_a_pod_that_cannot_start_is_not_waited_for(
    cluster: Cluster, namespace: str, run: Run, arguments: dict[str, Any], text: str
) -> None:
    began = time.monotonic()
    with pytest.raises(PodStartError, match=text):
        run(**arguments)
    # The 120 seconds that a start may take are not waited for.
    assert time.monotonic() - began < 100
    assert cluster.pods(namespace) == []


@alike
def test_a_program_that_is_not_there(run: Run) -> None:
    with pytest.raises(PodFailedError, match='exec: "no-such-program": executable file not found') as raised:
        run(cmds=["no-such-program"])
    assert "StartError" in str(raised.value)


def test_a_deadline_of_the_pod(cluster: Cluster, run: Run) -> None:
    with pytest.raises(PodFailedError, match="DeadlineExceeded"):
        run(f"trap 'exit 0' TERM; {IDLE}", active_deadline_seconds=10 if cluster.real else 3)


def test_20000_lines(run: Run, lines: Lines) -> None:
    run("seq 20000; sleep 2")
    assert printed(lines()) == [str(n) for n in range(1, 20001)]


def test_containers_beside_the_base(run: Run, lines: Lines) -> None:
    side = {"name": "side", "image": IMAGE, "command": ["sh", "-c", "echo from side"]}
    first = {"name": "first", "image": IMAGE, "command": ["sh", "-c", "echo from init"]}
    spec = {"spec": {"containers": [{"name": "base"}, side], "initContainers": [first]}}
    run("sleep 1; echo from base", full_pod_spec=spec, container_logs=True, init_container_logs=True)
    written = [line for line in lines() if line.startswith("[")]
    assert sorted(written) == ["[base] from base", "[first] from init", "[side] from side"]


def test_an_init_container_that_fails(run: Run) -> None:
    first = {"name": "first", "image": IMAGE, "command": ["sh", "-c", "echo not today; exit 4"]}
    with pytest.raises(PodRunError, match="container 'first' ended with exit code 4"):
        run(full_pod_spec={"spec": {"containers": [{"name": "base"}], "initContainers": [first]}})


def in_background(act: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=act)
    thread.start()
    return thread


def wait_for(lines: Lines, text: str) -> None:
    deadline = time.monotonic() + 90
    while not any(text in line for line in lines()):
        assert time.monotonic() < deadline, lines()
        time.sleep(0.02)


def test_a_task_that_is_killed(cluster: Cluster, namespace: str, make: Make, lines: Lines) -> None:
    """As Airflow kills one: SIGTERM, whose handler in the main thread calls `on_kill` and raises nothing."""
    operator = make(arguments=[f"trap 'exit 0' TERM; echo up; {IDLE}"], termination_grace_period=1)
    sent: list[float] = []

    def kill() -> None:
        wait_for(lines, "[base] up")
        sent.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, lambda number, frame: operator.on_kill())
    killer = in_background(kill)
    try:
        with pytest.raises(PodRunError, match=f"The task was killed. Pod {namespace}/task-"):
            operator.execute(context_of(FakeTaskInstance("task")))
        # Its program would have gone on for an hour.
        assert time.monotonic() - sent[0] < 60
    finally:
        killer.join()
        signal.signal(signal.SIGTERM, before)
    assert cluster.pods(namespace) == []


def wait_for_pod(cluster: Cluster, namespace: str) -> None:
    """Until it runs: the log of a deferred task is read when it has ended."""
    deadline = time.monotonic() + 90
    while not [pod for pod in cluster.pods(namespace) if pod["status"].get("phase") == "Running"]:
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.parametrize("obeys", [True, False], ids=["obeying", "deaf"])
def test_a_pod_that_someone_else_deletes(
    cluster: Cluster, namespace: str, run: Run, lines: Lines, mode: str, obeys: bool
) -> None:
    handler = "trap 'exit 143' TERM; " if obeys else ""

    def delete() -> None:
        if mode == "sync":
            wait_for(lines, "[base] up")
        wait_for_pod(cluster, namespace)
        cluster.delete_pods(namespace)

    deleter = in_background(delete)
    try:
        with pytest.raises(PodLostError) as raised:
            run(f"{handler}echo up; {IDLE}", termination_grace_period=1)
    finally:
        deleter.join()
    assert raised.value.cause == "deleted"


class WorkerDied(BaseException):
    """Stands for a worker that is killed: nothing of the task runs after it."""


class Abandoned(KubernetesPodOperator):
    def await_pod_completion(self, pod: object) -> None:
        raise WorkerDied

    def _end_with_task(self, session: object) -> None:
        """The process is gone."""


@sync_only
def test_a_later_try_goes_on_with_the_pod(cluster: Cluster, namespace: str, run: Run, lines: Lines) -> None:
    script = "echo before; sleep 2; echo after"
    first = FakeTaskInstance("task", max_tries=1)
    operator = quiet(
        Abandoned(
            task_id="task", cluster=cluster.ref, namespace=namespace, image=IMAGE, cmds=["sh", "-c"], arguments=[script]
        )
    )
    with pytest.raises(WorkerDied):
        operator.execute(context_of(first))
    (left,) = cluster.pods(namespace)
    run("false", ti=FakeTaskInstance("task", try_number=2, max_tries=1))
    assert printed(lines())[-1] == "after"
    assert any(left["metadata"]["name"] in line for line in lines())
    assert cluster.asked(namespace)["create"] == 1


# What a run needs, as the documents tell; a role that lacks `watch` is read at an interval instead.
ROLE = [
    {"verbs": ["create", "get", "list", "watch", "patch", "delete"], "resources": ["pods"]},
    {"verbs": ["get"], "resources": ["pods/log"]},
    {"verbs": ["get", "create"], "resources": ["pods/exec"]},
    {"verbs": ["list"], "resources": ["events"]},
]


def test_a_role_with_just_the_rights(cluster: Cluster, namespace: str, run: Run, asked: Asked, lines: Lines) -> None:
    account = cluster.make_account(namespace, ROLE)
    ran = run("echo 5 > /airflow/xcom/return.json; echo hello", ref=account.ref, do_xcom_push=True)
    assert asked(account.user) == PLAIN + Counter(exec=1)
    assert (ran.result, printed(lines())) == (5, ["hello"])


def test_a_role_without_watch(cluster: Cluster, namespace: str, run: Run, lines: Lines) -> None:
    without = [{**ROLE[0], "verbs": ["create", "get", "list", "patch", "delete"]}, *ROLE[1:]]
    account = cluster.make_account(namespace, without)
    run("echo hello", ref=account.ref)
    assert printed(lines()) == ["hello"]
    assert any("Grant the verb 'watch' on pods" in line for line in lines())
    assert cluster.pods(namespace) == []


@alike
def test_a_role_without_logs(cluster: Cluster, namespace: str, run: Run, lines: Lines) -> None:
    account = cluster.make_account(namespace, [ROLE[0]])
    run("echo hello", ref=account.ref)
    assert printed(lines()) == []
    assert any("Grant the verb 'get' on pods/log" in line for line in lines())
