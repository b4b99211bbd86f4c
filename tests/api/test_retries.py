"""Retries: what is tried again, how often, and with which delays, by a clock of the test's own."""

from __future__ import annotations

import asyncio
import datetime
import itertools
from email.utils import format_datetime

import pytest
from aiohttp import web

from kpo_multicluster.api.retry import NO_RETRY, Backoff, Clock, RetryPolicy
from kpo_multicluster.errors import ApiError, ConnectError, ServerError, ThrottledError

from .cases import PODS, FakeClock, client
from .servers import FakeApi, Handler, chunks, ok, reset, status

POLICY = RetryPolicy(budget_seconds=120.0, first_delay_seconds=0.2, max_delay_seconds=10.0)


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
@pytest.mark.parametrize("code", [429, 500, 502, 503, 504])
async def test_statuses_that_may_pass_are_tried_again(api: FakeApi, method: str, code: int) -> None:
    api.answer(status(code), status(code), ok())
    time = FakeClock()
    async with client(api.url, retry=POLICY, clock=time.clock()) as tested:
        assert await tested.request(method, PODS, body={"a": 1}) == {"ok": True}
    assert [seen.body for seen in api.seen] == [b'{"a": 1}'] * 3
    assert time.slept == [0.2, 0.4]


@pytest.mark.parametrize("code", [400, 401, 403, 404, 405, 409, 410, 422, 501])
async def test_other_statuses_are_final(api: FakeApi, code: int) -> None:
    api.answer(status(code))
    async with client(api.url) as tested:
        with pytest.raises(ApiError):
            await tested.request("GET", PODS)
    assert len(api.seen) == 1


@pytest.mark.parametrize("handler", [reset, chunks(b"{", OSError())])
async def test_a_lost_answer_is_asked_for_again(api: FakeApi, handler: Handler) -> None:
    api.answer(handler, handler, ok())
    time = FakeClock()
    async with client(api.url, retry=POLICY, clock=time.clock()) as tested:
        await tested.request("POST", PODS, body={})
    assert len(api.seen) == 3
    assert time.slept == [0.2, 0.4]


async def test_delays_double_up_to_their_bound_and_end_with_the_budget(api: FakeApi) -> None:
    api.answer(status(503, "ServiceUnavailable"))
    time = FakeClock()
    async with client(api.url, retry=POLICY, clock=time.clock()) as tested:
        with pytest.raises(ServerError):
            await tested.request("POST", PODS)
    growing = [0.2, 0.4, 0.8, 1.6, 3.2, 6.4]
    assert time.slept == [*growing, *([10.0] * 10)]
    assert sum(time.slept) < POLICY.budget_seconds <= sum(time.slept) + 10.0
    assert len(api.seen) == len(time.slept) + 1


async def test_delays_are_drawn_with_full_jitter() -> None:
    drawn = []
    time = FakeClock()
    real = Clock()
    for _ in range(400):
        pauses = Backoff(POLICY, Clock(now=lambda: 0.0, sleep=time._sleep, draw=real.draw))
        await pauses.pause()
        drawn.append(time.slept[-1])
    assert 0.0 <= min(drawn) < 0.05
    assert 0.15 < max(drawn) <= 0.2


@pytest.mark.parametrize("as_date", [False, True])
async def test_retry_after_is_a_lower_bound(api: FakeApi, as_date: bool) -> None:
    moment = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=30)
    asked = format_datetime(moment, usegmt=True) if as_date else "30"
    api.answer(status(429, headers={"Retry-After": asked}), status(503), ok())
    time = FakeClock()
    async with client(api.url, retry=POLICY, clock=time.clock()) as tested:
        await tested.request("GET", PODS)
    assert 28 < time.slept[0] <= 30
    assert time.slept[1] == 0.4


async def test_retry_after_in_the_status_object(api: FakeApi) -> None:
    api.answer(status(500, "ServerTimeout", details={"retryAfterSeconds": 3}), ok())
    time = FakeClock()
    async with client(api.url, retry=POLICY, clock=time.clock()) as tested:
        await tested.request("GET", PODS)
    assert time.slept == [3.0]


@pytest.mark.parametrize("asked", ["soon", "²", ""])
async def test_a_retry_after_that_cannot_be_read_is_left_out(api: FakeApi, asked: str) -> None:
    api.answer(status(429, headers={"Retry-After": asked}), ok())
    time = FakeClock()
    async with client(api.url, retry=POLICY, clock=time.clock()) as tested:
        await tested.request("GET", PODS)
    assert time.slept == [0.2]


async def test_retry_after_beyond_the_budget_is_not_waited_for(api: FakeApi) -> None:
    api.answer(status(429, headers={"Retry-After": "121"}))
    time = FakeClock()
    async with client(api.url, retry=POLICY, clock=time.clock()) as tested:
        with pytest.raises(ThrottledError) as caught:
            await tested.request("GET", PODS)
    assert caught.value.retry_after_seconds == 121
    assert time.slept == []


async def test_a_budget_of_zero_is_one_try(api: FakeApi) -> None:
    api.answer(status(503))
    async with client(api.url, retry=POLICY) as tested:
        with pytest.raises(ServerError):
            await tested.request("GET", PODS, retry=NO_RETRY)
    assert len(api.seen) == 1


async def test_before_first_contact_failures_to_connect_end_with_the_connect_timeout(api: FakeApi) -> None:
    api.answer(reset)
    time = FakeClock()
    async with client(api.url, retry=POLICY, clock=time.clock(), connect_timeout_seconds=10.0) as tested:
        with pytest.raises(ConnectError, match=r"\(try 6 in 6\.2 s\)"):
            await tested.request("POST", PODS)
        assert sum(time.slept) < 10.0
        api.answer(ok(), reset)
        await tested.request("POST", PODS)
        time.slept.clear()
        with pytest.raises(ConnectError, match=r"\(try 17 in 11\d s\)"):
            await tested.request("POST", PODS)
    assert 110.0 < sum(time.slept) < 120.0


async def test_an_answer_of_any_kind_is_first_contact(api: FakeApi) -> None:
    api.answer(status(503), *[reset] * 8, ok())
    time = FakeClock()
    async with client(api.url, retry=POLICY, clock=time.clock(), connect_timeout_seconds=1.0) as tested:
        await tested.request("POST", PODS)
    assert len(api.seen) == 10


async def test_a_server_that_stops_and_comes_back(api: FakeApi) -> None:
    api.answer(ok())
    replacement = FakeApi()
    replacement.answer(ok({"back": True}))
    time = FakeClock()
    async with client(api.url, retry=POLICY, clock=time.clock()) as tested:
        await tested.request("GET", PODS)
        await api.stop()
        with pytest.raises(ConnectError, match="cannot be connected to: connection refused"):
            await tested.request("GET", PODS, retry=NO_RETRY)
        call = asyncio.create_task(tested.request("GET", PODS))
        while not time.slept:
            await asyncio.sleep(0)
        await replacement.start(port=api.port)
        try:
            assert await call == {"back": True}
        finally:
            await replacement.stop()


async def test_time_outs_are_tried_again(api: FakeApi) -> None:
    slow = itertools.count()

    async def handler(_request: web.Request) -> web.StreamResponse:
        if next(slow) < 2:
            await asyncio.Event().wait()
        return web.json_response({"try": len(api.seen)})

    api.answer(handler)
    async with client(api.url, request_timeout_seconds=0.1) as tested:
        assert await tested.request("POST", PODS) == {"try": 3}
