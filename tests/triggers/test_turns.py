"""Turns on a loop: in the order in which they were asked for, a few in a round."""

from __future__ import annotations

import asyncio
import itertools

from kpo_multicluster.triggers.turns import turns


async def test_a_crowd_goes_on_in_order_and_leaves_rounds_to_others() -> None:
    went: list[int] = []

    async def go(number: int) -> None:
        await turns().take()
        went.append(number)

    crowd = [asyncio.create_task(go(number)) for number in range(200)]
    rounds = [0]
    while not all(task.done() for task in crowd):
        await asyncio.sleep(0)
        rounds.append(len(went))
    assert went == list(range(200))
    assert max(later - sooner for sooner, later in itertools.pairwise(rounds)) <= 8


async def test_who_no_longer_waits_takes_no_turn() -> None:
    async def go() -> None:
        await turns().take()

    gone = [asyncio.create_task(go()) for _ in range(20)]
    await asyncio.sleep(0)
    for task in gone:
        task.cancel()
    await asyncio.gather(*gone, return_exceptions=True)
    await turns().take()
    await turns().take()
