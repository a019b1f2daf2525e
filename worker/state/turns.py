"""What a worker's processes say after each message, for those who ask whether it gets on."""

from __future__ import annotations

from typing import Any

from redis.asyncio import Redis

from tagmill.worker.state.connection import seconds_of, translated
from tagmill.worker.state.keys import Keys
from tagmill.worker.state.pulse import KEPT_SECONDS

LONGEST_VERSION = 16  #: characters of what a message says of itself


class Turns:
    """One worker's turns. Every method raises `RedisUnavailableError`."""

    def __init__(self, redis: Redis, keys: Keys, worker: str) -> None:
        self._redis, self._ended, self._foreign = redis, keys.turn(worker), keys.foreign_messages()

    async def end(self) -> None:
        """Say that a message was dealt with: its chunk committed, parked, or left to another."""
        with translated():
            at = seconds_of(await self._redis.time())
            await self._redis.set(self._ended, at, ex=KEPT_SECONDS)

    async def leave(self, version: Any) -> None:
        """Count a message of another version, which is left to refill: to restart this worker is no help."""
        with translated():
            async with self._redis.pipeline(transaction=False) as pipe:
                pipe.hincrby(self._foreign, str(version)[:LONGEST_VERSION], 1)
                pipe.expire(self._foreign, KEPT_SECONDS)
                await pipe.execute()
        await self.end()
