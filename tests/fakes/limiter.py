"""A limiter in memory: the same promises on one process's own clock."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from tagmill.worker.rate import Rate
from tagmill.worker.state.limiter import LimiterSnapshot, PermitFarAway

UNLIMITED = Rate.parse("1000000/s")


class FakeLimiter:
    """`acquired` counts permits; `throttles` lists what `throttled` was told."""

    def __init__(
        self,
        rate: Rate = UNLIMITED,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.held_seconds, self.account = 0.0, "account"
        self.acquired = 0
        self.busy = False  #: others take every permit that comes
        self.throttles: list[float | None] = []
        self._rates = {"account": rate}
        self._clock, self._sleep = clock, sleep
        self._due = self._blocked_until = float("-inf")
        self._factor = 1.0

    async def acquire(self, max_wait: float = 15.0) -> None:
        started = self._clock()
        slot = max(self._due, self._blocked_until, started)
        if slot - started > max_wait:
            raise PermitFarAway(slot - started)
        self._due = slot + 1 / (self.per_second * self._factor)
        await self._sleep(slot - started)
        self.acquired += 1
        self.held_seconds += self._clock() - started

    async def spare(self) -> float:
        now = self._clock()
        slot = max(self._due, self._blocked_until)
        if self.busy or slot > now:
            return max(slot - now, 1 / self.per_second)
        self._due = now + 1 / (self.per_second * self._factor)
        self.acquired += 1
        return 0.0

    @property
    def per_second(self) -> float:
        return min(rate.per_second for rate in self._rates.values())

    def cap(self, scope: str, rate: Rate | None) -> None:
        self._rates.pop(scope, None)
        if rate is not None:
            self._rates[scope] = rate

    async def throttled(self, retry_after: float | None) -> None:
        self.throttles.append(retry_after)
        if self._clock() >= self._blocked_until:
            self._factor = max(self._factor / 2, 1 / 16)
        self._blocked_until = max(
            self._blocked_until, self._clock() + (1.0 if retry_after is None else retry_after)
        )

    async def snapshot(self) -> LimiterSnapshot:
        return LimiterSnapshot(max(self._blocked_until - self._clock(), 0.0), self._factor)
