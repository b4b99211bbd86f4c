"""Counting requests in an audit log that a server goes on writing."""

from __future__ import annotations

import json
import threading
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from .audit import AuditLog

LATER = datetime(2026, 1, 1, 0, 0, 5, tzinfo=timezone.utc)


def event(number: int, verb: str, what: str, *, stage: str = "ResponseComplete", **more: Any) -> str:
    resource, _, subresource = what.partition("/")
    reference = {"resource": resource, "subresource": subresource, "namespace": "space", "name": more.get("name", "")}
    written = {
        "auditID": f"id-{number}",
        "stage": stage,
        "verb": verb,
        "requestURI": f"/api/v1/namespaces/space/{what}?x=1",
        "user": {"username": more.get("user", "someone")},
        "userAgent": "tests",
        "objectRef": {key: value for key, value in reference.items() if value},
        "requestReceivedTimestamp": f"2026-01-01T00:00:{number:02}.000001Z",
    }
    if stage == "ResponseComplete":
        written["responseStatus"] = {"code": more.get("status", 200)}
    return json.dumps(written) + "\n"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "audit.log"
    path.write_text(
        event(1, "create", "pods", stage="RequestReceived")
        + event(1, "create", "pods", name="one", status=201)
        + event(2, "get", "pods/log", name="one", user="other")
        + event(3, "watch", "pods", stage="RequestReceived")
        + event(3, "watch", "pods", stage="ResponseStarted")
        + event(7, "get", "pods", name="two", status=404)
    )
    return path


def test_each_request_counts_once_however_many_events_it_has(log: Path) -> None:
    assert AuditLog(log).counts() == {"create pods": 1, "get pods/log": 1, "watch pods": 1, "get pods": 1}


def test_requests_are_chosen_by_user_pod_namespace_and_time(log: Path) -> None:
    audit = AuditLog(log)
    assert audit.counts(user="other") == {"get pods/log": 1}
    assert audit.counts(pod="one") == {"create pods": 1, "get pods/log": 1}
    assert audit.counts(namespace="elsewhere") == {}
    assert audit.counts(since=LATER) == {"get pods": 1}


def test_the_node_that_the_scheduler_gave_a_pod_is_known(log: Path) -> None:
    audit = AuditLog(log)
    assert audit.node("space", "one") is None
    bound = json.loads(event(8, "create", "pods/binding", name="one", status=201, user="system:kube-scheduler"))
    refused = json.loads(event(9, "create", "pods/binding", name="two", status=409, user="system:kube-scheduler"))
    with log.open("a") as writer:
        writer.write(event(8, "create", "pods/binding", stage="RequestReceived", name="one"))
        for written in (bound, refused):
            writer.write(json.dumps({**written, "requestObject": {"target": {"kind": "Node", "name": "first"}}}) + "\n")
    assert (audit.node("space", "one"), audit.node("space", "two")) == ("first", None)
    assert audit.counts(pod="one") == {"create pods": 1, "get pods/log": 1}


def test_a_request_says_how_it_ended(log: Path) -> None:
    created, _, watched, missing = AuditLog(log).requests()
    assert (created.status, created.name, watched.status, missing.status) == (201, "one", None, 404)
    assert created.received == datetime(2026, 1, 1, 0, 0, 1, 1, tzinfo=timezone.utc)


def test_what_is_written_later_is_read_later(log: Path) -> None:
    audit = AuditLog(log)
    assert sum(audit.counts().values()) == 4
    whole = event(9, "delete", "pods", name="one")
    with log.open("a") as writer:
        writer.write(whole[:40])
        writer.flush()
        assert sum(audit.counts().values()) == 4
        writer.write(whole[40:])
    assert audit.counts(pod="one")["delete pods"] == 1


def test_a_request_without_an_answer_yet_is_waited_for(log: Path) -> None:
    with log.open("a") as writer:
        writer.write(event(9, "delete", "pods", stage="RequestReceived", name="three"))
    audit = AuditLog(log)

    def answer() -> None:
        with log.open("a") as writer:
            writer.write(event(9, "delete", "pods", name="three"))

    timer = threading.Timer(0.1, answer)
    timer.start()
    (deleted,) = audit.requests(pod="three")
    timer.join()
    assert deleted.status == 200
