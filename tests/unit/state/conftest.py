from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from redis.asyncio import Redis
from servers.redis import RedisUnderTest, running_redis

from tagmill.worker.state.keys import Keys


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisUnderTest]:
    with running_redis() as server:
        yield server


@pytest.fixture
async def redis(redis_server: RedisUnderTest) -> AsyncIterator[Redis]:
    """Connected to an empty server."""
    async with redis_server.client() as client:
        await client.flushall()
        yield client


@pytest.fixture
def keys() -> Keys:
    return Keys("test")
