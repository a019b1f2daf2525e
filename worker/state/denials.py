"""How many images of a run were answered 403: one is the image's failure, many are the account's."""

from __future__ import annotations

import hashlib

from redis.asyncio import Redis

from tagmill.worker.state.connection import Script, translated
from tagmill.worker.state.keys import Keys

MOST = 1000  #: more are not counted: the run was stopped long before
KEPT_SECONDS = 7 * 86_400


class Denials:
    def __init__(self, redis: Redis, keys: Keys, run_id: str) -> None:
        self._redis, self._works = redis, keys.works(run_id)
        self._key, self._script = keys.denied(run_id), Script(redis, "denied")

    async def denied(self, image_id: str) -> int:
        """Return how many distinct images of the run were denied by now, this one included.

        Raise `RedisUnavailableError`.
        """
        member = hashlib.sha256(image_id.encode(errors="surrogatepass")).digest()[:16]  # an id may be long
        return int(await self._script([self._key], [member, MOST, KEPT_SECONDS]))

    async def count(self) -> int:
        """Return how many distinct images of the run were denied by now."""
        with translated():
            return int(await self._redis.scard(self._key))

    async def vouch(self) -> None:
        """Note that the account answered an image of the run."""
        with translated():
            await self._redis.set(self._works, "1", ex=KEPT_SECONDS)

    async def vouched(self) -> bool:
        """Whether any worker was answered since the run began, or was lifted from a pause."""
        with translated():
            return bool(await self._redis.exists(self._works))
