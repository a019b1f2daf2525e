"""Lanes that come and go while there is work."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from tagmill.worker.crew import Crew


class Work:
    """Every step waits until the test lets it end."""

    def __init__(self, items: int) -> None:
        self.left = items
        self.at_work = 0
        self._turn = asyncio.Condition()
        self._allowed = 0

    async def step(self) -> bool:
        if not self.left:
            return False
        self.left -= 1
        self.at_work += 1
        async with self._turn:
            await self._turn.wait_for(lambda: self._allowed > 0)
            self._allowed -= 1
        self.at_work -= 1
        return True

    async def let(self, steps: int) -> None:
        """Let so many steps end, and those that follow begin."""
        async with self._turn:
            self._allowed += steps
            self._turn.notify(steps)
        await settled(lambda: self._allowed == 0)


async def settled(fact: Callable[[], bool] = lambda: True) -> None:
    for _ in range(1000):
        await asyncio.sleep(0)
    assert fact()


async def test_as_many_lanes_as_are_wanted_work_until_nothing_is_left() -> None:
    work = Work(10)
    crew = asyncio.create_task(Crew(work.step, 3).work())
    await settled()
    assert work.at_work == 3
    await work.let(10)
    await crew
    assert (work.left, work.at_work) == (0, 0)


async def test_more_lanes_join_at_once_and_those_too_many_leave_after_their_item() -> None:
    work = Work(100)
    crew = Crew(work.step, 2)
    task = asyncio.create_task(crew.work())
    await settled()
    crew.resize(5)
    await settled()
    assert work.at_work == 5
    crew.resize(1)
    await settled()
    assert work.at_work == 5  # nobody is torn from an item
    await work.let(5)
    assert (work.at_work, work.left) == (1, 94)
    crew.resize(2)
    await settled()
    assert work.at_work == 2
    await work.let(95)
    await task


async def test_nobody_joins_when_the_work_is_done() -> None:
    work = Work(0)
    crew = Crew(work.step, 2)
    await crew.work()
    crew.resize(4)
    await settled()
    assert work.at_work == 0


async def test_a_lane_that_fails_ends_the_work() -> None:
    async def fail() -> bool:
        raise ValueError("broken")

    with pytest.raises(ExceptionGroup):
        await Crew(fail, 2).work()
