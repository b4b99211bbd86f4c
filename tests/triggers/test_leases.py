"""What is shared on an event loop: opened once, closed after its last user, whatever becomes of the others."""

from __future__ import annotations

import asyncio

import pytest

from kpo_multicluster.triggers.leases import Leases


class Thing:
    """Something that is opened slowly."""

    def __init__(self, log: list[str], opens: asyncio.Event) -> None:
        self.log = log
        self._opens = opens

    async def opened(self) -> Thing:
        self.log.append("opened")
        await self._opens.wait()
        return self


async def closed(thing: Thing) -> None:
    await asyncio.sleep(0.01)
    thing.log.append("closed")


@pytest.fixture
def log() -> list[str]:
    return []


@pytest.fixture
def leases() -> Leases[Thing]:
    return Leases(closed)


async def hold(leases: Leases[Thing], thing: Thing, until: asyncio.Event) -> Thing:
    async with leases.lease("thing", thing.opened) as leased:
        await until.wait()
        return leased


async def settled(*tasks: asyncio.Task[Thing]) -> list[Thing | BaseException]:
    return await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize("ready", [True, False], ids=["open", "being opened"])
async def test_it_is_opened_once_and_closed_after_the_last(leases: Leases[Thing], log: list[str], ready: bool) -> None:
    opens, done, last = asyncio.Event(), asyncio.Event(), asyncio.Event()
    thing = Thing(log, opens)
    users = [asyncio.create_task(hold(leases, thing, done)) for _ in range(3)]
    users.append(asyncio.create_task(hold(leases, thing, last)))
    await asyncio.sleep(0)
    if ready:
        opens.set()
        await asyncio.sleep(0.05)
    # The first, who has it opened, among them.
    users[0].cancel()
    await asyncio.sleep(0.05)
    opens.set()
    done.set()
    assert await settled(*users[1:3]) == [thing, thing]
    assert (log, leases.keys) == (["opened"], {"thing"})
    last.set()
    assert await users[3] is thing
    assert (log, leases.keys) == (["opened", "closed"], set())


async def test_one_that_no_one_waits_for_any_more_is_not_opened_to_its_end(
    leases: Leases[Thing], log: list[str]
) -> None:
    user = asyncio.create_task(hold(leases, Thing(log, asyncio.Event()), asyncio.Event()))
    await asyncio.sleep(0.01)
    user.cancel()
    await settled(user)
    await leases.settle()
    assert (log, leases.keys) == (["opened"], set())
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_an_error_is_that_of_all_who_wait_and_not_of_who_comes_after(
    leases: Leases[Thing], log: list[str]
) -> None:
    async def broken() -> Thing:
        await asyncio.sleep(0.01)
        raise OSError("no cluster")

    async def lease() -> None:
        async with leases.lease("thing", broken):
            pytest.fail("it was opened")

    assert [str(error) for error in await asyncio.gather(lease(), lease(), return_exceptions=True)] == [
        "no cluster"
    ] * 2
    opens = asyncio.Event()
    opens.set()
    async with leases.lease("thing", Thing(log, opens).opened) as thing:
        assert thing.log == ["opened"]


async def test_who_is_cancelled_while_it_is_closed_leaves_nothing_open(leases: Leases[Thing], log: list[str]) -> None:
    opens, never = asyncio.Event(), asyncio.Event()
    opens.set()
    user = asyncio.create_task(hold(leases, Thing(log, opens), never))
    await asyncio.sleep(0.01)
    user.cancel()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    user.cancel()
    await settled(user)
    await leases.settle()
    assert log == ["opened", "closed"]


def test_another_loop_has_its_own(leases: Leases[Thing], log: list[str]) -> None:
    async def use() -> None:
        opens = asyncio.Event()
        opens.set()
        async with leases.lease("thing", Thing(log, opens).opened):
            assert leases.keys == {"thing"}

    asyncio.run(use())
    asyncio.run(use())
    assert log == ["opened", "closed"] * 2
