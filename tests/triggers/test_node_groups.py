"""What a triggerer that waits for a node group tells of its own troubles."""

from __future__ import annotations

import socket
import time

from kpo_multicluster.clouds import gke
from kpo_multicluster.hooks.kubernetes import KubernetesHook
from kpo_multicluster.hooks.node_groups import NodeGroupWait
from kpo_multicluster.node_groups.group import Change
from kpo_multicluster.pods.failures import failure_from_json
from kpo_multicluster.triggers.clusters import stored_cluster
from kpo_multicluster.triggers.node_groups import NodeGroupTrigger

from ..operators.deferring import first_event


async def test_what_the_triggerer_lacks_is_told_with_its_host() -> None:
    ref = gke("ml", location="europe-west1", project="my-project", key_file="/no/such/key")
    wait = NodeGroupWait("gpu", Change("create", "gpu").to_json(), time.time() + 60, see_nodes=False)
    event = await first_event(NodeGroupTrigger(stored_cluster(KubernetesHook(cluster=ref)), wait.to_json()))
    failure = str(failure_from_json(event.payload["failure"]))
    assert "/no/such/key" in failure
    assert f"(In the triggerer on host {socket.gethostname()}.)" in failure
