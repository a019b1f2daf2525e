"""Which of several like processes does what one is enough for. It saves double work, nothing else."""

from __future__ import annotations

import secrets

from redis.asyncio import Redis

from tagmill.worker.state.connection import Script

LEADER_SECONDS = 30.0  #: a leader silent for longer is replaced
RESIGN = 0.0  #: seconds


class Leader:
    """`redis` None: there is nobody else."""

    def __init__(self, redis: Redis | None, key: str) -> None:
        self._script = Script(redis, "lead") if redis is not None else None
        self._key, self._token = key, secrets.token_hex(8)

    async def leads(self) -> bool:
        """Return whether this process does for a while; raise `RedisUnavailableError`."""
        return await self._take(LEADER_SECONDS)

    async def resign(self) -> None:
        """Let another process lead at once."""
        await self._take(RESIGN)

    async def _take(self, seconds: float) -> bool:
        if self._script is None:
            return True
        return bool(await self._script([self._key], [self._token, int(seconds * 1000)]))
