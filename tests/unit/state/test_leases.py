from __future__ import annotations

import asyncio

import pytest
from redis.asyncio import Redis

from tagmill.worker.models import Chunk
from tagmill.worker.state.keys import Keys
from tagmill.worker.state.leases import Lease, Leases

CHUNK = Chunk("run-1", 0, 3, 200, 100)
SECONDS = 90.0


async def taken(leases: Leases) -> Lease:
    lease = await leases.take(CHUNK)
    assert lease is not None
    return lease


@pytest.fixture
def leases(redis: Redis, keys: Keys) -> Leases:
    return Leases(redis, keys, SECONDS)


async def test_a_chunk_is_taken_once(leases: Leases) -> None:
    lanes = await asyncio.gather(*(leases.take(CHUNK) for _ in range(20)))
    assert sum(lease is not None for lease in lanes) == 1


async def test_a_lease_ends_by_itself(leases: Leases, redis: Redis, keys: Keys) -> None:
    await taken(leases)
    assert SECONDS * 1000 - 5000 < await redis.pttl(keys.lease(CHUNK)) <= SECONDS * 1000


async def test_taking_asked_twice_because_a_reply_was_lost_is_taking(leases: Leases, keys: Keys) -> None:
    names = [keys.lease(CHUNK), keys.parked(), keys.published()]
    for _ in range(2):
        assert await leases.take_script(names, ["token", 90_000, CHUNK.id]) == 1


async def test_a_message_taken_is_published_no_more_whoever_holds_the_chunk(
    leases: Leases, redis: Redis, keys: Keys
) -> None:
    for _ in range(2):
        await redis.zadd(keys.published(), {CHUNK.id: 1, "other": 2})
        await leases.take(CHUNK)
        assert await redis.zrange(keys.published(), 0, -1) == [b"other"]


async def test_a_chunk_in_work_is_parked_no_more(leases: Leases, redis: Redis, keys: Keys) -> None:
    await redis.zadd(keys.parked(), {CHUNK.id: 1})
    await taken(leases)
    assert not await redis.exists(keys.parked())


async def test_renewing_extends_the_lease(leases: Leases, redis: Redis, keys: Keys) -> None:
    lease = await taken(leases)
    await redis.pexpire(keys.lease(CHUNK), 10)
    assert await lease.renew()
    assert await redis.pttl(keys.lease(CHUNK)) > SECONDS * 1000 - 5000


async def test_renewing_takes_a_vanished_lease_again(leases: Leases, redis: Redis) -> None:
    lease = await taken(leases)
    await redis.flushall()
    assert await lease.renew()
    assert lease.had_vanished
    assert await lease.renew()
    assert not lease.had_vanished
    assert await leases.take(CHUNK) is None


async def test_a_lease_lost_to_another_is_left_to_it(leases: Leases, redis: Redis, keys: Keys) -> None:
    lost = await taken(leases)
    await redis.delete(keys.lease(CHUNK))
    won = await taken(leases)
    assert not await lost.renew()
    assert not await lost.release()
    assert not await lost.park(30)
    assert not await redis.exists(keys.parked())
    assert await won.renew()


async def test_a_released_chunk_can_be_taken(leases: Leases) -> None:
    assert await (await taken(leases)).release()
    await taken(leases)


async def test_a_renewal_after_the_end_does_not_take_the_chunk_again(
    leases: Leases, redis: Redis, keys: Keys
) -> None:
    lease = await taken(leases)
    await asyncio.gather(lease.release(), lease.renew())
    assert not await lease.renew()
    assert not await redis.exists(keys.lease(CHUNK))


async def test_a_parked_chunk_is_free_and_says_when(leases: Leases, redis: Redis, keys: Keys) -> None:
    assert await (await taken(leases)).park(30)
    not_before = await redis.zscore(keys.parked(), CHUNK.id)
    now, _ = await redis.time()
    assert not_before == pytest.approx(now + 30, abs=2)
    assert not await redis.exists(keys.lease(CHUNK))


async def test_a_commit_counts_the_chunk_and_clears_what_it_needed(
    leases: Leases, redis: Redis, keys: Keys
) -> None:
    lease = await taken(leases)
    for key in (keys.journal(CHUNK), keys.undo(CHUNK)):
        await redis.hset(key, "0", "{}")
    await redis.hset(keys.progress("run-1", 0), CHUNK.name, "{}")
    await redis.zadd(keys.published(), {CHUNK.id: 1})
    await lease.commit(b'{"tagged": 100}')
    assert await redis.keys("*") == [keys.done("run-1", 0).encode()]
    assert await redis.hgetall(keys.done("run-1", 0)) == {CHUNK.name.encode(): b'{"tagged": 100}'}


async def test_a_commit_after_the_lease_was_lost_leaves_it_to_its_new_owner(
    leases: Leases, redis: Redis, keys: Keys
) -> None:
    lost = await taken(leases)
    await redis.delete(keys.lease(CHUNK))
    won = await taken(leases)
    await lost.commit(b"{}")
    assert await redis.hexists(keys.done("run-1", 0), CHUNK.name)
    assert await won.renew()
