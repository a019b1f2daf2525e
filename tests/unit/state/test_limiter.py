from __future__ import annotations

import asyncio
from typing import Any

import pytest
from fakes.timeline import Timeline, fullest_second
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis
from servers.redis import RedisUnderTest, running_redis

from tagmill.worker.errors import RedisUnavailableError
from tagmill.worker.rate import Rate
from tagmill.worker.state.keys import Keys
from tagmill.worker.state.limiter import HORIZON_SECONDS, SHIFT_SECONDS, Limiter, PermitFarAway

ACCOUNT = "account"
KEYS = Keys("test")
simulated = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def limiter(redis: Redis, rate: str, run: str | None = None, **clock: object) -> Limiter:
    windows = [(ACCOUNT, Rate.parse(rate))] + ([("run", Rate.parse(run))] if run else [])
    return Limiter(redis, KEYS, windows, ACCOUNT, **clock)  # type: ignore[arg-type] # clock= and sleep=


class Clock:
    """Local time; a sleep takes `overslept` longer than asked."""

    def __init__(self, overslept: float = 0.0) -> None:
        self.now, self.overslept = 0.0, overslept

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds + self.overslept
        self.overslept = 0.0
        await asyncio.sleep(0)


class Lane:
    """A sleep that tells when it has begun."""

    def __init__(self) -> None:
        self.asleep = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        if seconds > 0:
            self.asleep.set()
        await asyncio.sleep(seconds)


async def due_time(redis: Redis) -> int:
    stored: Any = await redis.get(KEYS.limit(ACCOUNT))
    return int(stored)


async def test_slots_lie_evenly_from_now_to_the_horizon(redis: Redis) -> None:
    reservation = await limiter(redis, "100/s").reserve(1000)
    assert list(reservation.slots) == pytest.approx([i * 0.01 for i in range(26)], abs=1e-5)
    assert reservation.next_slot == pytest.approx(0.26, abs=1e-5)
    assert reservation.ask_again == pytest.approx(0.26 - HORIZON_SECONDS, abs=1e-5)


async def test_a_window_of_an_hour_is_paced_evenly(redis: Redis) -> None:
    reservation = await limiter(redis, "20/s,360/h").reserve(5)
    assert list(reservation.slots) == [0.0]
    assert reservation.next_slot == pytest.approx(10, abs=0.01)


async def test_a_day_is_a_budget_and_sets_no_pace(redis: Redis) -> None:
    assert len((await limiter(redis, "20/s,10/d", run="10/d").reserve(5)).slots) == 5


async def test_processes_continue_where_the_others_stopped(redis: Redis) -> None:
    timeline = Timeline(redis, KEYS, ACCOUNT)
    first = await timeline.reserve(limiter(redis, "100/s"), 5)
    second = await timeline.reserve(limiter(redis, "100/s"), 5)
    assert second[0] == pytest.approx(first[-1] + 0.01, abs=1e-5)


async def test_what_another_release_reserved_is_taken(redis: Redis) -> None:
    seconds, microseconds = await redis.time()
    await redis.set(KEYS.limit(ACCOUNT), f"{seconds * 1_000_000 + microseconds + 200_000}", px=2000)
    [slot] = (await limiter(redis, "100/s").reserve(1)).slots
    assert slot == pytest.approx(0.2, abs=0.05)


Steps = st.lists(
    st.tuples(st.integers(0, 3), st.integers(1, 60), st.floats(0, 0.4)), min_size=20, max_size=60
)


@simulated
@given(steps=Steps, rate=st.sampled_from(["5/s", "20/s", "100/s"]))
async def test_no_interleaving_of_processes_exceeds_the_rate(
    redis: Redis, steps: list[tuple[int, int, float]], rate: str
) -> None:
    await redis.flushall()
    timeline = Timeline(redis, KEYS, ACCOUNT)
    processes = [
        limiter(redis, rate),
        limiter(redis, rate),
        limiter(redis, rate, "3/s"),
        limiter(redis, rate, "15/s"),
    ]
    for process, count, seconds in steps:
        await timeline.reserve(processes[process], count)
        await timeline.pass_time(seconds)
    assert fullest_second(timeline.slots) <= 1.1 * Rate.parse(rate).per_second + 1


async def test_a_run_with_a_lower_rate_leaves_the_rest_to_others(redis: Redis) -> None:
    timeline = Timeline(redis, KEYS, ACCOUNT)
    slow, fast = limiter(redis, "100/s", "20/s"), limiter(redis, "100/s")
    own: list[float] = []
    for _ in range(200):
        own += await timeline.reserve(slow, 64)
        await timeline.reserve(fast, 64)
        await timeline.pass_time(0.02)
    seconds = max(timeline.slots) - min(timeline.slots)
    assert len(own) == pytest.approx(20 * seconds, rel=0.1)
    assert len(timeline.slots) == pytest.approx(100 * seconds, rel=0.03)
    assert fullest_second(own) <= 1.2 * 20 + 1


async def test_a_rate_raised_later_holds_at_once(redis: Redis) -> None:
    hourly = limiter(redis, "1/h")
    await hourly.reserve(1)
    assert (await hourly.reserve(1)).next_slot > 3500
    assert (await limiter(redis, "10/s").reserve(1)).next_slot < 1.0


async def test_the_factor_recovers_in_less_than_a_minute(redis: Redis) -> None:
    timeline, throttled = Timeline(redis, KEYS, ACCOUNT), limiter(redis, "100/s")
    factors = []
    for _ in range(6):
        await throttled.throttled(5)
        factors.append((await throttled.snapshot()).factor)
        await timeline.pass_time(5.01)
    assert factors == [pytest.approx(max(2.0**-n, 1 / 16), abs=0.01) for n in range(1, 7)]
    await timeline.pass_time(22.5)
    assert (await throttled.snapshot()).factor == pytest.approx(0.5625, abs=0.02)
    await timeline.pass_time(22.5)
    assert (await throttled.snapshot()).factor == 1.0


async def test_a_slowed_account_hands_out_fewer_slots(redis: Redis) -> None:
    timeline, throttled = Timeline(redis, KEYS, ACCOUNT), limiter(redis, "100/s")
    await throttled.throttled(5)
    await timeline.pass_time(5.5)
    slots = await timeline.reserve(throttled, 100)
    assert slots[1] - slots[0] == pytest.approx(0.02, abs=0.001)


async def test_back_off_doubles_while_the_server_keeps_throttling(redis: Redis) -> None:
    timeline, throttled = Timeline(redis, KEYS, ACCOUNT), limiter(redis, "100/s")
    blocks = []
    for _ in range(8):
        await throttled.throttled(None)
        blocks.append((await throttled.snapshot()).blocked_seconds)
        await timeline.pass_time(blocks[-1] + 0.01)
    for strikes, block in enumerate(blocks):
        longest = min(2.0**strikes, 60)
        assert longest / 2 - 0.1 <= block <= longest


async def test_back_off_starts_small_after_a_quiet_minute(redis: Redis) -> None:
    timeline, throttled = Timeline(redis, KEYS, ACCOUNT), limiter(redis, "100/s")
    for _ in range(5):
        await throttled.throttled(None)
        await timeline.pass_time(30)
    await timeline.pass_time(61)
    await throttled.throttled(None)
    assert (await throttled.snapshot()).blocked_seconds <= 1


async def test_a_longer_demand_within_a_block_extends_it(redis: Redis) -> None:
    throttled = limiter(redis, "100/s")
    for seconds in (5, 30, 10):
        await throttled.throttled(seconds)
    assert (await throttled.snapshot()).blocked_seconds == pytest.approx(30, abs=0.5)


async def test_a_block_holds_for_every_process(redis: Redis) -> None:
    await limiter(redis, "100/s").throttled(60)
    with pytest.raises(PermitFarAway):
        await limiter(redis, "100/s").acquire()


async def test_a_slot_reserved_before_a_block_is_not_used(redis: Redis) -> None:
    lane = Lane()
    lanes = limiter(redis, "20/s", sleep=lane.sleep)
    await lanes.reserve(4)
    waiting = asyncio.create_task(lanes.acquire())
    await lane.asleep.wait()
    await lanes.throttled(60)
    with pytest.raises(PermitFarAway):
        await waiting


@pytest.mark.parametrize(("overslept", "slots_used"), [(0.05, 1), (0.2, 2)])
async def test_a_slot_missed_by_far_is_replaced(redis: Redis, overslept: float, slots_used: int) -> None:
    clock = Clock(overslept)
    lanes = limiter(redis, "100/s", clock=clock, sleep=clock.sleep)
    await lanes.reserve(10)
    due = await due_time(redis)
    await lanes.acquire()
    assert await due_time(redis) == due + slots_used * 10_000
    assert lanes.held_seconds >= overslept


async def test_a_slower_run_reserves_little_ahead_of_the_account(redis: Redis) -> None:
    reservation = await limiter(redis, "100/s", "20/s").reserve(64)
    assert list(reservation.slots) == pytest.approx([0.0, 0.05], abs=1e-5)
    assert reservation.ask_again == pytest.approx(0.1 - 0.02 - SHIFT_SECONDS, abs=1e-5)


async def test_lanes_waiting_together_share_one_reservation(redis: Redis) -> None:
    lanes = limiter(redis, "1000/s")
    await lanes.acquire()
    before = (await redis.info("commandstats"))["cmdstat_evalsha"]["calls"]
    await asyncio.gather(*(lanes.acquire() for _ in range(64)))
    assert (await redis.info("commandstats"))["cmdstat_evalsha"]["calls"] - before <= 3


async def test_a_cancelled_lane_leaves_its_slot_to_the_next(redis: Redis) -> None:
    lane = Lane()
    lanes = limiter(redis, "20/s", sleep=lane.sleep)
    await lanes.reserve(4)
    waiting = asyncio.create_task(lanes.acquire())
    await lane.asleep.wait()
    due = await due_time(redis)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await lanes.acquire()
    assert await due_time(redis) == due


async def test_a_lost_redis_is_told_to_every_lane() -> None:
    with running_redis() as server:
        await _lose(server)


async def _lose(server: RedisUnderTest) -> None:
    async with Redis.from_url(server.url, retry=None) as redis:
        lanes = limiter(redis, "100/s")
        await lanes.acquire()
        server.kill()
        results = await asyncio.gather(*(lanes.acquire() for _ in range(5)), return_exceptions=True)
        assert [type(result) for result in results] == [RedisUnavailableError] * 5
        server.restart()
        await lanes.acquire()
