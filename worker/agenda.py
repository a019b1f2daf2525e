"""What a chunk's lanes do next: new images in plan order, retries when they are due."""

from __future__ import annotations

import asyncio
import heapq
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Agenda(Generic[Item]):
    """Ends for everybody when nothing is left or in work, or when it is closed."""

    def __init__(self, items: Iterable[Item], clock: Callable[[], float] = time.monotonic) -> None:
        self._todo = deque(items)
        self._later: list[tuple[float, int, Item]] = []
        self._clock = clock
        self._in_work = 0
        self._ticket = 0  #: keeps equal due times in order
        self._changed = asyncio.Event()
        self.closed = False

    async def next(self) -> Item | None:
        """Wait for an item; None: there will be none. Answer each with `done` or `again`."""
        while not self.closed:
            if (item := self._take()) is not None:
                self._in_work += 1
                return item
            if not self._later and not self._in_work:
                break
            await self._wait()
        self._wake()
        return None

    def done(self) -> None:
        self._in_work -= 1
        self._wake()

    def again(self, item: Item, delay_seconds: float) -> None:
        """Put an item back, due after the delay; other items go on meanwhile."""
        self._ticket += 1
        heapq.heappush(self._later, (self._clock() + delay_seconds, self._ticket, item))
        self.done()

    def close(self) -> None:
        """Hand out nothing more."""
        self.closed = True
        self._wake()

    def idle_seconds(self) -> float:
        """How long until anything can be done; 0 when something can or is being done."""
        if self._todo or self._in_work or not self._later:
            return 0.0
        return max(self._later[0][0] - self._clock(), 0.0)

    def _take(self) -> Item | None:
        if self._later and self._later[0][0] <= self._clock():
            return heapq.heappop(self._later)[2]
        return self._todo.popleft() if self._todo else None

    async def _wait(self) -> None:
        due = self._later[0][0] - self._clock() if self._later else None
        self._changed.clear()
        try:
            async with asyncio.timeout(due):
                await self._changed.wait()
        except TimeoutError:
            return

    def _wake(self) -> None:
        self._changed.set()
