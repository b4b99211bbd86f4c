"""The rows of docs/rbac.md on either kind of cluster: tasks with exactly a row's rights, and some that lack one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from kpo_multicluster.api.client import ApiClient
from kpo_multicluster.errors import ForbiddenError, PodFailedError, XComError
from kpo_multicluster.operators.pod import KubernetesPodOperator

from ..operators.conftest import FakeTaskInstance, context_of, quiet
from ..operators.deferring import execute_deferred
from ..operators.test_rbac import ALONE, ROWS, RUN, XCOM, Right
from .clusters import Account, Cluster
from .pods import IMAGE

REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
GRANTED_SECONDS = 60.0
# Longer than what the task waits before it tells of events.
SLOW_START: dict[str, Any] = {
    "init_containers": [{"name": "slow", "image": IMAGE, "command": ["sleep", "3"]}],
    "startup_check_interval_seconds": 1,
}
# What the requests of a right are counted as.
ASKED = {"get pods/log": "log", "get pods/exec": "exec", "create pods/exec": "exec"}


@pytest.fixture
def namespace(task_namespace: str) -> str:
    """It is what requests are counted by."""
    return task_namespace


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """What the task warned of."""

    def warnings() -> list[str]:
        found = [entry for entry in caplog.records if entry.name == "task" and entry.levelno >= logging.WARNING]
        # What a kubelet warns of, such as a mount that it tries again, says nothing of rights.
        foreign = ("Pod event: ", "KubernetesPodOperator.execute cannot be called")
        return [text for entry in found if not (text := entry.getMessage()).startswith(foreign)]

    return warnings


Warned = Callable[[], list[str]]
Run = Callable[..., tuple[Any, Account]]


async def _may(account: Account, namespace: str, right: Right) -> bool:
    verb, resource = right
    name, _, subresource = resource.partition("/")
    attributes = {"namespace": namespace, "verb": verb, "resource": name, "subresource": subresource}
    body = {"spec": {"resourceAttributes": attributes}}
    async with ApiClient(account.access) as api:
        return bool((await api.request("POST", REVIEWS, body=body))["status"]["allowed"])


async def _until_granted(account: Account, namespace: str, rights: Iterable[Right]) -> None:
    """A real server takes a role into account a moment after it has told that it is there."""
    for right in rights:
        while not await _may(account, namespace, right):
            await asyncio.sleep(0.1)


@pytest.fixture
def run(cluster: Cluster, namespace: str) -> Run:
    """Runs a task as an account with some rights; gives its result, and the account."""

    def run(rights: Iterable[Right], script: str = "true", **arguments: Any) -> tuple[Any, Account]:
        rights = sorted(rights)
        rules = [{"verbs": [verb], "resources": [resource]} for verb, resource in rights]
        account = cluster.make_account(namespace, rules)
        asyncio.run(asyncio.wait_for(_until_granted(account, namespace, rights), GRANTED_SECONDS))
        operator = KubernetesPodOperator(
            task_id="task",
            cluster=account.ref,
            namespace=namespace,
            image=IMAGE,
            cmds=["sh", "-c"],
            arguments=[script],
            **arguments,
        )
        return execute_deferred(quiet(operator), context_of(FakeTaskInstance("task"))), account

    return run


def asked_for(rights: Iterable[Right]) -> set[str]:
    return {ASKED.get(f"{verb} {resource}", verb) for verb, resource in rights}


@pytest.mark.parametrize(
    ("row", "script", "result", "arguments"),
    [
        ("run", "true", None, ALONE),
        ("reattach", "true", None, {}),
        ("xcom", XCOM, 5, {**ALONE, "do_xcom_push": True}),
        ("xcom-message", XCOM, 5, {**ALONE, "do_xcom_push": True, "xcom_transport": "termination-message"}),
        ("events-startup", "true", None, {**ALONE, **SLOW_START}),
    ],
)
def test_a_row_and_no_more(
    cluster: Cluster,
    namespace: str,
    run: Run,
    warnings: Warned,
    row: str,
    script: str,
    result: Any,
    arguments: dict[str, Any],
) -> None:
    rights = RUN | ROWS[row]
    given, account = run(rights, script, **arguments)
    assert given == result
    assert warnings() == []
    assert set(cluster.asked(namespace, account.user)) == asked_for(rights)
    assert cluster.pods(namespace) == []


def test_the_rights_of_a_task_suffice_where_it_is_deferred(
    cluster: Cluster, namespace: str, run: Run, warnings: Warned
) -> None:
    given, _ = run(RUN | ROWS["xcom"], XCOM, deferrable=True, do_xcom_push=True, **ALONE)
    assert given == 5
    assert warnings() == []
    assert cluster.pods(namespace) == []


def test_a_deferred_task_that_may_not_watch_is_polled(
    cluster: Cluster, namespace: str, run: Run, warnings: Warned
) -> None:
    run((RUN | ROWS["poll"]) - {("watch", "pods")}, deferrable=True, **ALONE)
    assert any("Grant the verb 'watch' on pods" in warning for warning in warnings())
    assert cluster.pods(namespace) == []


def test_events_of_a_failure(run: Run, warnings: Warned) -> None:
    with pytest.raises(PodFailedError, match="exit code 3"):
        run(RUN | ROWS["events-failure"], "exit 3", log_events_on_failure=True, **ALONE)
    assert not any("could not be read" in warning for warning in warnings())


def test_keep(cluster: Cluster, namespace: str, run: Run, warnings: Warned) -> None:
    run((RUN | ROWS["keep"]) - {("delete", "pods")}, on_finish_action="keep_pod", **ALONE)
    assert warnings() == []
    (pod,) = cluster.pods(namespace)
    assert pod["metadata"]["labels"]["already_checked"] == "True"


def test_poll(cluster: Cluster, namespace: str, run: Run, warnings: Warned) -> None:
    run((RUN | ROWS["poll"]) - {("watch", "pods")}, **ALONE)
    (warning,) = warnings()
    assert "Grant the verb 'watch' on pods" in warning
    assert cluster.pods(namespace) == []


@pytest.mark.parametrize("lacking", ["create", "watch"])
def test_without_what_every_task_needs(cluster: Cluster, namespace: str, run: Run, lacking: str) -> None:
    with pytest.raises(ForbiddenError, match=f"cannot {'get' if lacking == 'watch' else lacking} resource"):
        run(RUN - {(lacking, "pods")}, "sleep 60", termination_grace_period=0, **ALONE)
    assert cluster.pods(namespace) == []


def test_without_exec(cluster: Cluster, namespace: str, run: Run) -> None:
    with pytest.raises(XComError, match="pods/exec, or set xcom_transport='termination-message'"):
        run(RUN, XCOM, do_xcom_push=True, termination_grace_period=0, **ALONE)
    assert cluster.pods(namespace) == []


@pytest.mark.parametrize(
    ("rights", "arguments", "warning"),
    [
        (RUN, {}, "Grant the verb 'list' on pods"),
        (RUN - {("get", "pods/log")}, ALONE, "Grant the verb 'get' on pods/log"),
        (RUN, {**ALONE, **SLOW_START}, "Grant 'list' and 'watch' on events"),
        (RUN, {**ALONE, "on_finish_action": "keep_pod"}, "could not be marked"),
        ((RUN | ROWS["keep"]) - {("delete", "pods")}, ALONE, "could not be deleted"),
    ],
    ids=["list", "log", "events", "patch", "delete"],
)
def test_without_what_a_task_can_do_without(
    run: Run, warnings: Warned, rights: set[Right], arguments: dict[str, Any], warning: str
) -> None:
    run(rights, "echo hello", **arguments)
    assert [text for text in warnings() if warning in text]
