"""Pods that are left behind, and the Airflow that knows whether their runs have ended."""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from kpo_multicluster.api.client import ApiClient
from kpo_multicluster.auth.registry import resolve
from kpo_multicluster.cli import main
from kpo_multicluster.cluster import kubeconfig
from kpo_multicluster.errors import ConfigurationError, ConnectError, CredentialError, ForbiddenError
from kpo_multicluster.hooks.dag_runs import AirflowApi, states_for_task
from kpo_multicluster.pods.labels import RunIdentity, run_annotations, run_labels
from kpo_multicluster.reaping.leftovers import ReapRule, RunState
from kpo_multicluster.reaping.reap import Place, reap
from kpo_multicluster.testing import EmbeddedCluster, Rule, User

from .test_reap import DAY, by_name


@dataclass
class Pods:
    """A cluster with pods of several runs, and of others."""

    embedded: EmbeddedCluster
    config: Path

    def access(self) -> Any:
        return resolve(kubeconfig(str(self.config)))

    async def add(self, name: str, *, annotations: dict[str, str], namespace: str = "default", **labels: str) -> None:
        identity = RunIdentity("t", "3.3.2", dag_id="d", run_id="r")
        spec: Any = {"containers": [{"name": "base", "image": "alpine:3", "command": ["sleep", "3000"]}]}
        metadata = {"name": name, "labels": {**run_labels(identity), **labels}, "annotations": annotations}
        async with ApiClient(self.access()) as api:
            body = {"metadata": metadata, "spec": {**spec, "terminationGracePeriodSeconds": 0}}
            await api.request("POST", f"/api/v1/namespaces/{namespace}/pods", body=body)

    def names(self) -> set[str]:
        return {pod["metadata"]["name"] for pod in self.embedded.pods()}


def ours(run_id: str) -> dict[str, str]:
    return run_annotations(RunIdentity("t", "3.3.2", dag_id="d", run_id=run_id, attempt="0190"))


@pytest.fixture
def pods(tmp_path: Path) -> Iterator[Pods]:
    with EmbeddedCluster("left") as embedded:
        embedded.create_namespace("team")
        pods = Pods(embedded, embedded.write_kubeconfig(tmp_path / "kubeconfig"))
        asyncio.run(pods.add("ended", annotations=ours("manual__2026-01-01T00:00:00+00:00")))
        asyncio.run(pods.add("running", annotations=ours("r2"), namespace="team"))
        asyncio.run(pods.add("kept", annotations=ours("manual__2026-01-01T00:00:00+00:00"), already_checked="True"))
        asyncio.run(pods.add("upstreams", annotations={}))
        yield pods


ENDED = "d/manual__2026-01-01T00:00:00+00:00"


async def states(runs: list[str]) -> dict[str, RunState]:
    assert runs == [ENDED, "d/r2"]
    return {ENDED: RunState.ENDED, "d/r2": RunState.UNDER_WAY}


async def test_only_pods_of_ended_runs_go(pods: Pods) -> None:
    place = Place("cluster", access=pods.access)
    found = await reap(place, ReapRule(), states=states, delete=True, now=time.time() + DAY)

    assert {name: one.removed for name, one in by_name(found).items()} == {
        "default/ended": True,
        "team/running": False,
        "default/kept": False,
    }
    await asyncio.to_thread(pods.embedded.wait_until, lambda all_: len(all_) == 3)
    assert pods.names() == {"running", "kept", "upstreams"}

    # By age alone.
    found = await reap(place, ReapRule(older_than_seconds=3600), delete=True, now=time.time() + DAY)
    assert all(one.removed for one in found.judged)
    await asyncio.to_thread(pods.embedded.wait_until, lambda all_: len(all_) == 1)
    assert pods.names() == {"upstreams"}


async def test_many_pods_are_listed_in_pages(pods: Pods, monkeypatch: pytest.MonkeyPatch) -> None:
    from kpo_multicluster.reaping import pods as module

    monkeypatch.setattr(module, "_PAGE", 1)
    found = await reap(Place("cluster", access=pods.access), ReapRule())
    assert len(found.judged) == 3


async def test_who_may_list_one_namespace_only(pods: Pods) -> None:
    pods.embedded.add_user(User("one", rules=(Rule(("list", "delete"), ("pods",), ("team",)),)))
    pods.embedded.write_kubeconfig(pods.config, user="one")

    found = await reap(Place("cluster", access=pods.access), ReapRule())
    assert found.judged == ()
    (trouble,) = found.troubles
    assert isinstance(trouble, ForbiddenError)
    assert "Name a namespace" in str(trouble)

    found = await reap(Place("cluster", access=pods.access, namespace="team"), ReapRule(ended_runs={"d/r2"}))
    assert [one.what.name for one in found.judged] == ["team/running"]
    assert not found.errors


# -- which runs have ended ---------------------------------------------------------------------------------------------


@dataclass
class Airflow:
    """Answers as Airflow's REST API does."""

    known: dict[str, str] = field(default_factory=dict)
    token: str = "a-token"
    url: str = ""
    status: int = 0

    def answer(self, path: str, token: str) -> tuple[int, dict[str, Any]]:
        if self.status:
            return self.status, {"detail": "so it is"}
        if token != f"Bearer {self.token}":
            return 401, {"detail": "Invalid JWT token"}
        parts = [unquote(part) for part in path.split("/")]
        if parts[:4] != ["", "api", "v2", "dags"] or parts[5] != "dagRuns":
            return 404, {"detail": "Not Found"}
        state = self.known.get(f"{parts[4]}/{parts[6]}")
        if state is None:
            detail = f"The DagRun with dag_id: `{parts[4]}` and run_id: `{parts[6]}` was not found"
            return 404, {"detail": detail}
        return 200, {"dag_id": parts[4], "dag_run_id": parts[6], "state": state}


@contextmanager
def served(airflow: Airflow) -> Iterator[Airflow]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = airflow.answer(self.path, self.headers.get("Authorization", ""))
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        airflow.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield airflow
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def airflow() -> Iterator[Airflow]:
    known = {ENDED: "failed", "d/r2": "running", "d/q": "queued", "d/s": "success", "d/?": "restarting"}
    with served(Airflow(known)) as airflow:
        yield airflow


EXPECTED = {
    ENDED: RunState.ENDED,
    "d/s": RunState.ENDED,
    "d/r2": RunState.UNDER_WAY,
    "d/q": RunState.UNDER_WAY,
    "d/none": RunState.UNKNOWN,
    "no run": RunState.UNKNOWN,
}


def test_airflows_api_is_asked(airflow: Airflow) -> None:
    found = AirflowApi(f"{airflow.url}/", airflow.token, source="a test").states([*EXPECTED, "d/?"])
    assert found == {**EXPECTED, "d/?": RunState.UNKNOWN}


@pytest.mark.parametrize(
    ("change", "kind", "match"),
    [
        ({"token": "another"}, CredentialError, "Invalid JWT token.*token from a test is not valid"),
        ({"status": 403}, CredentialError, "must be let read DAG runs"),
        ({"status": 404}, ConnectError, "Check that this is the URL"),
        ({"status": 400}, ConnectError, "Check that this is the URL"),
    ],
)
def test_airflow_does_not_tell(airflow: Airflow, change: dict[str, Any], kind: type[Exception], match: str) -> None:
    api = AirflowApi(airflow.url, airflow.token, source="a test")
    for name, value in change.items():
        setattr(airflow, name, value)
    with pytest.raises(kind, match=match) as caught:
        api.states(["d/r2"])
    assert "a-token" not in str(caught.value)


def test_what_is_no_url() -> None:
    with pytest.raises(ConfigurationError, match="is like https://airflow"):
        AirflowApi("airflow", "t", source="a test")


def test_a_task_asks_for_counts() -> None:
    known = {("d", ENDED[2:]): "failed", ("d", "r2"): "running", ("d", "q"): "queued", ("d", "s"): "success"}

    class Ti:
        @staticmethod
        def get_dr_count(dag_id: str, run_ids: list[str], states: list[str] | None = None) -> int:
            found = [known[dag_id, run] for run in run_ids if (dag_id, run) in known]
            return len([state for state in found if states is None or state in states])

    assert states_for_task(Ti, EXPECTED) == EXPECTED


# -- the command -------------------------------------------------------------------------------------------------------


def test_the_command_asks_airflow(
    pods: Pods, airflow: Airflow, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THE_TOKEN", airflow.token)
    command = ["reap", "--kubeconfig", str(pods.config), "--airflow-url", airflow.url, "--airflow-token"]

    assert main([*command, "env:THE_TOKEN", "--older-than", "0s", "--delete"]) == 0
    told, warned = capsys.readouterr()
    assert re.search(
        r"pod 'default/ended' of the cluster from the command line: \w+, \d+ s old, made for d/manual__", told
    )
    assert "which is under way; stays" in told
    assert warned == ""
    pods.embedded.wait_until(lambda all_: len(all_) == 2)
    assert pods.names() == {"running", "upstreams"}

    airflow.token = "another"
    assert main([*command, "env:THE_TOKEN", "--delete"]) == 1
    assert "token from the environment variable THE_TOKEN is not valid" in capsys.readouterr().err
    assert main([*command, "a-token"]) == 2
    assert "can be read by others" in capsys.readouterr().err
    assert main([*command, "env:NO_SUCH"]) == 2
    assert "NO_SUCH, named by --airflow-token, is not set" in capsys.readouterr().err
    assert main(["reap", "--kubeconfig", str(pods.config), "--airflow-url", airflow.url]) == 2
    assert "go together" in capsys.readouterr().err
