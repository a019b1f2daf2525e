from __future__ import annotations

from importlib import resources
from pathlib import Path

import pytest
import redis.exceptions
from redis.asyncio import Redis
from servers.redis import RedisUnderTest

from tagmill.worker.errors import RedisUnavailableError
from tagmill.worker.state.connection import Script, connect, translated

PASSING = [
    redis.exceptions.ConnectionError("Error 111 connecting to redis://:secret@host:6379"),
    redis.exceptions.TimeoutError("Timeout reading from secret"),
    redis.exceptions.BusyLoadingError("Redis is loading the dataset in memory"),
    redis.exceptions.ReadOnlyError("You can't write against a read only replica."),
    redis.exceptions.OutOfMemoryError("command not allowed when used memory > 'maxmemory'."),
    redis.exceptions.MasterDownError("Link with MASTER is down"),
    redis.exceptions.ResponseError("MISCONF Redis is configured to save RDB snapshots"),
]


@pytest.mark.parametrize("error", PASSING, ids=lambda error: type(error).__name__)
def test_what_may_pass_is_redis_unavailable_and_says_nothing_secret(error: Exception) -> None:
    with pytest.raises(RedisUnavailableError) as caught, translated():
        raise error
    assert "secret" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_a_mistake_of_ours_stays_what_it_is() -> None:
    with pytest.raises(redis.exceptions.ResponseError), translated():
        raise redis.exceptions.ResponseError(
            "WRONGTYPE Operation against a key holding the wrong kind of value"
        )


async def test_a_script_out_of_memory_is_redis_unavailable(redis: Redis) -> None:
    script = Script(redis, "denied")
    await redis.config_set("maxmemory", "1")
    try:
        with pytest.raises(RedisUnavailableError):
            await script(["set"], ["member", 10, 60])
    finally:
        await redis.config_set("maxmemory", "0")


async def test_a_script_is_loaded_again_after_redis_forgot_it(redis: Redis) -> None:
    script = Script(redis, "denied")
    assert await script(["set"], ["one", 10, 60]) == 1
    await redis.script_flush()
    assert await script(["set"], ["two", 10, 60]) == 2


async def test_a_script_is_that_of_the_code_that_runs_it(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An update in place changes the file under a worker, whose children begin later."""
    monkeypatch.setattr(resources, "files", lambda _: Path("/replaced"))
    assert await Script(redis, "denied")(["updated"], ["one", 10, 60]) == 1


async def test_a_connection_answers_bytes(redis_server: RedisUnderTest) -> None:
    async with connect(redis_server.url) as client:
        await client.set("key", "value")
        assert await client.get("key") == b"value"
