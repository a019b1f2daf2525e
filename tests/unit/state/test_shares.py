"""Lanes of one account on a real Redis: what each is guaranteed of the rate, and what it borrows."""

from __future__ import annotations

import pytest
from fakes.timeline import Timeline, fullest_second
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from tagmill.worker.rate import Rate
from tagmill.worker.state.keys import Keys
from tagmill.worker.state.limiter import HORIZON_SECONDS, Limiter, Share, lane_scope

ACCOUNT, KEYS = "account", Keys("test")
PER_SECOND = 100
SHARES = {"events": 0.5, "nightly": 0.3, "backfill": 0.2}
STEP_SECONDS = 0.02
FLOOD = 1000.0  #: calls a second


class Lanes:
    """Calls that each lane wants, asked for step by step, the greediest lane first."""

    def __init__(self, redis: Redis, rate: str = f"{PER_SECOND}/s", **caps: str) -> None:
        """`caps`: the rate of a lane's run."""
        self._timeline = Timeline(redis, KEYS, ACCOUNT)
        self._limiters = {lane: limiter(redis, lane, rate, caps.get(lane)) for lane in SHARES}
        self.slots: dict[str, list[float]] = {lane: [] for lane in SHARES}
        self.waits: dict[str, list[float]] = {lane: [] for lane in SHARES}  #: since a call was wanted

    async def work(self, seconds: float, **demands: float) -> tuple[float, float]:
        """`demands`: calls a second of each lane. Return when that began and ended."""
        wanted: dict[str, list[float]] = {lane: [] for lane in demands}
        owed = dict.fromkeys(demands, 0.0)
        began = await self._now()
        for _ in range(round(seconds / STEP_SECONDS)):
            for lane in sorted(demands, key=lambda lane: -demands[lane]):
                owed[lane] += demands[lane] * STEP_SECONDS
                wanted[lane] += [self._timeline.now] * int(owed[lane])
                owed[lane] %= 1
                await self._reserve(lane, wanted[lane])
            await self._timeline.pass_time(STEP_SECONDS)
        return began, await self._now()

    async def _now(self) -> float:
        await self._timeline.reserve(self._limiters["events"], 0)
        return self._timeline.now

    async def _reserve(self, lane: str, wanted: list[float]) -> None:
        slots = await self._timeline.reserve(self._limiters[lane], len(wanted))
        since, wanted[:] = wanted[: len(slots)], wanted[len(slots) :]
        self.slots[lane] += slots
        self.waits[lane] += [slot - at for slot, at in zip(slots, since, strict=True)]

    def rate(self, lane: str, start: float, end: float) -> float:
        """Return what was sent a second from `start` to `end`."""
        return sum(start <= slot < end for slot in self.slots[lane]) / (end - start)

    def rates(self, start: float, end: float) -> list[float]:
        return [self.rate(lane, start, end) for lane in SHARES]

    @property
    def all_slots(self) -> list[float]:
        return self._timeline.slots


def limiter(redis: Redis, lane: str, rate: str, cap: str | None) -> Limiter:
    windows = [(ACCOUNT, Rate.parse(rate))] + ([(f"run:{lane}", Rate.parse(cap))] if cap else [])
    return Limiter(redis, KEYS, windows, ACCOUNT, Share(lane_scope(ACCOUNT, lane), SHARES[lane]))


async def test_a_share_is_had_at_once_from_a_lane_that_floods_the_account(redis: Redis) -> None:
    lanes = Lanes(redis)
    await lanes.work(1, backfill=FLOOD)
    start, end = await lanes.work(2, backfill=FLOOD, events=50)
    assert lanes.rate("events", start + 0.5, start + 1.5) >= 48
    assert sum(lanes.rates(start, end)) == pytest.approx(PER_SECOND, rel=0.03)
    assert max(lanes.waits["events"]) <= HORIZON_SECONDS + 0.1


async def test_lanes_that_all_flood_have_their_shares_and_the_whole_rate(redis: Redis) -> None:
    lanes = Lanes(redis)
    await lanes.work(1, events=FLOOD)
    start, end = await lanes.work(3, events=FLOOD, nightly=FLOOD + 1, backfill=FLOOD + 2)
    assert lanes.rates(start + 1, end) == pytest.approx([50, 30, 20], rel=0.1)
    assert fullest_second(lanes.all_slots) <= 1.1 * PER_SECOND + 1


async def test_what_a_lane_does_not_use_is_lent_until_it_wants_it(redis: Redis) -> None:
    lanes = Lanes(redis)
    start, end = await lanes.work(2, backfill=FLOOD)
    assert lanes.rate("backfill", start, end) == pytest.approx(PER_SECOND, rel=0.1)
    start, end = await lanes.work(2, backfill=FLOOD, nightly=10)
    assert lanes.rates(start + 0.5, end) == pytest.approx([0, 10, 90], abs=3)


async def test_at_one_call_a_second_a_share_still_counts(redis: Redis) -> None:
    lanes = Lanes(redis, "1/s")
    await lanes.work(5, backfill=FLOOD)
    start, end = await lanes.work(20, backfill=FLOOD, events=FLOOD / 2)
    assert lanes.rate("events", start, end) >= 0.4


async def test_the_cap_of_a_run_holds_within_its_share(redis: Redis) -> None:
    lanes = Lanes(redis, events="10/s")
    start, end = await lanes.work(3, events=FLOOD, backfill=FLOOD + 1)
    assert lanes.rates(start + 1, end) == pytest.approx([10, 0, 90], abs=3)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(demands=st.fixed_dictionaries({lane: st.sampled_from([0.0, 10, 25, 60, FLOOD]) for lane in SHARES}))
async def test_each_lane_has_what_it_wants_of_its_share(redis: Redis, demands: dict[str, float]) -> None:
    await redis.flushall()
    lanes = Lanes(redis)
    await lanes.work(0.5, backfill=FLOOD)
    start, end = await lanes.work(2, **demands)
    for lane, part in SHARES.items():
        assert lanes.rate(lane, start + 0.5, end) >= 0.9 * min(demands[lane], part * PER_SECOND) - 1
    assert sum(lanes.rates(start + 0.5, end)) >= 0.9 * min(sum(demands.values()), PER_SECOND)
    assert fullest_second(lanes.all_slots) <= 1.1 * PER_SECOND + 1
