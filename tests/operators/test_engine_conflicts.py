"""Creations that are answered with a conflict, or with a failure although they were carried out."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from kpo_multicluster.auth.registry import resolve
from kpo_multicluster.cluster import ClusterRef
from kpo_multicluster.errors import ConflictError
from kpo_multicluster.operators.session import PodSession
from kpo_multicluster.pods.engine import EngineStopped
from kpo_multicluster.testing.cluster import EmbeddedCluster

from .conftest import Ran, gone

Run = Callable[..., Ran]


def pod(name: str, command: list[str], **metadata: Any) -> dict[str, Any]:
    container = {"name": "base", "image": "alpine:3", "command": command}
    spec = {"restartPolicy": "Never", "terminationGracePeriodSeconds": 1, "containers": [container]}
    return {"metadata": {"namespace": "default", "name": name, **metadata}, "spec": spec}


@pytest.fixture
def other(ref: ClusterRef) -> Any:
    """Someone else at the same cluster."""
    session = PodSession(resolve(ref), lambda _: None, name="other")
    yield session
    session.close()


def test_a_quota_that_is_being_counted_does_not_fail_the_creation(cluster: EmbeddedCluster, run: Run) -> None:
    message = 'Operation cannot be fulfilled on resourcequotas "q": the object has been modified'
    with cluster.faults.answer("^create .*pods", 409, message=message):
        run("true")


def test_a_pod_of_the_name_that_is_about_to_go_is_waited_for(
    cluster: EmbeddedCluster, run: Run, other: PodSession
) -> None:
    stubborn = other.create(pod("fixed", ["sh", "-c", "trap '' TERM; while :; do sleep 0.1; done"]))
    other.call(lambda run: run.until_started())
    other.call(lambda run: run.delete(stubborn))
    run("true", name="fixed", random_name_suffix=False)


def test_a_pod_of_the_name_that_is_another_s_is_left_alone_and_said_so(
    cluster: EmbeddedCluster, run: Run, other: PodSession
) -> None:
    created = other.create(pod("fixed", ["sleep", "30"]))
    with pytest.raises(ConflictError, match="random_name_suffix"):
        run("true", name="fixed", random_name_suffix=False)
    assert [each["metadata"]["uid"] for each in cluster.pods()] == [created["metadata"]["uid"]]
    assert "deletionTimestamp" not in cluster.pods()[0]["metadata"]


def test_a_session_that_is_killed_as_it_creates_a_second_pod_removes_that_one(
    cluster: EmbeddedCluster, ref: ClusterRef
) -> None:
    """As a pod that was lost before its start is created again."""
    session = PodSession(resolve(ref), lambda _: None, name="relaunching")
    annotations = {"kpo-multicluster/attempt": "a"}
    first = session.create(pod("first", ["sleep", "30"], annotations=annotations))
    session.call(lambda run: run.delete(first, grace_seconds=0))
    cluster.wait_until(gone)
    with cluster.faults.drop("^create ", processed=True), cluster.faults.black_hole("^create ") as held:

        def kill() -> None:
            held.wait()
            session.kill(delete=True, grace_seconds=0)

        killing = threading.Thread(target=kill)
        killing.start()
        with pytest.raises(EngineStopped):
            session.create(pod("second", ["sleep", "30"], annotations=annotations))
        killing.join()
    session.close()
    assert session.removed
    cluster.wait_until(gone)


def test_a_deletion_whose_answer_is_lost_is_a_deletion(cluster: EmbeddedCluster, run: Run) -> None:
    started = time.monotonic()
    with cluster.faults.drop("^delete ", processed=True):
        run("true")
    assert time.monotonic() - started < 30
    cluster.wait_until(gone)
