"""The command line: a cluster in the background, up and down, and what it says when it cannot."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import yaml

from kpo_multicluster import __version__, cli
from kpo_multicluster.errors import ConfigurationError
from kpo_multicluster.testing import local_cluster

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def environ(tmp_path: Path) -> Mapping[str, str]:
    (tmp_path / "runtime").mkdir(mode=0o700)
    return {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path / "runtime")}


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "runtime" / "kpo-multicluster"


@pytest.fixture
def run(environ: Mapping[str, str], tmp_path: Path, state: Path) -> Iterator[Run]:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "kpo_multicluster.cli", *arguments],
            env=environ,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    yield run
    for name in [path.name for path in state.iterdir()] if state.exists() else []:
        run("local", "down", "--name", name)


def pid_of(state: Path, name: str = "embedded") -> int:
    return int(json.loads((state / name / "state.json").read_text())["pid"])


def alive(pid: int) -> bool:
    """Whether a process runs; one that ended and was not buried yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_up_status_down(run: Run, state: Path) -> None:
    up = run("local", "up", "--image", "hello=echo hi")
    pid, kubeconfig = pid_of(state), state / "embedded" / "kubeconfig"
    config = yaml.safe_load(kubeconfig.read_text())
    server = config["clusters"][0]["cluster"]["server"]
    shown = (
        f"Cluster 'embedded' is up at {server} (process {pid}, log {state}/embedded/log).\n"
        f"export KUBECONFIG={kubeconfig}\n"
    )
    assert (up.returncode, up.stdout, up.stderr) == (0, shown, "")
    assert state.stat().st_mode & 0o777 == (state / "embedded").stat().st_mode & 0o777 == 0o700
    status = run("local", "status")
    assert (status.returncode, status.stdout) == (0, shown)
    down = run("local", "down")
    assert (down.returncode, down.stdout) == (0, "Cluster 'embedded' is down.\n")
    assert not alive(pid)
    assert not state.exists()
    again = run("local", "down")
    assert (again.returncode, again.stdout) == (0, "No cluster 'embedded' is running.\n")


def test_status_tells_by_its_exit_code_whether_one_runs(run: Run) -> None:
    assert (run("local", "status").returncode, run("local", "status").stdout) == (0, "No cluster is running.\n")
    named = run("local", "status", "--name", "gpu")
    assert (named.returncode, named.stdout) == (1, "No cluster 'gpu' is running.\n")


def test_a_second_of_the_same_name_is_refused(run: Run, state: Path) -> None:
    run("local", "up")
    second = run("local", "up")
    assert (second.returncode, second.stdout) == (1, "")
    assert second.stderr == (
        f"kpo-multicluster: A cluster 'embedded' is running already (process {pid_of(state)}, kubeconfig "
        f"{state}/embedded/kubeconfig). Use it, end it with: kpo-multicluster local down --name embedded, or give "
        "--name another name.\n"
    )
    assert run("local", "up", "--name", "other").returncode == 0
    assert run("local", "status").stdout.count("is up at") == 2


def test_of_two_at_the_same_time_one_comes_up(environ: Mapping[str, str], run: Run) -> None:
    command = [sys.executable, "-m", "kpo_multicluster.cli", "local", "up"]
    both = [subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)]
    for process in both:
        process.communicate(timeout=60)
    assert sorted(process.returncode for process in both) == [0, 1]
    assert run("local", "status").stdout.count("is up at") == 1


def test_a_kubeconfig_of_one_s_own_goes_with_the_cluster(run: Run, tmp_path: Path) -> None:
    target = tmp_path / "mine"
    up = run("local", "up", "--kubeconfig", "mine")
    assert up.stdout.endswith(f"export KUBECONFIG={target}\n")
    assert target.stat().st_mode & 0o777 == 0o600
    run("local", "down")
    assert not target.exists()


def test_no_file_of_the_user_s_is_overwritten(run: Run, tmp_path: Path, state: Path) -> None:
    (tmp_path / "config").write_text("precious")
    up = run("local", "up", "--kubeconfig", "config")
    assert up.returncode == 1
    assert "config exists and may hold the way to other clusters" in up.stderr
    assert (tmp_path / "config").read_text() == "precious"
    assert not state.exists()


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ("hello", "--image hello: expected NAME=DIR or NAME=COMMAND"),
        ("=x", "--image =x: expected NAME=DIR or NAME=COMMAND"),
        ("hello=./missing", "'./missing' is neither a directory nor a command of this machine"),
        ("hello=no-such-program", "'no-such-program' is neither a directory nor a command of this machine"),
        ("hello=echo 'hi", "--image hello=echo 'hi: the command cannot be split into words: No closing quotation."),
        ("hello=empty", "Dockerfile"),
    ],
)
def test_an_image_that_cannot_run_is_refused(run: Run, tmp_path: Path, state: Path, image: str, message: str) -> None:
    (tmp_path / "empty").mkdir()
    up = run("local", "up", "--image", image)
    assert (up.returncode, up.stdout) == (1, "")
    assert message in up.stderr
    assert up.stderr.count("\n") == 1
    assert not state.exists()


def test_a_name_must_be_a_name(run: Run) -> None:
    up = run("local", "up", "--name", "../x")
    assert up.returncode == 1
    assert "'../x' cannot name a cluster: use lower-case letters, digits and hyphens." in up.stderr


def test_a_place_that_cannot_be_written_is_told(run: Run, tmp_path: Path, state: Path) -> None:
    up = run("local", "up", "--kubeconfig", "nowhere/config")
    assert up.returncode == 1
    assert f"The kubeconfig cannot be written to {tmp_path}/nowhere/config: No such file or directory." in up.stderr
    assert not state.exists()


def test_what_a_killed_one_left_is_cleared_away(run: Run, state: Path) -> None:
    run("local", "up")
    os.kill(pid_of(state), signal.SIGKILL)
    pid = pid_of(state)
    while alive(pid):
        time.sleep(0.005)
    assert run("local", "status").stdout == "No cluster is running.\n"
    assert not state.exists()
    assert run("local", "up").returncode == 0


def test_it_can_be_ended_by_a_signal_too(run: Run, state: Path) -> None:
    run("local", "up")
    pid = pid_of(state)
    os.kill(pid, signal.SIGTERM)
    while alive(pid):
        time.sleep(0.005)
    assert run("local", "status", "--name", "embedded").returncode == 1


def test_a_directory_that_others_can_write_to_is_refused(tmp_path: Path) -> None:
    (tmp_path / "kpo-multicluster").mkdir()
    (tmp_path / "kpo-multicluster").chmod(0o777)
    with pytest.raises(ConfigurationError, match="not a directory that belongs to you with mode 0700"):
        local_cluster.state_directory({"XDG_RUNTIME_DIR": str(tmp_path)})


def test_without_a_runtime_directory_the_temporary_one_serves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    directory = local_cluster.state_directory({})
    assert directory == tmp_path / f"kpo-multicluster-{os.getuid()}"
    assert directory.stat().st_mode & 0o777 == 0o700


def test_relative_images_are_meant_from_where_the_command_was_given(tmp_path: Path) -> None:
    (tmp_path / "hello").mkdir()
    assert local_cluster.image_argument("a=hello", tmp_path) == f"a={tmp_path}/hello"
    assert local_cluster.image_argument("a=sh -c 'exit 1'", tmp_path).endswith("/sh -c 'exit 1'")


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["--version"])
    assert (ended.value.code, capsys.readouterr().out) == (0, f"kpo-multicluster {__version__}\n")


@pytest.mark.parametrize("arguments", [[], ["local"], ["local", "sideways"], ["local", "up", "--colour"]])
def test_misuse_is_told_with_exit_code_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2
    assert "usage: kpo-multicluster" in capsys.readouterr().err


def test_the_command_imports_the_cluster_only_to_start_one() -> None:
    script = (
        "import sys, kpo_multicluster.cli as cli\n"
        "try:\n cli.main(['--version'])\nexcept SystemExit: pass\n"
        "heavy = ('aiohttp', 'cryptography', 'airflow', 'kpo_multicluster.testing')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
