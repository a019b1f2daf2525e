"""As many lanes as are wanted now: more join at once, whoever is one too many leaves after its item."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

Step = Callable[[], Awaitable[bool]]  #: work on the next item; False when there is none


class Crew:
    def __init__(self, step: Step, wanted: int) -> None:
        """`wanted`: at least one."""
        self._step, self._wanted = step, wanted
        self._group = asyncio.TaskGroup()
        self._at_work = 0

    async def work(self) -> None:
        """Return when no lane finds anything more; raise like a task group."""
        async with self._group:
            self._hire()

    def resize(self, wanted: int) -> None:
        self._wanted = wanted
        if self._at_work:
            self._hire()

    def _hire(self) -> None:
        while self._at_work < self._wanted:
            self._at_work += 1
            self._group.create_task(self._lane())

    async def _lane(self) -> None:
        try:
            while self._at_work <= self._wanted and await self._step():
                pass
        finally:
            self._at_work -= 1
