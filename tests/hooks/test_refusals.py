"""A request that a cluster refuses, or does not answer, leaves the task with who one was and what to change."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from kpo_multicluster.airflow_names import AirflowException
from kpo_multicluster.auth.access import ClusterAccess, Token, TokenSource
from kpo_multicluster.auth.diagnose import attach_findings
from kpo_multicluster.cluster import ClusterRef, kubeconfig
from kpo_multicluster.errors import (
    ConnectError,
    CredentialError,
    ForbiddenError,
    KpoMulticlusterError,
    PodRunError,
    TLSError,
    UnauthorizedError,
)
from kpo_multicluster.operators.pod import KubernetesPodOperator
from kpo_multicluster.raised import as_airflow
from kpo_multicluster.testing import Rule, User
from kpo_multicluster.testing.cluster import EmbeddedCluster

from ..operators.conftest import FakeTaskInstance, context_of, quiet
from ..operators.deferring import execute_deferred

Run = Callable[..., KubernetesPodOperator]
REF = kubeconfig("/k").with_source("the test")


def access(**fields: Any) -> ClusterAccess:
    return ClusterAccess(**{"server": "https://127.0.0.1:1", "source": "context 'gpu'", **fields})


@pytest.fixture
def document(cluster: EmbeddedCluster) -> dict[str, Any]:
    return cluster.kubeconfig()


def raised_by(run: Run, ref: ClusterRef) -> KpoMulticlusterError:
    with pytest.raises(KpoMulticlusterError) as caught:
        run(ref)
    assert isinstance(caught.value, AirflowException)
    return caught.value


def test_a_403_says_who_and_what_to_bind(cluster: EmbeddedCluster, run: Run) -> None:
    cluster.add_user(User("jane", rules=(Rule(("list", "watch"), ("pods",)),)))
    error = raised_by(run, kubeconfig(document=cluster.kubeconfig(user="jane")))
    assert isinstance(error, ForbiddenError)
    (finding,) = error.findings
    assert "knows this caller as 'jane', who may not create pods in the namespace 'default': bind a Role" in finding
    assert str(error).endswith(f"\n{finding}")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_a_401_says_what_was_sent(cluster: EmbeddedCluster, run: Run, document: dict[str, Any]) -> None:
    answer = (
        '{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {"token": "hunter2"}}'
    )
    plugin = {"apiVersion": "client.authentication.k8s.io/v1", "command": "echo", "args": [answer]}
    document["users"][0]["user"] = {"exec": plugin}
    error = raised_by(run, kubeconfig(document=document))
    assert isinstance(error, UnauthorizedError)
    assert f"{cluster.server} (context 'alpha'" in error.findings[0]
    assert "knows no one by it" in error.findings[0]
    assert "hunter2" not in str(error)


def test_another_ca_says_which(cluster: EmbeddedCluster, run: Run, document: dict[str, Any]) -> None:
    with EmbeddedCluster("gamma", nodes=()) as other:
        document["clusters"][0]["cluster"] = {
            **document["clusters"][0]["cluster"],
            "certificate-authority-data": yaml.safe_load(yaml.safe_dump(other.kubeconfig()))["clusters"][0]["cluster"][
                "certificate-authority-data"
            ],
        }
    error = raised_by(run, kubeconfig(document=document))
    assert isinstance(error, TLSError)
    assert "issued by" in error.findings[0]
    assert "trusted for context 'alpha'" in error.findings[0]


def test_a_refusal_in_the_triggerer_is_explained_there(cluster: EmbeddedCluster, tmp_path: Path) -> None:
    cluster.add_user(User("joe", rules=(Rule(("create", "delete"), ("pods",)),)))
    ref = kubeconfig(str(cluster.write_kubeconfig(tmp_path / "joe", user="joe")))
    operator = KubernetesPodOperator(
        task_id="task", cluster=ref, image="alpine:3", cmds=["sleep", "60"], deferrable=True
    )
    with pytest.raises(ForbiddenError) as caught:
        execute_deferred(quiet(operator), context_of(FakeTaskInstance("task")))
    assert "In the triggerer on host" in str(caught.value)
    (finding,) = caught.value.findings
    assert "knows this caller as 'joe', who may not get pods" in finding
    assert str(caught.value).count(finding) == 1


def test_a_run_that_fails_for_itself_is_told_as_it_is(run: Run, document: dict[str, Any]) -> None:
    with pytest.raises(PodRunError) as caught:
        run(kubeconfig(document=document), "exit 3")
    assert caught.value.findings == ()


def test_the_cloud_is_asked_only_when_the_run_has_failed(
    cluster: EmbeddedCluster, run: Run, document: dict[str, Any]
) -> None:
    asked: list[threading.Thread] = []

    def explain(error: KpoMulticlusterError) -> list[str]:
        asked.append(threading.current_thread())
        return ["The cloud says so."]

    ref = kubeconfig(document=document)
    operator = run(ref)
    hook = operator._cluster_hook
    hook.__dict__["access"] = replace(hook.access, explain=explain)
    run(ref, operator=operator)
    assert asked == []
    with cluster.faults.answer("pods", 403, times=9), pytest.raises(ForbiddenError, match=r"The cloud says so\.$"):
        run(ref, operator=operator)
    assert len(asked) == 1
    assert asked[0] is not threading.main_thread()


# -- attach_findings itself ------------------------------------------------------------------------------------------


@pytest.fixture
def release() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def test_a_cloud_that_does_not_answer_is_not_waited_for(release: threading.Event) -> None:
    def explain(error: KpoMulticlusterError) -> list[str]:
        release.wait(60)
        return ["too late"]

    error = ForbiddenError(403, request="GET /", detail='User "jane" cannot list resource "pods" in API group ""')
    attach_findings(error, REF, access(explain=explain), within_seconds=0.05)
    assert len(error.findings) == 1, "what was known without the cloud"
    assert "'jane'" in error.findings[0]


@pytest.mark.parametrize("fault", [ZeroDivisionError("x"), CredentialError("no login")])
def test_a_fault_in_explaining_never_replaces_the_error(fault: Exception) -> None:
    def explain(error: KpoMulticlusterError) -> list[str]:
        raise fault

    error = ConnectError("no answer")
    attach_findings(error, REF, access(explain=explain))
    assert str(error).startswith("no answer")
    assert "ZeroDivision" not in str(error)


def test_an_interrupt_while_waiting_never_replaces_the_error(
    monkeypatch: pytest.MonkeyPatch, release: threading.Event
) -> None:
    class Interrupted(threading.Thread):
        def join(self, timeout: float | None = None) -> None:
            raise KeyboardInterrupt

    monkeypatch.setattr(threading, "Thread", Interrupted)
    error = ConnectError("no answer")
    attach_findings(error, REF, access(explain=lambda error: []))
    assert str(error) == "no answer"


def test_findings_are_added_once_and_to_what_was_refused_alone() -> None:
    source = TokenSource(lambda: Token("t"), source="the plugin")
    error = as_airflow(UnauthorizedError(401, request="GET /"))
    attach_findings(error, REF, access(tokens=source))
    told = str(error)
    assert told.count("the token from the plugin") == 1
    attach_findings(error, REF, access(tokens=source))
    assert str(error) == told
    other = CredentialError("no login")
    attach_findings(other, REF, access(tokens=source))
    assert (str(other), other.findings) == ("no login", ())
    caused = PodRunError("The result could not be read.")
    caused.__cause__ = UnauthorizedError(401, request="GET /")
    attach_findings(caused, REF, access(tokens=source))
    assert "the token from the plugin" in str(caused)
