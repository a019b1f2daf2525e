from __future__ import annotations

import asyncio
from typing import Any

import pytest
from redis.asyncio import Redis

from tagmill.worker.state.breaker import BELIEVED_SECONDS, COUNTED_SECONDS, PROBE_SECONDS, Breaker
from tagmill.worker.state.keys import Keys

KEYS = Keys("test")


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(redis: Redis, clock: Clock) -> Breaker:
    return Breaker(redis, KEYS, "account", clock=clock)


async def fail(breaker: Breaker, times: int, images: int = 1000, *, unreachable: bool = False) -> bool:
    answers = [await breaker.failed(f"image-{i % images}", unreachable) for i in range(times)]
    return answers[-1]


async def probe_is_due(redis: Redis) -> None:
    await redis.hset(KEYS.breaker("account"), "probe_at", "1")


async def age(redis: Redis, seconds: int) -> None:
    """Move all counts into the past."""
    key = KEYS.breaker("account")
    stored: Any = await redis.hgetall(key)
    for name, value in stored.items():
        kind, _, second = name.decode().partition(":")
        if second:
            await redis.hdel(key, name)
            await redis.hset(key, f"{kind}:{int(second) - seconds}", value)


async def test_calls_are_made_at_first(breaker: Breaker) -> None:
    assert await breaker.admit() == 0.0
    assert (await breaker.snapshot()).open_since is None


async def test_six_images_that_fail_in_a_row_switch_calls_off(breaker: Breaker) -> None:
    assert not await fail(breaker, 5)
    assert await fail(breaker, 6)
    assert 0 < await breaker.admit() <= PROBE_SECONDS
    snapshot = await breaker.snapshot()
    assert snapshot.open_since is not None
    assert snapshot.reason == "6 calls failed in a row"


async def test_the_same_images_failing_over_and_over_may_be_bad_images(breaker: Breaker) -> None:
    assert not await fail(breaker, 40, images=5)


async def test_one_image_is_enough_when_nothing_can_be_reached(breaker: Breaker) -> None:
    assert await fail(breaker, 6, images=1, unreachable=True)


async def test_missing_connections_and_answers_are_one_row(breaker: Breaker) -> None:
    assert not await fail(breaker, 9, images=1)
    assert await fail(breaker, 5, images=1, unreachable=True)


async def test_a_success_starts_the_row_again(breaker: Breaker) -> None:
    await fail(breaker, 5)
    await breaker.succeeded()
    assert not await fail(breaker, 5)


async def test_half_of_twenty_calls_failing_switches_calls_off(breaker: Breaker) -> None:
    for _ in range(9):
        await breaker.succeeded()
        await breaker.failed("image", unreachable=False)
    await breaker.succeeded()
    assert await breaker.failed("image", unreachable=False)
    assert (await breaker.snapshot()).reason == "10 of 20 calls failed within 30 s"


async def test_less_than_half_failing_does_not(breaker: Breaker) -> None:
    for _ in range(30):
        await breaker.succeeded()
        await breaker.succeeded()
        assert not await breaker.failed("image", unreachable=False)


async def test_failures_older_than_the_window_are_forgotten(breaker: Breaker, redis: Redis) -> None:
    for _ in range(9):
        await breaker.succeeded()
        await breaker.failed("image", unreachable=False)
    await age(redis, 31)
    await breaker.succeeded()
    assert not await breaker.failed("image", unreachable=False)


async def test_while_calls_are_off_one_process_probes(redis: Redis, breaker: Breaker) -> None:
    await fail(breaker, 8)
    await probe_is_due(redis)
    fleet = [Breaker(redis, KEYS, "account") for _ in range(10)]
    waits = [await process.admit() for process in fleet]
    assert waits.count(0.0) == 1
    assert all(PROBE_SECONDS - 1 < wait <= PROBE_SECONDS for wait in waits if wait)


async def test_lanes_of_one_process_probe_once(redis: Redis, breaker: Breaker, clock: Clock) -> None:
    await fail(breaker, 8)
    assert await breaker.admit() > 0
    clock.now += PROBE_SECONDS
    await probe_is_due(redis)
    waits = await asyncio.gather(*(breaker.admit() for _ in range(64)))
    waits += await asyncio.gather(*(breaker.admit() for _ in range(64)))
    assert waits.count(0.0) == 1


async def test_a_probe_that_succeeds_switches_calls_on(redis: Redis, breaker: Breaker) -> None:
    await fail(breaker, 8)
    await probe_is_due(redis)
    assert await breaker.admit() == 0.0
    await breaker.succeeded()
    assert await breaker.admit() == 0.0
    assert (await breaker.snapshot()).open_since is None
    assert await Breaker(redis, KEYS, "account").admit() == 0.0


async def test_a_probe_that_fails_leaves_calls_off(redis: Redis, breaker: Breaker) -> None:
    await fail(breaker, 8)
    await probe_is_due(redis)
    await breaker.admit()
    assert await breaker.failed("image", unreachable=False)
    assert await breaker.admit() > 0


async def test_a_call_begun_before_cannot_switch_calls_on(breaker: Breaker) -> None:
    await fail(breaker, 8)
    await breaker.succeeded()
    assert await breaker.admit() > 0


async def test_others_learn_of_it_within_a_second(redis: Redis, breaker: Breaker, clock: Clock) -> None:
    other = Breaker(redis, KEYS, "account", clock=clock)
    assert await other.admit() == 0.0
    await fail(breaker, 8)
    clock.now += BELIEVED_SECONDS
    assert await other.admit() > 0


async def test_calls_and_successes_seldom_ask_redis(redis: Redis, breaker: Breaker, clock: Clock) -> None:
    async def scripts() -> int:
        return int((await redis.info("commandstats"))["cmdstat_evalsha"]["calls"])

    await breaker.admit()
    await breaker.succeeded()
    before = await scripts()
    for _ in range(400):
        await breaker.admit()
        await breaker.succeeded()
    assert await scripts() == before
    clock.now += COUNTED_SECONDS
    await breaker.succeeded()
    assert await scripts() == before + 1
    stored: Any = await redis.hgetall(KEYS.breaker("account"))
    assert sum(int(count) for name, count in stored.items() if name.startswith(b"ok:")) == 402


async def test_a_state_nobody_touches_is_forgotten(redis: Redis, breaker: Breaker) -> None:
    await fail(breaker, 1)
    assert 0 < await redis.ttl(KEYS.breaker("account")) <= 600
