"""What every limiter promises; the real one on a real Redis, the fake in memory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from typing import Protocol

import pytest
from fakes.limiter import FakeLimiter
from servers.redis import RedisUnderTest, running_redis

from tagmill.worker.rate import Rate
from tagmill.worker.state.keys import Keys
from tagmill.worker.state.limiter import Limiter, LimiterSnapshot, PermitFarAway

RATE = Rate.parse("200/s")


class AnyLimiter(Protocol):
    held_seconds: float

    async def acquire(self, max_wait: float = 15.0) -> None: ...
    async def spare(self) -> float: ...
    async def throttled(self, retry_after: float | None) -> None: ...
    async def snapshot(self) -> LimiterSnapshot: ...


@pytest.fixture(scope="module")
def redis_server() -> Iterator[RedisUnderTest]:
    with running_redis() as server:
        yield server


@pytest.fixture(params=["real", "fake"])
async def limiter(request: pytest.FixtureRequest, redis_server: RedisUnderTest) -> AsyncIterator[AnyLimiter]:
    if request.param == "fake":
        yield FakeLimiter(RATE)
        return
    async with redis_server.client() as redis:
        await redis.flushall()
        yield Limiter(redis, Keys("contract"), [("account", RATE)], "account")


async def timed(limiter: AnyLimiter, permits: int) -> float:
    started = time.monotonic()
    await asyncio.gather(*(limiter.acquire() for _ in range(permits)))
    return time.monotonic() - started


async def test_permits_are_paced_from_the_first_on(limiter: AnyLimiter) -> None:
    assert await timed(limiter, 21) >= 0.095


async def test_waiting_is_added_up(limiter: AnyLimiter) -> None:
    await timed(limiter, 11)
    assert limiter.held_seconds >= 0.2  # 0 + 5 + 10 + … + 50 ms


async def test_a_permit_too_far_away_is_refused_and_the_wait_told(limiter: AnyLimiter) -> None:
    await limiter.throttled(100)
    with pytest.raises(PermitFarAway) as refusal:
        await limiter.acquire(max_wait=15)
    assert 99 < refusal.value.wait_seconds <= 100


async def test_a_refusal_consumes_nothing(limiter: AnyLimiter) -> None:
    await limiter.throttled(0.3)
    for _ in range(100):
        with pytest.raises(PermitFarAway):
            await limiter.acquire(max_wait=0.01)
    started = time.monotonic()
    await limiter.acquire()
    assert time.monotonic() - started < 0.5


async def test_throttling_blocks_for_as_long_as_the_server_asks(limiter: AnyLimiter) -> None:
    await limiter.throttled(0.2)
    assert await timed(limiter, 1) >= 0.17


async def test_throttling_halves_the_rate_once_for_each_block(limiter: AnyLimiter) -> None:
    for _ in range(64):
        await limiter.throttled(30)
    snapshot = await limiter.snapshot()
    assert snapshot.factor == 0.5
    assert 29 < snapshot.blocked_seconds <= 30


async def test_a_free_account_is_not_blocked(limiter: AnyLimiter) -> None:
    assert await limiter.snapshot() == LimiterSnapshot(blocked_seconds=0.0, factor=1.0)


async def test_a_cancelled_wait_leaves_the_limiter_in_order(limiter: AnyLimiter) -> None:
    lanes = [asyncio.create_task(limiter.acquire()) for _ in range(20)]
    await asyncio.sleep(0)
    for lane in lanes:
        lane.cancel()
    await asyncio.gather(*lanes, return_exceptions=True)
    assert await timed(limiter, 5) < 1.0


async def test_a_permit_is_spare_when_nobody_waits_for_it(limiter: AnyLimiter) -> None:
    assert await limiter.spare() == 0.0
    wait = await limiter.spare()
    assert 0 < wait <= 0.05
    await asyncio.sleep(wait + 0.01)
    assert await limiter.spare() == 0.0


async def test_no_permit_is_spare_while_lanes_wait_or_the_account_is_blocked(limiter: AnyLimiter) -> None:
    lanes = [asyncio.create_task(limiter.acquire()) for _ in range(40)]
    await lanes[0]
    assert await limiter.spare() > 0
    await asyncio.gather(*lanes)
    await limiter.throttled(10)
    assert await limiter.spare() > 9


async def test_taking_what_is_spare_keeps_the_rate(limiter: AnyLimiter) -> None:
    started, taken = time.monotonic(), 0
    while taken < 21:
        if (wait := await limiter.spare()) == 0:
            taken += 1
        else:
            await asyncio.sleep(wait)
    assert time.monotonic() - started >= 0.06
