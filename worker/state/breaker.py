"""Switches an account's calls off while its service fails, for the whole fleet."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from redis.asyncio import Redis

from tagmill.worker.state.connection import Script, translated
from tagmill.worker.state.keys import Keys

PROBE_SECONDS = 10.0
BELIEVED_SECONDS = 0.5  #: how long an answer of Redis is taken for the present state
COUNTED_SECONDS = 1.0  #: how long successes are gathered before they are counted


@dataclass(frozen=True, slots=True)
class BreakerSnapshot:
    FIELDS: ClassVar = ["opened", "reason"]  #: of the breaker's hash

    open_since: float | None  #: seconds since the epoch by Redis' clock; None: calls are made
    reason: str | None

    @classmethod
    def of(cls, stored: Sequence[bytes | None]) -> Self:
        """`stored`: the values of `FIELDS`."""
        opened, reason = stored
        return cls(float(opened) if opened else None, reason.decode() if reason else None)


class Breaker:
    """One process's view of an account's breaker. Every method raises `RedisUnavailableError`."""

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        account: str,
        *,
        probe_seconds: float = PROBE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._redis, self._key, self._probe_seconds, self._clock = (
            redis,
            keys.breaker(account),
            probe_seconds,
            clock,
        )
        self._admit_script, self._report_script = (
            Script(redis, "breaker_admit"),
            Script(redis, "breaker_report"),
        )
        self._open = False
        self._believed_until = self._probe_at = float("-inf")
        self._successes = 0
        self._counted_at = float("-inf")

    async def admit(self) -> float:
        """Return 0.0 to call now, or the seconds after which to ask again. Seldom asks Redis."""
        now = self._clock()
        await self._count_if_due(now)
        if now < self._believed_until:
            return max(self._probe_at - now, 0.0) if self._open else 0.0
        return await self._ask(now)

    async def succeeded(self) -> None:
        """Count a success, at the latest with the next call a second from now."""
        self._successes += 1
        await self._count_if_due(self._clock())

    async def failed(self, image_id: str, unreachable: bool) -> bool:  # noqa: FBT001 - the caller's own word for it
        """Count the moment's failure. Return True when calls are off by now: it is not the image's then."""
        return await self._report(1, image_id, unreachable=unreachable)

    @property
    def seems_open(self) -> bool:
        """What this process heard last."""
        return self._open

    async def snapshot(self) -> BreakerSnapshot:
        with translated():
            stored: Any = await self._redis.hmget(self._key, BreakerSnapshot.FIELDS)
        return BreakerSnapshot.of(stored)

    async def _ask(self, now: float) -> float:
        # Meanwhile the other lanes go by what is known: they neither ask too nor probe too.
        self._believed_until = self._probe_at = now + BELIEVED_SECONDS
        try:
            answer = int(await self._admit_script([self._key], [self._probe_seconds]))
        except BaseException:
            self._believed_until = now
            raise
        self._open = answer != 0
        wait = max(answer, 0) / 1000
        self._probe_at = now + (self._probe_seconds if answer < 0 else wait)
        self._believed_until = (
            min(now + BELIEVED_SECONDS, self._probe_at) if self._open else now + BELIEVED_SECONDS
        )
        return wait

    async def _count_if_due(self, now: float) -> None:
        if self._successes and (self._open or now - self._counted_at >= COUNTED_SECONDS):
            await self._report(0, "", unreachable=False)

    async def _report(self, failures: int, image_id: str, *, unreachable: bool) -> bool:
        successes, self._successes, self._counted_at = self._successes, 0, self._clock()
        args: list[str | float] = [successes, failures, image_id, int(unreachable), self._probe_seconds]
        is_open = bool(await self._report_script([self._key], args))
        if is_open != self._open:
            self._open, self._believed_until = is_open, float("-inf")
        return is_open
