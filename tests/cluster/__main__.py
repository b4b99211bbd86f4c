"""The command behind `make cluster-up`, `cluster-down`, `cluster-status` and `test-cluster`."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from . import bed, build, machine
from .errors import ClusterError, NotPossibleHereError
from .layout import (
    CLUSTER_NAMES,
    CONTEXTS_VARIABLE,
    KUBECONFIG_VARIABLE,
    MISSING_VARIABLE,
    REPOSITORY,
    ClusterLayout,
)


def main(command_line: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is 3 when this machine cannot run the clusters, 1 for any other failure."""
    parser = argparse.ArgumentParser(prog="python -m tests.cluster", description=__doc__)
    commands = parser.add_subparsers(required=True)
    for name, command in (("up", _up), ("down", _down), ("status", _status)):
        commands.add_parser(name).set_defaults(run=command)
    test = commands.add_parser("test", help="bring the clusters up, run the tests that need them, take them down")
    test.add_argument("--contexts", help="two contexts of a kubeconfig to test on instead, joined by a comma")
    test.add_argument("--kubeconfig", help="the file that they are in; ~/.kube/config by default")
    test.add_argument("pytest", nargs="*", help="arguments for pytest, after --")
    test.set_defaults(run=_test)
    arguments = parser.parse_args(command_line)
    try:
        return int(arguments.run(arguments))
    except NotPossibleHereError as error:
        print(f"clusters: not possible here: {error}", file=sys.stderr)
        return NotPossibleHereError.EXIT_CODE
    except ClusterError as error:
        print(f"clusters: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("clusters: interrupted", file=sys.stderr)
        return 130


def _up(_: argparse.Namespace) -> int:
    machine.check_root()
    started = time.monotonic()
    new = bed.up(_say)
    print(f"clusters: {f'up after {time.monotonic() - started:.1f} s' if new else 'already up'}")
    _describe()
    return 0


def _down(_: argparse.Namespace) -> int:
    machine.check_root()
    started = time.monotonic()
    print(f"clusters: down after {time.monotonic() - started:.1f} s" if bed.down(_say) else "clusters: were not up")
    return 0


def _status(_: argparse.Namespace) -> int:
    machine.check_root()
    parts = bed.health()
    if not parts:
        print("clusters: not up; `make cluster-up` brings them up")
        return 1
    for part in parts:
        print(f"  {part.cluster:<6} {part.part:<28} {part.pid or '-':>8}  {part.fault or 'ok'}")
    _describe()
    return 1 if any(part.fault for part in parts) else 0


def _test(arguments: argparse.Namespace) -> int:
    if arguments.contexts:
        chosen = {CONTEXTS_VARIABLE: arguments.contexts, KUBECONFIG_VARIABLE: arguments.kubeconfig or ""}
        return _pytest(arguments.pytest, chosen)
    try:
        machine.check_root()
        new = bed.up(_say)
    except NotPossibleHereError as error:
        _say(f"not possible here: {error}")
        return _pytest(arguments.pytest, {MISSING_VARIABLE: str(error)})
    try:
        return _pytest(arguments.pytest, {})
    finally:
        if new:
            bed.down(_say)


def _pytest(arguments: list[str], environment: dict[str, str]) -> int:
    program = Path(sys.executable).with_name("pytest")
    command = [str(program), "-m", "cluster", *arguments]
    return subprocess.run(command, cwd=REPOSITORY, env={**os.environ, **environment}, check=False).returncode


def _describe() -> None:
    print(f"  kubeconfig  {bed.KUBECONFIG}")
    print(f"  contexts    {', '.join(CLUSTER_NAMES)}")
    print(f"  kubectl     {build.directory() / 'kubectl'}")
    for layout in bed.clusters().values():
        print(f"  {layout.name:<11} {layout.server}, logs in {layout.logs}, audit log {layout.audit_log}")
    _warn_of_proxy(bed.clusters())


def _warn_of_proxy(layouts: dict[str, ClusterLayout]) -> None:
    proxy = os.environ.get("HTTPS_PROXY") or os.environ.get("https_proxy")
    direct = os.environ.get("NO_PROXY") or os.environ.get("no_proxy") or ""
    hidden = [layout.host_address for layout in layouts.values() if layout.host_address not in direct]
    if proxy and hidden:
        print(
            f"  note        a proxy is set (HTTPS_PROXY); add {','.join(hidden)} to NO_PROXY to reach the API servers"
        )


def _say(text: str) -> None:
    print(f"clusters: {text}", flush=True)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    # Ended from outside, `up` removes what it made as it does after Ctrl-C.
    signal.signal(signal.SIGTERM, _interrupt)
    sys.exit(main())
