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
    job_id: str | None  #: None: nobody knows it


def nameless(workflow_id: str, source: str) -> str:
    """What a job goes by where its id is not told; `source` without a query."""
    return f"{workflow_id} {source}"


class Jobs:
    """Every method raises `RedisUnavailableError`."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis, self._keys = redis, keys

    async def register(self, job_id: str | None, by_source: str, chunk: Chunk, index: int) -> None:
        """Say who waits for that job; `by_source`: what it goes by where its id is not told."""
        value = orjson.dumps(chunk.to_message() | {"index": index, "job_id": job_id})
        with translated():
            async with self._redis.pipeline(transaction=False) as pipe:
                for name in filter(None, (job_id, by_source)):
                    pipe.set(self._keys.job(name), value, ex=KEPT_SECONDS)
                await pipe.execute()

    async def find(self, name: str) -> Waiting | None:
        """Return who waits for the job that goes by that name; None when nobody said so."""
        with translated():
            value = await self._redis.get(self._keys.job(name))
        if value is None:
            return None
        message: Json = orjson.loads(value)
        return Waiting(Chunk.from_message(message), message["index"], message["job_id"])

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
