from __future__ import annotations

from redis.asyncio import Redis

from tagmill.worker.state.leader import LEADER_SECONDS, Leader


async def test_one_of_several_leads_until_it_resigns(redis: Redis) -> None:
    first, second = Leader(redis, "leader"), Leader(redis, "leader")
    assert [await first.leads(), await second.leads(), await first.leads()] == [True, False, True]
    await second.resign()
    assert not await second.leads()
    await first.resign()
    assert await second.leads()


async def test_who_falls_silent_is_replaced(redis: Redis) -> None:
    assert await Leader(redis, "leader").leads()
    assert 0 < await redis.pttl("leader") <= LEADER_SECONDS * 1000


async def test_who_is_alone_leads() -> None:
    alone = Leader(None, "leader")
    assert await alone.leads()
    await alone.resign()
