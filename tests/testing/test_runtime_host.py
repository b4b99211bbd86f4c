"""Machines that restrict containers, and servers that are killed: what is said, and what is left."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from kpo_multicluster.errors import ConfigurationError
from kpo_multicluster.testing.runtime import host
from kpo_multicluster.testing.runtime.inside.keeper import remove_tree
from kpo_multicluster.testing.runtime.local import check

ROOT = Path(__file__).parents[2]
PROGRAM = ("-m", "tests.testing.node_program")
_NAMESPACES = ("--user", "--mount", "--map-user=1000", "--map-group=1000", "--keep-caps")
WITHOUT_RIGHTS = "setpriv --bounding-set=-all --inh-caps=-all --ambient-caps=-all"


def environment(temporary: str = "/tmp") -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "TMPDIR": temporary, "PYTHONDONTWRITEBYTECODE": "1"}


def restricted(script: str, *arguments: str) -> dict[str, Any]:
    """Runs the program in a user namespace after a script has restricted it; `$PROGRAM` stands for the program."""
    if not shutil.which("unshare") or not shutil.which("setpriv"):
        pytest.skip("util-linux (unshare, setpriv) is not installed")
    program = " ".join((sys.executable, *PROGRAM, *arguments))
    done = subprocess.run(
        ["unshare", *_NAMESPACES, "sh", "-ec", script.replace("$PROGRAM", program)],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if "unshare" in done.stderr:
        pytest.skip(f"this machine has no user namespaces for tests: {done.stderr.strip()}")
    assert done.stdout, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def test_user_namespaces_forbidden_by_a_setting() -> None:
    answer = restricted(f"echo 0 > /proc/sys/user/max_user_namespaces; exec {WITHOUT_RIGHTS} $PROGRAM check")
    assert "user.max_user_namespaces is 0" in answer["error"]
    assert "sudo sysctl -w user.max_user_namespaces=15000" in answer["error"]


def test_root_needs_no_user_namespace() -> None:
    answer = restricted("echo 0 > /proc/sys/user/max_user_namespaces; exec $PROGRAM check")
    assert answer == {"phase": "Succeeded", "log": "hello\n"}


def test_mount_namespaces_used_up() -> None:
    answer = restricted(f"echo 1 > /proc/sys/user/max_mnt_namespaces; exec {WITHOUT_RIGHTS} $PROGRAM check")
    assert "user.max_mnt_namespaces" in answer["error"]


def test_masked_proc() -> None:
    masked = next(name for name in ("driver", "tty", "fs", "acpi") if any(Path("/proc", name).glob("*")))
    script = f"mount -t tmpfs none /proc/{masked}; exec {WITHOUT_RIGHTS} $PROGRAM check"
    answer = restricted(script)
    assert "/proc are masked" in answer["error"]
    assert "--security-opt systempaths=unconfined" in answer["error"]


@pytest.mark.parametrize(
    ("settings", "stage", "number", "words"),
    [
        (
            {"kernel/apparmor_restrict_unprivileged_userns": "1"},
            "mount and PID namespaces",
            errno.EPERM,
            "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
        ),
        ({"kernel/unprivileged_userns_clone": "0"}, "user namespace", errno.EPERM, "unprivileged_userns_clone=1"),
        ({"user/max_user_namespaces": "0"}, "user namespace", errno.ENOSPC, "user.max_user_namespaces=15000"),
        ({"user/max_user_namespaces": "9"}, "user namespace", errno.ENOSPC, "limit on namespaces is used up"),
        ({}, "user namespace", errno.EPERM, "--security-opt seccomp=unconfined"),
        ({}, "proc", errno.EPERM, "systempaths=unconfined"),
        ({}, "user namespace", errno.EINVAL, "CONFIG_USER_NS"),
    ],
)
def test_each_cause_names_its_fix(
    tmp_path: Path, settings: dict[str, str], stage: str, number: int, words: str
) -> None:
    for name, value in settings.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"{value}\n")
    failures = [{"mode": "user namespace", "stage": stage, "errno": number}, {"mode": "root", "stage": "x", "errno": 1}]
    error = host.explain(failures, tmp_path)
    assert isinstance(error, ConfigurationError)
    assert words in str(error)
    assert stage in str(error)
    assert "embedded cluster" in str(error)


def test_other_systems_and_broken_interpreters_are_told_apart() -> None:
    assert "'darwin'" in str(host.not_linux("darwin"))
    assert "no ctypes" in str(host.not_started("ImportError: no ctypes"))
    assert "without a word" in str(host.not_started(""))


@pytest.mark.parametrize(
    ("interpreter", "words"), [("/no/such/python", "No such file"), ("/bin/false", "without a word")]
)
async def test_an_interpreter_that_cannot_be_started_again(
    monkeypatch: pytest.MonkeyPatch, interpreter: str, words: str
) -> None:
    monkeypatch.setattr(sys, "executable", interpreter)
    with pytest.raises(ConfigurationError, match=words):
        await check()


@pytest.mark.parametrize("forked", [False, True], ids=["alone", "with a forked child"])
def test_nothing_is_left_when_the_server_is_killed(tmp_path: Path, forked: bool) -> None:
    marker = f"marker-{secrets.token_hex(8)}"
    process = subprocess.Popen(
        [sys.executable, *PROGRAM, "hold", marker, *(["fork"] if forked else [])],
        cwd=ROOT,
        env=environment(str(tmp_path)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process.stdin, process.stdout:
        directory = Path(json.loads(process.stdout.readline())["directory"])
        assert directory.is_dir()
        assert processes_with(marker)
        process.send_signal(signal.SIGKILL)
        process.wait()
        deadline = time.monotonic() + 60
        while (directory.exists() or containers_with(marker)) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not containers_with(marker)
        assert not directory.exists()
    assert list(tmp_path.iterdir()) == []


def test_a_directory_is_removed_while_others_are_at_work_in_it(tmp_path: Path) -> None:
    doomed = tmp_path / "doomed"
    doomed.mkdir()
    for number in range(200):
        (doomed / f"old-{number}").touch()

    def work() -> None:
        with contextlib.suppress(FileNotFoundError):
            for number in range(2000):
                (doomed / f"new-{number}").touch()
                (doomed / f"old-{number % 200}").unlink(missing_ok=True)

    worker = threading.Thread(target=work)
    worker.start()
    remove_tree(str(doomed))
    assert not doomed.exists()
    worker.join()
    remove_tree(str(doomed))


def processes_with(marker: str) -> set[str]:
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if marker.encode() in (entry / "cmdline").read_bytes():
                    found.add(entry.name)
    return found


def containers_with(marker: str) -> set[str]:
    return {pid for pid in processes_with(marker) if b"sleep" in Path("/proc", pid, "cmdline").read_bytes()}


def unprivileged(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs the program as nobody, with whatever interpreter nobody may run."""
    if os.geteuid() != 0:
        pytest.skip("every other test runs without root already")
    if not shutil.which("setpriv"):
        pytest.skip("util-linux (setpriv) is not installed")
    drop = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    tried = []
    for python in (sys.executable, shutil.which("python3", path="/usr/bin:/usr/local/bin") or "python3"):
        # It has to be able to start itself again, from where it lies.
        script = (
            "import subprocess, sys, tests.testing.node_program; assert sys.version_info >= (3, 10); "
            "subprocess.run([sys.executable, '-c', ''], check=True)"
        )
        probe = [*drop, python, "-c", script]
        answer = subprocess.run(
            probe, cwd="/", env=environment(), capture_output=True, text=True, timeout=60, check=False
        )
        if answer.returncode == 0:
            command = [*drop, python, *PROGRAM, *arguments]
            return subprocess.run(
                command, cwd="/", env=environment(), capture_output=True, text=True, timeout=60, check=False
            )
        tried.append(f"{python}: {answer.stderr.strip().splitlines()[-1:]}")
    pytest.skip(f"nobody can run no Python here: {tried}")


def test_without_root_everything_is_where_pods_mount_it() -> None:
    done = unprivileged("volumes")
    assert done.stdout, done.stderr
    answer = json.loads(done.stdout)
    assert answer["uid"] == 65534
    assert answer["status"]["phase"] == "Succeeded", answer
    assert answer["log"] == "0\nfrom a config map\nsecret\n1\n"
    assert json.loads(answer["read"]) == {"answer": 42}
    assert not Path(answer["directory"]).exists()
    for made in ("/airflow", "/etc/app", "/opt/deep", "/etc/made", "/opt/made", "/made", "/tmp/made"):
        assert not Path(made).exists()
