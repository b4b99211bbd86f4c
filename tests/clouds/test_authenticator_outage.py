"""A run while whoever tells tokens for the API server is out of order: good tokens are refused with 401."""

from __future__ import annotations

import time

import pytest

from .callers import Google
from .relays import BlockingRelay, Cutter
from .servers import Server
from .test_acceptance import ROLE, Lines, Run, lines, run
from .test_renewal import counting

__all__ = ["lines", "run"]

pytestmark = pytest.mark.timeout(180)

OUTAGE_SECONDS = 3.0


def test_a_run_outlasts_it(
    server: Server, gke_cloud: Google, namespace: str, relay: BlockingRelay, run: Run, lines: Lines
) -> None:
    reviewer = gke_cloud.put_cluster(server, relay.url)
    runner = gke_cloud.caller("runner")
    server.allow(namespace, ROLE, user=runner.user)

    def begin() -> None:
        server.begin_outage()
        # Until then the server lets in whom it let in before.
        time.sleep(server.remembers_seconds)

    def end() -> None:
        time.sleep(OUTAGE_SECONDS)
        server.end_outage()
        server.touch(namespace, "/tmp/enough")

    try:
        with Cutter(relay, [lambda: len(lines()) >= 3], before=begin, after=end) as cutter:
            ran = run(runner.ref, counting(0.2, "[ -e /tmp/enough ]"), do_xcom_push=True)
    finally:
        server.end_outage()
    assert cutter.cuts == 1
    assert lines() == [str(n) for n in range(1, ran.result + 1)]
    assert reviewer.reviews[-1].reason == ""
    assert server.pods(namespace) == []
