"""Callbacks: which are called, when, with what, and what a failure of one does."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from typing import Any

import pytest

from kpo_multicluster.callbacks import ExecutionMode, KubernetesPodOperatorCallback
from kpo_multicluster.errors import PodFailedError
from kpo_multicluster.operators.pod import KubernetesPodOperator
from kpo_multicluster.testing.cluster import EmbeddedCluster

from .conftest import Ran, gone

Run = Callable[..., Ran]

ORDER = [
    "on_pod_manifest_created",
    "on_pod_creation",
    "on_pod_starting",
    "progress_callback",
    "on_pod_completion",
    "on_pod_teardown",
    "on_pod_cleanup",
]


class Calls(list[tuple[str, dict[str, Any]]]):
    """What was called with what."""

    def names(self) -> list[str]:
        return [name for name, _ in self]

    def of(self, name: str) -> list[dict[str, Any]]:
        return [arguments for called, arguments in self if called == name]


@pytest.fixture
def calls() -> Calls:
    return Calls()


@pytest.fixture
def make_class(calls: Calls) -> Iterator[Callable[..., type[Any]]]:
    """Makes a class whose callbacks note that they were called."""

    def noting(name: str, label: str, failing: bool) -> Any:
        def callback(**arguments: Any) -> None:
            assert threading.current_thread() is threading.main_thread()
            calls.append((label + name, arguments))
            if failing:
                raise ZeroDivisionError

        return staticmethod(callback)

    def make_class(*names: str, label: str = "", base: type[Any] = object, failing: str = "") -> type[Any]:
        wanted = [*(names or ("on_sync_client_creation", *ORDER)), *([failing] if failing else [])]
        return type("Noting", (base,), {name: noting(name, label, name == failing) for name in wanted})

    yield make_class
    for arguments in calls.of("on_sync_client_creation"):
        arguments["client"].api_client.close()


MakeClass = Callable[..., type[Any]]


@pytest.mark.parametrize("script", ["echo line", "echo line; exit 1"])
def test_the_order_and_the_arguments(
    cluster: EmbeddedCluster, run: Run, mode: str, calls: Calls, make_class: MakeClass, script: str
) -> None:
    try:
        run(script, callbacks=make_class())
    except PodFailedError:
        assert "exit 1" in script
    assert calls.names() == in_processes(mode, ORDER, 2)
    client = None
    for name, arguments in calls:
        if name == "on_sync_client_creation":
            client = arguments["client"]
            continue
        assert arguments["client"] is client
        assert arguments["mode"] is ExecutionMode.SYNC
        if name != "progress_callback":
            assert isinstance(arguments["operator"], KubernetesPodOperator)
            assert arguments["context"]["ti"].task_id == "task"
        pod = arguments["pod_request" if name == "on_pod_manifest_created" else "pod"]
        assert pod.metadata.name.startswith("task-")
    for name in ("on_pod_completion", "on_pod_teardown", "on_pod_cleanup"):
        (status,) = calls.of(name)[0]["pod"].status.container_statuses
        assert status.state.terminated is not None


def in_processes(mode: str, calls: list[str], first: int) -> list[str]:
    """The calls, with that for the client of each process; of a deferred task, `first` calls belong to the first."""
    made = ["on_sync_client_creation"]
    return [*made, *calls] if mode == "sync" else [*made, *calls[:first], *made, *calls[first:]]


def test_a_deferred_task_tells_that_it_goes_on(run: Run, mode: str, calls: Calls, make_class: MakeClass) -> None:
    names = ("on_sync_client_creation", "on_operator_resuming", "on_pod_creation", "on_pod_starting")
    run("echo line", callbacks=make_class(*names))
    resuming = ["on_operator_resuming"] if mode == "deferred" else []
    assert calls.names() == in_processes(mode, ["on_pod_creation", *resuming, "on_pod_starting"], 1)
    for arguments in calls.of("on_operator_resuming"):
        assert arguments["event"]["status"] == "success"
        assert arguments["event"]["name"] == arguments["pod"].metadata.name


def test_a_line(run: Run, calls: Calls, make_class: MakeClass) -> None:
    before = datetime.now(timezone.utc)
    # The log view folds at the second, which is a line as any other.
    run("echo one; echo ::group::two", callbacks=make_class("progress_callback", "on_sync_client_creation"))
    lines = calls.of("progress_callback")
    assert [line["line"] for line in lines] == ["one", "::group::two"]
    assert {line["container_name"] for line in lines} == {"base"}
    assert all(before <= line["timestamp"] <= datetime.now(timezone.utc) for line in lines)
    assert set(lines[0]) == {"line", "client", "mode", "container_name", "timestamp", "pod"}


def test_several_classes_are_called_in_turn(run: Run, mode: str, calls: Calls, make_class: MakeClass) -> None:
    names = ("on_pod_creation", "on_pod_cleanup", "on_sync_client_creation")
    run(callbacks=[make_class(*names), make_class("on_pod_creation", "on_pod_cleanup", label="second ")])
    called = [label + name for name in ("on_pod_creation", "on_pod_cleanup") for label in ("", "second ")]
    assert calls.names() == in_processes(mode, called, 2)


def test_what_the_base_class_has_is_not_called_and_needs_no_client(run: Run) -> None:
    class Nothing(KubernetesPodOperatorCallback):
        pass

    operator_client: list[Any] = []

    class Watched(KubernetesPodOperatorCallback):
        @staticmethod
        def on_sync_client_creation(*, client: Any, operator: Any, **kwargs: Any) -> None:
            operator_client.append(client)

    run(callbacks=[Nothing, Watched])
    assert operator_client == []


def test_a_class_that_is_called_like_the_base_class_is_called(run: Run, calls: Calls, make_class: MakeClass) -> None:
    namesake = type("KubernetesPodOperatorCallback", (make_class("on_pod_creation", "on_sync_client_creation"),), {})
    run(callbacks=namesake)
    assert "on_pod_creation" in calls.names()


def test_what_a_callback_changes_in_the_manifest_is_created(cluster: EmbeddedCluster, run: Run) -> None:
    class Labelling(KubernetesPodOperatorCallback):
        @staticmethod
        def on_pod_manifest_created(*, pod_request: Any, client: Any, **kwargs: Any) -> None:
            pod_request.metadata.labels["team"] = "blue"
            client.api_client.close()

    run(callbacks=Labelling, on_finish_action="keep_pod")
    (pod,) = cluster.pods()
    assert pod["metadata"]["labels"]["team"] == "blue"


def test_the_client_works(cluster: EmbeddedCluster, run: Run) -> None:
    seen: list[str] = []

    class Looking(KubernetesPodOperatorCallback):
        @staticmethod
        def on_pod_starting(*, client: Any, pod: Any, **kwargs: Any) -> None:
            with client.api_client:
                read = client.read_namespaced_pod(pod.metadata.name, pod.metadata.namespace)
            seen.append(read.metadata.uid)
            assert read.metadata.uid == pod.metadata.uid

    run("sleep 0.2", callbacks=Looking)
    assert len(seen) == 1


@pytest.mark.parametrize("failing", ["on_sync_client_creation", *ORDER])
def test_an_exception_fails_the_task_and_the_pod_is_removed(
    cluster: EmbeddedCluster, run: Run, calls: Calls, make_class: MakeClass, failing: str
) -> None:
    callbacks = make_class("on_sync_client_creation", "on_pod_creation", failing=failing)
    with pytest.raises(ZeroDivisionError):
        run("echo line; sleep 0.3", callbacks=callbacks, termination_grace_period=0)
    assert calls.names()[-1] == failing
    assert (cluster.requests.counts().get("create", 0) == 0) == (failing == "on_pod_manifest_created")
    cluster.wait_until(gone)


def test_the_deprecated_argument_is_called_with_every_line(run: Run) -> None:
    lines: list[str] = []
    with pytest.warns(DeprecationWarning, match="progress_callback"):
        run("echo one; echo two", progress_callback=lines.append)
    assert lines == ["one", "two"]


def test_log_lines_of_init_containers_come_before_the_start(run: Run, calls: Calls, make_class: MakeClass) -> None:
    init = {"name": "first", "image": "alpine:3", "command": ["sh", "-c", "echo from init"]}
    names = ("progress_callback", "on_pod_starting", "on_sync_client_creation")
    run("echo base", init_containers=[init], init_container_logs=True, callbacks=make_class(*names))
    assert calls.names()[1:] == ["progress_callback", "on_pod_starting", "progress_callback"]
    assert [line["container_name"] for line in calls.of("progress_callback")] == ["first", "base"]
