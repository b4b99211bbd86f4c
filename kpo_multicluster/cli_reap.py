"""`kpo-multicluster reap`: removes node groups that no one needs any more."""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import sys
from typing import TYPE_CHECKING, Any

from kpo_multicluster.cli_cluster import airflow_imports, asks_airflow, ref_of
from kpo_multicluster.doctor.command import add_cloud_options, add_clouds

if TYPE_CHECKING:
    from kpo_multicluster.node_groups.group import Cloud
    from kpo_multicluster.node_groups.reaping import Reaped, ReapRule

_FAILED, _MISUSED = 1, 2
_SPAN = re.compile(r"(\d+(?:\.\d+)?)(s|m|h|d)")
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what names a cluster, and which of its node groups are to go."""
    parser.usage = "kpo-multicluster reap (CONN_ID | --eks NAME | --gke NAME | --aks NAME) [OPTION ...]"
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("connection", nargs="?", metavar="CONN_ID", help="an Airflow connection that names the cluster")
    add_clouds(which)
    parser.add_argument(
        "--older-than", type=_seconds, metavar="SPAN", help="those made longer ago than this, such as 90m, 6h or 2d"
    )
    parser.add_argument(
        "--run",
        action="append",
        default=[],
        dest="runs",
        metavar="DAG/RUN",
        help="those made for this run, as it has ended; may be repeated",
    )
    parser.add_argument("--delete", action="store_true", help="remove them; otherwise only tell")
    parser.add_argument("--wait", action="store_true", help="with --delete: until they are gone")
    parser.add_argument("--json", action="store_true", help="write JSON in place of text")
    add_cloud_options(parser)
    parser.set_defaults(kubeconfig=None, in_cluster=False, context=None)


def run(arguments: argparse.Namespace) -> int:
    """Lists the groups, and removes those that are to go; gives back the exit code."""
    from kpo_multicluster.node_groups.reaping import ReapRule

    if arguments.wait and not arguments.delete:
        print("kpo-multicluster reap: --wait goes with --delete.", file=sys.stderr)
        return _MISUSED
    cloud = _cloud(arguments)
    rule = ReapRule(arguments.older_than, frozenset(arguments.runs))
    found = asyncio.run(_reap(cloud, rule, delete=arguments.delete, wait=arguments.wait))
    if arguments.json:
        print(json.dumps([_as_json(one) for one in found], indent=2))
    else:
        for one in found:
            print(one)
        if not found:
            print(f"No node group of the {cloud.where} was made by kpo-multicluster.")
    return _FAILED if any(one.error is not None for one in found) else 0


async def _reap(cloud: Cloud, rule: ReapRule, *, delete: bool, wait: bool) -> list[Reaped]:
    from kpo_multicluster.node_groups.group import Change
    from kpo_multicluster.node_groups.lifecycle import NodeGroups
    from kpo_multicluster.node_groups.reaping import reap

    groups = NodeGroups(cloud)
    found = [one async for one in reap(groups, rule, delete=delete)]
    if wait:
        names = [one.group.name for one in found if one.deleted]
        await asyncio.gather(*(groups.until_gone(Change("delete", name)) for name in names))
    return found


def _cloud(arguments: argparse.Namespace) -> Cloud:
    from kpo_multicluster.node_groups.clouds import open_cloud

    ref = ref_of(arguments)
    if ref is not None and not asks_airflow(ref):
        return open_cloud(ref)
    with airflow_imports():
        from kpo_multicluster.hooks.connections import AirflowConnections
        from kpo_multicluster.hooks.kubernetes import KubernetesHook

        ref = KubernetesHook(arguments.connection).cluster_ref if ref is None else ref
        return open_cloud(ref, AirflowConnections())


def _seconds(text: str) -> float:
    match = _SPAN.fullmatch(text)
    if match is None:
        raise argparse.ArgumentTypeError("must be a span such as 90m, 6h or 2d")
    return float(match[1]) * _UNITS[match[2]]


def _as_json(one: Reaped) -> dict[str, Any]:
    made = one.group.ownership
    return {
        "name": one.group.name,
        "state": one.group.state,
        "run": made.run if made is not None else None,
        "age_seconds": round(one.age_seconds),
        "reason": one.reason,
        "deleted": one.deleted,
        "error": str(one.error) if one.error is not None else None,
    }
