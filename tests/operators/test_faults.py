"""Runs during which the API server, or what lies before it, fails."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kpo_multicluster.errors import PodLostError, XComError
from kpo_multicluster.testing.cluster import EmbeddedCluster

from .conftest import Ran, gone, sync_only

Run = Callable[..., Ran]
Lines = Callable[[], list[str]]


def numbers(lines: list[str]) -> list[int]:
    return [int(line.removeprefix("[base] ")) for line in lines if line.startswith("[base]")]


def test_a_creation_whose_answer_is_lost_is_recognised(cluster: EmbeddedCluster, run: Run, lines: Lines) -> None:
    with cluster.faults.drop("^create ", processed=True):
        run("echo 1")
    assert numbers(lines()) == [1]
    cluster.wait_until(gone)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_creation_that_is_refused_for_a_while_is_repeated(cluster: EmbeddedCluster, run: Run, status: int) -> None:
    with cluster.faults.answer("^create ", status, times=2):
        run("true")


def test_log_streams_that_break_lose_and_repeat_nothing(cluster: EmbeddedCluster, run: Run, lines: Lines) -> None:
    with cluster.faults.cut("^log ", after_lines=40), cluster.faults.cut("^log ", after_lines=70):
        run("for i in $(seq 200); do echo $i; [ $((i % 50)) = 0 ] && sleep 0.1; done; sleep 0.5")
    assert numbers(lines()) == list(range(1, 201))


def test_a_watch_that_breaks_goes_on(cluster: EmbeddedCluster, run: Run) -> None:
    with cluster.faults.cut("^watch .*pods", after_lines=1):
        run("sleep 0.3")


@sync_only
def test_a_watch_that_is_too_old_lists_and_goes_on(cluster: EmbeddedCluster, run: Run) -> None:
    with cluster.faults.answer("^watch .*pods", 410):
        run("sleep 0.3")
    counts = cluster.requests.counts()
    assert (counts["list"], counts["watch"], counts["get"]) == (2, 2, 0)


@sync_only
def test_a_pod_whose_last_change_is_too_old_to_watch_from_is_watched_all_the_same(
    cluster: EmbeddedCluster, run: Run
) -> None:
    """The pod does not change while it sleeps, so its own version stays behind what the server still knows."""

    class Compacting:
        @staticmethod
        def on_pod_starting(**arguments: object) -> None:
            cluster.create_namespace(f"moves-the-version-on-{len(cluster.objects('namespaces'))}")
            cluster.compact(end_watches=True)

    run("sleep 1", callbacks=[Compacting])
    counts = cluster.requests.counts()
    assert counts["watch"] <= 3
    assert counts["list"] <= 3


def test_without_the_right_to_watch_the_pod_is_read_at_intervals(
    cluster: EmbeddedCluster, run: Run, lines: Lines
) -> None:
    with cluster.faults.answer("^watch .*pods", 403, times=None):
        run("echo 1")
    assert numbers(lines()) == [1]
    assert any("Grant the verb 'watch'" in line for line in lines())


def test_without_the_right_to_list_a_new_pod_is_started(cluster: EmbeddedCluster, run: Run, lines: Lines) -> None:
    with cluster.faults.answer("^list .*pods", 403):
        run("echo 1")
    assert any("Grant the verb 'list'" in line for line in lines())


def test_without_the_right_to_read_logs_the_run_goes_on(cluster: EmbeddedCluster, run: Run, lines: Lines) -> None:
    with cluster.faults.answer("^log ", 403, times=None):
        run("echo 1")
    assert numbers(lines()) == []
    assert any("pods/log" in line for line in lines())


def test_without_the_right_to_exec_the_error_names_the_other_transport(cluster: EmbeddedCluster, run: Run) -> None:
    with cluster.faults.answer("^exec ", 403), pytest.raises(XComError, match="xcom_transport"):
        run("echo 1 > /airflow/xcom/return.json", do_xcom_push=True)


def test_a_deletion_that_is_refused_does_not_fail_a_run_that_succeeded(
    cluster: EmbeddedCluster, run: Run, lines: Lines
) -> None:
    with cluster.faults.answer("^delete ", 403):
        run("true")
    assert any("could not be deleted" in line for line in lines())
    (pod,) = cluster.pods()
    assert pod["metadata"]["labels"]["already_checked"] == "True"


@sync_only
def test_a_pod_that_someone_else_deletes_is_lost(cluster: EmbeddedCluster, run: Run) -> None:
    with pytest.raises(PodLostError, match="by someone else"):
        run("sleep 0.2; kill -TERM 1; sleep 60", callbacks=[deleter(cluster)])


def deleter(cluster: EmbeddedCluster) -> type:
    class Deleter:
        @staticmethod
        def on_pod_starting(**arguments: object) -> None:
            cluster.delete_all_pods(wait=False)

    return Deleter
