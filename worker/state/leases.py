"""Who works on a chunk. Leases save double work; what is committed is right without them."""

from __future__ import annotations

import asyncio
import secrets

from redis.asyncio import Redis

from tagmill.worker.models import Chunk
from tagmill.worker.state.connection import Script
from tagmill.worker.state.keys import Keys, all_published

TAKEN_BY_ANOTHER, TAKEN_AGAIN = 0, 2  #: what `lease_renew.lua` answers when the lease was not ours any more


class Leases:
    """Every method here and on `Lease` raises `RedisUnavailableError`."""

    def __init__(self, redis: Redis, keys: Keys, lease_seconds: float, holder: str = "") -> None:
        """`holder`: the worker's name, for those who look on."""
        self.keys, self.milliseconds, self.holder = keys, int(lease_seconds * 1000), holder
        self.take_script, self.renew_script = Script(redis, "lease_take"), Script(redis, "lease_renew")
        self.release_script, self.commit_script = (
            Script(redis, "lease_release"),
            Script(redis, "lease_commit"),
        )

    async def take(self, chunk: Chunk) -> Lease | None:
        """Return None when another worker has the chunk."""
        token = f"{self.holder}/{secrets.token_hex(16)}"
        keys = [self.keys.lease(chunk), self.keys.parked(), *all_published(self.keys)]
        taken = await self.take_script(keys, [token, self.milliseconds, chunk.id])
        return Lease(self, chunk, token) if taken else None


class Lease:
    """One worker's hold on a chunk, until it is released, parked or committed."""

    def __init__(self, leases: Leases, chunk: Chunk, token: str) -> None:
        self.chunk = chunk
        self._leases, self._token, self._key = leases, token, leases.keys.lease(chunk)
        self.had_vanished = False  #: before the last renewal, which took it again
        self._ended = False
        self._one_at_a_time = asyncio.Lock()  # a renewal overtaken by a release would take the chunk again

    async def renew(self) -> bool:
        """Return False when another worker has the chunk, or this one gave it back."""
        async with self._one_at_a_time:
            if self._ended:
                return False
            arguments: list[str | float] = [self._token, self._leases.milliseconds]
            answer = int(await self._leases.renew_script([self._key], arguments))
            self.had_vanished = answer == TAKEN_AGAIN
            return answer != TAKEN_BY_ANOTHER

    async def release(self) -> bool:
        """Return whether it was still ours."""
        return await self._give_back(-1.0)

    async def park(self, not_before_seconds: float, *, heard: int | None = None) -> bool:
        """Release the chunk, not to be published for that long. Return whether it was still ours.

        `heard`: of how many jobs its holder heard what became of them; if more was told, it is due at once.
        """
        return await self._give_back(max(not_before_seconds, 0.0), -1 if heard is None else heard)

    async def commit(self, counts_json: bytes) -> None:
        """Note that the chunk's part exists, forget its journal, release it."""
        chunk, names = self.chunk, commit_keys(self._leases.keys, self.chunk)
        async with self._one_at_a_time:
            await self._leases.commit_script(names, [self._token, chunk.name, chunk.id, counts_json])
            self._ended = True

    async def _give_back(self, park_seconds: float, heard: int = -1) -> bool:
        keys = self._leases.keys
        names = [self._key, keys.parked(), keys.delivered(self.chunk)]
        arguments: list[str | float] = [self._token, self.chunk.id, park_seconds, heard]
        async with self._one_at_a_time:
            ours = await self._leases.release_script(names, arguments)
            self._ended = True
        return bool(ours)


def commit_keys(keys: Keys, chunk: Chunk) -> list[str]:
    """Return the keys of the script `lease_commit`."""
    of_pass = [key(chunk.run_id, chunk.pass_no) for key in (keys.done, keys.progress)]
    of_chunk = [keys.journal(chunk), keys.undo(chunk)]
    return [
        keys.lease(chunk),
        *of_pass,
        *of_chunk,
        keys.parked(),
        keys.delivered(chunk),
        *all_published(keys),
    ]
