"""What a chunk began, paid and was answered, kept from one worker to the next.

One worker at a time holds the chunk, so an entry is written whole and writing it twice changes nothing.
A call that was begun but has no end here was in flight when its worker died.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson
from redis.asyncio import Redis

from tagmill.worker.models import Chunk
from tagmill.worker.state.connection import translated
from tagmill.worker.state.group_commit import GroupCommit
from tagmill.worker.state.keys import Keys

KEPT_SECONDS = 7 * 86_400
DEADLY_DEATHS = 2  #: alone in flight at so many deaths, an image is what kills


@dataclass(frozen=True, slots=True)
class Entry:
    """One image, over all workers that had its chunk."""

    calls: int = 0  #: requests to a billable endpoint, those of unknown fate included
    maybe_charged: int = 0  #: requests of unknown fate
    attempts: int = 0
    alone_deaths: int = 0  #: deaths at which it was the only image in flight
    in_flight: bool = False  #: a paid call was begun and has no end
    suspect: bool = False  #: was in flight at a death and has not come back since: goes first, alone
    result: Mapping[str, Any] | None = None  #: terminal: whatever `settle` was given
    answer: Mapping[str, Any] | None = None  #: of an image that takes several calls, what came of the first
    answered_attempts: int = 0  #: those of `attempts` that were for these
    upload: str | None = None  #: handle of an upload not yet discarded

    @property
    def deadly(self) -> bool:
        return self.alone_deaths >= DEADLY_DEATHS


_NOT_BEGUN = Entry()


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    value: bytes
    first_wins: bool = False  #: an undo value


class Journal:
    """One chunk's journal, by index in the chunk. Every method raises `RedisUnavailableError`."""

    def __init__(self, redis: Redis, keys: Keys, chunk: Chunk) -> None:
        self._redis, self._journal, self._undo = redis, keys.journal(chunk), keys.undo(chunk)
        self._entries: dict[int, Entry] = {}
        self._fields = GroupCommit(self._write)

    def __getitem__(self, index: int) -> Entry:
        """Return an empty entry for an image not begun."""
        return self._entries.get(index, _NOT_BEGUN)

    def calls(self) -> tuple[int, int]:
        """Return all calls, and those of unknown fate among them."""
        entries = self._entries.values()
        return sum(entry.calls for entry in entries), sum(entry.maybe_charged for entry in entries)

    async def load(self) -> dict[int, Entry]:
        """Read what earlier workers left; call it once, before all others."""
        with translated():
            stored: Any = await self._redis.hgetall(self._journal)
        self._entries = entries_of(stored)
        return dict(self._entries)

    async def bury(self) -> list[int]:
        """Count the death of the worker before, if it died; return the suspects, to be run first and alone.

        One write turns what was in flight into suspects, so a death during it counts once.
        """
        dangling = self._in_flight()
        deaths = 1 if len(dangling) == 1 else 0
        await self._store({index: after_death(self[index], deaths) for index in dangling})
        return sorted(index for index, entry in self._entries.items() if entry.suspect)

    async def intent(self, index: int) -> None:
        """Before a paid call leaves."""
        await self._store({index: replace(self[index], in_flight=True)})

    async def settle(
        self,
        index: int,
        result: Mapping[str, Any],
        *,
        calls: int = 0,
        maybe_charged: int = 0,
        attempts: int = 0,
    ) -> None:
        """The image is done with; the numbers are added to what it had."""
        entry = _after_call(self[index], calls, maybe_charged, attempts)
        await self._store({index: replace(entry, result=result, answer=None)})

    async def advance(
        self, index: int, answer: Mapping[str, Any], *, calls: int = 0, attempts: int = 0
    ) -> None:
        """One of the image's calls is done with, more are to follow; the numbers are added to what it had."""
        entry = _after_call(self[index], calls, 0, attempts)
        await self._store({index: replace(entry, answer=answer, answered_attempts=entry.attempts)})

    async def retry(self, index: int, *, calls: int = 0, maybe_charged: int = 0, attempts: int = 0) -> None:
        """The call came back, the image is not done with; the numbers are added to what it had."""
        await self._store({index: _after_call(self[index], calls, maybe_charged, attempts)})

    async def abandon(self) -> None:
        """Calls in flight were cut short by an orderly end: of unknown fate, but nobody died."""
        await self._store({index: _after_call(self[index], 1, 1, 0) for index in self._in_flight()})

    async def note_upload(self, index: int, handle: str | None) -> None:
        """Remember an upload, or (None) that it is discarded."""
        await self._store({index: replace(self[index], upload=handle)})

    async def keep_undo(self, index: int, sink: str, values: Mapping[str, Any]) -> None:
        """Keep what stood there before our first write; later values are not kept."""
        await self._fields.put(_Field(f"{index}:{sink}", orjson.dumps(values), first_wins=True))

    async def undo_values(self) -> dict[int, dict[str, Any]]:
        """Return `{index: {sink: values}}`."""
        with translated():
            stored: Any = await self._redis.hgetall(self._undo)
        return undo_values_of(stored)

    async def write_again(self, undo: Mapping[int, Mapping[str, Any]]) -> None:
        """Put back all that this worker knows, after Redis lost it; `undo` as `undo_values` returns it."""
        entries = [_Field(str(index), orjson.dumps(entry)) for index, entry in self._entries.items()]
        values = [
            _Field(f"{index}:{sink}", orjson.dumps(value), first_wins=True)
            for index, by_sink in undo.items()
            for sink, value in by_sink.items()
        ]
        await self._fields.put(*entries, *values)

    def _in_flight(self) -> list[int]:
        return [index for index, entry in self._entries.items() if entry.in_flight]

    async def _store(self, entries: Mapping[int, Entry]) -> None:
        before = {index: self[index] for index in entries}
        self._entries.update(entries)  # at once: a caller that is cancelled has written all the same
        try:
            if entries:
                await self._fields.put(*(_Field(str(i), orjson.dumps(entry)) for i, entry in entries.items()))
        except Exception:
            self._entries.update(before)  # a caller who tries again must not count twice
            raise

    async def _write(self, fields: Sequence[_Field]) -> None:
        entries: dict[Any, Any] = {field.name: field.value for field in fields if not field.first_wins}
        undo = [field for field in fields if field.first_wins]
        with translated():
            async with self._redis.pipeline(transaction=False) as pipe:
                if entries:
                    pipe.hset(self._journal, mapping=entries)
                    pipe.expire(self._journal, KEPT_SECONDS)
                for field in undo:
                    pipe.hsetnx(self._undo, field.name, field.value)
                if undo:
                    pipe.expire(self._undo, KEPT_SECONDS)
                await pipe.execute()


def entries_of(stored: Mapping[bytes, bytes]) -> dict[int, Entry]:
    """Read a journal's hash: `{index: entry}`."""
    return {int(name): Entry(**orjson.loads(value)) for name, value in stored.items()}


def undo_values_of(stored: Mapping[bytes, bytes]) -> dict[int, dict[str, Any]]:
    """Read the hash of undo values: `{index: {sink: values}}`."""
    found: dict[int, dict[str, Any]] = {}
    for name, value in stored.items():
        index, _, sink = name.decode().partition(":")
        found.setdefault(int(index), {})[sink] = orjson.loads(value)
    return found


def after_death(entry: Entry, deaths: int) -> Entry:
    """What was in flight when its worker died is of unknown fate; `deaths`: 1 when it was so alone."""
    return replace(
        entry,
        in_flight=False,
        suspect=True,
        calls=entry.calls + 1,
        maybe_charged=entry.maybe_charged + 1,
        alone_deaths=entry.alone_deaths + deaths,
    )


def _after_call(entry: Entry, calls: int, maybe_charged: int, attempts: int) -> Entry:
    return replace(
        entry,
        in_flight=False,
        suspect=False,
        calls=entry.calls + calls,
        maybe_charged=entry.maybe_charged + maybe_charged,
        attempts=entry.attempts + attempts,
    )
