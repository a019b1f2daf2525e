"""The account's rate, shared by the whole fleet: calls are sent in time slots handed out by Redis.

A call waits for its slot, so calls leave evenly however many processes share the rate. What a process may be
late, catch up or shift adds up to 0.17 s: no second sees more than 1.17 times the rate, plus one call.

Slots within the share of a run's lane may lie further ahead than others. So whatever other lanes ask for, its
calls stand behind `HORIZON_SECONDS` of theirs at most; what a lane does not use others have.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass

from redis.asyncio import Redis

from tagmill.worker.rate import Rate
from tagmill.worker.state.connection import Script
from tagmill.worker.state.keys import Keys

MICROSECONDS = 1_000_000
HORIZON_SECONDS = 0.25  #: slots are reserved no further ahead
SHARE_AHEAD_SECONDS = 0.25  #: within its share a lane may have been faster than its pace by so much
SHARE_HORIZON_SECONDS = HORIZON_SECONDS + SHARE_AHEAD_SECONDS  #: room for all shares behind what is lent out
LATE_SECONDS = 0.1  #: a slot missed by more is replaced: sent late, it would crowd the next ones
CATCH_UP_SECONDS = 0.03
SHIFT_SECONDS = 0.04
CLOCK_ERROR_SECONDS = 0.02  #: between ours and Redis'
PAUSE_SECONDS = 0.02  #: between reservations that could not serve all, so that each serves several lanes
LONGEST_PAUSE_SECONDS = 0.1
RECOVERY_SECONDS = 45.0  #: from nothing back to the whole rate after a block
FIRST_BACK_OFF_SECONDS = 1.0
LONGEST_BACK_OFF_SECONDS = 60.0
LONGEST_BLOCK_SECONDS = 3600.0  #: whatever a server asks for
QUIET_SECONDS = 60.0  #: without throttling, after which back-off starts small again
SMALLEST_FACTOR = 1 / 16


class PermitFarAway(Exception):  # noqa: N818 - an answer to act on, not a failure of anything
    """The next permit is further away than the caller will wait; none was consumed."""

    def __init__(self, wait_seconds: float) -> None:
        super().__init__(f"the next permit is {wait_seconds:.1f} s away")
        self.wait_seconds = wait_seconds


@dataclass(frozen=True, slots=True)
class LimiterSnapshot:
    blocked_seconds: float  #: 0.0 when calls may be sent
    factor: float  #: share of the rate in use, 1.0 but for the time after throttling


@dataclass(frozen=True, slots=True)
class Share:
    """What is guaranteed to all calls of one scope, such as the runs of a lane, of the account's rate."""

    scope: str
    part: float  #: 0.0 to 1.0


NO_SHARE = Share("", 0.0)


@dataclass(frozen=True, slots=True)
class Reservation:
    """Seconds, counted from `at`, which is Redis' own time."""

    at: float
    blocked: float  #: until the account may be used
    factor: float
    next_slot: float  #: until the first slot that was not reserved
    ask_again: float  #: until that slot can be reserved
    slots: Sequence[float]


@dataclass(slots=True)
class _Waiter:
    slot: asyncio.Future[float]
    max_wait: float


class Limiter:
    """Permits for one process's lanes. `held_seconds` adds up the time that lanes have waited for them."""

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        windows: Sequence[tuple[str, Rate]],
        account: str,
        share: Share = NO_SHARE,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`windows`: a rate for each scope; the account's first, which runs with other scopes share.

        Without a share of its own a limiter has what others leave.
        """
        self.held_seconds = 0.0
        self.account = account
        self._keys, self._rates, self._share = keys, dict(windows), share
        self._slowdown = keys.slowdown(account)
        self._reserve_script = Script(redis, "limiter_reserve")
        self._block_script = Script(redis, "limiter_block")
        self._clock, self._sleep = clock, sleep
        self._offset = 0.0  # our clock minus Redis'; all times below are ours
        self._blocked_until = self._next_slot = float("-inf")
        self._spare: deque[float] = deque()
        self._waiting: deque[_Waiter] = deque()
        self._reserving: asyncio.Task[None] | None = None

    async def acquire(self, max_wait: float = 15.0) -> None:
        """Return when it is time to send. May be cancelled; the permit then serves another lane.

        Raise `PermitFarAway` when the next permit is more than `max_wait` seconds away, and
        `RedisUnavailableError`.
        """
        started = self._clock()
        try:
            while not self._usable(await self._wait_for_slot(max_wait)):
                pass
        finally:
            self.held_seconds += self._clock() - started

    async def spare(self) -> float:
        """Take a permit that nobody waits for and return 0.0, or the seconds until there may be one."""
        if self._count_waiting():
            return PAUSE_SECONDS
        now = await self.reserve(1, ahead=False)
        self._note_block(now.blocked)
        return 0.0 if now.slots else max(now.next_slot, PAUSE_SECONDS)

    def cap(self, scope: str, rate: Rate | None) -> None:
        """Keep to another rate of that scope from now on; None: to none of its own."""
        self._rates.pop(scope, None)
        if rate is not None:
            self._rates[scope] = rate

    @property
    def per_second(self) -> float:
        """Calls that the rates let through, when the account is not slowed down."""
        return min(rate.per_second for rate in self._rates.values())

    async def throttled(self, retry_after: float | None) -> None:
        """Block the whole account: for as long as its server asked, else for a growing, random while."""
        delay = -1.0 if retry_after is None else min(max(retry_after, 0.0), LONGEST_BLOCK_SECONDS)
        jitter = random.uniform(0.5, 1.0)  # noqa: S311 - spreads workers, guards nothing
        back_off = map(_us, (FIRST_BACK_OFF_SECONDS, LONGEST_BACK_OFF_SECONDS))
        recovery = map(_us, (RECOVERY_SECONDS, QUIET_SECONDS))
        args = [_us(delay), jitter, *back_off, SMALLEST_FACTOR, *recovery]
        self._note_block(await self._block_script([self._slowdown], args) / MICROSECONDS)

    async def snapshot(self) -> LimiterSnapshot:
        """Consumes nothing."""
        now = await self.reserve(0)
        return LimiterSnapshot(now.blocked, now.factor)

    async def reserve(self, count: int, *, ahead: bool = True) -> Reservation:
        """Take up to `count` slots, as many as lie within the horizon; not `ahead`: that are due now."""
        before = self._clock()
        answer = await self._reserve_script(
            [self._slowdown, *map(self._keys.limit, (self._share.scope, *self._rates))],
            reserve_arguments(
                count, [rate.per_second for rate in self._rates.values()], self._share.part, ahead=ahead
            ),
        )
        at, blocked, factor, next_slot, ask_again, *slots = (part / MICROSECONDS for part in answer)
        self._compare_clocks(at, before, self._clock())
        return Reservation(at, blocked, factor, next_slot, ask_again, slots)

    # --- a lane -------------------------------------------------------------------------------------------

    async def _wait_for_slot(self, max_wait: float) -> float:
        slot = self._spare.popleft() if self._spare else await self._queue(max_wait)
        try:
            await self._sleep(max(slot - self._clock(), 0.0))
        except asyncio.CancelledError:
            self._give(slot)
            raise
        return slot

    async def _queue(self, max_wait: float) -> float:
        waiter = _Waiter(asyncio.get_running_loop().create_future(), max_wait)
        self._waiting.append(waiter)
        if self._reserving is None:
            self._reserving = asyncio.create_task(self._serve())
        else:
            self._refuse_far_away()
        try:
            return await waiter.slot
        except asyncio.CancelledError:
            if waiter.slot.done() and not waiter.slot.cancelled() and waiter.slot.exception() is None:
                self._give(waiter.slot.result())
            raise

    def _usable(self, slot: float) -> bool:
        """Whether it is neither too late for it nor was it reserved before a block."""
        return slot >= self._blocked_until and self._clock() - slot <= LATE_SECONDS

    def _note_block(self, seconds: float) -> None:
        if seconds > 0:
            self._blocked_until = max(self._blocked_until, self._clock() + seconds - CLOCK_ERROR_SECONDS)

    # --- reservations: one at a time for all lanes --------------------------------------------------------

    async def _serve(self) -> None:
        try:
            await self._reserve_for_waiting()
        except Exception as error:  # noqa: BLE001 - whatever it is, the lanes must hear of it
            self._refuse_all(error)
        finally:
            self._reserving = None

    async def _reserve_for_waiting(self) -> None:
        pause = PAUSE_SECONDS
        while wanted := self._count_waiting():
            reservation = await self.reserve(wanted)
            self._hand_out(reservation)
            if len(reservation.slots) < wanted:
                pause = PAUSE_SECONDS if reservation.slots else min(pause * 2, LONGEST_PAUSE_SECONDS)
                # A random part, so that no process is always the first to ask.
                await self._sleep(reservation.ask_again + pause * random.uniform(0.8, 1.2))  # noqa: S311 - spreads workers

    def _count_waiting(self) -> int:
        self._waiting = deque(waiter for waiter in self._waiting if not waiter.slot.done())
        return len(self._waiting)

    def _hand_out(self, reservation: Reservation) -> None:
        start = reservation.at + self._offset
        self._note_block(reservation.blocked)
        for slot in reservation.slots:
            self._give(start + slot)
        self._next_slot = start + reservation.next_slot
        self._refuse_far_away()

    def _give(self, slot: float) -> None:
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.slot.done():
                waiter.slot.set_result(slot)
                return
        self._spare.append(slot)

    def _refuse_far_away(self) -> None:
        away = self._next_slot - self._clock()
        for waiter in self._waiting:
            if away > waiter.max_wait and not waiter.slot.done():
                waiter.slot.set_exception(PermitFarAway(away))

    def _refuse_all(self, error: Exception) -> None:
        for waiter in self._waiting:
            if not waiter.slot.done():
                waiter.slot.set_exception(error)
        self._waiting.clear()

    # --- two clocks ---------------------------------------------------------------------------------------

    def _compare_clocks(self, redis_now: float, before: float, after: float) -> None:
        """Keep the offset that fits every answer so far; one that took long, as under load, tells little."""
        self._offset = min(max(self._offset, before - redis_now), after - redis_now)


def reserve_arguments(
    count: int, per_second: Iterable[float], share: float = 0.0, *, ahead: bool = True
) -> list[float]:
    """Return the arguments of the script `limiter_reserve`; `per_second`: the rate of each scope."""
    horizons = (HORIZON_SECONDS, SHARE_HORIZON_SECONDS) if ahead else (0.0, 0.0)
    times = (SHARE_AHEAD_SECONDS, SHIFT_SECONDS, CATCH_UP_SECONDS, RECOVERY_SECONDS)
    intervals = (MICROSECONDS / rate for rate in per_second)
    return [count, *map(_us, horizons), share, *map(_us, times), *intervals]


def account_scope(account: str) -> str:
    """Where the account's own rate is kept."""
    return f"account:{account}"


def lane_scope(account: str, lane: str) -> str:
    """Where it is kept how much of its share a lane has used."""
    return f"lane:{account}:{lane}"


def run_scope(run_id: str) -> str:
    """Where a run's own rate is kept, which is a cap beside the account's."""
    return f"run:{run_id}"


def _us(seconds: float) -> int:
    return int(seconds * MICROSECONDS)
