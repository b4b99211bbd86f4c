"""What holds for every test: an Airflow home of its own, and nothing left behind."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

# Before anything imports Airflow, which reads its configuration and makes its home at import.
_HOME = tempfile.mkdtemp(prefix="kpo-tests-")
os.environ.update(
    AIRFLOW_HOME=f"{_HOME}/airflow",
    AIRFLOW__CORE__LOAD_EXAMPLES="False",
    AIRFLOW__CORE__UNIT_TEST_MODE="False",
    AIRFLOW__USAGE_DATA_COLLECTION__ENABLED="False",
    TMPDIR=f"{_HOME}/tmp",
)
os.makedirs(f"{_HOME}/tmp")
tempfile.tempdir = None
# A developer's own cluster and proxy are none of the tests' business.
for _name in ("KUBECONFIG", "HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY"):
    os.environ.pop(_name, None)
    os.environ.pop(_name.lower(), None)

_GRACE_SECONDS = 30.0
# Begun with, as one that came last would be waited for alone while the other processes have nothing left to do.
_LONGEST = (
    "examples/test_demo",
    "testing/clouds/test_outliving_tokens.py",
    "contract",
    "node_groups",
    "operators",
    "services",
    "clouds",
    "auth/eks",
    "decorators",
    "doctor",
    "testing",
)


def pytest_configure(config: pytest.Config) -> None:
    # Named here, as pytest imports it from its own settings before it reads this file, and Airflow its home with it.
    config.addinivalue_line("filterwarnings", "default::airflow.exceptions.RemovedInAirflow4Warning")
    if sys.version_info < (3, 11):
        # asyncio of 3.10 warns of a TLS transport that was aborted, which is closed all the same.
        unraisable = "ignore:.*_SSLProtocolTransport.__del__:pytest.PytestUnraisableExceptionWarning"
        config.addinivalue_line("filterwarnings", "ignore:unclosed transport <asyncio.sslproto:ResourceWarning")
        config.addinivalue_line("filterwarnings", unraisable)


def _turn(item: pytest.Item) -> int:
    path = str(item.path.relative_to(Path(__file__).parent))
    return next((turn for turn, begin in enumerate(_LONGEST) if path.startswith(begin)), len(_LONGEST))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=_turn)


def pytest_unconfigure() -> None:
    shutil.rmtree(_HOME, ignore_errors=True)


def _children() -> set[int]:
    found: set[int] = set()
    for task in Path("/proc/self/task").iterdir():
        try:
            found.update(int(pid) for pid in (task / "children").read_text().split())
        except OSError:  # the thread has ended
            continue
    return found


def _mounts() -> set[str]:
    return set(Path("/proc/self/mountinfo").read_text().splitlines())


def _temporary_files() -> set[str]:
    return {entry for entry in os.listdir(tempfile.gettempdir()) if not entry.startswith("pytest-")}


def _threads() -> set[threading.Thread]:
    # The default executor's threads belong to a loop and end with it. Airflow starts one for its server in dag.test(),
    # before 3.2 for each task, and ends none of them; it alone gives a loop's thread no name.
    return {
        thread
        for thread in threading.enumerate()
        if not thread.name.startswith("asyncio_") and not thread.name.endswith("(run_forever)")
    }


_WATCHED: dict[str, Callable[[], set[Any]]] = {
    "threads": _threads,
    "child processes": _children,
    "mounts": _mounts,
    "temporary files": _temporary_files,
}


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """Threads, child processes, mounts and temporary files that a test starts end with it."""
    before = {what: look() for what, look in _WATCHED.items()}
    yield
    deadline = time.monotonic() + _GRACE_SECONDS
    while True:
        left = {what: look() - before[what] for what, look in _WATCHED.items()}
        left = {what: things for what, things in left.items() if things}
        if not left or time.monotonic() > deadline:
            break
        time.sleep(0.01)
    assert not left, f"left behind: {left}"
