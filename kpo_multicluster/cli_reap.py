"""`kpo-multicluster reap`: removes what runs of DAGs have left behind on a cluster."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from kpo_multicluster.cli_cluster import airflow_imports, asks_airflow, ref_of
from kpo_multicluster.doctor.command import add_cluster
from kpo_multicluster.errors import ConfigurationError, KpoMulticlusterError

if TYPE_CHECKING:
    from kpo_multicluster.auth.connections import Connections
    from kpo_multicluster.cluster import ClusterRef
    from kpo_multicluster.hooks.dag_runs import AirflowApi
    from kpo_multicluster.reaping.leftovers import RunState
    from kpo_multicluster.reaping.reap import Place, Reaped

_FAILED, _MISUSED = 1, 2
_SPAN = re.compile(r"(\d+(?:\.\d+)?)(s|m|h|d)")
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_NODE_GROUPS, _PODS = "node-groups", "pods"
_NOT_ASKED = (
    "kpo-multicluster reap: Airflow was not asked which runs have ended, as there is no --airflow-url: what is to go "
    "is told by its age and its own end, and by --run."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what names a cluster, and what of it is to go."""
    parser.usage = (
        "kpo-multicluster reap (CONN_ID | --eks NAME | --gke NAME | --aks NAME | --kubeconfig PATH | --in-cluster) "
        "[OPTION ...]"
    )
    add_cluster(parser, namespace="to look for pods in; default all")
    parser.add_argument("--only", choices=(_NODE_GROUPS, _PODS), help="leave the others out")
    parser.add_argument(
        "--airflow-url", metavar="URL", help="of Airflow's API server, which is asked which runs have ended"
    )
    parser.add_argument(
        "--airflow-token", metavar="env:NAME", help="the environment variable with a token for it (JWT)"
    )
    parser.add_argument(
        "--older-than",
        type=_seconds,
        metavar="SPAN",
        help="what was made longer ago than this, such as 90m, 6h or 2d, unless its run is known to be under way",
    )
    parser.add_argument(
        "--run",
        action="append",
        default=[],
        dest="runs",
        metavar="DAG/RUN",
        help="what was made for this run, as it has ended, unless Airflow tells otherwise; may be repeated",
    )
    parser.add_argument("--delete", action="store_true", help="remove it; otherwise only tell")
    parser.add_argument("--wait", action="store_true", help="with --delete: until the node groups are gone")
    parser.add_argument("--json", action="store_true", help="write JSON in place of text")


def run(arguments: argparse.Namespace) -> int:
    """Lists what there is, and removes what is to go; gives back the exit code."""
    try:
        _check(arguments)
        ref, airflow = ref_of(arguments), _airflow(arguments)
    except ConfigurationError as error:
        print(f"kpo-multicluster reap: {error}", file=sys.stderr)
        return _MISUSED
    if airflow is None:
        print(_NOT_ASKED, file=sys.stderr)
    place = _place(arguments, ref)
    found = asyncio.run(_reap(arguments, place, airflow))
    _tell(found, place, as_json=arguments.json)
    for trouble in found.troubles:
        print(f"kpo-multicluster reap: {trouble}", file=sys.stderr)
    return _FAILED if found.errors else 0


def _check(arguments: argparse.Namespace) -> None:
    if arguments.wait and not arguments.delete:
        raise ConfigurationError("--wait goes with --delete.")
    if (arguments.airflow_url is None) != (arguments.airflow_token is None):
        raise ConfigurationError("--airflow-url and --airflow-token go together.")
    for run in arguments.runs:
        if not all(run.partition("/")):
            raise ConfigurationError(f"--run takes the ids of a DAG and of its run, as in my_dag/my_run, not {run!r}.")


def _airflow(arguments: argparse.Namespace) -> AirflowApi | None:
    """Airflow's API, if it is to be asked."""
    from kpo_multicluster.hooks.dag_runs import AirflowApi

    if arguments.airflow_url is None:
        return None
    start, _, name = arguments.airflow_token.partition("env:")
    if start or not name:
        raise ConfigurationError(
            "--airflow-token on the command line can be read by others on this host: put it into an environment "
            "variable, and give --airflow-token env:NAME."
        )
    if not os.environ.get(name):
        raise ConfigurationError(f"The environment variable {name}, named by --airflow-token, is not set or is empty.")
    return AirflowApi(arguments.airflow_url, os.environ[name], source=f"the environment variable {name}")


def _place(arguments: argparse.Namespace, ref: ClusterRef | None) -> Place:
    from kpo_multicluster.auth.connections import OUTSIDE_AIRFLOW

    if ref is not None and not asks_airflow(ref):
        return _place_of(arguments, ref, OUTSIDE_AIRFLOW)
    with airflow_imports():
        from kpo_multicluster.hooks.connections import AirflowConnections
        from kpo_multicluster.hooks.kubernetes import KubernetesHook

        ref = KubernetesHook(arguments.connection).cluster_ref if ref is None else ref
        return _place_of(arguments, ref, AirflowConnections())


def _place_of(arguments: argparse.Namespace, ref: ClusterRef, connections: Connections) -> Place:
    from kpo_multicluster.auth.registry import resolve
    from kpo_multicluster.reaping.reap import place_in

    return place_in(
        ref,
        connections,
        node_groups=None if arguments.only is None else arguments.only == _NODE_GROUPS,
        access=None if arguments.only == _NODE_GROUPS else lambda: resolve(ref, connections=connections),
        namespace=arguments.namespace,
    )


async def _reap(arguments: argparse.Namespace, place: Place, airflow: AirflowApi | None) -> Reaped:
    from kpo_multicluster.node_groups.group import Change
    from kpo_multicluster.reaping.groups import KIND
    from kpo_multicluster.reaping.leftovers import ReapRule
    from kpo_multicluster.reaping.reap import reap

    rule = ReapRule(arguments.older_than, frozenset(arguments.runs))

    async def states(runs: list[str]) -> Mapping[str, RunState]:
        return {} if airflow is None else await asyncio.to_thread(airflow.states, runs)

    found = await reap(place, rule, states=states, delete=arguments.delete)
    if not arguments.wait or place.groups is None:
        return found
    names = [one.what.name for one in found.judged if one.removed and one.what.kind == KIND]
    waits = (place.groups.until_gone(Change("delete", name)) for name in names)
    ends = await asyncio.gather(*waits, return_exceptions=True)
    for error in ends:
        if error is not None and not isinstance(error, KpoMulticlusterError):
            raise error
    # One that does not go keeps neither the others from being waited for nor all from being told of.
    stuck = [error for error in ends if isinstance(error, KpoMulticlusterError)]
    return replace(found, troubles=(*found.troubles, *stuck))


def _tell(found: Reaped, place: Place, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps([one.to_json() for one in found.judged], indent=2))
        return
    for one in found.judged:
        print(one)
    if not found.judged and not found.troubles:
        print(f"Nothing that kpo-multicluster made is left on the {place.where}.")


def _seconds(text: str) -> float:
    match = _SPAN.fullmatch(text)
    if match is None:
        raise argparse.ArgumentTypeError("must be a span such as 90m, 6h or 2d")
    return float(match[1]) * _UNITS[match[2]]
