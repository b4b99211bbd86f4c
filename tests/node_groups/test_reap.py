"""What is removed, and what is left alone."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kpo_multicluster.cli import main
from kpo_multicluster.errors import ConnectError
from kpo_multicluster.node_groups.group import Change
from kpo_multicluster.reaping.leftovers import Judged, Leftover, ReapRule, RunState
from kpo_multicluster.reaping.reap import Place, Reaped, reap
from kpo_multicluster.testing.clouds.node_groups import ChangeKind, Trouble

from .conftest import CLIENT, LIMIT_SECONDS, SECRET, Bed

DAY = 86400.0
NOW = 1_700_000_000.0


async def _kept() -> None:
    raise AssertionError("not to be removed")


def leftover(**given: Any) -> Leftover:
    return Leftover(
        **{
            "kind": "node group",
            "name": "gpu",
            "where": "cluster",
            "state": "ACTIVE",
            "created_at": NOW - 3600,
            "remove": _kept,
            "run": "d/1",
            **given,
        }
    )


@pytest.mark.parametrize(
    ("given", "rule", "state", "reason"),
    [
        ({}, ReapRule(), RunState.ENDED, "its run d/1 has ended"),
        ({}, ReapRule(ended_runs={"d/1"}), RunState.UNKNOWN, "its run d/1 has ended"),
        ({}, ReapRule(ended_runs={"d/2"}), RunState.UNKNOWN, None),
        ({}, ReapRule(older_than_seconds=3000), RunState.UNKNOWN, "it is 60 min old"),
        ({}, ReapRule(older_than_seconds=4000), RunState.UNKNOWN, None),
        ({"expires_at": NOW - 7200}, ReapRule(), RunState.UNKNOWN, "its time ended 2 h ago"),
        ({"expires_at": NOW + 1}, ReapRule(), RunState.UNKNOWN, None),
        ({"run": None}, ReapRule(older_than_seconds=3000), RunState.UNKNOWN, "it is 60 min old"),
        ({"run": None}, ReapRule(), RunState.UNKNOWN, None),
        # Whatever else is the case.
        ({"expires_at": NOW - 7200}, ReapRule(older_than_seconds=1), RunState.UNDER_WAY, None),
        ({}, ReapRule(ended_runs={"d/1"}), RunState.UNDER_WAY, None),
        # Kept on purpose.
        ({"kept": True}, ReapRule(), RunState.ENDED, None),
        ({"kept": True}, ReapRule(older_than_seconds=3000), RunState.ENDED, "it is 60 min old"),
    ],
)
def test_what_no_one_needs(given: dict[str, Any], rule: ReapRule, state: RunState, reason: str | None) -> None:
    assert rule.reason(leftover(**given), state, NOW) == reason


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "made for d/1; stays"),
        ({"state": RunState.UNDER_WAY}, "made for d/1, which is under way; stays"),
        ({"reason": "it is old"}, "to go, as it is old"),
        ({"reason": "it is old", "removed": True}, "being removed, as it is old"),
        ({"reason": "it is old", "error": ConnectError("no one there")}, "NOT REMOVED: no one there"),
        ({"what": leftover(leaving=True)}, "being removed"),
        ({"what": leftover(run=None, kept=True)}, "made for no run that is known; kept by its task"),
    ],
)
def test_what_is_told(given: dict[str, Any], words: str) -> None:
    assert words in str(Judged(**{"what": leftover(), "age_seconds": 60.0, **given}))


# -- node groups -------------------------------------------------------------------------------------------------------


async def reaped(
    bed: Bed, rule: ReapRule, *, delete: bool = True, now: float | None = None, **states: RunState
) -> Reaped:
    async def ask(runs: list[str]) -> dict[str, RunState]:
        return {run: states[run.partition("/")[2]] for run in runs if run.partition("/")[2] in states}

    return await reap(Place("cluster", bed.open()), rule, states=ask, delete=delete, now=now)


def by_name(found: Reaped) -> dict[str, Judged]:
    return {one.what.name: one for one in found.judged}


async def gone(bed: Bed, *names: str) -> None:
    groups = bed.open()
    for name in names:
        await groups.until_gone(Change("delete", name), timeout_seconds=LIMIT_SECONDS)


async def three(bed: Bed) -> None:
    groups = bed.open()
    for name, run in (("one", "d/r1"), ("two", "d/r2")):
        ensured = await groups.ensure(bed.spec(name), run=run)
        await groups.until_active(ensured.change, timeout_seconds=LIMIT_SECONDS)
    change = await asyncio.to_thread(groups.cloud.create, bed.spec("other"), {})
    await groups.until_active(change, timeout_seconds=LIMIT_SECONDS)


async def test_only_what_is_ours_and_over_goes(bed: Bed) -> None:
    await three(bed)
    later = time.time() + 365 * DAY

    told = await reaped(bed, ReapRule(1), delete=False, now=later, r1=RunState.ENDED, r2=RunState.UNDER_WAY)
    assert {name: one.reason for name, one in by_name(told).items()} == {"one": "its run d/r1 has ended", "two": None}
    assert not any(one.removed for one in told.judged)
    assert bed.emulated("one") is not None

    found = by_name(await reaped(bed, ReapRule(1), now=later, r1=RunState.ENDED, r2=RunState.UNDER_WAY))
    assert found["one"].removed
    assert not found["two"].removed
    await gone(bed, "one")

    # However old it is, what is not ours stays.
    found = by_name(await reaped(bed, ReapRule(1), now=later))
    assert set(found) == {"two"}
    assert "365 d old" in (found["two"].reason or "")
    await gone(bed, "two")
    assert bed.emulated("other") is not None
    assert by_name(await reaped(bed, ReapRule(0), now=later)) == {}


async def test_a_group_has_an_end_of_its_own(gke_bed: Bed) -> None:
    groups = gke_bed.open()
    ensured = await groups.ensure(gke_bed.spec(), run="d/1", expires_after_seconds=3600)
    await groups.until_active(ensured.change, timeout_seconds=LIMIT_SECONDS)

    assert by_name(await reaped(gke_bed, ReapRule()))["gpu"].reason is None
    found = by_name(await reaped(gke_bed, ReapRule(), now=time.time() + 3 * 3600))
    assert found["gpu"].reason == "its time ended 2 h ago"
    await gone(gke_bed, "gpu")


async def test_one_that_cannot_go_does_not_keep_the_others(eks_bed: Bed) -> None:
    await three(eks_bed)
    eks_bed.fake.faults.refuse("DELETE .*/one", 403, "AccessDeniedException", "you may not")

    found = await reaped(eks_bed, ReapRule(ended_runs={"d/r1", "d/r2"}))

    assert by_name(found)["two"].removed
    assert "you may not" in str(by_name(found)["one"].error)
    assert len(found.errors) == 1


# -- the command -------------------------------------------------------------------------------------------------------


@pytest.fixture
def arguments(bed: Bed, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """The command line that names the bed's cluster."""
    options = {name: value for name, value in bed.ref.options.items() if name not in ("conn_id", "cluster_name")}
    connection = bed.connections.get("cloud")
    if bed.kind == "eks":
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", connection.login or "")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", connection.password or "")
    elif bed.kind == "gke":
        (tmp_path / "key.json").write_text(connection.extra["keyfile_dict"])
        options["key_file"] = str(tmp_path / "key.json")
    else:
        monkeypatch.setenv("THE_SECRET", SECRET)
        options |= {"tenant_id": bed.fake.tenant, "client_id": CLIENT, "client_secret": "env:THE_SECRET"}
    flags = [part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    return ["reap", f"--{bed.kind}", "ml", "--only", "node-groups", *flags]


Output = Callable[[], tuple[str, str]]


@pytest.fixture
def output(capsys: pytest.CaptureFixture[str]) -> Output:
    def output() -> tuple[str, str]:
        written = capsys.readouterr()
        return written.out, written.err

    return output


def test_the_command(bed: Bed, arguments: list[str], output: Output) -> None:
    assert main(arguments) == 0
    told, warned = output()
    assert "Nothing that kpo-multicluster made is left on the" in told
    assert "Airflow was not asked which runs have ended" in warned
    asyncio.run(three(bed))

    assert main([*arguments, "--run", "d/r1", "--older-than", "6h"]) == 0
    told, _ = output()
    assert "made for d/r1; to go, as its run d/r1 has ended" in told
    assert "made for d/r2; stays" in told
    assert "other" not in told
    assert bed.emulated("one") is not None

    assert main([*arguments, "--run", "d/r1", "--delete", "--wait", "--json"]) == 0
    found = {one["name"]: one for one in json.loads(output()[0])}
    assert found["one"]["removed"] is True
    assert found["two"]["removed"] is False
    assert bed.emulated("one") is None
    assert bed.emulated("two") is not None


def test_the_command_fails_when_something_stays(eks_bed: Bed, monkeypatch: pytest.MonkeyPatch, output: Output) -> None:
    connection = eks_bed.connections.get("cloud")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", connection.login or "")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", connection.password or "")
    for name, value in eks_bed.fake.environment.items():
        monkeypatch.setenv(name, value)
    asyncio.run(three(eks_bed))
    eks_bed.fake.faults.refuse("DELETE .*/one", 403, "AccessDeniedException", "you may not")
    command = ["reap", "--eks", "ml", "--region", "us-east-2", "--only", "node-groups"]

    assert main([*command, "--run", "d/r1", "--delete"]) == 1
    assert "NOT REMOVED" in output()[0]
    assert main([*command, "--wait"]) == 2
    output()
    eks_bed.fake.faults.refuse("GET .*/node-groups", 403, "AccessDeniedException", "you may not look")
    assert main(command) == 1
    assert "you may not look" in output()[1]


@pytest.mark.parametrize("bed", ["eks"], indirect=True)
def test_the_command_tells_all_though_one_of_them_does_not_go(bed: Bed, arguments: list[str], output: Output) -> None:
    asyncio.run(three(bed))
    bed.fake.node_groups.fail_next(ChangeKind.DELETE, Trouble("Ec2SecurityGroupDeletionFailure", "it is in use"))

    assert main([*arguments, "--run", "d/r1", "--run", "d/r2", "--delete", "--wait", "--json"]) == 1
    told, warned = output()
    assert {one["name"]: one["removed"] for one in json.loads(told)} == {"one": True, "two": True}
    assert "will not go" in warned
    assert "it is in use" in warned
    # The other was waited for all the same.
    assert sum(bed.emulated(name) is None for name in ("one", "two")) == 1


@pytest.mark.parametrize("run", ["manual__2026-01-01", "/manual__2026-01-01", "my_dag/", ""])
def test_a_run_that_is_none(run: str, output: Output) -> None:
    assert main(["reap", "--eks", "ml", "--run", run]) == 2
    assert "as in my_dag/my_run" in output()[1]


@pytest.mark.parametrize("span", ["6", "six hours", "-1h", ""])
def test_a_span_that_is_none(span: str, output: Output) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["reap", "--eks", "ml", f"--older-than={span}"])
    assert caught.value.code == 2
    assert "such as 90m, 6h or 2d" in output()[1]
