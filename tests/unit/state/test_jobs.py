from __future__ import annotations

import pytest
from redis.asyncio import Redis

from tagmill.worker.models import Chunk
from tagmill.worker.state.jobs import KEPT_SECONDS, Jobs, Waiting
from tagmill.worker.state.keys import Keys
from tagmill.worker.state.leases import Leases

CHUNK, OTHER = Chunk("run-1", 0, 3, 200, 100), Chunk("run-1", 0, 3, 300, 100)
TEXT = {"jobid": "j", "status": "Finished", "results": {"tags_1": {"data": {}}}}


@pytest.fixture
def jobs(redis: Redis, keys: Keys) -> Jobs:
    return Jobs(redis, keys)


async def test_whoever_waits_for_a_job_is_found(jobs: Jobs) -> None:
    await jobs.register("j", "w h", CHUNK, 7)
    for name in ("j", "w h"):
        assert await jobs.find(name) == Waiting(CHUNK, 7, "j")
    assert await jobs.find("another") is None


async def test_what_is_delivered_waits_for_its_chunk_which_is_due_at_once(
    jobs: Jobs, redis: Redis, keys: Keys
) -> None:
    await redis.zadd(keys.parked(), {CHUNK.id: 9e9, OTHER.id: 9e9})
    for _ in range(2):
        await jobs.deliver(CHUNK, "j", TEXT)
    assert await jobs.delivered(CHUNK) == {"j": TEXT}
    assert await jobs.delivered(OTHER) == {}
    assert await redis.zrange(keys.parked(), 0, -1) == [OTHER.id.encode()]


@pytest.mark.parametrize(("heard", "waits"), [(0, False), (1, True), (None, True)])
async def test_what_came_while_the_chunk_was_held_is_no_reason_to_wait(
    jobs: Jobs, redis: Redis, keys: Keys, heard: int | None, *, waits: bool
) -> None:
    lease = await Leases(redis, keys, 90.0).take(CHUNK)
    assert lease is not None
    await jobs.deliver(CHUNK, "j", TEXT)
    await lease.park(30, heard=heard)
    assert await redis.exists(keys.parked(), keys.lease(CHUNK)) == waits


async def test_hints_expire(jobs: Jobs, redis: Redis, keys: Keys) -> None:
    await jobs.register("j", "w h", CHUNK, 7)
    await jobs.deliver(CHUNK, "j", TEXT)
    for key in (keys.job("j"), keys.delivered(CHUNK)):
        assert 0 < await redis.ttl(key) <= KEPT_SECONDS


async def test_what_was_delivered_is_forgotten_when_the_chunk_is_committed(
    jobs: Jobs, redis: Redis, keys: Keys
) -> None:
    lease = await Leases(redis, keys, 90.0).take(CHUNK)
    assert lease is not None
    await jobs.deliver(CHUNK, "j", TEXT)
    await lease.commit(b"{}")
    assert await jobs.delivered(CHUNK) == {}
