"""Which chunk waits for which workflow job, and what came for it: hints between receiver and worker.

Without them nothing is lost: a worker asks for the status of its jobs, and events stand in the run store.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson
from redis.asyncio import Redis

from tagmill.worker.models import Chunk, Json
from tagmill.worker.state.connection import translated
from tagmill.worker.state.keys import Keys

KEPT_SECONDS = 48 * 3600  #: as long as the service keeps a job's results


@dataclass(frozen=True, slots=True)
class Waiting:
    """Who started a job."""

    chunk: Chunk
    index: int  #: of the image in the chunk


def nameless(workflow_id: str, source: str) -> str:
    """What a job goes by while nobody knows its id; `source` without a query."""
    return f"{workflow_id} {source}"


class Jobs:
    """Every method raises `RedisUnavailableError`."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis, self._keys = redis, keys

    async def register(self, job_id: str, chunk: Chunk, index: int) -> None:
        """Say who waits for that job."""
        value = orjson.dumps(chunk.to_message() | {"index": index})
        with translated():
            await self._redis.set(self._keys.job(job_id), value, ex=KEPT_SECONDS)

    async def find(self, job_id: str) -> Waiting | None:
        """Return who waits for that job; None when nobody said so."""
        with translated():
            value = await self._redis.get(self._keys.job(job_id))
        if value is None:
            return None
        message: Json = orjson.loads(value)
        return Waiting(Chunk.from_message(message), message["index"])

    async def deliver(self, chunk: Chunk, job_id: str, text: Json) -> None:
        """Keep what a webhook told of a job for the chunk that waits for it, and make that due at once."""
        with translated():
            async with self._redis.pipeline(transaction=False) as pipe:
                pipe.hset(self._keys.delivered(chunk), job_id, orjson.dumps(text))
                pipe.expire(self._keys.delivered(chunk), KEPT_SECONDS)
                pipe.zrem(self._keys.parked(), chunk.id)
                await pipe.execute()

    async def delivered(self, chunk: Chunk) -> dict[str, Json]:
        """Return what came for the jobs of that chunk, until it is committed: `{job_id: text}`."""
        with translated():
            found: Any = await self._redis.hgetall(self._keys.delivered(chunk))
        return {job_id.decode(): orjson.loads(text) for job_id, text in found.items()}
