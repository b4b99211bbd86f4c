"""Runs whose credentials fail for a while, at each of the requests a run makes; and some that are refused for good."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import cached_property
from typing import Any

import pytest

from kpo_multicluster.auth.access import ClusterAccess, Token, TokenSource
from kpo_multicluster.auth.registry import resolve
from kpo_multicluster.cluster import ClusterRef
from kpo_multicluster.errors import CredentialError, UnauthorizedError
from kpo_multicluster.hooks.kubernetes import KubernetesHook
from kpo_multicluster.operators.pod import KubernetesPodOperator
from kpo_multicluster.operators.session import PodSession
from kpo_multicluster.pods import patience
from kpo_multicluster.testing.cluster import EmbeddedCluster

from .conftest import FakeTaskInstance, context_of, gone, quiet
from .test_engine_conflicts import pod
from .test_faults import numbers

Lines = Callable[[], list[str]]


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is tested is that there is a next try."""
    monkeypatch.setattr(patience, "_FIRST_PAUSE_SECONDS", 0.1)


class Issuer:
    """Makes tokens that the cluster takes; `failures` to come, and what each of them says."""

    def __init__(self, good: str) -> None:
        self.good = good
        self.failures: list[CredentialError] = []
        self.asked = 0
        self.source = TokenSource(self._fetch, source="an issuer")

    def _fetch(self) -> Token:
        self.asked += 1
        if self.failures:
            raise self.failures.pop(0)
        return Token(self.good)

    def go_away(self, times: int, *, final: bool = False) -> None:
        self.failures = [CredentialError("The issuer does not answer.", final=final) for _ in range(times)]


@pytest.fixture
def issuer(cluster: EmbeddedCluster) -> Issuer:
    return Issuer(cluster.token())


@pytest.fixture
def access(ref: ClusterRef, issuer: Issuer) -> ClusterAccess:
    return dataclasses.replace(resolve(ref), tokens=issuer.source)


Execute = Callable[..., Any]


@pytest.fixture
def execute(access: ClusterAccess, ref: ClusterRef) -> Execute:
    """Runs a shell script in a pod, with the issuer's tokens."""

    class Hook(KubernetesHook):
        @cached_property
        def access(self) -> ClusterAccess:
            return access

    class Operator(KubernetesPodOperator):
        @cached_property
        def hook(self) -> KubernetesHook:
            return Hook(cluster=ref)

    def execute(script: str, **arguments: Any) -> Any:
        operator = Operator(task_id="task", image="alpine:3", cmds=["sh", "-c"], arguments=[script], **arguments)
        return quiet(operator).execute(context_of(FakeTaskInstance("task")))

    return execute


def told(lines: list[str]) -> list[str]:
    return [line for line in lines if "Trying again" in line]


@pytest.mark.parametrize("request_", ["^list ", "^create ", "^exec ", "^delete "])
def test_an_issuer_that_is_away_for_a_while_fails_no_request(
    cluster: EmbeddedCluster, issuer: Issuer, execute: Execute, lines: Lines, request_: str
) -> None:
    """The token is refused from that request on, and the next one cannot be had at once."""
    issuer.source.current()
    issuer.go_away(3)
    with cluster.faults.answer(request_, 401, times=4) as refusal:
        assert execute("echo 1; echo 5 > /airflow/xcom/return.json", do_xcom_push=True) == 5
    assert refusal.hits == 4
    assert issuer.asked == 5
    assert len(told(lines())) == 1
    assert numbers(lines()) == [1]
    cluster.wait_until(gone)


def test_a_server_that_refuses_for_a_while_what_it_took_before_fails_no_request(
    cluster: EmbeddedCluster, execute: Execute, lines: Lines
) -> None:
    """As when it cannot reach the webhook that knows the tokens; each time, one renewal is refused as well."""
    with cluster.faults.answer("^create ", 401, times=3), cluster.faults.answer("^delete ", 401, times=3):
        execute("echo 1")
    assert len(told(lines())) == 2
    cluster.wait_until(gone)


def test_an_issuer_that_is_away_at_first_is_waited_for(
    cluster: EmbeddedCluster, issuer: Issuer, execute: Execute, lines: Lines
) -> None:
    issuer.go_away(3)
    execute("echo 1", reattach_on_restart=False)
    assert any("Trying again for 30 s" in line for line in lines())
    assert numbers(lines()) == [1]


def test_an_issuer_s_verdict_on_one_who_was_never_accepted_is_believed(
    cluster: EmbeddedCluster, issuer: Issuer, execute: Execute, lines: Lines
) -> None:
    issuer.go_away(10, final=True)
    with pytest.raises(CredentialError, match="does not answer"):
        execute("echo 1")
    assert issuer.asked == 1
    assert told(lines()) == []
    assert cluster.pods() == []


def test_an_issuer_s_verdict_in_the_middle_of_a_run_may_pass(
    cluster: EmbeddedCluster, issuer: Issuer, execute: Execute, lines: Lines
) -> None:
    """Such as of a role whose policy is being changed."""
    issuer.source.current()
    issuer.go_away(2, final=True)
    with cluster.faults.answer("^delete ", 401):
        execute("echo 1")
    assert len(told(lines())) == 1
    cluster.wait_until(gone)


def test_a_server_that_never_took_a_credential_is_believed(
    cluster: EmbeddedCluster, execute: Execute, lines: Lines
) -> None:
    """As of a principal that no one has mapped: one renewal, one replay, and that is it."""
    with cluster.faults.answer("^(list|create) ", 401, times=None) as refusal, pytest.raises(UnauthorizedError):
        execute("echo 1")
    assert refusal.hits == 2
    assert told(lines()) == []
    assert cluster.pods() == []


def test_a_kill_outlasts_an_issuer_that_is_away(
    cluster: EmbeddedCluster, issuer: Issuer, access: ClusterAccess
) -> None:
    session = PodSession(access, lambda _: None, name="killed")
    try:
        session.create(pod("killed", ["sleep", "60"]))
        issuer.go_away(1)
        with cluster.faults.answer("^delete ", 401):
            session.kill(delete=True, grace_seconds=0)
        assert session.removed
    finally:
        session.close()
    cluster.wait_until(gone)


# -- pods whose creation was not answered ----------------------------------------------------------------------------


def test_a_pod_that_was_created_unheard_is_removed_when_the_run_cannot_go_on(
    cluster: EmbeddedCluster, execute: Execute, lines: Lines
) -> None:
    """The creation's answer is lost, the conflict that follows cannot be looked into: the error names the pod."""
    lost = cluster.faults.drop("^create ", processed=True)
    # As many reads as recognising the pod takes; the removal is then allowed to read.
    refused = [cluster.faults.answer(f"^{verb} .*pods", 403) for verb in ("get", "watch")]
    listed = cluster.faults.answer("^list .*pods", 403, times=2)
    with pytest.raises(Exception, match=r"Pod default/task-\w+ may have been created all the same") as raised:
        execute("sleep 60", termination_grace_period=0)
    assert [fault.hits for fault in (lost, *refused, listed)] == [1, 1, 1, 2]
    assert "cannot get" in str(raised.value) or "403" in str(raised.value)
    assert any("ending it" in line for line in lines())
    cluster.wait_until(gone)


def test_a_pod_that_may_have_been_created_and_cannot_be_found_is_named(
    cluster: EmbeddedCluster, execute: Execute, lines: Lines
) -> None:
    cluster.faults.drop("^create ", processed=True)
    cluster.faults.answer("^(get|list|watch) .*pods", 403, times=None)
    with pytest.raises(Exception, match="may have been created all the same"):
        execute("sleep 60", termination_grace_period=0)
    (left,) = cluster.pods()
    name = left["metadata"]["name"]
    assert any(f"Pod default/{name}" in line and "may still be running" in line for line in lines())


def test_a_refused_creation_leaves_nothing_to_remove(cluster: EmbeddedCluster, execute: Execute, lines: Lines) -> None:
    with cluster.faults.answer("^create ", 403), pytest.raises(Exception, match="403") as raised:
        execute("sleep 60")
    assert "may have been created" not in str(raised.value)
    assert not any("ending it" in line for line in lines())
    assert len(cluster.requests.matching("^(get|delete) ")) == 0


def test_a_name_that_another_s_pod_has_is_not_deleted_for_want_of_an_attempt(
    cluster: EmbeddedCluster, access: ClusterAccess
) -> None:
    """A manifest that names no attempt is recognised nowhere."""
    other = PodSession(access, lambda _: None, name="other")
    killed = PodSession(access, lambda _: None, name="killed")
    try:
        other.create(pod("fixed", ["sleep", "60"]))
        killed.request = pod("fixed", ["sleep", "60"])
        killed.kill(delete=True, grace_seconds=0)
        assert [each["metadata"]["name"] for each in cluster.pods()] == ["fixed"]
        assert "deletionTimestamp" not in cluster.pods()[0]["metadata"]
    finally:
        other.close()
        killed.close()
