"""What is removed, and what is left alone."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import pytest

from kpo_multicluster.cli import main
from kpo_multicluster.node_groups.group import Change
from kpo_multicluster.node_groups.reaping import Reaped, ReapRule, reap

from .conftest import CLIENT, LIMIT_SECONDS, SECRET, Bed

DAY = 86400.0


async def reaped(bed: Bed, rule: ReapRule, *, delete: bool = True, now: float | None = None) -> dict[str, Reaped]:
    return {one.group.name: one async for one in reap(bed.open(), rule, delete=delete, now=now)}


async def gone(bed: Bed, *names: str) -> None:
    groups = bed.open()
    for name in names:
        await groups.until_gone(Change("delete", name), timeout_seconds=LIMIT_SECONDS)


async def three(bed: Bed) -> None:
    groups = bed.open()
    for name, run in (("one", "d/1"), ("two", "d/2")):
        ensured = await groups.ensure(bed.spec(name), run=run)
        await groups.until_active(ensured.change, timeout_seconds=LIMIT_SECONDS)
    change = await asyncio.to_thread(groups.cloud.create, bed.spec("other"), {})
    await groups.until_active(change, timeout_seconds=LIMIT_SECONDS)


async def test_only_what_is_ours_and_over_goes(bed: Bed) -> None:
    await three(bed)

    told = await reaped(bed, ReapRule(ended_runs={"d/1"}), delete=False)
    assert {name: one.reason for name, one in told.items()} == {"one": "its run d/1 has ended", "two": None}
    assert not any(one.deleted for one in told.values())
    assert bed.emulated("one") is not None

    found = await reaped(bed, ReapRule(ended_runs={"d/1"}))
    assert found["one"].deleted
    assert not found["two"].deleted
    await gone(bed, "one")

    # However old it is, what is not ours stays.
    found = await reaped(bed, ReapRule(older_than_seconds=1), now=time.time() + 365 * DAY)
    assert set(found) == {"two"}
    assert "365 d old" in (found["two"].reason or "")
    await gone(bed, "two")
    assert bed.emulated("other") is not None
    assert await reaped(bed, ReapRule(older_than_seconds=0), now=time.time() + 365 * DAY) == {}


async def test_a_group_has_an_end_of_its_own(gke_bed: Bed) -> None:
    groups = gke_bed.open()
    ensured = await groups.ensure(gke_bed.spec(), run="d/1", expires_after_seconds=3600)
    await groups.until_active(ensured.change, timeout_seconds=LIMIT_SECONDS)

    assert (await reaped(gke_bed, ReapRule()))["gpu"].reason is None
    found = await reaped(gke_bed, ReapRule(), now=time.time() + 3 * 3600)
    assert found["gpu"].reason == "its time ended 2 h ago"
    assert "deleting, as its time ended" in str(found["gpu"])


async def test_one_that_cannot_go_does_not_keep_the_others(eks_bed: Bed) -> None:
    await three(eks_bed)
    eks_bed.fake.faults.refuse("DELETE .*/one", 403, "AccessDeniedException", "you may not")

    found = await reaped(eks_bed, ReapRule(ended_runs={"d/1", "d/2"}))

    assert found["two"].deleted
    assert "you may not" in str(found["one"].error)
    assert "NOT DELETED" in str(found["one"])


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
    return ["reap", f"--{bed.kind}", "ml", *flags]


def test_the_command(bed: Bed, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 0
    assert "No node group of the" in capsys.readouterr().out
    asyncio.run(three(bed))

    assert main([*arguments, "--run", "d/1", "--older-than", "6h"]) == 0
    told = capsys.readouterr().out
    assert "made for d/1; to go, as its run d/1 has ended" in told
    assert "made for d/2; stays" in told
    assert "other" not in told
    assert bed.emulated("one") is not None

    assert main([*arguments, "--run", "d/1", "--delete", "--wait", "--json"]) == 0
    found = {one["name"]: one for one in json.loads(capsys.readouterr().out)}
    assert found["one"]["deleted"] is True
    assert found["two"]["deleted"] is False
    assert bed.emulated("one") is None
    assert bed.emulated("two") is not None


def test_the_command_fails_when_something_stays(
    eks_bed: Bed, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    connection = eks_bed.connections.get("cloud")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", connection.login or "")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", connection.password or "")
    for name, value in eks_bed.fake.environment.items():
        monkeypatch.setenv(name, value)
    asyncio.run(three(eks_bed))
    eks_bed.fake.faults.refuse("DELETE .*/one", 403, "AccessDeniedException", "you may not")
    command = ["reap", "--eks", "ml", "--region", "us-east-2"]

    assert main([*command, "--run", "d/1", "--delete"]) == 1
    assert "NOT DELETED" in capsys.readouterr().out
    assert main([*command, "--wait"]) == 2


@pytest.mark.parametrize("span", ["6", "six hours", "-1h", ""])
def test_a_span_that_is_none(span: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["reap", "--eks", "ml", f"--older-than={span}"])
    assert caught.value.code == 2
    assert "such as 90m, 6h or 2d" in capsys.readouterr().err
