"""Bringing clusters up and taking them down, whole or interrupted, beside those the other tests run on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .fixtures import RealClusters
from .layout import CLUSTER_NAMES, REPOSITORY, STATE_VARIABLE, ClusterLayout
from .processes import recorded

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]


def output_of(*command: str) -> set[str]:
    return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines())


def processes_of(state: Path) -> set[str]:
    """The processes that carry the mark of these clusters, and with them every one that a node started."""
    found = set()
    for directory in Path("/proc").iterdir():
        try:
            marked = f"{STATE_VARIABLE}={state}".encode() in (directory / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if marked:
            found.add((directory / "cmdline").read_bytes().replace(b"\0", b" ").decode()[:120])
    return found


class Machine:
    """What a pair of clusters of its own may leave on the machine."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self._before = self._look()

    def _look(self) -> dict[str, set[str]]:
        return {
            "network devices": set(os.listdir("/sys/class/net")),
            "routes": output_of("ip", "route", "show", "table", "all"),
            "address translation": output_of("iptables", "--wait", "-t", "nat", "-S"),
            "mounts": set(Path("/proc/self/mountinfo").read_text().splitlines()),
            "cgroups": {str(path) for path in Path("/sys/fs/cgroup").glob("**/kpo*")},
            "network namespaces": output_of("ip", "netns", "list"),
            "files": {path for path in map(str, self.state.parent.iterdir()) if path.endswith("clusters")},
            "runtime files": {name for name in os.listdir("/run") if name in ("containerd", "netns", "kpo")},
            "processes": processes_of(self.state),
        }

    def left(self) -> dict[str, set[str]]:
        """What is there now and was not before."""
        now = self._look()
        return {what: things - self._before[what] for what, things in now.items() if things - self._before[what]}

    def start(self, command: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.cluster", command],
            cwd=REPOSITORY,
            env={**os.environ, STATE_VARIABLE: str(self.state)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, command: str) -> tuple[int, str]:
        process = self.start(command)
        said, _ = process.communicate(timeout=120)
        return process.returncode, said

    def interrupt_up(self, number: signal.Signals, reached: Callable[[], bool]) -> tuple[int, str]:
        """Start `up` and send it a signal as soon as it has come so far."""
        process = self.start("up")
        deadline = time.monotonic() + 60
        while not reached() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        process.send_signal(number)
        said, _ = process.communicate(timeout=120)
        return process.returncode, said


@pytest.fixture
def machine(real_clusters: RealClusters, tmp_path: Path) -> Iterator[Machine]:
    if not real_clusters.ours:
        pytest.skip("starts clusters of its own, which a run on the user's clusters does not want")
    # Longer than a unix socket's address may be.
    state = tmp_path / ("deep-" * 20) / "clusters"
    state.parent.mkdir()
    made = Machine(state)
    yield made
    made.run("down")


def test_up_twice_mends_and_down_leaves_nothing(machine: Machine) -> None:
    code, said = machine.run("up")
    assert (code, "up after" in said) == (0, True), said
    code, said = machine.run("up")
    assert (code, "already up" in said) == (0, True), said
    assert machine.run("status")[0] == 0
    assert machine.left().keys() == {"network devices", "routes", "cgroups", "files", "processes"}

    layout = ClusterLayout.load("beta", machine.state)
    assert layout is not None
    scheduler = recorded(layout.record("kube-scheduler"))
    assert scheduler is not None
    scheduler.end()
    code, said = machine.run("status")
    assert code == 1
    assert [line.split()[1:] for line in said.splitlines() if "has ended" in line] == [
        ["kube-scheduler", str(scheduler.pid), "has", "ended"]
    ]

    code, said = machine.run("up")
    assert (code, "not whole" in said) == (0, True), said
    assert machine.run("status")[0] == 0
    code, said = machine.run("down")
    assert code == 0, said
    assert machine.left() == {}
    assert machine.run("down") == (0, "clusters: were not up\n")
    assert machine.run("status")[0] == 1


MOMENTS = {
    "with one bridge": "alpha/cluster.json",
    "with etcd": "alpha/processes/etcd",
    "with a node's namespaces": "alpha/nodes/alpha-1/run/kpo/entered",
    "with both containerds": "beta/processes/beta-1.containerd",
    "with kubelets": "alpha/processes/alpha-1.kubelet",
}


@pytest.mark.parametrize("moment", MOMENTS.values(), ids=MOMENTS)
def test_up_that_is_killed_is_cleared_away_by_down(machine: Machine, moment: str) -> None:
    code, _ = machine.interrupt_up(signal.SIGKILL, (machine.state / moment).exists)
    assert code == -signal.SIGKILL
    code, said = machine.run("down")
    assert code == 0, said
    assert machine.left() == {}


def test_up_that_is_terminated_clears_away_by_itself(machine: Machine) -> None:
    code, said = machine.interrupt_up(signal.SIGTERM, (machine.state / MOMENTS["with both containerds"]).exists)
    assert (code, "interrupted" in said) == (130, True), said
    assert machine.left() == {}
    kept = machine.state.with_name(f"{machine.state.name}-logs")
    assert sorted(path.name for path in kept.iterdir()) == sorted(CLUSTER_NAMES)
