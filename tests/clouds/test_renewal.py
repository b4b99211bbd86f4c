"""Pods that outlive the tokens they were started with."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from kpo_multicluster.testing.clouds.webhook import TokenReviewer

from .callers import Cloud
from .relays import BlockingRelay, relay_to
from .servers import EmbeddedServer, Server
from .test_acceptance import ROLE, Lines, Run, lines, run

__all__ = ["lines", "run"]

pytestmark = pytest.mark.timeout(180)

LIFE_SECONDS = 4


@pytest.fixture
def relay(server: Server) -> Iterator[BlockingRelay]:
    with relay_to(server.url) as relay:
        yield relay


class Cutter:
    """Cuts all connections whenever the task's log has come to certain lines, in a thread of its own.

    Args:
        relay: whose connections.
        lines: the log so far.
        at: how many lines there are at each cut.
        before: done before each.
        after: done after the last.
    """

    def __init__(
        self,
        relay: BlockingRelay,
        lines: Lines,
        at: list[int],
        *,
        before: Callable[[], object] = lambda: None,
        after: Callable[[], object] = lambda: None,
    ) -> None:
        self.cuts = 0
        self._relay, self._lines, self._at, self._before, self._after = relay, lines, at, before, after
        self._over = threading.Event()
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._work)

    def __enter__(self) -> Cutter:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        if self._failure is not None:
            raise self._failure

    def _work(self) -> None:
        try:
            self._cut()
        except Exception as failure:
            self._failure = failure

    def _cut(self) -> None:
        for goal in self._at:
            while len(self._lines()) < goal:
                if self._over.wait(0.02):
                    return
            self._before()
            self.cuts += self._relay.cut() > 0
        self._after()


def counting(pause_seconds: float, until: str) -> str:
    """Counts until something holds, or for too long; its result is how far it came."""
    step = f"n=$((n+1)); echo $n; sleep {pause_seconds}"
    return f"n=0; until {until} || [ $n = 600 ]; do {step}; done; echo $n > /airflow/xcom/return.json"


def fingerprints(reviewer: TokenReviewer) -> tuple[list[str], list[str]]:
    """The tokens that were taken and those that were refused, each once, in order."""
    taken = dict.fromkeys(review.fingerprint for review in reviewer.reviews if not review.reason)
    return list(taken), list(dict.fromkeys(review.fingerprint for review in reviewer.reviews if review.reason))


@pytest.mark.parametrize("server", ["embedded"], indirect=True)
def test_every_token_is_revoked_while_the_pod_runs(
    server: EmbeddedServer, cloud: Cloud, namespace: str, relay: BlockingRelay, run: Run, lines: Lines
) -> None:
    """Each cut is followed by 401 for the token that was good so far: one renewal each, no line lost or repeated."""
    reviewer = cloud.put_cluster(server, relay.url)
    runner = cloud.caller("runner")
    server.allow(namespace, ROLE, user=runner.user)

    def expire() -> None:
        # A cloud may sign the same token twice within a second.
        time.sleep(1.1)
        reviewer.revoke_all()

    def enough() -> None:
        server.touch(namespace, "/tmp/enough")

    with Cutter(relay, lines, [3, 6, 9], before=expire, after=enough) as cutter:
        ran = run(runner.ref, counting(0.1, "[ -e /tmp/enough ]"), do_xcom_push=True)
    assert cutter.cuts == 3
    assert lines() == [str(n) for n in range(1, ran.result + 1)]
    taken, refused = fingerprints(reviewer)
    assert refused == taken[:-1]
    assert len(taken) == 4
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
    with Cutter(relay, lines, [count // 4, count // 2, count * 3 // 4, count - 2]) as cutter:
        ran = run(runner.ref, counting(1, f"[ $n = {count} ]"), do_xcom_push=True)
    assert ran.result == count
    assert time.monotonic() - began > 3 * LIFE_SECONDS
    assert cutter.cuts >= 3
    assert lines() == [str(n) for n in range(1, count + 1)]
    taken, _ = fingerprints(reviewer)
    assert len(taken) >= 2
    assert server.pods(namespace) == []
