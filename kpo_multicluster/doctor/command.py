"""The arguments of `kpo-multicluster doctor`."""

from __future__ import annotations

import argparse
from typing import Any

from kpo_multicluster.clouds import AksOptions, EksOptions, GkeOptions
from kpo_multicluster.doctor.report import WITHIN_SECONDS
from kpo_multicluster.errors import ConfigurationError

_CLOUDS = {"eks": EksOptions, "gke": GkeOptions, "aks": AksOptions}
_NAMED = {"eks": "cluster_name", "gke": "cluster_name", "aks": "cluster_name", "kubeconfig": "path"}
# Others of this host see a command line.
_BY_REFERENCE_ONLY = ("key_json", "client_secret", "certificate_password")
SOURCE = "the command line"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what names a cluster, and how it is to be examined."""
    parser.usage = (
        "kpo-multicluster doctor (CONN_ID | --eks NAME | --gke NAME | --aks NAME | --kubeconfig PATH | --in-cluster) "
        "[OPTION ...]"
    )
    add_cluster(parser, namespace="where pods are to run; default that of the cluster")
    parser.add_argument(
        "--timeout-seconds",
        type=_seconds,
        default=WITHIN_SECONDS,
        metavar="N",
        help="for all of it (default: %(default)g)",
    )
    parser.add_argument("--json", action="store_true", help="write JSON in place of text")


def add_cluster(parser: argparse.ArgumentParser, *, namespace: str) -> None:
    """Adds what names a cluster: options of clouds go by the names they have in Python.

    Args:
        parser: to add to.
        namespace: what `--namespace` is for.
    """
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument(
        "connection", nargs="?", metavar="CONN_ID", help="an Airflow connection, as in kubernetes_conn_id"
    )
    for kind in _CLOUDS:
        which.add_argument(f"--{kind}", metavar="NAME", help=f"a cluster of {kind.upper()}")
    which.add_argument("--kubeconfig", metavar="PATH", help="a cluster of this kubeconfig")
    which.add_argument("--in-cluster", action="store_true", help="the cluster this process runs in")
    parser.add_argument("--context", metavar="NAME", help="of the kubeconfig; default its current one")
    parser.add_argument("--namespace", metavar="NAME", help=namespace)
    options = parser.add_argument_group(
        "options of clouds", "those of eks(), gke() and aks() in kpo_multicluster.clouds"
    )
    for name, kinds in sorted(_options().items()):
        options.add_argument(f"--{name.replace('_', '-')}", metavar="VALUE", help=f"of {', '.join(kinds)}")


def part_of(arguments: argparse.Namespace) -> dict[str, Any] | None:
    """The cluster as a connection would have it written down; None where a connection names it.

    Raises:
        ConfigurationError: an option does not belong to that kind of cluster, or is a secret itself.
    """
    given = {
        name: getattr(arguments, name) for name in ("context", *_options()) if getattr(arguments, name) is not None
    }
    for name in _BY_REFERENCE_ONLY:
        if not str(given.get(name, "env:")).startswith("env:"):
            flag = f"--{name.replace('_', '-')}"
            raise ConfigurationError(
                f"{flag} on the command line can be read by others on this host: put it into an environment variable, "
                f"and give {flag} env:NAME."
            )
    kind = next((kind for kind in (*_CLOUDS, "kubeconfig") if getattr(arguments, kind) is not None), None)
    if kind is None and not arguments.in_cluster:
        if given:
            raise ConfigurationError(f"A connection takes no {_flags(given)}: write it into the connection.")
        return None
    if kind is None:
        return {"auth": "in_cluster", **given}
    return {"auth": kind, _NAMED[kind]: getattr(arguments, kind), **given}


def _options() -> dict[str, list[str]]:
    """Options of clouds, each with the kinds that take it."""
    found: dict[str, list[str]] = {}
    for kind, schema in _CLOUDS.items():
        for name in schema.__annotations__:
            if name != "namespace":
                found.setdefault(name, []).append(kind)
    return found


def _flags(names: Any) -> str:
    return ", ".join(f"--{name.replace('_', '-')}" for name in names)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 3600:
        raise argparse.ArgumentTypeError("must be a number of seconds, more than 0 and at most 3600")
    return value
