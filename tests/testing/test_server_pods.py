"""What the control plane does to pods: scheduling, deletion, namespaces, what nodes report."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from kpo_multicluster.testing.topology import NodeSpec

from .server_side import EVENTS, MERGE, PODS, Client, Rig, client_of, eventually, pod, rig

HERE = Path(__file__).parent
PLACEMENTS: dict[str, dict[str, Any]] = yaml.safe_load((HERE / "scheduler_cases.yaml").read_text())
PLACED: dict[str, list[dict[str, Any]]] = json.loads((HERE / "scheduler_answers.json").read_text())
RECORDED_CAPACITY = {"cpu": "2", "memory": "4Gi", "pods": "110"}


@pytest.fixture
def made() -> Iterator[Rig]:
    with rig() as made:
        yield made


@pytest.fixture
async def client(made: Rig) -> AsyncIterator[Client]:
    async with client_of(made.cluster) as client:
        yield client


def scheduled(pods: list[dict[str, Any]]) -> bool:
    return all(pod["status"].get("conditions") for pod in pods)


# ---- scheduling ----


@pytest.mark.parametrize("case", PLACEMENTS)
async def test_a_pod_is_placed_as_the_real_scheduler_places_it(case: str) -> None:
    nodes = [
        NodeSpec(
            node["name"],
            labels=node.get("labels", {}),
            taints=tuple(node.get("taints", ())),
            capacity={**RECORDED_CAPACITY, **node.get("capacity", {})},
            unschedulable=node.get("unschedulable", False),
        )
        for node in PLACEMENTS[case]["nodes"]
    ]
    with rig(nodes=nodes) as made:
        async with client_of(made.cluster) as client:
            for number, spec in enumerate(PLACEMENTS[case]["pods"]):
                await client.create_pod(f"p{number}", **spec)
                made.cluster.wait_until(scheduled)
        events = made.cluster.wait_until(
            lambda found: len(found) >= sum(bool(pod["event"]) for pod in PLACED[case]), resource="events"
        )
        pods = made.cluster.pods()
    for found, expected in zip(pods, PLACED[case], strict=True):
        (condition,) = found["status"]["conditions"]
        assert found["spec"].get("nodeName", "") == expected["node"]
        assert {key: value for key, value in condition.items() if "Time" not in key} == expected["condition"]
        name = found["metadata"]["name"]
        told = [
            [event["type"], event["reason"], event["message"].replace("default/", f"sch-{case.replace('_', '-')}/")]
            for event in events
            if event["involvedObject"]["name"] == name
        ]
        assert told == expected["event"]


async def test_a_pod_that_did_not_fit_is_placed_once_there_is_room() -> None:
    with rig(nodes=[NodeSpec("n1", capacity={"cpu": "1"})]) as made:
        async with client_of(made.cluster) as client:
            whole = {"containers": [{"name": "base", "image": "x", "resources": {"requests": {"cpu": "1"}}}]}
            await client.create_pod("a", **whole)
            made.cluster.wait_until(lambda pods: "nodeName" in pods[0]["spec"])
            await client.create_pod("b", **whole)
            made.cluster.wait_until(scheduled)
            await client.set_phase("a", "Succeeded")
            made.cluster.wait_until(lambda pods: all("nodeName" in pod["spec"] for pod in pods))
            reasons = [event["reason"] for event in made.cluster.events() if event["involvedObject"]["name"] == "b"]
    assert reasons == ["FailedScheduling", "Scheduled"]


async def test_a_node_that_joins_takes_what_waits_for_it(made: Rig, client: Client) -> None:
    await client.create_pod("a", nodeSelector={"gpu": "yes"})
    made.cluster.wait_until(scheduled)
    made.cluster.add_node(NodeSpec("gpu-node", labels={"gpu": "yes"}))
    made.cluster.wait_until(lambda pods: pods[0]["spec"].get("nodeName") == "gpu-node")
    await eventually(lambda: ("run", "a") in made.nodes["gpu-node"].calls)


async def test_a_node_that_is_created_by_request_is_not_ready_yet(made: Rig, client: Client) -> None:
    await client.call("POST", "/api/v1/nodes", {"metadata": {"name": "n2", "labels": {"gpu": "yes"}}})
    await client.create_pod("a", nodeSelector={"gpu": "yes"})
    (waiting,) = made.cluster.wait_until(scheduled)
    assert "untolerated taint" in waiting["status"]["conditions"][0]["message"]
    status, _ = await client.call("PATCH", "/api/v1/nodes/n2", {"spec": {"taints": None}}, type=MERGE)
    assert status == 200
    made.cluster.wait_until(lambda pods: pods[0]["spec"].get("nodeName") == "n2")


async def test_events_have_the_shape_of_their_source(made: Rig, client: Client) -> None:
    created = await bound(made, client)
    about = "spec.containers{base}"
    for _ in range(2):
        report = made.node.store.record_event(created, type="Warning", reason="BackOff", message="-", field_path=about)
        made.cluster._thread.call(report)
    scheduler, kubelet = (await client.get(EVENTS))["items"]
    assert (scheduler["reason"], scheduler["source"], scheduler["lastTimestamp"]) == ("Scheduled", {}, None)
    assert scheduler["eventTime"].count(".") == 1
    assert "count" not in scheduler
    assert (kubelet["count"], kubelet["eventTime"]) == (2, None)
    assert kubelet["source"] == {"component": "kubelet", "host": "embedded-node"}
    assert kubelet["involvedObject"]["fieldPath"] == "spec.containers{base}"
    assert kubelet["involvedObject"]["uid"] == created["metadata"]["uid"]


# ---- deletion ----


async def bound(made: Rig, client: Client, name: str = "a", **spec: Any) -> dict[str, Any]:
    await client.create_pod(name, **spec)
    pods = made.cluster.wait_until(lambda pods: all("nodeName" in pod["spec"] for pod in pods))
    return next(pod for pod in pods if pod["metadata"]["name"] == name)


async def test_a_deleted_pod_is_gone_once_its_node_says_so(made: Rig, client: Client) -> None:
    made.node.removes = False
    await bound(made, client)
    async with client.watch() as events:
        await events.next()
        status, body = await client.call("DELETE", f"{PODS}/a?gracePeriodSeconds=20")
        assert (status, body["metadata"]["deletionGracePeriodSeconds"]) == (200, 20)
        begun = await events.next() or {}
        assert (begun["type"], begun["object"]["metadata"]["deletionGracePeriodSeconds"]) == ("MODIFIED", 20)
        await eventually(lambda: ("stop", "a", 20) in made.node.calls)
        uid = body["metadata"]["uid"]
        made.cluster._thread.call(made.node.store.remove("default", "a", "another"))
        assert len(made.cluster.pods()) == 1
        made.cluster._thread.call(made.node.store.remove("default", "a", uid))
        last = [await events.next() or {} for _ in range(2)]
    assert [event["type"] for event in last] == ["MODIFIED", "DELETED"]
    assert last[0]["object"]["metadata"]["deletionGracePeriodSeconds"] == 0


async def test_a_grace_period_is_the_pod_s_own_and_can_only_shorten(made: Rig, client: Client) -> None:
    made.node.removes = False
    await bound(made, client, terminationGracePeriodSeconds=9)
    for query, grace in (("", 9), ("?gracePeriodSeconds=20", 9), ("?gracePeriodSeconds=4", 4), ("", 4)):
        _, body = await client.call("DELETE", f"{PODS}/a{query}")
        assert body["metadata"]["deletionGracePeriodSeconds"] == grace
    await eventually(lambda: [call[2] for call in made.node.calls if call[0] == "stop"] == [9, 4])
    status, _ = await client.call("DELETE", f"{PODS}/a", {"gracePeriodSeconds": 0})
    assert (status, made.cluster.pods()) == (200, [])
    await eventually(lambda: ("stop", "a", 0) in made.node.calls)


async def test_a_finished_pod_is_gone_at_once_and_its_node_told(made: Rig, client: Client) -> None:
    await bound(made, client)
    await client.set_phase("a", "Succeeded")
    status, _ = await client.call("DELETE", f"{PODS}/a")
    assert (status, made.cluster.pods()) == (200, [])
    await eventually(lambda: ("stop", "a", 0) in made.node.calls)


async def test_the_uid_guards_a_namesake(made: Rig, client: Client) -> None:
    first = await bound(made, client)
    await client.call("DELETE", f"{PODS}/a", {"gracePeriodSeconds": 0})
    await bound(made, client)
    status, body = await client.call("DELETE", f"{PODS}/a", {"preconditions": {"uid": first["metadata"]["uid"]}})
    assert (status, body["reason"]) == (409, "Conflict")
    assert len(made.cluster.pods()) == 1


async def test_a_pod_deleted_before_it_was_started_is_started_before_it_is_stopped(made: Rig, client: Client) -> None:
    await bound(made, client)
    await client.call("DELETE", f"{PODS}/a")
    made.cluster.wait_until(lambda pods: not pods)
    assert [call[0] for call in made.node.calls] == ["start", "run", "stop"]


async def test_a_node_that_fails_at_one_pod_goes_on_with_the_next(
    made: Rig, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(pod: dict[str, Any]) -> None:
        raise RuntimeError("no more processes")

    made.node.run_pod = fail  # type: ignore[method-assign]
    await bound(made, client)
    del made.node.run_pod
    await bound(made, client, "b")
    await eventually(lambda: ("run", "b") in made.node.calls)
    assert "could not take pod a" in caplog.text


async def test_a_namespace_takes_everything_in_it_along(made: Rig, client: Client) -> None:
    made.node.removes = False
    made.cluster.create_namespace("other")
    path = "/api/v1/namespaces/other"
    await client.call("POST", f"{path}/pods", pod("a"))
    (created,) = made.cluster.wait_until(lambda pods: "nodeName" in pods[0]["spec"])
    await client.call("POST", f"{path}/secrets", {"metadata": {"name": "s"}})
    status, body = await client.call("DELETE", path)
    assert (status, body["status"]["phase"]) == (200, "Terminating")
    status, body = await client.call("POST", f"{path}/pods", pod("b"))
    assert status == 403
    assert body["message"] == (
        'pods "b" is forbidden: unable to create new content in namespace other because it is being terminated'
    )
    assert body["details"]["causes"][0]["reason"] == "NamespaceTerminating"
    made.cluster._thread.call(made.node.store.remove("other", "a", created["metadata"]["uid"]))
    assert (await client.call("GET", path))[0] == 404
    assert made.cluster.objects("secrets", "other") == []


async def test_the_default_namespace_stays(client: Client) -> None:
    status, body = await client.call("DELETE", "/api/v1/namespaces/default")
    assert (status, body["reason"]) == (403, "Forbidden")


# ---- status and spec ----


async def test_a_status_keeps_what_a_kubelet_does_not_own(made: Rig, client: Client) -> None:
    created = await bound(made, client)
    uid = created["metadata"]["uid"]
    status = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
    made.cluster._thread.call(made.node.store.set_status("default", "a", uid, status))
    made.cluster._thread.call(made.node.store.set_status("default", "a", "another", {"phase": "Failed"}))
    (found,) = made.cluster.pods()
    assert (found["status"]["phase"], found["status"]["qosClass"]) == ("Running", "BestEffort")
    assert [condition["type"] for condition in found["status"]["conditions"]] == ["Ready", "PodScheduled"]


async def test_a_shorter_deadline_reaches_the_node(made: Rig, client: Client) -> None:
    await bound(made, client)
    body = {"spec": {"activeDeadlineSeconds": 60}}
    assert (await client.call("PATCH", f"{PODS}/a", body, type=MERGE))[0] == 200
    await eventually(lambda: ("update", 60) in made.node.calls)


async def test_a_pod_that_was_read_can_be_written_back(made: Rig, client: Client) -> None:
    await bound(made, client)
    read = await client.get(f"{PODS}/a")
    read["metadata"]["labels"] = {"already_checked": "True"}
    status, written = await client.call("PUT", f"{PODS}/a", read)
    assert (status, written["metadata"]["labels"]) == (200, {"already_checked": "True"})
    status, body = await client.call("PUT", f"{PODS}/a", read)
    assert (status, body["reason"]) == (409, "Conflict")
    read["metadata"]["resourceVersion"] = written["metadata"]["resourceVersion"]
    read["spec"]["hostNetwork"] = True
    status, body = await client.call("PUT", f"{PODS}/a", read)
    assert status == 422
    assert body["details"]["causes"][0]["message"].startswith(
        "Forbidden: pod updates may not change fields other than `spec.containers[*].image`"
    )


async def test_a_body_has_a_limit(client: Client) -> None:
    body = {"metadata": {"name": "c"}, "data": {"x": "y" * 3_200_000}}
    status, answer = await client.call("POST", "/api/v1/namespaces/default/configmaps", body)
    assert (status, answer["reason"]) == (413, "RequestEntityTooLarge")
    assert answer["message"] == "Request entity too large: limit is 3145728"


async def test_of_many_creations_of_one_name_one_succeeds(client: Client) -> None:
    answers = await asyncio.gather(*(client.call("POST", PODS, pod("a")) for _ in range(8)))
    assert sorted(status for status, _ in answers) == [201, *[409] * 7]


async def test_a_bulk_of_pods_is_placed_quickly(made: Rig, client: Client) -> None:
    await asyncio.gather(*(client.create_pod(f"p{number}") for number in range(100)))
    made.cluster.wait_until(lambda pods: all("nodeName" in pod["spec"] for pod in pods))
    await eventually(lambda: len([call for call in made.node.calls if call[0] == "run"]) == 100)
