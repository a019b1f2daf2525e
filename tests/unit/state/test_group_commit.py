from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from tagmill.worker.state.group_commit import GroupCommit


class Store:
    """Keeps each write; one that is held back ends when told."""

    def __init__(self) -> None:
        self.writes: list[list[str]] = []
        self.begun, self.may_end = asyncio.Event(), asyncio.Event()
        self.may_end.set()
        self.failure: Exception | None = None

    async def write(self, items: Sequence[str]) -> None:
        self.writes.append(list(items))
        self.begun.set()
        await self.may_end.wait()
        if self.failure is not None:
            raise self.failure


def grouped(store: Store) -> GroupCommit[str]:
    return GroupCommit(store.write, sleep=no_time)


async def no_time(_: float) -> None:
    await asyncio.sleep(0)


async def test_lanes_of_one_moment_share_a_write() -> None:
    store = Store()
    commit = grouped(store)
    await asyncio.gather(*(commit.put(str(i)) for i in range(64)))
    assert store.writes == [[str(i) for i in range(64)]]


async def test_what_comes_during_a_write_is_written_together_after_it() -> None:
    store = Store()
    store.may_end.clear()
    commit = grouped(store)
    first = asyncio.create_task(commit.put("first"))
    await store.begun.wait()
    later = [asyncio.create_task(commit.put(item)) for item in "abc"]
    await asyncio.sleep(0)
    assert not first.done()
    store.may_end.set()
    await asyncio.gather(first, *later)
    assert store.writes == [["first"], ["a", "b", "c"]]


async def test_items_put_together_are_written_together() -> None:
    store = Store()
    await grouped(store).put("a", "b")
    assert store.writes == [["a", "b"]]


async def test_every_lane_hears_of_a_failure_and_the_next_write_is_new() -> None:
    store = Store()
    store.failure = ValueError("full")
    commit = grouped(store)
    results = await asyncio.gather(commit.put("a"), commit.put("b"), return_exceptions=True)
    assert list(results) == [store.failure] * 2
    store.failure = None
    await commit.put("c")
    assert store.writes == [["a", "b"], ["c"]]


async def test_a_cancelled_lane_spoils_nothing() -> None:
    store = Store()
    store.may_end.clear()
    commit = grouped(store)
    lanes = [asyncio.create_task(commit.put(item)) for item in "ab"]
    await asyncio.sleep(0)
    lanes[0].cancel()
    store.may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await lanes[0]
    await lanes[1]
    assert store.writes == [["a", "b"]]
