"""Pods that outlive the tokens they were started with."""

from __future__ import annotations

import time

import pytest

from kpo_multicluster.testing.clouds.webhook import TokenReviewer

from .callers import Cloud
from .relays import BlockingRelay, Cutter
from .servers import Server
from .test_acceptance import ROLE, Lines, Run, execute, lines, mode, run, run_either

__all__ = ["execute", "lines", "mode", "run", "run_either"]

pytestmark = pytest.mark.timeout(180)

LIFE_SECONDS = 4


def counting(pause_seconds: float, until: str) -> str:
    """Counts until something holds, or for too long; its result is how far it came."""
    step = f"n=$((n+1)); echo $n; sleep {pause_seconds}"
    return f"n=0; until {until} || [ $n = 600 ]; do {step}; done; echo $n > /airflow/xcom/return.json"


def fingerprints(reviewer: TokenReviewer) -> tuple[list[str], list[str]]:
    """The tokens that were taken and those that were refused, each once, in order."""
    taken = dict.fromkeys(review.fingerprint for review in reviewer.reviews if not review.reason)
    return list(taken), list(dict.fromkeys(review.fingerprint for review in reviewer.reviews if review.reason))


def end_tokens(reviewer: TokenReviewer) -> None:
    """Refuses every token that was shown."""
    # A cloud may sign the same token twice within a second.
    time.sleep(1.1)
    reviewer.revoke_all()


@pytest.mark.parametrize("server", ["embedded"], indirect=True)
def test_every_token_is_revoked_while_the_pod_runs(
    server: Server, cloud: Cloud, namespace: str, relay: BlockingRelay, run: Run, lines: Lines
) -> None:
    """Each cut is followed by 401 for the token that was good so far: one renewal each, no line lost or repeated."""
    reviewer = cloud.put_cluster(server, relay.url)
    runner = cloud.caller("runner")
    server.allow(namespace, ROLE, user=runner.user)

    with Cutter(
        relay,
        [lambda at=at: len(lines()) >= at for at in (3, 6, 9)],  # type: ignore[misc]
        before=lambda: end_tokens(reviewer),
        after=lambda: server.touch(namespace, "/tmp/enough"),
    ) as cutter:
        ran = run(runner.ref, counting(0.1, "[ -e /tmp/enough ]"), do_xcom_push=True)
    assert cutter.cuts == 3
    assert lines() == [str(n) for n in range(1, ran.result + 1)]
    taken, refused = fingerprints(reviewer)
    assert refused == taken[:-1]
    assert len(taken) == 4
    assert server.pods(namespace) == []


@pytest.mark.parametrize("server", ["embedded"], indirect=True)
@pytest.mark.parametrize("mode", ["deferred"], indirect=True)
def test_every_token_is_revoked_while_the_task_is_deferred(
    server: Server, cloud: Cloud, namespace: str, relay: BlockingRelay, run_either: Run, lines: Lines
) -> None:
    reviewer = cloud.put_cluster(server, relay.url)
    runner = cloud.caller("runner")
    server.allow(namespace, ROLE, user=runner.user)

    def waited_for() -> bool:
        """Whether the pod runs, and is watched with a token that is good."""
        phases = [pod.get("status", {}).get("phase") for pod in server.pods(namespace)]
        watched = server.asked(namespace, runner.user)["watch"]
        return phases == ["Running"] and watched > cutter.cuts and not reviewer.reviews[-1].reason

    with Cutter(
        relay,
        [waited_for] * 3,
        before=lambda: end_tokens(reviewer),
        after=lambda: server.touch(namespace, "/tmp/enough"),
    ) as cutter:
        ran = run_either(runner.ref, counting(0.1, "[ -e /tmp/enough ]"), do_xcom_push=True)
    assert cutter.cuts == 3
    assert lines() == [str(n) for n in range(1, ran.result + 1)]
    _, refused = fingerprints(reviewer)
    assert len(refused) >= 2
    assert server.pods(namespace) == []


@pytest.mark.cluster
@pytest.mark.parametrize("server", ["kubernetes"], indirect=True)
def test_a_pod_runs_three_times_longer_than_its_token(
    server: Server, cloud: Cloud, namespace: str, relay: BlockingRelay, run: Run, lines: Lines
) -> None:
    """On a real API server tokens end by themselves; it takes each for up to ten seconds more."""
    reviewer = cloud.put_cluster(server, relay.url)
    runner = cloud.caller("runner")
    server.allow(namespace, ROLE, user=runner.user)
    cloud.set_life(LIFE_SECONDS)
    count = 4 * LIFE_SECONDS
    began = time.monotonic()
    goals = (count // 4, count // 2, count * 3 // 4, count - 2)
    with Cutter(relay, [lambda goal=goal: len(lines()) >= goal for goal in goals]) as cutter:  # type: ignore[misc]
        ran = run(runner.ref, counting(1, f"[ $n = {count} ]"), do_xcom_push=True)
    assert ran.result == count
    assert time.monotonic() - began > 3 * LIFE_SECONDS
    assert cutter.cuts >= 3
    assert lines() == [str(n) for n in range(1, count + 1)]
    taken, _ = fingerprints(reviewer)
    assert len(taken) >= 2
    assert server.pods(namespace) == []
