"""The process of one embedded cluster in the background; started by `local_cluster.up`, ended by SIGTERM."""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from kpo_multicluster.errors import ConfigurationError, KpoMulticlusterError
from kpo_multicluster.testing.cluster import EmbeddedCluster
from kpo_multicluster.testing.node_images import ImageSource
from kpo_multicluster.testing.process_lock import hold


def image_source(text: str) -> tuple[str, ImageSource]:
    """An image and what it consists of, from `NAME=DIR` or `NAME=COMMAND`.

    Raises:
        ConfigurationError: the directory declares no image that can run here.
    """
    name, _, source = text.partition("=")
    if Path(source).is_dir():
        return name, ImageSource.from_directory(source)
    return name, ImageSource.from_command(*shlex.split(source))


def main(argv: Sequence[str]) -> int:
    """Runs a cluster until SIGTERM or SIGINT.

    Args:
        argv: the cluster's name, its directory, where to write its kubeconfig, the descriptor to say `ready` or what
            went wrong on, and images.
    """
    name, directory, kubeconfig, answer = argv[0], Path(argv[1]), Path(argv[2]), int(argv[3])
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    os.set_inheritable(answer, False)
    with open(directory / "lock", "wb") as lock:
        if hold(lock):
            problem = _serve(name, directory, kubeconfig, answer, argv[4:], stop)
        else:
            problem = f"Another process is starting a cluster {name!r} just now."
    # Said once the lock is let go of, so that whoever hears it may clear up.
    if problem:
        _say(answer, problem)
    return 1 if problem else 0


def _serve(
    name: str, directory: Path, kubeconfig: Path, answer: int, images: Sequence[str], stop: threading.Event
) -> str:
    try:
        with EmbeddedCluster(name, images=dict(map(image_source, images))) as cluster:
            _announce(cluster, directory, kubeconfig)
            _say(answer, "ready")
            stop.wait()
    except KpoMulticlusterError as error:
        return str(error)
    return ""


def _announce(cluster: EmbeddedCluster, directory: Path, kubeconfig: Path) -> None:
    try:
        cluster.write_kubeconfig(kubeconfig)
    except OSError as error:
        raise ConfigurationError(f"The kubeconfig cannot be written to {kubeconfig}: {error.strerror}.") from error
    state = {"pid": os.getpid(), "server": cluster.server, "kubeconfig": str(kubeconfig)}
    (directory / "state.json").write_text(json.dumps(state))


def _say(descriptor: int, text: str) -> None:
    os.write(descriptor, text.encode())
    os.close(descriptor)


if __name__ == "__main__":
    # The process that was started ends, so that whoever started it need not stay to bury this one.
    if os.fork():
        os._exit(0)
    sys.exit(main(sys.argv[1:]))
