"""Which of several like processes does what one is enough for. It saves double work, nothing else."""

from __future__ import annotations

import secrets

from redis.asyncio import Redis

from tagmill.worker.state.connection import translated

LEADER_SECONDS = 30.0  #: a leader silent for longer is replaced


class Leader:
    """`redis` None: there is nobody else."""

    def __init__(self, redis: Redis | None, key: str) -> None:
        self._redis, self._key, self._token = redis, key, secrets.token_hex(8).encode()

    async def leads(self) -> bool:
        """Return whether this process does for a while; raise `RedisUnavailableError`."""
        if self._redis is None:
            return True
        milliseconds = int(LEADER_SECONDS * 1000)
        with translated():
            if await self._redis.set(self._key, self._token, nx=True, px=milliseconds):
                return True
            if await self._redis.get(self._key) != self._token:
                return False
            return bool(await self._redis.pexpire(self._key, milliseconds))

    async def resign(self) -> None:
        """Let another process lead at once."""
        if self._redis is not None:
            with translated():
                if await self._redis.get(self._key) == self._token:
                    await self._redis.delete(self._key)
