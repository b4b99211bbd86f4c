from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from typing import Any

import pytest

from kpo_multicluster.errors import (
    ConfigurationError,
    ConnectError,
    CredentialError,
    NodeGroupError,
    NodeGroupFailedError,
    NodeGroupMismatchError,
    NodeGroupTimeoutError,
)
from kpo_multicluster.node_groups.group import Change, Phase
from kpo_multicluster.node_groups.lifecycle import NodeGroups
from kpo_multicluster.node_groups.taints import Taint
from kpo_multicluster.testing.clouds.node_groups import ChangeKind, Pace, Trouble

from .conftest import LIMIT_SECONDS, Bed

TAINT = Taint("team", "ml", "NoSchedule")


async def made(bed: Bed, groups: NodeGroups, **given: Any) -> None:
    ensured = await groups.ensure(bed.spec(**given))
    await groups.until_active(ensured.change, timeout_seconds=LIMIT_SECONDS)


async def test_a_group_lives_and_goes(bed: Bed) -> None:
    groups, run = bed.open(), "my_dag/manual__2026-01-01T00:00:00+00:00"
    spec = bed.spec(
        desired_size=2, max_size=3, labels={"team": "ml"}, taints=(TAINT,), tags={"owner": "ml-team"}, disk_gb=100
    )
    assert await groups.describe("gpu") is None
    before = time.time()

    ensured = await groups.ensure(spec, run=run, expires_after_seconds=3600)
    group = await groups.until_active(Change.from_json(ensured.change.to_json()), timeout_seconds=LIMIT_SECONDS)

    assert (ensured.created, ensured.owned) == (True, True)
    assert (group.name, group.phase, group.desired_size) == ("gpu", Phase.ACTIVE, 2)
    assert group.labels["team"] == "ml"
    assert TAINT in group.taints
    assert group.tags["owner"] == "ml-team"
    assert group.ownership is not None
    assert group.ownership.run == run
    assert before - 1 <= group.ownership.created_at <= time.time()
    assert group.ownership.expires_at == pytest.approx(group.ownership.created_at + 3600, abs=1)
    assert [found.name for found in await groups.all()] == ["gpu"]

    gone = await groups.delete("gpu", run=run)
    assert gone is not None
    await groups.until_gone(gone, timeout_seconds=LIMIT_SECONDS)

    assert bed.emulated() is None
    assert await groups.describe("gpu") is None
    assert await groups.delete("gpu", run=run) is None


async def test_asking_again_adopts(bed: Bed) -> None:
    groups = bed.open()
    first = await groups.ensure(bed.spec(), run="d/1")
    again = await bed.open(anew=True).ensure(bed.spec(), run="d/1")
    other = await groups.ensure(bed.spec(), run="d/2")

    assert (first.created, again.created, other.created) == (True, False, False)
    assert (first.owned, again.owned, other.owned) == (True, True, False)
    await groups.until_active(again.change, timeout_seconds=LIMIT_SECONDS)
    creations = [change for change in bed.fake.node_groups.changes() if change.kind is ChangeKind.CREATE]
    assert len(creations) == 1


async def test_a_group_that_differs_is_refused_with_the_differences(bed: Bed) -> None:
    groups = bed.open()
    await made(bed, groups, labels={"team": "ml"})
    asked = bed.spec(machine_types=("Other_Type",), labels={"team": "other"}, taints=(TAINT,), spot=True)

    with pytest.raises(NodeGroupMismatchError) as caught:
        await groups.ensure(asked)

    text = str(caught.value)
    for part in ("machine_types", "team=other, it has team=ml", "taints: asked for team=ml:NoSchedule"):
        assert part in text
    assert any(item.startswith(("spot", "capacity")) for item in caught.value.differences)
    assert bed.count() == 1


async def test_a_group_of_someone_else_is_left_as_it_is(bed: Bed) -> None:
    groups = bed.open()
    await asyncio.to_thread(groups.cloud.create, bed.spec(), {})
    await groups.until_active(Change("create", "gpu"), timeout_seconds=LIMIT_SECONDS)

    ensured = await groups.ensure(bed.spec(), run="d/1")
    assert (ensured.created, ensured.owned) == (False, False)
    with pytest.raises(NodeGroupMismatchError, match="desired_size: asked for 2, it has 1"):
        await groups.ensure(bed.spec(desired_size=2), run="d/1")
    with pytest.raises(NodeGroupError, match="not made by kpo-multicluster"):
        await groups.delete("gpu")
    assert bed.count() == 1

    gone = await groups.delete("gpu", force=True)
    assert gone is not None
    await groups.until_gone(gone, timeout_seconds=LIMIT_SECONDS)


async def test_a_group_of_another_run_is_not_deleted(bed: Bed) -> None:
    groups = bed.open()
    await groups.ensure(bed.spec(), run="d/1")

    with pytest.raises(NodeGroupError, match="made for d/1, not for d/2"):
        await groups.delete("gpu", run="d/2")
    assert bed.emulated() is not None


async def test_to_zero_and_back(bed: Bed) -> None:
    groups = bed.open()
    await made(bed, groups)

    for size in (0, 3, 0):
        change = await groups.scale("gpu", size)
        group = await groups.until_active(change, timeout_seconds=LIMIT_SECONDS)
        assert (group.desired_size, bed.count()) == (size, size)
    requests = len(bed.fake.node_groups.changes())
    await groups.scale("gpu", 0)
    assert len(bed.fake.node_groups.changes()) == requests

    ensured = await groups.ensure(bed.spec(desired_size=2))
    await groups.until_active(ensured.change, timeout_seconds=LIMIT_SECONDS)
    assert (ensured.created, bed.count()) == (False, 2)


async def test_begins_empty(bed: Bed) -> None:
    groups = bed.open()
    await made(bed, groups, desired_size=0, max_size=2)
    assert bed.count() == 0


async def test_scaling_what_is_not_there(bed: Bed) -> None:
    groups = bed.open()
    with pytest.raises(ConfigurationError, match="is not there: make it first"):
        await groups.scale("gpu", 1)
    with pytest.raises(ConfigurationError, match="give 0 or more"):
        await groups.scale("gpu", -1)


@pytest.mark.parametrize(
    ("kind", "trouble", "hint"),
    [
        ("eks", Trouble("AsgInstanceLaunchFailures", "insufficient capacity for g5.xlarge"), "no such machine"),
        ("eks", Trouble("InstanceLimitExceeded", "vCPU limit of 8"), "quota"),
        ("gke", Trouble("GCE_STOCKOUT", "the zone does not have enough resources"), "no such machine"),
        ("gke", Trouble("GCE_QUOTA_EXCEEDED", "quota NVIDIA_L4_GPUS exceeded"), "quota"),
        ("aks", Trouble("QuotaExceeded", "quota of Standard NCASv3 exceeded"), "quota"),
        ("aks", Trouble("SkuNotAvailable", "not available in westeurope"), "no such machine"),
    ],
)
async def test_a_creation_that_fails_says_why(
    request: pytest.FixtureRequest, kind: str, trouble: Trouble, hint: str
) -> None:
    bed: Bed = request.getfixturevalue(f"{kind}_bed")
    groups = bed.open()
    bed.fake.node_groups.fail_next(ChangeKind.CREATE, trouble)
    ensured = await groups.ensure(bed.spec(), run="d/1")

    with pytest.raises(NodeGroupFailedError) as caught:
        await groups.until_active(ensured.change, timeout_seconds=LIMIT_SECONDS)

    assert caught.value.code == trouble.code
    assert trouble.message in str(caught.value)
    assert hint in str(caught.value)
    # What was half made can be undone.
    gone = await groups.delete("gpu", run="d/1")
    assert gone is not None
    await groups.until_gone(gone, timeout_seconds=LIMIT_SECONDS)
    assert bed.emulated() is None


async def test_a_failed_group_is_not_adopted(bed: Bed) -> None:
    groups = bed.open()
    bed.fake.node_groups.fail_next(ChangeKind.CREATE, Trouble("GCE_STOCKOUT", "no capacity"))
    ensured = await groups.ensure(bed.spec())
    with pytest.raises(NodeGroupFailedError):
        await groups.until_active(ensured.change, timeout_seconds=LIMIT_SECONDS)

    with pytest.raises(NodeGroupFailedError, match="will not do as it is"):
        await groups.ensure(bed.spec())


async def test_a_degraded_group_fails_at_once(bed: Bed) -> None:
    if bed.kind == "aks":
        pytest.skip("AKS has no such state")
    groups = bed.open()
    await made(bed, groups)
    bed.fake.node_groups.degrade(bed.cluster, "gpu", Trouble("NodeCreationFailure", "failed to join"))

    with pytest.raises(NodeGroupFailedError, match="failed to join") as caught:
        await groups.until_active(Change("create", "gpu"), timeout_seconds=LIMIT_SECONDS)
    assert "check that their role may join it" in str(caught.value) or bed.kind == "gke"


async def test_a_scaling_that_fails_says_why(bed: Bed) -> None:
    groups = bed.open()
    await made(bed, groups)
    bed.fake.node_groups.fail_next(ChangeKind.RESIZE, Trouble("GCE_STOCKOUT", "there is no capacity left"))
    change = await groups.scale("gpu", 5)

    with pytest.raises(NodeGroupFailedError, match=r"will not get its size.*there is no capacity left"):
        await groups.until_active(change, timeout_seconds=LIMIT_SECONDS)


async def test_a_deletion_that_fails_says_why(bed: Bed) -> None:
    groups = bed.open()
    await made(bed, groups)
    bed.fake.node_groups.fail_next(ChangeKind.DELETE, Trouble("Ec2SecurityGroupDeletionFailure", "it is in use"))
    change = await groups.delete("gpu")
    assert change is not None

    with pytest.raises(NodeGroupFailedError, match=r"will not go.*it is in use"):
        await groups.until_gone(change, timeout_seconds=LIMIT_SECONDS)


async def test_a_cloud_that_is_away_for_a_while_is_asked_again_to_delete(gke_bed: Bed) -> None:
    groups = gke_bed.open()
    await made(gke_bed, groups)
    # One request is sent four times at most.
    gke_bed.fake.faults.drop("DELETE .*/nodePools/gpu$", times=5)
    gone = await groups.delete("gpu")
    assert gone is not None
    await groups.until_gone(gone, timeout_seconds=LIMIT_SECONDS)


async def test_the_reason_survives_another_process(bed: Bed) -> None:
    groups = bed.open()
    bed.fake.node_groups.fail_next(ChangeKind.CREATE, Trouble("GCE_STOCKOUT", "there is no capacity left"))
    ensured = await groups.ensure(bed.spec())

    with pytest.raises(NodeGroupFailedError, match="there is no capacity left"):
        await bed.open(anew=True).until_active(
            Change.from_json(ensured.change.to_json()), timeout_seconds=LIMIT_SECONDS
        )


async def test_changes_of_others_are_waited_out(bed: Bed) -> None:
    groups = bed.open()
    with bed.held() as release:
        await groups.ensure(bed.spec("first"))
        other = asyncio.create_task(groups.ensure(bed.spec("second")))
        if bed.kind == "eks":
            # Groups of EKS do not wait for one another, changes of the same one do.
            await asyncio.wait_for(other, LIMIT_SECONDS)
        deletion = asyncio.create_task(groups.delete("first"))
        while not _asked(bed, "DELETE"):
            await asyncio.sleep(0.01)
        if bed.kind != "eks":
            assert not deletion.done()
            assert not other.done()
        release()
        await asyncio.wait_for(other, LIMIT_SECONDS)
        gone = await asyncio.wait_for(deletion, LIMIT_SECONDS)
    assert gone is not None
    await groups.until_gone(gone, timeout_seconds=LIMIT_SECONDS)
    assert bed.emulated("second") is not None


def _asked(bed: Bed, method: str) -> bool:
    return any(request.method == method for request in bed.fake.record.all())


async def test_waiting_for_others_has_an_end(bed: Bed) -> None:
    groups = bed.open()
    if bed.kind == "eks":
        bed.fake.faults.refuse("POST .*/node-groups", 409, "ResourceInUseException", "an update is in progress")
        with pytest.raises(NodeGroupTimeoutError, match=r"was not made within 0 s.*an update is in progress"):
            await groups.ensure(bed.spec(), timeout_seconds=0)
        return
    with bed.held():
        await groups.ensure(bed.spec("first"))
        with pytest.raises(NodeGroupTimeoutError, match="was not made within 0 s, as another change is under way"):
            await groups.ensure(bed.spec("second"), timeout_seconds=0)


async def test_one_that_is_going_is_made_again(bed: Bed) -> None:
    groups = bed.open()
    await made(bed, groups)
    bed.fake.node_groups.pace = Pace(delete_seconds=0.5)
    await groups.delete("gpu")

    ensured = await groups.ensure(bed.spec(), timeout_seconds=LIMIT_SECONDS)
    group = await groups.until_active(ensured.change, timeout_seconds=LIMIT_SECONDS)
    assert ensured.created
    assert group.phase is Phase.ACTIVE


async def test_a_lost_answer_to_a_creation_makes_one_group(bed: Bed) -> None:
    groups = bed.open()
    where = {"eks": "POST .*/node-groups$", "gke": "POST .*/nodePools$", "aks": "PUT .*/agentPools/gpu$"}[bed.kind]
    bed.fake.faults.drop(where, processed=True, times=1)

    ensured = await groups.ensure(bed.spec(), run="d/1", timeout_seconds=LIMIT_SECONDS)
    await groups.until_active(ensured.change, timeout_seconds=LIMIT_SECONDS)

    assert ensured.owned
    creations = [change for change in bed.fake.node_groups.changes() if change.kind is ChangeKind.CREATE]
    assert len(creations) == 1


async def test_a_creation_that_is_cancelled_is_not_left_under_way(bed: Bed) -> None:
    groups = bed.open()
    where = {"eks": "POST .*/node-groups$", "gke": "POST .*/nodePools$", "aks": "PUT .*/agentPools/gpu$"}[bed.kind]
    method, path = where.split()[0], where.split()[1]
    bed.fake.faults.delay(where, 0.5)
    task = asyncio.create_task(groups.ensure(bed.spec(), run="d/1"))
    while not any(r.method == method and path.strip(".*$") in r.path for r in bed.fake.record.all()):
        await asyncio.sleep(0.01)

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert bed.emulated() is not None
    gone = await groups.delete("gpu", run="d/1", timeout_seconds=LIMIT_SECONDS)
    assert gone is not None
    await groups.until_gone(gone, timeout_seconds=LIMIT_SECONDS)


async def test_following_tells_each_change_once(bed: Bed) -> None:
    groups = bed.open()
    with bed.held() as release:
        ensured = await groups.ensure(bed.spec())
        phases = []
        async with aclosing(groups.follow(ensured.change, timeout_seconds=LIMIT_SECONDS)) as seen:
            async for group in seen:
                phases.append(group.phase)
                release()
    assert phases == [Phase.CREATING, Phase.ACTIVE]


async def test_a_group_that_does_not_come_is_given_up(bed: Bed) -> None:
    groups = bed.open()
    with bed.held():
        ensured = await groups.ensure(bed.spec())
        with pytest.raises(NodeGroupTimeoutError, match="did not become active within 0 s") as caught:
            await groups.until_active(ensured.change, timeout_seconds=0)
    assert caught.value.stage == "provider"


async def test_a_group_that_does_not_go_is_given_up(bed: Bed) -> None:
    groups = bed.open()
    await made(bed, groups)
    bed.fake.node_groups.pace = Pace(delete_seconds=3600)
    change = await groups.delete("gpu")
    assert change is not None
    with pytest.raises(NodeGroupTimeoutError, match="did not go within 0 s"):
        await groups.until_gone(change, timeout_seconds=0)


async def test_one_that_someone_deletes_is_not_awaited(bed: Bed) -> None:
    groups = bed.open()
    await made(bed, groups)
    gone = await groups.delete("gpu")
    assert gone is not None
    await groups.until_gone(gone, timeout_seconds=LIMIT_SECONDS)

    with pytest.raises(NodeGroupError, match="someone deleted it"):
        await groups.until_active(Change("create", "gpu"), timeout_seconds=LIMIT_SECONDS)


async def test_a_bad_minute_of_the_cloud_is_outlasted(bed: Bed) -> None:
    groups = bed.open()
    with bed.held() as release:
        ensured = await groups.ensure(bed.spec())
        # More than a single call tries by itself.
        bed.fake.faults.refuse("GET .*gpu", 503, "", "come back later", times=5)
        release()
        group = await groups.until_active(ensured.change, timeout_seconds=LIMIT_SECONDS)
    assert group.phase is Phase.ACTIVE


async def test_no_cluster(bed: Bed) -> None:
    for cluster, word in (("other", "ml"),):
        ref = bed.ref.__class__(bed.ref.kind, {**bed.ref.options, "cluster_name": cluster})
        groups = Bed(bed.kind, bed.fake, bed.cluster, ref, bed.connections, bed.machine, bed.options, bed.gpu).open()
        for step in (groups.ensure(bed.spec()), groups.delete("gpu"), groups.describe("gpu"), groups.all()):
            with pytest.raises(ConfigurationError, match=f"There is no .*'other'.*{word}"):
                await step


async def test_a_cluster_that_is_not_up(bed: Bed) -> None:
    if bed.kind == "eks":
        bed.fake.add_cluster("ml", status="CREATING")
    elif bed.kind == "gke":
        bed.fake.add_cluster("ml", status="PROVISIONING")
    else:
        bed.fake.add_cluster("ml", powerState={"code": "Stopped"})

    with pytest.raises(ConnectError, match=r"CREATING|PROVISIONING|Stopped"):
        await bed.open().ensure(bed.spec())
    assert bed.emulated() is None


@pytest.mark.parametrize("method", ["GET", "POST|PUT", "DELETE"])
async def test_what_is_not_allowed_names_the_right(bed: Bed, method: str) -> None:
    groups = bed.open()
    await made(bed, groups, name="there")
    code = {"eks": "AccessDeniedException", "gke": "PERMISSION_DENIED", "aks": "AuthorizationFailed"}[bed.kind]
    place = {"eks": "node-groups", "gke": "nodePools", "aks": "agentPools"}[bed.kind]
    bed.fake.faults.refuse(f"({method}) .*{place}", 403, code, "you may not")

    right = {"eks": "iam:PassRole", "gke": "container.clusterAdmin", "aks": "agentPools/\\*"}[bed.kind]
    with pytest.raises(CredentialError, match=f"you may not.*{right}") as caught:
        await (groups.delete("there") if method == "DELETE" else groups.ensure(bed.spec()))
    assert "cloud" in str(caught.value)
