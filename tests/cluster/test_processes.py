"""Only the process that was started is ever ended, whatever has become of its id."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from .errors import ClusterError
from .processes import Process, launch, recorded, wait_for


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[Process]:
    process = launch(["sleep", "60"], record=tmp_path / "record", log=tmp_path / "log")
    yield process
    process.end()


def test_a_process_is_known_by_its_record(tmp_path: Path, sleeper: Process) -> None:
    assert recorded(tmp_path / "record") == sleeper
    assert sleeper.alive
    assert os.getsid(sleeper.pid) != os.getsid(0)
    command = Path(f"/proc/{sleeper.pid}/cmdline")
    # Empty for the moment in which a process becomes another program.
    while not (arguments := command.read_bytes()):
        time.sleep(0.01)
    assert arguments == b"sleep\x0060\x00"
    assert sleeper not in Process(os.getpid(), 0).children()


def test_it_has_ended_when_end_returns(tmp_path: Path, sleeper: Process) -> None:
    sleeper.end(signal.SIGTERM)
    assert not sleeper.alive
    assert recorded(tmp_path / "record") == sleeper
    sleeper.end()


def test_another_process_with_its_id_is_left_alone(sleeper: Process) -> None:
    impostor = Process(sleeper.pid, sleeper.started - 1)
    assert not impostor.alive
    impostor.end()
    impostor.send(signal.SIGKILL)
    assert sleeper.alive


def test_a_record_of_another_boot_means_no_process(tmp_path: Path, sleeper: Process) -> None:
    record = tmp_path / "record"
    boot, rest = record.read_text().split(maxsplit=1)
    record.write_text(f"{boot[::-1]} {rest}")
    assert recorded(record) is None
    assert recorded(tmp_path / "missing") is None


def test_the_starters_environment_is_not_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example")
    process = launch(["env"], record=tmp_path / "record", log=tmp_path / "log")
    wait_for(lambda: None if process.alive else True, what="env", needs=[], log=tmp_path / "log", timeout_seconds=60)
    said = (tmp_path / "log").read_text()
    assert "PATH=" in said
    assert "proxy" not in said


def test_waiting_ends_with_the_process_and_shows_its_last_words(tmp_path: Path) -> None:
    log = tmp_path / "log"
    process = launch(["sh", "-c", "echo I cannot go on; exit 1"], record=tmp_path / "record", log=log)
    with pytest.raises(ClusterError, match=r"the thing: its process has ended(.|\n)*I cannot go on"):
        wait_for(lambda: None, what="the thing", needs=[process], log=log, timeout_seconds=60)


def test_waiting_ends_with_the_time(tmp_path: Path, sleeper: Process) -> None:
    with pytest.raises(ClusterError, match="the thing: not within 0 s"):
        wait_for(lambda: None, what="the thing", needs=[sleeper], log=tmp_path / "log", timeout_seconds=0.1)
