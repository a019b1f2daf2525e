"""Counting inside open grants, for the whole fleet. What is lost here counts as spent."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from redis.asyncio import Redis

from tagmill.worker.state.connection import Script
from tagmill.worker.state.keys import Keys
from tagmill.worker.store.grants import Grant

TICKET_SECONDS = 300  #: to write a grant's file
KEPT_SECONDS = 40 * 86_400  #: longer than any month


@dataclass(frozen=True, slots=True)
class Taken:
    calls: int
    lacking: int | None = None  #: index of a scope with nothing left open; then no call was taken
    ticket: bytes = b""  #: to be taken before a grant is written, and given with it


class OpenGrants:
    """One process's way to them; a scope is the folder of a cap's grants. Raises `RedisUnavailableError`."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._keys, self._ticket = keys, keys.grant_ticket(secrets.token_hex(8))
        self._draw, self._open = Script(redis, "grant_draw"), Script(redis, "grant_open")

    async def take(self, scopes: Sequence[str], caps: Sequence[int | None], wanted: int) -> Taken:
        """Take up to so many calls, the same number from each scope."""
        keys = [self._ticket, *map(self._keys.grant, scopes)]
        args: list[int] = [wanted, TICKET_SECONDS, *(-1 if cap is None else cap for cap in caps)]
        calls, lacking, ticket = await self._draw(keys, args)
        return Taken(calls, lacking - 1 if lacking else None, ticket)

    async def open(self, scope: str, grant: Grant, ticket: bytes) -> bool:
        """Return False when the grant is lost: Redis may have forgotten that it was opened before."""
        args: list[bytes | int] = [ticket, grant.number, grant.calls, grant.through, KEPT_SECONDS]
        return bool(await self._open([self._ticket, self._keys.grant(scope)], args))
