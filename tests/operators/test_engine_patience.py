"""What a run asks of a cluster while nothing happens, and while it is answered badly again and again."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kpo_multicluster.errors import PodLostError
from kpo_multicluster.testing.cluster import EmbeddedCluster

from .conftest import Ran, sync_only
from .test_faults import numbers

Run = Callable[..., Ran]
Lines = Callable[[], list[str]]


@sync_only
def test_a_quiet_pod_costs_no_request(cluster: EmbeddedCluster, run: Run) -> None:
    run("sleep 3")
    counts = cluster.requests.counts()
    assert counts == {"list": 1, "create": 1, "watch": 1, "log": 1, "delete": 1}


def test_a_server_for_which_every_version_is_too_old_is_not_flooded(cluster: EmbeddedCluster, run: Run) -> None:
    with cluster.faults.answer("^watch .*pods", 410, times=None):
        run("sleep 3")
    # A flood would be of many hundred, however slow the machine.
    assert cluster.requests.counts()["watch"] < 50


@sync_only
def test_events_for_which_every_version_is_too_old_are_not_asked_for_in_a_loop(
    cluster: EmbeddedCluster, run: Run
) -> None:
    template = {
        "spec": {
            "initContainers": [{"name": "prepare", "image": "alpine:3", "command": ["sleep", "5"]}],
            "containers": [{"name": "base"}],
        }
    }
    with cluster.faults.answer("^watch .*events", 410, times=None):
        run("true", pod_template_dict=template, startup_check_interval_seconds=1)
    # A loop would ask many hundred times, however slow the machine.
    assert 1 <= len(cluster.requests.matching("^watch .*events")) < 50


@sync_only
def test_a_credential_that_is_refused_for_a_while_ends_no_run(cluster: EmbeddedCluster, run: Run, lines: Lines) -> None:
    """As when the API server cannot reach the webhook that knows the tokens."""

    class Refusing:
        @staticmethod
        def on_pod_starting(**arguments: object) -> None:
            cluster.faults.answer("^watch .*pods", 401, times=2)
            cluster.faults.answer("^log ", 401, times=2)
            cluster.compact(end_watches=True)

    run("seq 1 5; sleep 1; seq 6 10; sleep 1", callbacks=[Refusing])
    assert any("Trying again" in line for line in lines())
    assert numbers(lines()) == list(range(1, 11))


@sync_only
def test_a_pod_replaced_by_another_of_the_same_name_is_lost(cluster: EmbeddedCluster, run: Run) -> None:
    class Replacing:
        @staticmethod
        def on_pod_starting(**arguments: object) -> None:
            cluster.delete_all_pods(wait=False)
            cluster.compact(end_watches=True)

    with pytest.raises(PodLostError, match="by someone else"):
        run("sleep 20", callbacks=[Replacing])
