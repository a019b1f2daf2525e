"""What a chunk began, paid and was answered, kept from one worker to the next.

One worker at a time holds the chunk, so an entry is written whole and writing it twice changes nothing.
A call that was begun but has no end here was in flight when its worker died. Redis is the working copy;
before a worker gives the chunk back, what is new goes into the run store, too.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson
from redis.asyncio import Redis

from tagmill.worker.models import Chunk
from tagmill.worker.state.connection import Script, translated
from tagmill.worker.state.entries import NOT_BEGUN, Entry, Job, after_call, after_death
from tagmill.worker.state.group_commit import GroupCommit
from tagmill.worker.state.keys import Keys
from tagmill.worker.store.started import Kept, Started, Undo

KEPT_SECONDS = 7 * 86_400
KEPT = "kept"  #: field beside the entries: how many files hold all of them, or whoever reads them last


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    value: bytes
    first_wins: bool = False  #: an undo value


class Journal:
    """One chunk's journal, by index in the chunk. Every method raises `RedisUnavailableError`."""

    def __init__(self, redis: Redis, keys: Keys, chunk: Chunk, started: Started) -> None:
        self.chunk = chunk
        self.recovered = False  #: Redis had forgotten some of it
        self._redis, self._journal, self._undo_key = redis, keys.journal(chunk), keys.undo(chunk)
        self._keep_script = Script(redis, "journal_keep")
        self._started, self._files, self._token = started, 0, secrets.token_hex(8)
        self._entries: dict[int, Entry] = {}
        self._undo: Undo = {}
        self._new: set[int] = set()  #: entries that the run store does not hold as they are
        self._new_undo: set[int] = set()
        self._fields = GroupCommit(self._write)

    def __getitem__(self, index: int) -> Entry:
        """Return an empty entry for an image not begun."""
        return self._entries.get(index, NOT_BEGUN)

    def jobs(self) -> dict[int, Job]:
        """Return those that images wait for."""
        found = {index: entry.job for index, entry in self._entries.items() if entry.result is None}
        return {index: job for index, job in found.items() if job is not None}

    def calls(self) -> tuple[int, int]:
        """Return all calls, and those of unknown fate among them."""
        entries = self._entries.values()
        return sum(entry.calls for entry in entries), sum(entry.maybe_charged for entry in entries)

    async def load(self) -> dict[int, Entry]:
        """Read what earlier workers left; call it once, before all others.

        Where Redis may have forgotten some of it, the run store is asked; raise `RunStoreUnavailableError`.
        """
        with translated():
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.hgetall(self._journal)
                pipe.hgetall(self._undo_key)
                pipe.hset(self._journal, KEPT, self._token)
                pipe.expire(self._journal, KEPT_SECONDS)
                stored, undo, *_ = await pipe.execute()
        self._entries, self._undo = entries_of(stored), undo_values_of(undo)
        files = stored.get(KEPT.encode(), b"")
        if files.isdigit():
            self._files = int(files)
        else:
            self._compare(await asyncio.to_thread(self._started.load))
        if self.recovered:
            await self.write_again()
        return dict(self._entries)

    def _compare(self, kept: Kept) -> None:
        """Take over what the run store knows, and note what it does not."""
        entries = {index: Entry(**value) for index, value in kept.entries.items()}
        here, undo = self._entries, self._undo
        self._files = kept.files
        self._entries, self._undo = entries | here, merged_undo(kept.undo, undo)
        self.recovered = self._entries.keys() > here.keys() or self._undo != undo
        self._new = {i for i, entry in here.items() if i not in entries or entries[i] != entry.lasting}
        self._new_undo = {index for index in undo if self._undo[index] != kept.undo.get(index)}

    async def keep(self) -> None:
        """Copy into the run store what it does not hold yet; raise `RunStoreUnavailableError`, too."""
        if self._new or self._new_undo:
            entries = {index: self[index].lasting for index in self._new}
            undo = {index: self._undo[index] for index in self._new_undo}
            self._files = await asyncio.to_thread(self._started.keep, self._files, entries, undo)
            self._new, self._new_undo = set(), set()
        await self._keep_script([self._journal], [KEPT, self._token, self._files])

    async def bury(self) -> list[int]:
        """Count the death of the worker before, if it died; return the suspects, to be run first and alone.

        One write turns what was in flight into suspects, so a death during it counts once.
        """
        dangling = self._in_flight()
        deaths = 1 if len(dangling) == 1 else 0
        await self._store({index: after_death(self[index], deaths) for index in dangling})
        return sorted(index for index, entry in self._entries.items() if entry.suspect)

    async def intent(self, index: int, job: Job | None = None) -> None:
        """Before a paid call leaves; `job`: what it is to start."""
        await self._store({index: replace(self[index], in_flight=True, job=job)})

    async def begun(
        self, index: int, job_id: str | None, *, calls: int, maybe_charged: int = 0, poll_at: float = 0.0
    ) -> None:
        """The call came back, or its answer was lost, and the answer is to come from the job."""
        job = self[index].job
        assert job is not None  # noqa: S101 - the intent said so
        going_on = replace(job, id=job_id, poll_at=poll_at)
        await self._store({index: after_call(self[index], calls, maybe_charged, 1, going_on)})

    async def polled(self, index: int, job: Job) -> None:
        """The service was asked for the job, which goes on."""
        await self._store({index: replace(self[index], job=job)}, lasting=False)

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
        entry = after_call(self[index], calls, maybe_charged, attempts)
        await self._store({index: replace(entry, result=result, answer=None)})

    async def advance(
        self, index: int, answer: Mapping[str, Any], *, calls: int = 0, attempts: int = 0
    ) -> None:
        """One of the image's calls is done with, more are to follow; the numbers are added to what it had."""
        entry = after_call(self[index], calls, 0, attempts)
        await self._store({index: replace(entry, answer=answer, answered_attempts=entry.attempts)})

    async def retry(self, index: int, *, calls: int = 0, maybe_charged: int = 0, attempts: int = 0) -> None:
        """The call came back, the image is not done with; the numbers are added to what it had."""
        await self._store({index: after_call(self[index], calls, maybe_charged, attempts)})

    async def abandon(self) -> None:
        """Calls in flight were cut short by an orderly end: of unknown fate, but nobody died."""
        cut = {index: self[index] for index in self._in_flight()}
        await self._store({index: after_call(entry, 1, 1, 0, entry.job) for index, entry in cut.items()})

    async def note_upload(self, index: int, handle: str | None) -> None:
        """Remember an upload, or (None) that it is discarded."""
        await self._store({index: replace(self[index], upload=handle)})

    async def keep_undo(self, index: int, sink: str, values: Mapping[str, Any]) -> None:
        """Keep what stood there before our first write; later values are not kept."""
        self._undo.setdefault(index, {}).setdefault(sink, dict(values))
        self._new_undo.add(index)
        await self._fields.put(_Field(f"{index}:{sink}", orjson.dumps(values), first_wins=True))

    def written(self, index: int) -> frozenset[str]:
        """Return the sinks that were about to be written, by this worker or one before."""
        return frozenset(self._undo.get(index, ()))

    def undo_values(self) -> Undo:
        """Return `{index: {sink: values}}`."""
        return {index: dict(values) for index, values in self._undo.items()}

    async def write_again(self) -> None:
        """Put back all that this worker knows, after Redis lost it."""
        entries = [_Field(str(index), orjson.dumps(entry)) for index, entry in self._entries.items()]
        values = [
            _Field(f"{index}:{sink}", orjson.dumps(value), first_wins=True)
            for index, by_sink in self._undo.items()
            for sink, value in by_sink.items()
        ]
        await self._fields.put(*entries, *values)

    def _in_flight(self) -> list[int]:
        return [index for index, entry in self._entries.items() if entry.in_flight]

    async def _store(self, entries: Mapping[int, Entry], *, lasting: bool = True) -> None:
        """Without `lasting`, it may be lost."""
        before = {index: self[index] for index in entries}
        self._new.update(entries if lasting else ())
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
                    pipe.hsetnx(self._undo_key, field.name, field.value)
                if undo:
                    pipe.expire(self._undo_key, KEPT_SECONDS)
                await pipe.execute()


def entries_of(stored: Mapping[bytes, bytes]) -> dict[int, Entry]:
    """Read a journal's hash: `{index: entry}`."""
    return {int(name): Entry(**orjson.loads(value)) for name, value in stored.items() if name.isdigit()}


def undo_values_of(stored: Mapping[bytes, bytes]) -> Undo:
    """Read the hash of undo values: `{index: {sink: values}}`."""
    found: Undo = {}
    for name, value in stored.items():
        index, _, sink = name.decode().partition(":")
        found.setdefault(int(index), {})[sink] = orjson.loads(value)
    return found


def merged_undo(first: Undo, later: Undo) -> Undo:
    """Each value that was there first."""
    return {index: later.get(index, {}) | first.get(index, {}) for index in first.keys() | later.keys()}
