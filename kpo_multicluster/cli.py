"""The `kpo-multicluster` command."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kpo_multicluster import __version__
from kpo_multicluster.errors import ConfigurationError, KpoMulticlusterError

if TYPE_CHECKING:
    from kpo_multicluster.cluster import ClusterRef
    from kpo_multicluster.doctor.report import Examination
    from kpo_multicluster.testing.local_cluster import LocalCluster

_DEFAULT_NAME = "embedded"
_FAILED = 1
_MISUSED = 2


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; gives back the exit code: 0 well, 1 failed or not running, 2 misused."""
    arguments = _parser().parse_args(argv)
    try:
        code: int = arguments.run(arguments)
    except KpoMulticlusterError as error:
        print(f"kpo-multicluster: {error}", file=sys.stderr)
        return _FAILED
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="kpo-multicluster", description="Pods on any number of Kubernetes clusters.")
    parser.add_argument("--version", action="version", version=f"kpo-multicluster {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for add in (_add_doctor, _add_local, _add_reap):
        add(commands)
    return parser


def _add_doctor(commands: Any) -> None:
    from kpo_multicluster.doctor.command import add_arguments

    doctor = _added(
        commands,
        "doctor",
        "walk the way to a cluster, and say what is in it",
        "Walks the way to a cluster: connection, credentials, endpoint, TLS, authentication, permissions. Each step "
        "tells what it found, and what to do next. Nothing is created, and nothing secret is shown. Exit code: 0 when "
        "pods can be run there (there may be warnings), 1 when a step failed, 2 when misused.",
        run=_doctor,
    )
    add_arguments(doctor)


def _added(commands: Any, name: str, short: str, long: str, *, run: Callable[..., int]) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=short, description=long)
    parser.set_defaults(run=run)
    return parser


def _doctor(arguments: argparse.Namespace) -> int:
    from kpo_multicluster.cli_cluster import ref_of

    try:
        ref = ref_of(arguments)
    except ConfigurationError as error:
        print(f"kpo-multicluster doctor: {error}", file=sys.stderr)
        return _MISUSED
    examination = _examined(arguments, ref)
    print(json.dumps(examination.as_json(), indent=2) if arguments.json else examination)
    return 0 if examination.well else _FAILED


def _examined(arguments: argparse.Namespace, ref: ClusterRef | None) -> Examination:
    from kpo_multicluster.cli_cluster import airflow_imports, asks_airflow

    limits: Any = {"namespace": arguments.namespace, "within_seconds": arguments.timeout_seconds}
    if ref is None or asks_airflow(ref):
        with airflow_imports():
            from kpo_multicluster.hooks.kubernetes import KubernetesHook

            return KubernetesHook(arguments.connection, cluster=ref).examine(**limits)
    from kpo_multicluster.doctor.examination import Subject, examine
    from kpo_multicluster.hooks.clusters import ChosenCluster

    return examine(lambda: Subject(ref, ChosenCluster(ref).explain()), **limits)


def _add_reap(commands: Any) -> None:
    from kpo_multicluster.cli_reap import add_arguments, run

    reap = _added(
        commands,
        "reap",
        "find node groups and pods that no one needs any more, and remove them",
        "Lists the node groups and pods of a cluster that were made by kpo-multicluster, and which of them are to go: "
        "those whose run has ended, as Airflow tells or as --run says, and of the others those whose own end has "
        "passed or that are older than --older-than, unless Airflow tells that their run is under way. With --delete "
        "these are removed. Nothing else is ever touched. Exit code: 0 well, 1 when something failed, 2 when misused.",
        run=run,
    )
    add_arguments(reap)


def _add_local(commands: Any) -> None:
    local = commands.add_parser(
        "local",
        help="an embedded cluster on this machine, without Docker or Kubernetes",
        description="Runs embedded clusters in the background: an API server on loopback whose pods are processes of "
        "this machine. Images are not pulled; an image's entrypoint is what --image says.",
    )
    actions = local.add_subparsers(title="actions", metavar="ACTION", required=True)
    starter = actions.add_parser("up", help="start one, and print how to reach it")
    _add_name(starter, "start")
    starter.add_argument(
        "--image",
        action="append",
        default=[],
        metavar="NAME=DIR|COMMAND",
        help="what runs when a pod names this image: a directory with a Dockerfile.local or a Dockerfile, or a "
        "command; may be repeated",
    )
    starter.add_argument("--kubeconfig", type=Path, metavar="PATH", help="write the kubeconfig to this new file")
    starter.set_defaults(run=_local_up)
    ender = actions.add_parser("down", help="end one with all its pods")
    _add_name(ender, "end")
    ender.set_defaults(run=_local_down)
    shower = actions.add_parser("status", help="show those that run")
    shower.add_argument("--name", metavar="NAME", help="show this one only; exit 1 when it does not run")
    shower.set_defaults(run=_local_status)


def _add_name(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument(
        "--name", default=_DEFAULT_NAME, metavar="NAME", help=f"of the cluster to {what} (default: %(default)s)"
    )


def _local_up(arguments: argparse.Namespace) -> int:
    from kpo_multicluster.testing import local_cluster

    _show(local_cluster.up(arguments.name, arguments.image, arguments.kubeconfig))
    return 0


def _local_down(arguments: argparse.Namespace) -> int:
    from kpo_multicluster.testing import local_cluster

    ran = local_cluster.down(arguments.name)
    print(f"Cluster {arguments.name!r} is down." if ran else f"No cluster {arguments.name!r} is running.")
    return 0


def _local_status(arguments: argparse.Namespace) -> int:
    from kpo_multicluster.testing import local_cluster

    found = [cluster for cluster in local_cluster.status() if arguments.name in (None, cluster.name)]
    for cluster in found:
        _show(cluster)
    if not found:
        print(f"No cluster {arguments.name!r} is running." if arguments.name else "No cluster is running.")
    return _FAILED if arguments.name and not found else 0


def _show(cluster: LocalCluster) -> None:
    print(f"Cluster {cluster.name!r} is up at {cluster.server} (process {cluster.pid}, log {cluster.log}).")
    print(f"export KUBECONFIG={shlex.quote(str(cluster.kubeconfig))}")


if __name__ == "__main__":
    sys.exit(main())
