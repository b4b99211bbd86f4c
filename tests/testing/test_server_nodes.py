"""Nodes that are taken out of service."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kpo_multicluster.testing import NodeSpec

from .server_side import client_of, rig

TWO = (NodeSpec("a"), NodeSpec("b"))
ON_A = {"nodeSelector": {"kubernetes.io/hostname": "a"}}


def reasons(pods: list[dict[str, Any]], name: str, kind: str) -> list[str]:
    """Reasons of one kind of condition of a pod."""
    conditions = [c for pod in pods if pod["metadata"]["name"] == name for c in pod["status"].get("conditions", ())]
    return [condition.get("reason", "") for condition in conditions if condition["type"] == kind]


async def test_a_drained_node_has_no_pods_and_is_given_none() -> None:
    with rig(nodes=TWO) as made:
        cluster, node = made.cluster, made.nodes["a"]
        node.removes = False
        async with client_of(cluster) as client:
            await client.create_pod("stays", nodeSelector={"kubernetes.io/hostname": "b"})
            await client.create_pod("goes", **ON_A)
            await asyncio.to_thread(cluster.wait_until, lambda pods: all("nodeName" in p["spec"] for p in pods))
            drained = asyncio.create_task(asyncio.to_thread(cluster.drain_node, "a"))
            pods = await asyncio.to_thread(
                cluster.wait_until, lambda pods: any("deletionTimestamp" in pod["metadata"] for pod in pods)
            )
            assert reasons(pods, "goes", "DisruptionTarget") == ["EvictionByEvictionAPI"]
            assert reasons(pods, "stays", "DisruptionTarget") == []
            (goes,) = [pod for pod in pods if pod["metadata"]["name"] == "goes"]
            # As long as it asked for.
            assert goes["metadata"]["deletionGracePeriodSeconds"] == 30
            assert not drained.done()
            status, _ = await client.call("DELETE", "/api/v1/namespaces/default/pods/goes?gracePeriodSeconds=0")
            assert status == 200
            await drained

            await client.create_pod("late", **ON_A)
            pods = await asyncio.to_thread(cluster.wait_until, lambda pods: reasons(pods, "late", "PodScheduled") != [])
        assert [pod["metadata"]["name"] for pod in pods] == ["late", "stays"]
        assert reasons(pods, "late", "PodScheduled") == ["Unschedulable"]


async def test_a_pod_that_takes_its_time_is_told_of() -> None:
    with rig(nodes=TWO) as made:
        made.nodes["a"].removes = False
        async with client_of(made.cluster) as client:
            await client.create_pod("slow", **ON_A)
            await asyncio.to_thread(made.cluster.wait_until, lambda pods: "nodeName" in pods[0]["spec"])
        with pytest.raises(TimeoutError, match="slow"):
            await asyncio.to_thread(made.cluster.drain_node, "a", timeout_seconds=0.1)


def test_a_node_that_is_not_there_cannot_be_drained() -> None:
    with rig(nodes=TWO) as made, pytest.raises(KeyError, match="c"):
        made.cluster.drain_node("c")
