"""How many of a run's last images failed, for the whole fleet: a run that goes wrong stops itself."""

from __future__ import annotations

from typing import NamedTuple

from redis.asyncio import Redis

from tagmill.worker.state.connection import Script
from tagmill.worker.state.keys import Keys

KEPT_SECONDS = 7 * 86_400


class LastImages(NamedTuple):
    images: int
    failed: int

    @property
    def percent(self) -> float:
        return 100 * self.failed / self.images if self.images else 0.0


class Failures:
    """`sample`: how many images the share is looked at over, at least; at most twice as many."""

    def __init__(self, redis: Redis, keys: Keys, run_id: str, sample: int) -> None:
        self._key, self._script, self._sample = keys.failures(run_id), Script(redis, "failures"), sample

    async def count(self, images: int, failed: int) -> LastImages:
        """Count images that have ended, and return the last ones. Raise `RedisUnavailableError`."""
        answer = await self._script([self._key], [images, failed, self._sample, KEPT_SECONDS])
        return LastImages(*answer)
