"""Results reach the chunk that waits for them as soon as they are kept, while Redis knows who waits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis
from servers.redis import RedisUnderTest

from tagmill.worker.models import Chunk
from tagmill.worker.state.jobs import Jobs, nameless
from tagmill.worker.state.keys import Keys
from tagmill.worker.store.webhook_events import Event
from tagmill.worker.webhooks.hints import Hints

CHUNK = Chunk("a-run", 0, 0, 0, 10)


@pytest.fixture
async def jobs(redis_server: RedisUnderTest) -> AsyncIterator[Jobs]:
    async with redis_server.client() as client:
        await client.flushall()
        yield Jobs(client, Keys("test"))


def a_result(job_id: str | None, **text: Any) -> Event:
    text = {"workflow": "w", "sources": ["h"], "results": {}, **text}
    known = {} if job_id is None else {"jobid": job_id}
    return Event("main", "2026-11-25T00:30:00Z", 1, "fs.workflow", {**text, **known})


async def given(hints: Hints, *events: Event) -> None:
    """Tell of them all."""
    for event in events:
        hints.put(event)
    giving = asyncio.create_task(hints.give())
    await hints._queue.join()
    giving.cancel()


async def test_whoever_waits_is_told(jobs: Jobs) -> None:
    await jobs.register("j", nameless("w", "h"), CHUNK, 3)
    others = [a_result("unknown"), a_result(None, sources=["another"]), a_result(None, workflow="another")]
    await given(Hints(jobs), *others, a_result("j", status="Finished"))
    delivered = await jobs.delivered(CHUNK)
    assert list(delivered) == ["j"]
    assert delivered["j"]["status"] == "Finished"


@pytest.mark.parametrize(("known", "told"), [("j", None), (None, "j"), (None, None)])
async def test_also_where_the_job_is_not_known_or_not_told(
    jobs: Jobs, known: str | None, told: str | None
) -> None:
    await jobs.register(known, nameless("w", "h"), CHUNK, 3)
    await given(Hints(jobs), a_result(told))
    assert len(await jobs.delivered(CHUNK)) == 1


async def test_other_events_are_nobodys_business(jobs: Jobs) -> None:
    hints = Hints(jobs)
    hints.put(Event("main", "2026-11-25T00:30:00Z", 1, "fp.upload", {"url": "/h", "jobid": "j"}))
    assert hints._queue.qsize() == 0


async def test_without_redis_nobody_is_told() -> None:
    hints = Hints(None)
    hints.put(a_result("j"))
    await hints.give()
    assert hints._queue.qsize() == 0


async def test_one_that_cannot_be_told_keeps_no_other_from_it(jobs: Jobs) -> None:
    await jobs._redis.set(jobs._keys.job("j"), b"of another version")
    await jobs.register("k", "w k", CHUNK, 3)
    await given(Hints(jobs), a_result("j"), a_result("k"))
    assert list(await jobs.delivered(CHUNK)) == ["k"]


async def test_an_absent_redis_is_borne() -> None:
    async with Redis.from_url("redis://127.0.0.1:1", socket_connect_timeout=0.1) as nobody:
        await given(Hints(Jobs(nobody, Keys("test"))), a_result("j"), a_result("k"))
