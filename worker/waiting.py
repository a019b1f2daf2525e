"""How a chunk's lanes wait: through a restart of Redis, but not beyond the end of the chunk."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from tagmill.worker.errors import RedisUnavailableError

_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.1, 5.0  #: while Redis is away
T = TypeVar("T")


class NotNowError(Exception):
    """The image goes back as it was: the chunk stopped, or its retry must wait."""

    def __init__(self, wait_seconds: float = 0.0) -> None:
        super().__init__()
        self.wait_seconds = wait_seconds


class Waiting:
    def __init__(
        self, give_up_at: float, clock: Callable[[], float], sleep: Callable[[float], Awaitable[None]]
    ) -> None:
        """`give_up_at`: by `clock`, how long an absent Redis is waited for with paid results in hand."""
        self._give_up_at, self._clock, self._sleep = give_up_at, clock, sleep
        self._waits: set[asyncio.Timeout] = set()
        self.stopped = False

    def stop(self) -> None:
        """Wake all who wait `while_running`; once is enough, a lane being woken bears no second call."""
        if not self.stopped:
            self.stopped = True
            for wait in self._waits:
                wait.reschedule(asyncio.get_running_loop().time())

    async def while_running(self, operation: Callable[[], Awaitable[T]]) -> T:
        """Wait, but not beyond `stop`: nothing is in flight yet. Raise `NotNowError` then."""
        if self.stopped:
            raise NotNowError
        try:
            async with asyncio.timeout(None) as wait:
                self._waits.add(wait)
                return await self.persist(operation)
        except TimeoutError:
            raise NotNowError from None
        finally:
            self._waits.discard(wait)

    async def persist(self, operation: Callable[[], Awaitable[T]]) -> T:
        """Sit out a restart of Redis; raise `RedisUnavailableError` when it takes too long."""
        pause = _FIRST_PAUSE_SECONDS
        while True:
            try:
                return await operation()
            except RedisUnavailableError:
                if self._clock() > self._give_up_at:
                    raise
            await self._sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)
