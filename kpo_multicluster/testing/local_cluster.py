"""Embedded clusters that run in the background, one process each, found by the name they were given.

A cluster's directory holds its kubeconfig, its log, what `status` shows, and a lock that its process holds while it
lives: the lock, not the process id, tells whether it runs.
"""

from __future__ import annotations

import json
import os
import re
import select
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kpo_multicluster.errors import ConfigurationError
from kpo_multicluster.testing.process_lock import is_held

_STOP_SECONDS = 60.0
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")


@dataclass(frozen=True)
class LocalCluster:
    """A cluster in the background.

    Attributes:
        name: of the cluster, and of its kubeconfig context.
        pid: of its process.
        server: URL of its API server.
        kubeconfig: path of the kubeconfig for it.
        log: path of what its process wrote.
    """

    name: str
    pid: int
    server: str
    kubeconfig: Path
    log: Path


def state_directory(environ: Mapping[str, str] | None = None) -> Path:
    """Where the directories of this user's clusters are, made with mode 0700 when absent.

    Raises:
        ConfigurationError: it is there, and others could write to it.
    """
    environ = os.environ if environ is None else environ
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    if runtime and os.access(runtime, os.W_OK):
        directory = Path(runtime) / "kpo-multicluster"
    else:
        directory = Path(tempfile.gettempdir()) / f"kpo-multicluster-{os.getuid()}"
    directory.mkdir(mode=0o700, exist_ok=True)
    found = directory.lstat()
    if found.st_uid != os.getuid() or found.st_mode & 0o7777 != 0o700 or directory.is_symlink():
        raise ConfigurationError(
            f"{directory} is to hold kubeconfigs, but it is not a directory that belongs to you with mode 0700: "
            "remove it, or set XDG_RUNTIME_DIR to a directory of yours."
        )
    return directory


def image_argument(text: str, directory: Path) -> str:
    """An `--image` argument with its directory made absolute.

    Args:
        text: `NAME=DIR` or `NAME=COMMAND`.
        directory: that relative paths are meant from.

    Raises:
        ConfigurationError: it is neither.
    """
    name, separator, source = text.partition("=")
    if not (name and separator and source.strip()):
        raise ConfigurationError(f"--image {text}: expected NAME=DIR or NAME=COMMAND, such as hello=./images/hello.")
    if (directory / source).is_dir():
        return f"{name}={(directory / source).resolve()}"
    try:
        program, *rest = shlex.split(source)
    except ValueError as error:
        raise ConfigurationError(f"--image {text}: the command cannot be split into words: {error}.") from None
    found = (directory / program).resolve() if "/" in program else shutil.which(program)
    if found is None or not os.access(found, os.X_OK):
        raise ConfigurationError(
            f"--image {text}: {program!r} is neither a directory nor a command of this machine. A directory needs a "
            "Dockerfile.local or a Dockerfile; a command is what the image's entrypoint runs."
        )
    return f"{name}={shlex.join([str(found), *rest])}"


def up(name: str, images: Sequence[str] = (), kubeconfig: Path | None = None) -> LocalCluster:
    """Starts a cluster in the background.

    Args:
        name: of the cluster.
        images: `NAME=DIR` or `NAME=COMMAND`.
        kubeconfig: where to write it; default in the state directory.

    Raises:
        ConfigurationError: it runs already, an argument cannot work, or this machine cannot run one.
    """
    if not _NAME.fullmatch(name):
        raise ConfigurationError(f"{name!r} cannot name a cluster: use lower-case letters, digits and hyphens.")
    if kubeconfig is not None and kubeconfig.exists():
        raise ConfigurationError(
            f"{kubeconfig} exists and may hold the way to other clusters: give --kubeconfig a file that does not exist."
        )
    resolved = [image_argument(image, Path.cwd()) for image in images]
    directory = state_directory() / name
    if (running := _read(directory)) is not None:
        raise ConfigurationError(
            f"A cluster {name!r} is running already (process {running.pid}, kubeconfig {running.kubeconfig}). "
            f"Use it, end it with: kpo-multicluster local down --name {name}, or give --name another name."
        )
    directory.mkdir(mode=0o700, exist_ok=True)
    target = (kubeconfig or directory / "kubeconfig").absolute()
    try:
        _launch(name, directory, target, resolved)
        started = _read(directory)
        if started is None:
            raise ConfigurationError(f"The cluster {name!r} ended right after it had started; see {directory / 'log'}.")
    except BaseException:
        if not is_held(directory / "lock"):
            _remove(directory)
        raise
    return started


def _launch(name: str, directory: Path, kubeconfig: Path, images: Sequence[str]) -> None:
    reader, writer = os.pipe()
    command = [
        sys.executable,
        "-m",
        "kpo_multicluster.testing.daemon",
        name,
        str(directory),
        str(kubeconfig),
        str(writer),
    ]
    try:
        with open(directory / "log", "ab") as log:
            process = subprocess.Popen(
                [*command, *images],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                pass_fds=[writer],
                start_new_session=True,
            )
    finally:
        os.close(writer)
    with os.fdopen(reader, encoding="utf-8") as answer:
        said = answer.read()
    process.wait()
    if said != "ready":
        log_text = (directory / "log").read_text(errors="replace").strip().splitlines()
        raise ConfigurationError(said or f"The cluster {name!r} could not start: {' '.join(log_text[-1:])}")


def down(name: str) -> bool:
    """Ends a cluster with all its pods, and removes what it left; gives back whether it ran.

    Raises:
        ConfigurationError: its process does not end.
    """
    directory = state_directory() / name
    running = _read(directory)
    if running is not None:
        _end(running)
    _remove(directory)
    return running is not None


def _end(cluster: LocalCluster) -> None:
    # While it holds its lock, the process id is its own; from then on this descriptor stands for it.
    try:
        process = os.pidfd_open(cluster.pid)
    except ProcessLookupError:
        return
    try:
        for number in (signal.SIGTERM, signal.SIGKILL):
            signal.pidfd_send_signal(process, number)
            if select.select([process], [], [], _STOP_SECONDS)[0]:
                return
    except ProcessLookupError:
        return
    finally:
        os.close(process)
    raise ConfigurationError(f"Process {cluster.pid} of the cluster {cluster.name!r} does not end.")


def status() -> list[LocalCluster]:
    """The clusters that run, sorted by name; what others left is removed."""
    found: list[LocalCluster] = []
    parent = state_directory()
    for directory in sorted(parent.iterdir()):
        cluster = _read(directory)
        if cluster is None:
            _remove(directory)
        else:
            found.append(cluster)
    if not found:
        _remove_empty(parent)
    return found


def _read(directory: Path) -> LocalCluster | None:
    """The cluster of a directory; None when its process is gone."""
    if not is_held(directory / "lock"):
        return None
    try:
        state = json.loads((directory / "state.json").read_text())
    except (OSError, ValueError):
        return None
    return LocalCluster(directory.name, state["pid"], state["server"], Path(state["kubeconfig"]), directory / "log")


def _remove(directory: Path) -> None:
    try:
        kubeconfig = Path(json.loads((directory / "state.json").read_text())["kubeconfig"])
        kubeconfig.unlink(missing_ok=True)
    except (OSError, ValueError, KeyError):
        pass
    shutil.rmtree(directory, ignore_errors=True)
    _remove_empty(directory.parent)


def _remove_empty(directory: Path) -> None:
    try:
        directory.rmdir()
    except OSError:
        return
