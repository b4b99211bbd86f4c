"""How node groups of an emulated cloud become what they are to be, with time that moves when told."""

from __future__ import annotations

import pytest

from kpo_multicluster.testing.clouds.node_groups import (
    HOOK_FAILED,
    ChangeKind,
    NodeGroup,
    NodeGroups,
    Pace,
    Stage,
    Trouble,
)

from ...clock import Clock

CLUSTER, NAME = "cluster", "gpus"
STOCKOUT = Trouble("GCE_STOCKOUT", "no capacity")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def groups(clock: Clock) -> NodeGroups:
    groups = NodeGroups(clock)
    groups.pace = Pace(create_seconds=100, resize_seconds=50, delete_seconds=30)
    return groups


def stage(groups: NodeGroups) -> Stage | None:
    groups.advance()
    found = groups.find(CLUSTER, NAME)
    return found.stage if found is not None else None


def test_a_life(groups: NodeGroups, clock: Clock) -> None:
    told: list[tuple[str, int]] = []
    groups.on_active = lambda group: told.append(("active", group.count))
    groups.on_deleting = lambda group: told.append(("deleting", group.count))
    created = groups.create(CLUSTER, NAME, 2, {"machine": "a2"})
    clock.now += 99
    assert stage(groups) is Stage.CREATING
    assert groups.under_way(CLUSTER) == created
    assert told == []
    clock.now += 1
    assert stage(groups) is Stage.ACTIVE
    assert groups.under_way(CLUSTER) is None
    assert told == [("active", 2)]
    groups.resize(CLUSTER, NAME, 5)
    assert stage(groups) is Stage.UPDATING
    clock.now += 50
    assert stage(groups) is Stage.ACTIVE
    groups.delete(CLUSTER, NAME)
    assert told == [("active", 2), ("active", 5), ("deleting", 5)]
    assert stage(groups) is Stage.DELETING
    clock.now += 30
    assert stage(groups) is None
    assert [change.kind for change in groups.changes()] == [ChangeKind.CREATE, ChangeKind.RESIZE, ChangeKind.DELETE]
    assert all(change.ended_at and change.trouble is None for change in groups.changes())


@pytest.mark.parametrize(
    ("trouble", "ends"),
    [(STOCKOUT, Stage.CREATE_FAILED), (Trouble("NodeCreationFailure", "x", degrades=True), Stage.DEGRADED)],
)
def test_a_creation_in_trouble(groups: NodeGroups, clock: Clock, trouble: Trouble, ends: Stage) -> None:
    groups.on_active = lambda group: pytest.fail("there are no nodes")
    groups.fail_next(ChangeKind.CREATE, trouble)
    change = groups.create(CLUSTER, NAME, 1, {})
    assert stage(groups) is Stage.CREATING
    clock.now += 100
    assert stage(groups) is ends
    found, ended = groups.find(CLUSTER, NAME), groups.change(change.id)
    assert found is not None
    assert ended is not None
    assert found.troubles == (trouble,)
    assert ended.trouble == trouble


def test_trouble_for_one_group_and_once(groups: NodeGroups, clock: Clock) -> None:
    groups.fail_next(ChangeKind.CREATE, STOCKOUT, group="other")
    for name in (NAME, "other", "third"):
        groups.create(CLUSTER, name, 1, {})
    clock.now += 100
    groups.advance()
    stages = {group.name: group.stage for group in groups.of(CLUSTER)}
    assert stages == {NAME: Stage.ACTIVE, "other": Stage.CREATE_FAILED, "third": Stage.ACTIVE}


def test_a_resize_and_a_deletion_in_trouble(groups: NodeGroups, clock: Clock) -> None:
    groups.create(CLUSTER, NAME, 1, {})
    clock.now += 100
    groups.advance()
    groups.fail_next(ChangeKind.RESIZE, STOCKOUT)
    groups.resize(CLUSTER, NAME, 4)
    clock.now += 50
    assert stage(groups) is Stage.DEGRADED
    groups.fail_next(ChangeKind.DELETE, STOCKOUT)
    groups.delete(CLUSTER, NAME)
    clock.now += 30
    assert stage(groups) is Stage.DELETE_FAILED
    groups.delete(CLUSTER, NAME)
    clock.now += 30
    assert stage(groups) is None


def test_health_on_demand(groups: NodeGroups, clock: Clock) -> None:
    groups.create(CLUSTER, NAME, 1, {})
    clock.now += 100
    groups.advance()
    groups.degrade(CLUSTER, NAME, STOCKOUT)
    assert stage(groups) is Stage.DEGRADED
    groups.degrade(CLUSTER, NAME)
    assert stage(groups) is Stage.ACTIVE


def test_nodes_that_do_not_join(groups: NodeGroups, clock: Clock) -> None:
    def fail(_: NodeGroup) -> None:
        raise OSError("no kubelet")

    groups.on_active = fail
    groups.create(CLUSTER, NAME, 1, {})
    clock.now += 100
    assert stage(groups) is Stage.CREATE_FAILED
    (group,) = groups.of(CLUSTER)
    assert group.troubles[0].code == HOOK_FAILED
    assert "no kubelet" in group.troubles[0].message


def test_deleted_while_it_is_made(groups: NodeGroups, clock: Clock) -> None:
    groups.on_active = lambda group: pytest.fail("it was deleted before")
    groups.create(CLUSTER, NAME, 1, {})
    groups.delete(CLUSTER, NAME)
    clock.now += 100
    assert stage(groups) is None


def test_deleted_while_its_nodes_join(groups: NodeGroups, clock: Clock) -> None:
    def delete(group: NodeGroup) -> None:
        groups.delete(group.cluster, group.name)

    groups.on_active = delete
    groups.create(CLUSTER, NAME, 1, {})
    clock.now += 100
    assert stage(groups) is Stage.DELETING


def test_names(groups: NodeGroups) -> None:
    groups.create(CLUSTER, NAME, 1, {})
    with pytest.raises(KeyError):
        groups.create(CLUSTER, NAME, 1, {})
    with pytest.raises(KeyError):
        groups.delete(CLUSTER, "absent")
    groups.create("another", NAME, 1, {})
    assert len(groups.of("another")) == 1
    groups.clear()
    assert groups.of(CLUSTER) == ()
    assert groups.changes() == ()
