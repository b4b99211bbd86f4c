"""The XCom command, run by real shells beside a real sidecar process in namespaces like a container's."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kpo_multicluster.pods.xcom import SIDECAR_COMMAND, Reading, read_result, result_command

SHELLS = [shell for shell in (["dash"], ["bash", "--posix"], ["busybox", "sh"]) if shutil.which(shell[0])]
# A shell cannot trap what was ignored when it began, as it is in what a script runs in the background.
UNSHARE = ["env", "--default-signal=INT", "unshare", "--user", "--map-root-user", "--mount"]
OWN_PROCESSES = ["--pid", "--fork", "--mount-proc", "--kill-child"]


def _may_unshare() -> bool:
    if not (shutil.which("unshare") and shutil.which("nsenter")):
        return False
    return subprocess.run([*UNSHARE, *OWN_PROCESSES, "true"], capture_output=True, check=False).returncode == 0


needs_namespaces = pytest.mark.skipif(not _may_unshare(), reason="the kernel allows no user namespaces here")
each_shell = pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: shell[0])


def run(shell: list[str], directory: Path, *, path: str | None = None) -> subprocess.CompletedProcess[bytes]:
    environment = os.environ if path is None else {"PATH": path}
    script = result_command(str(directory))[2]
    return subprocess.run(
        [shutil.which(shell[0]) or "", *shell[1:], "-c", script],
        capture_output=True,
        env=environment,
        check=False,
        timeout=30,
    )


@each_shell
@pytest.mark.parametrize(
    "content", [b"1", b'{"a": "\\u00e4"}\n', b'"' + b"x" * 1_000_000 + b'"', b'"no newline"', b'"\xc3\xa4"']
)
def test_a_file_arrives_whole(shell: list[str], tmp_path: Path, content: bytes) -> None:
    (tmp_path / "return.json").write_bytes(content)
    done = run(shell, tmp_path)
    assert done.stdout == b"kpo-xcom value %d -\n%s\nkpo-xcom end\n" % (len(content), content)
    assert (done.returncode, done.stderr) == (0, b"")


@each_shell
def test_missing_and_empty_files(shell: list[str], tmp_path: Path) -> None:
    assert read_result(run(shell, tmp_path).stdout) == Reading("missing", None, False)
    (tmp_path / "return.json").touch()
    assert read_result(run(shell, tmp_path).stdout) == Reading("empty", None, False)


@each_shell
def test_an_image_with_nothing_but_cat(shell: list[str], tmp_path: Path) -> None:
    (tmp_path / "return.json").write_text("[1]")
    (tmp_path / "cat").symlink_to(shutil.which("cat") or "")
    done = run(shell, tmp_path, path=str(tmp_path))
    assert read_result(done.stdout).value == [1]
    # BusyBox finds its own `wc` without any path.
    assert done.stdout.startswith((b"kpo-xcom value - -\n", b"kpo-xcom value 3 -\n"))


@each_shell
def test_an_answer_that_no_one_takes_is_a_failure(shell: list[str], tmp_path: Path) -> None:
    (tmp_path / "return.json").write_text('"' + "x" * 1_000_000 + '"')
    script = result_command(str(tmp_path))[2]
    with subprocess.Popen([*shell, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout
        process.stdout.read(100)
        process.stdout.close()
        assert process.wait(30) != 0


Sidecar = Callable[[list[str], list[str]], "subprocess.Popen[bytes]"]


@pytest.fixture
def sidecar() -> Iterator[Sidecar]:
    started: list[subprocess.Popen[bytes]] = []

    def start(shell: list[str], namespaces: list[str]) -> subprocess.Popen[bytes]:
        process = subprocess.Popen([*UNSHARE, *namespaces, *shell, "-c", SIDECAR_COMMAND])
        started.append(process)
        _until_running(process, in_child=bool(namespaces))
        return process

    yield start
    for process in started:
        process.kill()
        process.wait(10)


def _until_running(process: subprocess.Popen[bytes], *, in_child: bool) -> None:
    """Until the sidecar's loop has begun, which shows in the `sleep` it started."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        pid = _child(process.pid) if in_child else process.pid
        if pid and _child(pid):
            return
        time.sleep(0.01)
    raise AssertionError("the sidecar did not begin")


def _child(pid: int) -> int:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(children[0]) if children else 0


def execute(pid: int, shell: list[str], directory: Path, *, own_processes: bool) -> bytes:
    enter = ["nsenter", "--target", str(pid), "--user", "--preserve-credentials", "--mount"]
    script = result_command(str(directory))[2]
    command = [*enter, *(["--pid"] if own_processes else []), *shell, "-c", script]
    return subprocess.run(command, capture_output=True, check=True, timeout=30).stdout


@needs_namespaces
def test_the_sidecar_as_process_1_ends_after_the_answer(sidecar: Sidecar, tmp_path: Path) -> None:
    (tmp_path / "return.json").write_text("[1]")
    # All shells at once: each takes two seconds to end.
    processes = {tuple(shell): sidecar(shell, OWN_PROCESSES) for shell in SHELLS}
    for shell, process in processes.items():
        reading = read_result(execute(_child(process.pid), list(shell), tmp_path, own_processes=True))
        assert reading == Reading("value", [1], True)
    assert {shell: process.wait(10) for shell, process in processes.items()} == dict.fromkeys(processes, 0)


@needs_namespaces
def test_among_processes_in_sight_only_the_containers_own_sidecar_ends(sidecar: Sidecar, tmp_path: Path) -> None:
    (tmp_path / "return.json").write_text("[1]")
    other, own = sidecar(SHELLS[0], []), sidecar(SHELLS[0], [])
    stdout = execute(own.pid, SHELLS[0], tmp_path, own_processes=False)
    assert stdout.startswith(f"kpo-xcom value 3 {own.pid}\n".encode())
    assert own.wait(10) == 0
    assert other.poll() is None


@needs_namespaces
def test_an_answer_that_could_not_be_written_leaves_the_sidecar(sidecar: Sidecar, tmp_path: Path) -> None:
    (tmp_path / "return.json").write_text('"' + "x" * 1_000_000 + '"')
    process = sidecar(SHELLS[0], OWN_PROCESSES)
    pid = _child(process.pid)
    enter = ["nsenter", "--target", str(pid), "--user", "--preserve-credentials", "--mount", "--pid"]
    command = [*enter, *SHELLS[0], "-c", result_command(str(tmp_path))[2]]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as reader:
        assert reader.stdout
        reader.stdout.read(100)
        reader.stdout.close()
        assert reader.wait(30) != 0
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(2)
    assert read_result(execute(pid, SHELLS[0], tmp_path, own_processes=True)).state == "value"
    assert process.wait(10) == 0


@pytest.mark.skipif(os.geteuid() == 0 and not shutil.which("setpriv"), reason="root reads every file")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    file = tmp_path / "return.json"
    file.write_text("[1]")
    file.chmod(0)
    unprivileged = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
    command = [*unprivileged, *result_command(str(tmp_path))]
    done = subprocess.run(command, capture_output=True, check=True, timeout=30)
    assert done.stdout == b"kpo-xcom unreadable - -\n\nkpo-xcom end\n"
