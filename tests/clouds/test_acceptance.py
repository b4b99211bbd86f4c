"""Tokens of the clouds at API servers that take them for what they are worth, embedded and real."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from kpo_multicluster.auth.diagnose import explain_refusal
from kpo_multicluster.auth.registry import resolve
from kpo_multicluster.cluster import ClusterRef
from kpo_multicluster.errors import ApiError, ForbiddenError, UnauthorizedError
from kpo_multicluster.operators.pod import KubernetesPodOperator

from ..operators.conftest import FakeTaskInstance, Ran, context_of, execute, mode
from ..operators.deferring import Execute, quiet
from .callers import Caller, Cloud
from .servers import Rules, Server

__all__ = ["execute", "mode"]

pytestmark = pytest.mark.timeout(180)

IMAGE = "alpine:3.22"
# What a run needs, as the documents tell.
ROLE: Rules = [
    {"verbs": ["create", "get", "list", "watch", "patch", "delete"], "resources": ["pods"]},
    {"verbs": ["get"], "resources": ["pods/log"]},
    {"verbs": ["get", "create"], "resources": ["pods/exec"]},
    {"verbs": ["list"], "resources": ["events"]},
]
RESULT = "echo hello; echo 7 > /airflow/xcom/return.json"

Run = Callable[..., Ran]
Lines = Callable[[], list[str]]


def operator_of(ref: ClusterRef, namespace: str, script: str = "true", **arguments: Any) -> KubernetesPodOperator:
    given = {"task_id": "task", "image": IMAGE, "cmds": ["sh", "-c"], "arguments": [script], **arguments}
    return quiet(KubernetesPodOperator(cluster=ref, namespace=namespace, **given))


@pytest.fixture
def run(namespace: str) -> Run:
    def run(ref: ClusterRef, script: str = "true", **arguments: Any) -> Ran:
        operator, ti = operator_of(ref, namespace, script, **arguments), FakeTaskInstance("task")
        return Ran(operator.execute(context_of(ti)), ti)

    return run


@pytest.fixture
def run_either(namespace: str, execute: Execute) -> Run:
    """The same, in this process and deferred."""

    def run(ref: ClusterRef, script: str = "true", **arguments: Any) -> Ran:
        operator, ti = operator_of(ref, namespace, script, **arguments), FakeTaskInstance("task")
        return Ran(execute(operator, context_of(ti)), ti)

    return run


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Lines:
    """What the base container wrote, as the task's log has it so far."""
    caplog.set_level("INFO")
    prefix = "[base] "

    def lines() -> list[str]:
        written = [record.getMessage() for record in caplog.records]
        return [line.removeprefix(prefix) for line in written if line.startswith(prefix)]

    return lines


def refused(run: Run, caller: Caller, kind: type[ApiError]) -> str:
    """All that is said of a run that is refused: the error itself, and what the cloud knows of it."""
    with pytest.raises(kind) as caught:
        run(caller.ref)
    found = explain_refusal(caller.ref, resolve(caller.ref), caught.value)
    assert caught.value.findings == tuple(found)
    assert all(finding in str(caught.value) for finding in found)
    return str(caught.value)


def test_a_run(server: Server, cloud: Cloud, namespace: str, run_either: Run, mode: str, lines: Lines) -> None:
    runner = cloud.caller("runner")
    server.allow(namespace, ROLE, user=runner.user)
    assert run_either(runner.ref, RESULT, do_xcom_push=True).result == 7
    assert lines() == ["hello"]
    # Nobody else but this identity, with no more requests than any other.
    asked = server.asked(namespace, runner.user)
    assert asked["create"] == asked["exec"] == asked["delete"] == 1
    if mode == "sync":
        assert asked == Counter(list=1, create=1, watch=1, log=1, delete=1, exec=1)
    assert server.pods(namespace) == []
    told = {review.identity.name for review in server.reviewer.reviews if review.identity is not None}
    assert told == {runner.user}


@pytest.mark.parametrize("cloud", ["eks", "aks"], indirect=True)
def test_a_run_by_the_rights_of_a_group(server: Server, cloud: Cloud, namespace: str, run: Run) -> None:
    member = cloud.caller("member", in_team=True)
    server.allow(namespace, ROLE, group=cloud.group)
    run(member.ref)
    assert server.asked(namespace, member.user)["create"] == 1
    other = cloud.caller("not-a-member")
    assert other.shown in refused(run, other, ForbiddenError)


def test_an_identity_without_rights(server: Server, cloud: Cloud, namespace: str, run_either: Run) -> None:
    runner, guest = cloud.caller("runner"), cloud.caller("guest")
    server.allow(namespace, ROLE, user=runner.user)
    said = refused(run_either, guest, ForbiddenError)
    assert f"knows this caller as '{guest.user}', who may not create pods in the namespace '{namespace}'" in said
    assert guest.shown in said
    assert server.pods(namespace) == []


def test_an_identity_with_too_few_rights(server: Server, cloud: Cloud, namespace: str, run: Run) -> None:
    reader = cloud.caller("reader")
    server.allow(namespace, [{"verbs": ["get", "list", "watch"], "resources": ["pods"]}], user=reader.user)
    assert "may not create pods" in refused(run, reader, ForbiddenError)


def test_an_identity_that_the_cluster_does_not_know(
    server: Server, cloud: Cloud, namespace: str, run_either: Run
) -> None:
    stranger = cloud.stranger()
    server.allow(namespace, ROLE, user=stranger.user)
    assert stranger.shown in refused(run_either, stranger, UnauthorizedError)
    assert server.pods(namespace) == []
    # It was asked twice: once more with a new token.
    assert all(review.reason for review in server.reviewer.reviews)
