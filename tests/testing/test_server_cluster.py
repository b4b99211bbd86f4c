"""The cluster as a whole: how it starts, is reached, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import gc
import os
import stat
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

import kpo_multicluster.testing
from kpo_multicluster.errors import ConfigurationError
from kpo_multicluster.testing import EmbeddedCluster, merged_kubeconfig
from kpo_multicluster.testing.interfaces import NodeStore
from kpo_multicluster.testing.topology import NodeSpec

from .server_side import PODS, FakeNode, client_of, eventually, rig


async def test_nothing_is_left_of_a_cluster_that_was_used() -> None:
    with rig():  # what is made once in a process is made now
        pass
    gc.collect()
    threads, open_files = threading.active_count(), len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with rig() as made:
            async with client_of(made.cluster) as client:
                await client.create_pod("a")
                made.cluster.wait_until(lambda pods: "nodeName" in pods[0]["spec"])
                async with client.watch(), client.session.get(f"{PODS}/a/log?follow=true") as answer:
                    assert answer.status == 200
                    made.cluster.stop()
        assert made.node.closed
    gc.collect()
    await eventually(lambda: threading.active_count() <= threads)
    # The test's own client notices on its loop that its connections were closed.
    await eventually(lambda: len(os.listdir("/proc/self/fd")) <= open_files)


def test_a_cluster_starts_well_under_a_second() -> None:
    with EmbeddedCluster():
        pass
    # By this process's own time: what other programs take of a busy machine is not the cluster's.
    started = time.process_time()
    with EmbeddedCluster() as cluster:
        seconds = time.process_time() - started
        assert cluster.objects("nodes")[0]["metadata"]["name"] == "embedded-node"
    assert seconds < 1.0


async def test_several_clusters_know_nothing_of_each_other() -> None:
    with rig(name="alpha") as alpha, rig(name="beta") as beta:
        async with client_of(alpha.cluster) as client:
            await client.create_pod("a")
        assert (len(alpha.cluster.pods()), len(beta.cluster.pods())) == (1, 0)
        assert alpha.cluster.server != beta.cluster.server
        async with client_of(beta.cluster, alpha.cluster.token()) as stranger:
            assert (await stranger.call("GET", PODS))[0] == 401
        merged = merged_kubeconfig(alpha.cluster, beta.cluster)
    assert [entry["name"] for entry in merged["contexts"]] == ["alpha", "beta"]
    assert [entry["name"] for entry in merged["users"]] == ["alpha-admin", "beta-admin"]
    assert merged["current-context"] == "alpha"


def test_a_kubeconfig_file_is_its_owner_s(tmp_path: Path) -> None:
    with rig(name="gpu") as made:
        path = made.cluster.write_kubeconfig(tmp_path / "config", context="other")
        config = yaml.safe_load(path.read_text())
        assert config == made.cluster.kubeconfig(context="other")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert config["current-context"] == "other"
    assert list(tmp_path.iterdir()) == [path]


def test_an_unknown_user_has_no_kubeconfig() -> None:
    with rig() as made, pytest.raises(KeyError):
        made.cluster.kubeconfig(user="nobody")


def test_a_cluster_that_does_not_run_says_so() -> None:
    cluster = EmbeddedCluster("idle")
    assert repr(cluster) == "EmbeddedCluster('idle', not running)"
    cluster.stop()
    for use in (lambda: cluster.server, cluster.pods, cluster.compact):
        with pytest.raises(ConfigurationError, match="'idle' is not running: use it in a with block"):
            use()


def test_a_cluster_starts_once() -> None:
    with rig() as made, pytest.raises(ConfigurationError, match="was started before"):
        made.cluster.start()
    made.cluster.stop()


def test_a_node_that_cannot_start_fails_the_cluster() -> None:
    class Broken(FakeNode):
        async def start(self) -> None:
            raise ConfigurationError("this machine has no user namespaces: set kernel.unprivileged_userns_clone=1")

    threads = threading.active_count()
    with pytest.raises(ConfigurationError, match="unprivileged_userns_clone"):
        EmbeddedCluster(make_node=Broken).start()
    assert threading.active_count() == threads


def test_a_node_that_never_starts_does_not_hold_the_test_up(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stuck(FakeNode):
        async def start(self) -> None:
            await asyncio.Event().wait()

    monkeypatch.setattr("kpo_multicluster.testing.loop_thread._START_SECONDS", 0.1)
    threads = threading.active_count()
    with pytest.raises(ConfigurationError, match=r"'embedded' did not start within 0.1 s"):
        EmbeddedCluster(make_node=Stuck).start()
    assert threading.active_count() == threads


def test_a_node_that_cannot_close_is_told_of() -> None:
    class Broken(FakeNode):
        async def close(self) -> None:
            raise RuntimeError("a mount is busy")

    cluster = EmbeddedCluster(make_node=Broken).start()
    with pytest.raises(RuntimeError, match="a mount is busy"):
        cluster.stop()
    cluster.stop()


def test_waiting_ends_and_says_what_there_was() -> None:
    with rig() as made, pytest.raises(TimeoutError, match=r"not as wanted within 0.05 s: \['default'\]"):
        made.cluster.wait_until(lambda found: len(found) == 2, resource="namespaces", timeout_seconds=0.05)


def test_a_condition_that_fails_is_the_caller_s_to_see() -> None:
    def fails(pods: list[dict[str, Any]]) -> bool:
        raise ZeroDivisionError

    with rig() as made, pytest.raises(ZeroDivisionError):
        made.cluster.wait_until(fails)


async def test_all_pods_can_be_removed_at_once() -> None:
    with rig() as made:
        async with client_of(made.cluster) as client:
            await asyncio.gather(*(client.create_pod(name) for name in "abc"))
        made.cluster.delete_all_pods()
        assert made.cluster.pods() == []


async def test_it_can_be_used_from_within_a_loop_of_the_test_s() -> None:
    with rig() as made:
        assert await asyncio.to_thread(made.cluster.pods) == made.cluster.pods() == []


async def test_nodes_are_made_for_what_is_declared() -> None:
    with rig(nodes=[NodeSpec("a", ready=False), NodeSpec("b", capacity={"nvidia.com/gpu": "2"})]) as made:
        first, second = made.cluster.objects("nodes")
        assert set(made.nodes) == {"a", "b"}
    assert first["spec"]["taints"] == [{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}]
    assert second["status"]["allocatable"]["nvidia.com/gpu"] == "2"
    assert second["status"]["conditions"][0]["status"] == "True"


def test_every_namespace_has_what_controllers_put_there() -> None:
    with rig(namespaces=("default", "team")) as made:
        made.cluster.create_namespace("late")
        accounts = [item["metadata"]["namespace"] for item in made.cluster.objects("serviceaccounts")]
        (bundle,) = made.cluster.objects("configmaps", "late")
        assert bundle["data"]["ca.crt"] == made.cluster.ca_pem
    assert accounts == ["default", "late", "team"]


def test_the_history_must_hold_something() -> None:
    with pytest.raises(ValueError, match="history= is the number of changes"):
        EmbeddedCluster(history=0)


def test_the_package_offers_its_names_without_importing_them() -> None:
    assert kpo_multicluster.testing.NodeSpec is NodeSpec
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        kpo_multicluster.testing.Nothing  # noqa: B018


def test_a_maker_of_nodes_is_given_the_store_and_the_declaration() -> None:
    seen: list[tuple[NodeStore, NodeSpec]] = []

    def make(store: NodeStore, spec: NodeSpec) -> FakeNode:
        seen.append((store, spec))
        return FakeNode(store, spec)

    with EmbeddedCluster(make_node=make, nodes=[NodeSpec("n")]):
        ((store, spec),) = seen
        assert store.get("namespaces", "", "default") is not None
        assert spec == NodeSpec("n")
