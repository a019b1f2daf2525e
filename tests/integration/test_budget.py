"""Caps hold whatever happens: workers die, Redis is wiped or set back, requests are repeated late."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

import pytest
from fakes.files import MemoryFiles
from fakes.limiter import FakeLimiter
from fakes.runs import RUN, a_spec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from redis.asyncio import Redis
from servers.redis import RedisUnderTest, running_redis

from tagmill.worker.admission import Admission
from tagmill.worker.budget import Budget, Cap, Permit
from tagmill.worker.equipment import Equipment
from tagmill.worker.errors import BudgetExhaustedError
from tagmill.worker.state.board import Board
from tagmill.worker.state.budget import OpenGrants
from tagmill.worker.state.connection import Script, connect
from tagmill.worker.state.keys import Keys
from tagmill.worker.state.limiter import PermitFarAway
from tagmill.worker.store.base import Files
from tagmill.worker.store.folder import Folder
from tagmill.worker.store.grants import Grant, Grants, Period, run_grants
from tagmill.worker.store.runs import Control, Runs, RunSpec
from tagmill.worker.waiting import Waiting

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
ACCOUNT = "accounts/an-account"
_prefixes = map("budget-{}".format, itertools.count())


class Fleet(NamedTuple):
    """One Redis for all examples; each keeps to a prefix of its own."""

    client: Any  #: redis-py types every reply as bytes or str or more
    aredis: Redis
    loop: asyncio.Runner


@pytest.fixture(scope="module")
def fleet(redis_server: RedisUnderTest) -> Iterator[Fleet]:
    with redis_server.sync_client() as client, asyncio.Runner() as loop:
        aredis = redis_server.client()
        yield Fleet(client, aredis, loop)
        loop.run(aredis.aclose())


class Site:
    """A run under caps, and what may draw from them."""

    def __init__(self, redis: Redis, files: Files | None = None, **spec: Any) -> None:
        self.redis, self.keys = redis, Keys(next(_prefixes))
        self.files = MemoryFiles() if files is None else files
        self.spec: RunSpec = a_spec(**spec)
        self.now = NOON
        Runs(self.files).create(self.spec)

    def budget(self, *others: Cap, open_grants: OpenGrants | None = None) -> Budget:
        """Another worker's."""
        counting = open_grants or OpenGrants(self.redis, self.keys)
        return Budget(self.spec, Runs(self.files), others, counting, now=lambda: self.now)

    @property
    def granted(self) -> int:
        return run_grants(self.files, RUN).granted()

    async def flush(self) -> None:
        """`FLUSHALL`, of our prefix."""
        async for key in self.redis.scan_iter(self.keys.queue("*"), count=1000):
            await self.redis.delete(key)


async def drain(*budgets: Budget) -> int:
    """Draw until nothing is left; return how many calls that were."""
    drawn = 0
    with contextlib.suppress(BudgetExhaustedError):
        for budget in itertools.cycle(budgets):
            await budget.draw()
            drawn += 1
    return drawn


def of_day(calls: int, **more: Any) -> Cap:
    return Cap("the account's calls of this day", ACCOUNT, Period.DAY, "wait", calls, **more)


# --- one thing at a time ----------------------------------------------------------------------------------


@pytest.mark.parametrize("cap", [1, 7, 250])
@pytest.mark.parametrize("workers", [1, 3])
async def test_exactly_as_many_calls_as_the_cap_can_be_drawn(redis: Redis, cap: int, workers: int) -> None:
    site = Site(redis, max_calls=cap)
    assert await drain(*(site.budget() for _ in range(workers))) == cap
    with pytest.raises(BudgetExhaustedError, match=f"the run's cap of {cap} calls is used up: resume"):
        await site.budget().draw()


async def test_lanes_of_many_workers_at_once_draw_exactly_the_cap(redis: Redis) -> None:
    site = Site(redis, max_calls=333)
    lanes = [drain(budget) for budget in [site.budget() for _ in range(4)] for _ in range(8)]
    assert sum(await asyncio.gather(*lanes)) == 333


async def test_a_cap_on_the_cost_is_one_on_calls(redis: Redis) -> None:
    site = Site(redis, max_cost="0.10", price_per_1000="1.5", max_calls=100)
    assert await drain(site.budget()) == 66


async def test_without_a_cap_calls_are_counted_all_the_same_and_one_can_be_set_later(redis: Redis) -> None:
    site = Site(redis)
    budget = site.budget()
    for _ in range(30):
        await budget.draw()
    Runs(site.files).set_control(RUN, Control(max_calls=50))
    budget.heed(Runs(site.files).control(RUN))
    assert await drain(budget, site.budget()) == 20


async def test_a_raised_cap_is_heard_of_when_the_old_one_is_used_up(redis: Redis) -> None:
    site = Site(redis, max_calls=10)
    budget = site.budget()
    assert await drain(budget) == 10
    Runs(site.files).set_control(RUN, Control(max_calls=25))
    assert await drain(budget) == 15


async def test_a_wiped_redis_costs_what_was_open_and_no_more(redis: Redis) -> None:
    site = Site(redis, max_calls=10_000)
    budget = site.budget()
    await budget.draw()
    await site.flush()
    assert await drain(budget) == 10_000 - 100  # a hundredth was open, one call of it was made


async def test_a_restart_that_brings_back_an_older_count_does_not_give_calls_twice() -> None:
    with running_redis() as server:
        async with connect(server.url) as redis:
            site = Site(redis, max_calls=300)
            budget = site.budget()
            for _ in range(2):
                await budget.draw()
            await redis.save()
            await budget.draw()
            server.restart()
            assert await redis.exists(site.keys.grant(run_grants(site.files, RUN).folder))
            assert await drain(budget) == 300 - 3  # not the one that the older count still had


async def test_what_is_open_can_be_put_back_before_redis_goes(redis: Redis) -> None:
    site = Site(redis, max_calls=10_000)
    account = of_day(50_000)
    budget = site.budget(account)
    for _ in range(7):
        await budget.draw()
    await budget.settle()
    assert site.granted == 7
    assert Grants(site.files, f"{ACCOUNT}/grants/2026-11-22").granted() == 7
    await site.flush()
    assert await drain(site.budget(account)) == 10_000 - 7


async def test_a_new_run_begins_anew_though_redis_remembers_an_earlier_one_of_its_name(
    redis: Redis, fleet: Fleet
) -> None:
    site = Site(redis, max_calls=1000)
    for _ in range(15):
        await site.budget().draw()
    site.files = MemoryFiles()
    Board(fleet.client, site.keys, "queue").forget_run(RUN)
    assert await drain(site.budget()) == 1000


async def test_a_call_that_was_not_sent_serves_another_lane(redis: Redis) -> None:
    site = Site(redis, max_calls=3)
    budget = site.budget()
    for _ in range(20):
        budget.give_back(await budget.draw())
    assert await drain(budget) == 3


async def test_a_lane_that_is_stopped_loses_no_call(redis: Redis) -> None:
    site = Site(redis, max_calls=5)
    budget = site.budget()
    for _ in range(5):
        lane = asyncio.create_task(budget.draw())
        await asyncio.sleep(0)
        lane.cancel()
        await asyncio.wait([lane])
    assert await drain(budget) == 5


# --- periods ----------------------------------------------------------------------------------------------


async def test_a_day_of_the_account_is_shared_by_its_runs_and_opens_anew(redis: Redis) -> None:
    site = Site(redis)
    day = of_day(20)
    assert await drain(site.budget(day), site.budget(day)) == 20
    with pytest.raises(
        BudgetExhaustedError, match=r"of this day of 20 calls is used up until 2026-11-23 00:00 UTC"
    ):
        await site.budget(day).draw()
    site.now += timedelta(days=1)
    assert await drain(site.budget(day)) == 20


async def test_a_rate_per_day_is_waited_for(redis: Redis) -> None:
    site = Site(redis)
    budget = site.budget(of_day(2, waits=True))
    for _ in range(2):
        await budget.draw()
    with pytest.raises(PermitFarAway) as away:
        await budget.draw()
    assert away.value.wait_seconds == 12 * 3600 + 1


async def test_a_runs_own_rate_per_day_may_be_set_while_it_goes_on(redis: Redis) -> None:
    site = Site(redis, rate="20/s")
    budget, other = site.budget(), site.budget()
    for _ in range(3):
        await budget.draw()
    budget.heed(Runs(site.files).set_control(RUN, Control(rate="20/s,2/d")))
    await budget.draw()
    await other.draw()
    with pytest.raises(PermitFarAway):
        await budget.draw()
    budget.heed(Runs(site.files).set_control(RUN, Control(rate="20/s")))
    await budget.draw()


async def test_a_call_whose_turn_comes_after_midnight_is_drawn_anew(redis: Redis) -> None:
    site = Site(redis)
    day = of_day(3)
    kit = SimpleNamespace(budget=site.budget(day), limiter=MidnightLimiter(site))
    waiting = Waiting(float("inf"), time.monotonic, asyncio.sleep)
    admission = Admission(cast(Equipment, kit), waiting, time.monotonic, asyncio.sleep)
    assert await admission.permit() == (f"runs/{RUN}/grants/run", f"{ACCOUNT}/grants/2026-11-23")
    assert await drain(site.budget(day)) == 2


class MidnightLimiter(FakeLimiter):
    """Lets a call wait until the next day."""

    def __init__(self, site: Site) -> None:
        super().__init__()
        self._site = site

    async def acquire(self, max_wait: float = 15.0) -> None:
        await super().acquire(max_wait)
        self._site.now += timedelta(days=1)


async def test_a_call_of_yesterday_is_none_of_today(redis: Redis) -> None:
    site = Site(redis)
    budget = site.budget(of_day(2))
    permit = await budget.draw()
    site.now += timedelta(days=1)
    assert budget.outdated(permit)
    budget.give_back(permit)
    assert await drain(budget) == 2


@pytest.mark.parametrize(
    ("period", "now", "name", "end"),
    [
        (Period.RUN, NOON, "run", None),
        (Period.DAY, NOON, "2026-11-22", datetime(2026, 11, 23, tzinfo=UTC)),
        (Period.MONTH, NOON, "2026-11", datetime(2026, 12, 1, tzinfo=UTC)),
        (
            Period.MONTH,
            datetime(2026, 12, 31, 23, 59, tzinfo=UTC),
            "2026-12",
            datetime(2027, 1, 1, tzinfo=UTC),
        ),
        (Period.DAY, datetime(2028, 2, 28, tzinfo=UTC), "2028-02-28", datetime(2028, 2, 29, tzinfo=UTC)),
    ],
)
def test_periods_are_those_of_utc(period: Period, now: datetime, name: str, end: datetime | None) -> None:
    assert (period.at(now), period.end(now)) == (name, end)


# --- grants -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cap", "granted", "calls"),
    [
        (1, 0, 1),
        (199, 0, 1),
        (200, 0, 2),
        (1000, 0, 10),
        (10**6, 0, 1000),
        (10**9, 0, 1000),
        (5, 5, 0),
        (5, 9, 0),
    ],
)
def test_a_grant_is_a_hundredth_of_what_is_left_within_bounds(cap: int, granted: int, calls: int) -> None:
    grants = Grants(MemoryFiles(), "grants")
    if granted:
        grants.give_back(-granted)
    assert grants.open(cap) == (Grant(1 + bool(granted), calls, granted + calls) if calls else None)


def test_grants_of_many_writers_add_up_to_the_cap(tmp_path: Path) -> None:
    async def write(grants: Grants) -> int:
        calls = 0
        while (grant := await asyncio.to_thread(grants.open, 120)) is not None:
            calls += grant.calls
        return calls

    async def all_of_them() -> list[int]:
        return await asyncio.gather(*(write(Grants(Folder(tmp_path), "grants")) for _ in range(6)))

    assert sum(asyncio.run(all_of_them())) == 120


# --- whatever happens -------------------------------------------------------------------------------------


class RepeatedScript(Script):
    """Remembers what it was sent, for a network that delivers it again, late."""

    def __init__(self, redis: Redis, name: str, sent: list[tuple[RepeatedScript, Any]]) -> None:
        super().__init__(redis, name)
        self.name, self._sent = name, sent

    async def __call__(self, keys: Sequence[str], args: Sequence[str | bytes | float] = ()) -> Any:
        self._sent.append((self, (keys, args)))
        return await super().__call__(keys, args)


class SlowGrants(OpenGrants):
    """Opens a grant when it is let: anything may happen after its file was written."""

    def __init__(self, site: Site, sent: list[tuple[RepeatedScript, Any]]) -> None:
        super().__init__(site.redis, site.keys)
        self._draw = RepeatedScript(site.redis, "grant_draw", sent)
        self._open = RepeatedScript(site.redis, "grant_open", sent)
        self.gate, self.reached = asyncio.Event(), asyncio.Event()
        self.gate.set()
        self.waiting: Grant | None = (
            None  #: written, not open; of the account, one without calls stands for it
        )
        self.refused = 0  #: calls of grants of the run that were not opened

    async def open(self, scope: str, grant: Grant, ticket: bytes) -> bool:
        of_run = scope.startswith("runs/")
        self.waiting = grant if of_run else Grant()
        self.reached.set()
        await self.gate.wait()
        self.waiting = None
        opened = await super().open(scope, grant, ticket)
        if of_run and not opened:
            self.refused += grant.calls
        return opened


class Drawer:
    """One worker process."""

    def __init__(self, site: Site, day: Cap, sent: list[tuple[RepeatedScript, Any]]) -> None:
        self.grants = SlowGrants(site, sent)
        self.budget = site.budget(day, open_grants=self.grants)
        self.held: list[Permit] = []  #: drawn, the call is not sent yet
        self.slow: asyncio.Task[Permit] | None = None

    @property
    def unsent(self) -> int:
        waiting = self.grants.waiting.calls if self.grants.waiting else 0
        return len(self.held) + self.budget._spare + waiting


class Spending(RuleBasedStateMachine):
    def __init__(self, fleet: Fleet) -> None:
        super().__init__()
        self.fleet = fleet

    @initialize(cap=st.integers(1, 400), a_day=st.integers(1, 400))
    def begin(self, cap: int, a_day: int) -> None:
        self.site = Site(self.fleet.aredis, max_calls=cap)
        self.board = Board(self.fleet.client, self.site.keys, "queue")
        self.cap, self.a_day = cap, a_day
        self.sent: list[tuple[RepeatedScript, Any]] = []
        self.workers: list[Drawer] = []
        self.made = Counter[datetime]()  #: calls, by their day
        self.lost = 0  #: calls of the run that are granted, and will never be made
        self.join()

    def run(self, step: Any) -> Any:
        return self.fleet.loop.run(step)

    def pick(self, which: int) -> Drawer:
        return self.workers[which % len(self.workers)]

    # --- workers

    @precondition(lambda self: len(self.workers) < 4)
    @rule()
    def join(self) -> None:
        self.workers.append(self.run(self._joined()))

    async def _joined(self) -> Drawer:
        return Drawer(self.site, of_day(self.a_day), self.sent)

    @precondition(lambda self: len(self.workers) > 1)
    @rule(which=st.integers(0, 3))
    def die(self, which: int) -> None:
        worker = self.pick(which)
        self.workers.remove(worker)
        self.lost += worker.unsent + worker.grants.refused
        if worker.slow is not None:
            self.run(self._cancelled(worker.slow, worker))

    async def _cancelled(self, task: asyncio.Task[Permit], worker: Drawer) -> None:
        for each in (task, worker.budget._bringing):
            if each is not None:
                each.cancel()
                await asyncio.wait([each])

    # --- calls

    @rule(which=st.integers(0, 3), calls=st.integers(1, 30))
    def call(self, which: int, calls: int) -> None:
        worker = self.pick(which)
        if worker.slow is None:
            self.run(self._call(worker, calls))

    @rule(calls=st.integers(1, 12))
    def call_all_at_once(self, calls: int) -> None:
        self.run(self._call_all([worker for worker in self.workers if worker.slow is None], calls))

    async def _call_all(self, workers: Sequence[Drawer], calls: int) -> None:
        await asyncio.gather(*(self._call(worker, calls) for worker in workers for _ in range(3)))

    async def _call(self, worker: Drawer, calls: int) -> None:
        with contextlib.suppress(BudgetExhaustedError):
            for _ in range(calls):
                await worker.budget.draw()
                self._make()

    def _make(self) -> None:
        self.made[self.site.now] += 1

    @rule(which=st.integers(0, 3))
    def draw_and_wait_for_the_limiter(self, which: int) -> None:
        worker = self.pick(which)
        if worker.slow is None:
            with contextlib.suppress(BudgetExhaustedError):
                worker.held.append(self.run(worker.budget.draw()))

    @rule(which=st.integers(0, 3), sent=st.booleans())
    def end_a_wait(self, which: int, *, sent: bool) -> None:
        worker = self.pick(which)
        if not worker.held or worker.slow is not None:
            return
        permit = worker.held.pop()
        outdated = worker.budget.outdated(permit)
        self.lost += outdated
        if not sent:
            worker.budget.give_back(permit)
        elif outdated:
            self.run(self._call(worker, 1))
        else:
            self._make()

    # --- a slow store, a slow network

    @rule(which=st.integers(0, 3))
    def begin_to_open_slowly(self, which: int) -> None:
        worker = self.pick(which)
        if worker.slow is None:
            self.run(self._begin_slowly(worker))

    async def _begin_slowly(self, worker: Drawer) -> None:
        worker.grants.gate.clear()
        worker.grants.reached.clear()
        worker.slow = asyncio.create_task(worker.budget.draw())
        reached = asyncio.create_task(worker.grants.reached.wait())
        await asyncio.wait([worker.slow, reached], return_when=asyncio.FIRST_COMPLETED)
        reached.cancel()
        if worker.slow.done():
            await self._end_slowly(worker)

    @rule(which=st.integers(0, 3))
    def open_at_last(self, which: int) -> None:
        worker = self.pick(which)
        if worker.slow is not None:
            self.run(self._end_slowly(worker))

    async def _end_slowly(self, worker: Drawer) -> None:
        assert worker.slow is not None
        worker.grants.gate.set()
        with contextlib.suppress(BudgetExhaustedError):
            worker.held.append(await worker.slow)
        worker.slow = None

    @precondition(lambda self: self.sent)
    @rule(late=st.integers(1, 8))
    def deliver_again(self, late: int) -> None:
        script, (keys, args) = self.sent[-late % len(self.sent)]
        before = self.left
        answer = self.run(Script(self.site.redis, script.name)(keys, args))
        if script.name == "grant_open":
            assert answer == 0
        self.lost += before - self.left

    # --- Redis, people, time

    @property
    def left(self) -> int:
        key = self.site.keys.grant(run_grants(self.site.files, RUN).folder)
        return int(self.fleet.client.hget(key, "left") or 0)

    @rule()
    def flush(self) -> None:
        self.lost += self.left
        self.run(self.site.flush())

    @rule(more=st.integers(1, 100), told=st.booleans())
    def raise_the_cap(self, more: int, *, told: bool) -> None:
        self.cap += more
        control = Runs(self.site.files).set_control(RUN, Control(max_calls=self.cap))
        for worker in self.workers if told else []:
            worker.budget.heed(control)

    @rule(which=st.integers(0, 3))
    def put_back_what_is_open(self, which: int) -> None:
        worker = self.pick(which)
        if worker.slow is None:
            self.run(worker.budget.settle())

    @rule()
    def midnight(self) -> None:
        self.site.now += timedelta(days=1)
        for worker in self.workers:
            self.lost += worker.budget._spare
            worker.budget._spares()

    # --- what holds

    @invariant()
    def no_cap_is_exceeded(self) -> None:
        assert self.made.total() <= self.site.granted <= self.cap
        assert max(self.made.values(), default=0) <= self.a_day

    @invariant()
    def every_granted_call_is_accounted_for(self) -> None:
        unsent = sum(worker.unsent for worker in self.workers)
        lost = self.lost + sum(worker.grants.refused for worker in self.workers)
        drawn = self.board.drawn(run_grants(self.site.files, RUN).folder)
        assert self.site.granted == self.made.total() + self.left + unsent + lost
        assert (self.site.granted if drawn is None else drawn) >= self.made.total()

    def teardown(self) -> None:
        """What is not granted yet can be called to the last one."""
        if not hasattr(self, "site"):
            return
        for worker in self.workers:
            if worker.slow is not None:
                self.run(self._end_slowly(worker))
        self.flush()
        free, self.a_day = self.cap - self.site.granted, 10**6
        self.join()
        assert self.run(drain(self.workers[-1].budget)) == free
        self.flush()


def run_model(fleet: Fleet, examples: int, steps: int) -> None:
    run_state_machine_as_test(
        lambda: Spending(fleet),  # type: ignore[arg-type] # any factory will do, says its documentation
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=[
                HealthCheck.too_slow,
                HealthCheck.filter_too_much,
                HealthCheck.data_too_large,
            ],
        ),
    )


@pytest.mark.timeout(600)  # to find the shortest way into a failure
def test_whatever_happens_no_cap_is_exceeded_and_every_call_is_accounted_for(fleet: Fleet) -> None:
    run_model(fleet, examples=30, steps=40)


@pytest.mark.long
@pytest.mark.timeout(3_600)
def test_whatever_happens_to_a_budget_ten_thousand_times(fleet: Fleet) -> None:
    run_model(fleet, examples=10_000, steps=60)
