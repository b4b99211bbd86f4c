"""What a run tells to a metrics daemon, by Airflow's own settings for one."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from .conftest import Ran

Received = Callable[[], list[str]]


@pytest.fixture
def received(monkeypatch: pytest.MonkeyPatch) -> Iterator[Received]:
    """What has arrived at a daemon that Airflow is configured for."""
    utilities: Any = pytest.importorskip("airflow.sdk.observability.metrics.stats_utils")
    stats: Any = pytest.importorskip("airflow.sdk.observability.stats")
    if not hasattr(stats, "initialize"):
        pytest.skip("this Airflow sets its metrics up when they are first told of")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as daemon:
        daemon.bind(("127.0.0.1", 0))
        daemon.setblocking(False)
        host, port = daemon.getsockname()
        settings = {"ON": "True", "HOST": host, "PORT": str(port), "PREFIX": "airflow", "INFLUXDB_ENABLED": "True"}
        for name, value in settings.items():
            monkeypatch.setenv(f"AIRFLOW__METRICS__STATSD_{name}", value)
        module = __import__(stats.initialize.__module__, fromlist=["x"])
        before = module._factory, module._export_legacy_names
        stats.initialize(factory=utilities.get_stats_factory(), export_legacy_names=False)

        def received() -> list[str]:
            found: list[str] = []
            while True:
                try:
                    found.append(daemon.recv(65536).decode())
                except BlockingIOError:
                    return found

        yield received
        module._get_backend().statsd.close()
        stats.initialize(factory=before[0], export_legacy_names=before[1])


def test_a_daemon_is_told_how_long_each_part_took(received: Received, run: Callable[..., Ran]) -> None:
    run("sleep 0.1")
    told = [line for line in received() if line.startswith("airflow.kpo_multicluster.")]
    pattern = re.compile(r"airflow\.kpo_multicluster\.pod\.(\w+),dag_id=dag,task_id=task:([\d.]+)\|ms")
    found = [pattern.fullmatch(line) for line in told]
    assert all(found), told
    parts = {match[1]: float(match[2]) for match in found if match}
    assert sorted(parts) == ["cleanup", "run", "schedule", "start"]
    # Kubernetes keeps whole seconds; what is left to do after a run is timed here.
    assert all(milliseconds % 1000 == 0 for part, milliseconds in parts.items() if part != "cleanup")
    assert parts["cleanup"] > 0
