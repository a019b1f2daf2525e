"""What refill, reports and commands see and set in Redis: the queue, who works, live counts. Synchronous.

Chunks change their own state through `leases`; this is the view from outside. All of it may be lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import orjson
import redis

from tagmill.config.celery import LANES, QUEUE
from tagmill.worker.counts import Counts
from tagmill.worker.models import Chunk, Json
from tagmill.worker.pace import Pace
from tagmill.worker.state.connection import LUA, seconds_of, translated
from tagmill.worker.state.entries import Entry
from tagmill.worker.state.insight import Insight
from tagmill.worker.state.journal import entries_of, undo_values_of
from tagmill.worker.state.keys import Keys, all_published
from tagmill.worker.state.leader import RESIGN
from tagmill.worker.state.leases import commit_keys
from tagmill.worker.state.pulse import Waits, control_note
from tagmill.worker.store.runs import Control

PACE_KEPT_SECONDS = 20  #: beyond, the run rested, and its pace is measured anew
USEFUL_SECONDS = 60  #: it is noted every few seconds
WORKER_SECONDS = 30  #: a worker silent for longer is gone
Place = tuple[int, int]  #: shard, offset


class Board:
    def __init__(self, client: redis.Redis, keys: Keys, *lanes: str) -> None:
        """`client` must answer bytes. `lanes`: Celery's names of the queues, without the prefix."""
        self._redis: Any = client  # redis-py types every reply as bytes or str or more
        self._keys, self._lanes = keys, lanes
        self._lead = self._redis.register_script(LUA["lead"])
        self._close_shard = self._redis.register_script(LUA["shard_close"])
        self._commit_chunk = self._redis.register_script(LUA["lease_commit"])
        self._note_control = self._redis.register_script(LUA["control_note"])

    # --- refill -------------------------------------------------------------------------------------------

    def announce_pass(self, run_id: str) -> None:
        """Say that a finished run has a new pass: who refills does not look for that in the files."""
        with translated():
            self._redis.sadd(self._keys.reopened(), run_id)

    def take_reopened(self) -> set[str]:
        """Return what was announced since the last call."""
        with translated():
            key = self._keys.reopened()
            return {member.decode() for member in self._redis.spop(key, self._redis.scard(key))}

    def lead(self, token: str, seconds: float) -> bool:
        """Return whether this token leads for the next `seconds`."""
        return self._take_lead(self._keys.refill_leader(), token, seconds)

    def leads(self, token: str) -> bool:
        """Whether Redis still says so."""
        with translated():
            return bool(self._redis.get(self._keys.refill_leader()) == token.encode())

    def resign(self, token: str) -> None:
        self._take_lead(self._keys.refill_leader(), token, RESIGN)

    def _take_lead(self, key: str, token: str, seconds: float) -> bool:
        with translated():
            return bool(self._lead(keys=[key], args=[token, int(seconds * 1000)]))

    def nudge(self, run_id: str) -> None:
        """Say that a run has more to do, so that whoever refills looks at once."""
        with translated(), self._redis.pipeline() as pipe:
            pipe.sadd(self._keys.reopened(), run_id)
            pipe.lpush(self._keys.nudges(), 1)
            pipe.ltrim(self._keys.nudges(), 0, 0)
            pipe.execute()

    def await_nudge(self, seconds: float) -> None:
        """Return at a nudge, or after that time."""
        with translated():
            self._redis.blpop([self._keys.nudges()], seconds)

    def note_published(self, chunk: Chunk, lane: str = QUEUE) -> None:
        with translated():
            self._redis.zadd(self._keys.published(lane), {chunk.id: self._now()})

    def queued(self, grace_seconds: float) -> set[str]:
        """Ids of chunks whose message waits in the queue, or left it less than `grace_seconds` ago.

        Each lane's queue is first in, first out: of the published chunks without a lease, the newest as many
        as the queue is long are in it. An older one was taken and its lease is due at once, or its message is
        lost: it is noted as missing, and forgotten when it is still missing after the grace.
        """
        gone: list[str] = []
        waiting: set[str] = set()
        with translated():
            with self._redis.pipeline() as pipe:
                for lane in self._lanes:
                    pipe.llen(self._keys.queue(lane))
                    pipe.zrange(self._keys.published(lane), 0, -1)
                found = pipe.execute()
            for length, members in zip(found[::2], found[1::2], strict=True):
                published = [member.decode() for member in members]
                taken = max(len(published) - length, 0)
                gone += published[:taken]
                waiting.update(published[taken:])
            return waiting | self._within_grace(gone, grace_seconds)

    def _within_grace(self, gone: Sequence[str], grace_seconds: float) -> set[str]:
        missing, now = self._keys.missing(), self._now()
        since = {
            member.decode(): score for member, score in self._redis.zrange(missing, 0, -1, withscores=True)
        }
        lost = {chunk_id for chunk_id in gone if now - since.get(chunk_id, now) > grace_seconds}
        with self._redis.pipeline() as pipe:
            if lost:
                for name in all_published(self._keys):
                    pipe.zrem(name, *lost)
            pipe.delete(missing)
            if kept := set(gone) - lost:
                pipe.zadd(missing, {chunk_id: since.get(chunk_id, now) for chunk_id in kept})
            pipe.execute()
        return kept

    def parked(self) -> set[str]:
        """Ids of chunks that must not be published yet; those whose time has come are taken off the list."""
        with translated(), self._redis.pipeline() as pipe:
            now = self._now()
            pipe.zremrangebyscore(self._keys.parked(), "-inf", now)
            pipe.zrange(self._keys.parked(), 0, -1)
            return {member.decode() for member in pipe.execute()[1]}

    def unpark(self, run_id: str) -> None:
        """Let chunks of that run be published at once: what they waited for may have changed."""
        with translated():
            parked = self._redis.zrange(self._keys.parked(), 0, -1)
            if members := [member for member in parked if member.startswith(f"{run_id}/".encode())]:
                self._redis.zrem(self._keys.parked(), *members)

    def leased(self, chunks: Sequence[Chunk]) -> set[str]:
        """Ids of those chunks that a worker holds."""
        if not chunks:
            return set()
        with translated():
            held = self._redis.mget([self._keys.lease(chunk) for chunk in chunks])
        return {chunk.id for chunk, token in zip(chunks, held, strict=True) if token is not None}

    # --- schedules ----------------------------------------------------------------------------------------

    def lead_beats(self, token: str, seconds: float) -> bool:
        """Return whether this beat ensures the due runs for the next `seconds`."""
        return self._take_lead(self._keys.beat_leader(), token, seconds)

    def resign_beat(self, token: str) -> None:
        self._take_lead(self._keys.beat_leader(), token, RESIGN)

    def beats(self) -> bool:
        """Whether there is a beat."""
        with translated():
            return bool(self._redis.exists(self._keys.beat_leader()))

    def note_trouble(self, schedule: str, text: str | None) -> None:
        """Say what keeps a schedule's run from being made or planned; None: nothing."""
        with translated():
            if text is None:
                self._redis.hdel(self._keys.troubles(), schedule)
            else:
                self._redis.hset(self._keys.troubles(), schedule, text)

    def troubles(self) -> dict[str, str]:
        """Return what keeps runs from it, by schedule."""
        with translated():
            found: dict[bytes, bytes] = self._redis.hgetall(self._keys.troubles())
        return {name.decode(): text.decode() for name, text in found.items()}

    # --- a chunk that nobody holds --------------------------------------------------------------------------

    def journal(self, chunk: Chunk) -> dict[int, Entry]:
        """Return what its workers left, by index in the chunk."""
        with translated():
            return entries_of(self._redis.hgetall(self._keys.journal(chunk)))

    def undo_values(self, chunk: Chunk) -> dict[int, dict[str, Any]]:
        """Return what stood at our keys before they wrote, by index and sink."""
        with translated():
            return undo_values_of(self._redis.hgetall(self._keys.undo(chunk)))

    def close_chunk(self, chunk: Chunk, counts: Counts) -> None:
        """Note that the chunk's part exists, and forget its journal."""
        with translated():
            keys = commit_keys(self._keys, chunk)
            self._commit_chunk(keys=keys, args=["", chunk.name, chunk.id, orjson.dumps(counts.to_json())])

    # --- live counts --------------------------------------------------------------------------------------

    def done(self, run_id: str, pass_no: int) -> dict[Place, Counts]:
        """Counts of committed chunks whose shard is not compacted."""
        with translated():
            found: dict[bytes, bytes] = self._redis.hgetall(self._keys.done(run_id, pass_no))
        return {_place(name): Counts.from_json(orjson.loads(value)) for name, value in found.items()}

    def note_done(self, chunk: Chunk, counts: Counts) -> None:
        with translated():
            key = self._keys.done(chunk.run_id, chunk.pass_no)
            self._redis.hset(key, chunk.name, orjson.dumps(counts.to_json()))

    def forget_done(self, run_id: str, pass_no: int, places: Iterable[Place]) -> None:
        if names := [_name(place) for place in places]:
            with translated():
                self._redis.hdel(self._keys.done(run_id, pass_no), *names)

    def close_shard(
        self, run_id: str, pass_no: int, shard: int, counts: Counts, chunks: Iterable[Chunk] = ()
    ) -> None:
        """Swap the counts of a shard's chunks for those of the shard; once more changes nothing."""
        keys = [key(run_id, pass_no) for key in (self._keys.compacted, self._keys.compacted_shards)]
        names = [chunk.name for chunk in chunks]
        with translated():
            self._close_shard(
                keys=[*keys, self._keys.done(run_id, pass_no)],
                args=[shard, orjson.dumps(counts.to_json()), *names],
            )

    def closed(self, run_id: str, pass_no: int) -> int:
        """Return the number of closed shards."""
        with translated():
            return int(self._redis.bitcount(self._keys.compacted_shards(run_id, pass_no)))

    def closed_shards(self, run_id: str, pass_no: int) -> set[int]:
        with translated():
            bitmap: bytes = self._redis.get(self._keys.compacted_shards(run_id, pass_no)) or b""
        return {
            8 * place + bit for place, byte in enumerate(bitmap) for bit in range(8) if byte >> (7 - bit) & 1
        }

    def note_counted(self, run_id: str, pass_no: int, *, whole: bool) -> None:
        """Say whether the counts here cover all that is committed."""
        with translated():
            if whole:
                self._redis.set(self._keys.counted(run_id, pass_no), "1")
            else:
                self._redis.delete(self._keys.counted(run_id, pass_no))

    def counts(self, run_id: str, pass_no: int) -> Counts | None:
        """Return all outcomes so far, chunks in work included; None when Redis does not know them all."""
        keys = self._keys
        with translated(), self._redis.pipeline() as pipe:
            pipe.get(keys.counted(run_id, pass_no))
            pipe.hgetall(keys.compacted(run_id, pass_no))
            pipe.hvals(keys.done(run_id, pass_no))
            pipe.hvals(keys.progress(run_id, pass_no))
            counted, sums, done, progress = pipe.execute()
        if counted is None:
            return None
        chunks = (Counts.from_json(orjson.loads(value)) for value in (*done, *progress))
        return Counts.total([_unflattened(sums), *chunks])

    def forget(self, run_id: str, pass_no: int) -> None:
        """Drop what a finished pass no longer needs."""
        keys = self._keys
        hashes = (keys.compacted, keys.compacted_shards, keys.done, keys.progress, keys.counted, keys.pace)
        with translated():
            self._redis.delete(*(key(run_id, pass_no) for key in hashes), keys.control(run_id))

    def forget_run(self, run_id: str) -> None:
        """Drop what is left of an earlier run of that name: its images and calls are not a new one's."""
        keys = self._keys
        with translated():
            for pattern in (keys.journals_of(run_id), keys.undos_of(run_id), keys.grants_of(run_id)):
                if stale := list(self._redis.scan_iter(pattern, count=1000)):
                    self._redis.delete(*stale)
        self.forget(run_id, 0)

    def drawn(self, folder: str) -> int | None:
        """Return the calls drawn or lost of the grants in that folder; None when Redis does not know."""
        with translated():
            stored = self._redis.hmget(self._keys.grant(folder), ["server", "through", "left"])
            here = self._redis.info("server")["run_id"].encode()
        return int(stored[1]) - int(stored[2]) if stored[0] == here else None

    def waits(self, run_id: str) -> Waits:
        """Return the sums since the run began."""
        fields = ["held", "lanes", "limit", "account"]
        with translated():
            held, lanes, limit, account = self._redis.hmget(self._keys.waits(run_id), fields)
        name = account.decode() if account else None
        return Waits(float(held or 0), float(lanes or 0), float(limit or 0) or None, name)

    def note_pace(self, run_id: str, pass_no: int, pace: Pace) -> None:
        with translated():
            value = orjson.dumps(pace.to_json())
            self._redis.set(self._keys.pace(run_id, pass_no), value, ex=PACE_KEPT_SECONDS)

    def pace(self, run_id: str, pass_no: int) -> Pace:
        """Return how fast the pass went lately; empty when it rests."""
        with translated():
            value = self._redis.get(self._keys.pace(run_id, pass_no))
        return Pace(self.waits(run_id).limit, Pace.samples_of(orjson.loads(value)) if value else ())

    @property
    def insight(self) -> Insight:
        """The same Redis, for those who look closer."""
        return Insight(self._redis, self._keys)

    # --- workers, control ---------------------------------------------------------------------------------

    def note_worker(self, name: str, processes: int, lanes: Sequence[str] = LANES) -> None:
        """Say that a worker lives, and which lanes it serves."""
        with translated():
            value = orjson.dumps({"at": self._now(), "processes": processes, "lanes": lanes})
            self._redis.hset(self._keys.workers(), name, value)

    def forget_worker(self, name: str) -> None:
        """Forget also what probes saw of it: a worker that has its name next is another one."""
        keys = self._keys
        with translated(), self._redis.pipeline() as pipe:
            pipe.hdel(keys.workers(), name).delete(keys.turn(name), keys.look(name)).execute()

    def workers(self, lane: str | None = None) -> dict[str, int]:
        """Return the live workers, of that lane or all, and their processes; an older one names no lanes."""
        with translated():
            now = self._now()
            found: dict[bytes, bytes] = self._redis.hgetall(self._keys.workers())
        values = {name.decode(): orjson.loads(value) for name, value in found.items()}
        alive = {name: value for name, value in values.items() if now - value["at"] < WORKER_SECONDS}
        return {name: v["processes"] for name, v in alive.items() if lane in {None, *v.get("lanes", LANES)}}

    def processes(self) -> int:
        return sum(self.workers().values())

    def note_useful_workers(self, count: int) -> None:
        """Say how many workers there should be, for a minute."""
        key = self._keys.useful_workers()
        with translated(), self._redis.pipeline() as pipe:
            pipe.delete(key).rpush(key, *[1] * count).expire(key, USEFUL_SECONDS).execute()

    def note_control(self, run_id: str, control: Control) -> None:
        """Tell all workers at once, not only when they next look into the files."""
        with translated():
            self._note_control(keys=[self._keys.control(run_id)], args=control_note(control))

    def control(self, run_id: str) -> Control | None:
        """Return the cached control; None when nobody looked lately."""
        with translated():
            value = self._redis.get(self._keys.control(run_id))
        return None if value is None else Control.from_json(orjson.loads(value))

    def forget_failures(self, run_id: str) -> None:
        """Begin anew to count images that failed or were answered 403: somebody may have mended the cause."""
        keys = (self._keys.denied(run_id), self._keys.works(run_id), self._keys.failures(run_id))
        with translated():
            self._redis.delete(*keys)

    # --- embedded start ---------------------------------------------------------------------------

    def drop_queue(self) -> None:
        """Forget messages and leases of workers that are known to be dead; journals stay."""
        keys = self._keys
        with translated():
            self._redis.delete(*map(keys.queue, self._lanes), keys.unacked(), keys.unacked_index())
            self._redis.delete(*all_published(keys), keys.missing(), keys.parked())
            self._redis.delete(keys.refill_leader(), keys.workers())
            stale = list(self._redis.scan_iter(self._keys.all_leases(), count=1000))
            if stale:
                self._redis.delete(*stale)

    def now(self) -> float:
        """Return the seconds since the epoch by Redis' clock."""
        with translated():
            return self._now()

    def _now(self) -> float:
        return seconds_of(self._redis.time())


def _place(name: bytes) -> Place:
    shard, offset = name.split(b"-")
    return int(shard), int(offset)


def _name(place: Place) -> str:
    return f"{place[0]:08d}-{place[1]:05d}"


def _unflattened(sums: dict[bytes, bytes]) -> Counts:
    value: Json = {"writes": {}, "errors": {}}
    for name, count in sums.items():
        group, _, member = name.decode().rpartition(".")
        (value[group] if group else value)[member] = int(count)
    return Counts.from_json(value)
