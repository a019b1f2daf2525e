"""Time that passes as told for what limiters keep in Redis."""

from __future__ import annotations

from typing import Any

from redis.asyncio import Redis

from tagmill.worker.state.keys import Keys
from tagmill.worker.state.limiter import Limiter


class Timeline:
    """Reservations in a Redis whose time passes as told: what it stored is moved accordingly."""

    def __init__(self, redis: Redis, keys: Keys, account: str) -> None:
        self._redis, self._passed = redis, 0.0
        self._limits, self._slowdown = keys.limit("*"), keys.slowdown(account)
        self._told_at: float | None = None  #: by Redis' own clock, which goes on meanwhile
        self.now = 0.0  #: as of the last reservation
        self.slots: list[float] = []

    async def pass_time(self, seconds: float) -> None:
        """Since the last time that it was told, or else since the first reservation."""
        clock: Any = await self._redis.time()
        redis_now = clock[0] + clock[1] / 1_000_000
        beyond = seconds - (redis_now - (self._told_at or redis_now))
        self._passed, self._told_at = self._passed + beyond, redis_now
        for key in await self._redis.keys(self._limits):
            await self._redis.decrby(key, int(beyond * 1_000_000))
        if await self._redis.hget(self._slowdown, "until") is not None:
            await self._redis.hincrby(self._slowdown, "until", -int(beyond * 1_000_000))

    async def reserve(self, limiter: Limiter, count: int) -> list[float]:
        reservation = await limiter.reserve(count)
        self._told_at = self._told_at or reservation.at
        self.now = reservation.at + self._passed
        slots = [self.now + slot for slot in reservation.slots]
        self.slots += slots
        return slots


def fullest_second(slots: list[float]) -> int:
    ordered = sorted(slots)
    return max(
        (sum(start <= slot < start + 1.0 for slot in ordered[i:]) for i, start in enumerate(ordered)),
        default=0,
    )
