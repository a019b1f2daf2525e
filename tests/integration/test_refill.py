"""Refill against a model: whatever is lost, killed or flushed, every chunk is committed and the run ends."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, NamedTuple

import orjson
import pytest
from fakes.copies import Copies
from fakes.files import CountingFiles, Died, MemoryFiles, MortalFiles
from fakes.runs import RUN, SmallRun, a_spec, outcome
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)
from redis.asyncio import Redis
from servers.redis import RedisUnderTest
from structlog.testing import capture_logs

from tagmill.config.celery import QUEUE
from tagmill.producer.live import LiveRun
from tagmill.worker.counts import Counts
from tagmill.worker.errors import RedisUnavailableError
from tagmill.worker.events import Event
from tagmill.worker.models import Chunk, Handle, ImageRef, Json, Status
from tagmill.worker.pace import Pace, Sample
from tagmill.worker.policy import TagPolicy
from tagmill.worker.refill import (
    MIN_WINDOW,
    RECOUNTS_PER_TICK,
    RUNS_SECONDS,
    WINDOW_PER_PROCESS,
    Refill,
    leader_seconds,
)
from tagmill.worker.rows import RowContext, build_row
from tagmill.worker.state.board import Board
from tagmill.worker.state.keys import Keys
from tagmill.worker.state.leases import Lease, Leases
from tagmill.worker.store import jsonl
from tagmill.worker.store.event_runs import EventRuns
from tagmill.worker.store.parts import Parts
from tagmill.worker.store.passes import Passes, PassKind, PassSpec
from tagmill.worker.store.plan import Plan, Planned, PlanSummary, ShardHeader
from tagmill.worker.store.runs import Control, Runs, RunSpec, Verb
from tagmill.worker.summary import finished, read_summary

STATUSES = [Status.TAGGED, Status.FAILED, Status.SKIPPED]
LEASE_SECONDS = 600.0
LONG = 600.0
MAX_ROUNDS = 100
_prefixes = itertools.count()


class Fleet(NamedTuple):
    """One Redis for all examples; each keeps to a prefix of its own."""

    client: Any  #: redis-py types every reply as bytes or str or more
    aredis: Redis
    loop: asyncio.Runner


@pytest.fixture(scope="module")
def fleet(redis_server: RedisUnderTest) -> Iterator[Fleet]:
    with redis_server.sync_client() as client, asyncio.Runner() as loop:
        aredis = redis_server.client()
        yield Fleet(client, aredis, loop)
        loop.run(aredis.aclose())


class World:
    """A run, its queue, and the workers that hold its chunks."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet, self.keys = fleet, Keys(f"refill-{next(_prefixes)}")
        self.files = MortalFiles()
        self.run = SmallRun(self.files)
        self.board = Board(fleet.client, self.keys, QUEUE)
        self.leases = Leases(fleet.aredis, self.keys, LEASE_SECONDS)
        self.published: list[Chunk] = []
        self.lanes: list[str] = []  #: of what was published
        self.now = 0.0  #: seconds by the clock of every refill

    def refill(self, only: str | None = RUN, grace_seconds: float = 0.0, *, embedded: bool = False) -> Refill:
        return Refill(
            self.files,
            self.board,
            self.publish,
            only=only,
            embedded=embedded,
            grace_seconds=grace_seconds,
            clock=lambda: self.now,
        )

    @property
    def queue(self) -> str:
        return self.keys.queue(QUEUE)

    @property
    def waiting(self) -> list[bytes]:
        """Messages, the next one last."""
        return list(self.fleet.client.lrange(self.queue, 0, -1))

    @property
    def parts(self) -> set[tuple[int, int]]:
        return self.run.parts.committed_from(0)

    def publish(self, chunk: Chunk, lane: str) -> None:
        self.lanes.append(lane)
        self.published.append(chunk)
        self.fleet.client.lpush(self.queue, orjson.dumps(chunk.to_message()))

    def pop(self) -> Chunk | None:
        message = self.fleet.client.rpop(self.queue)
        return Chunk.from_message(orjson.loads(message)) if message else None

    def take(self, chunk: Chunk) -> Lease | None:
        """What a worker does first: a chunk that is committed needs no more work."""
        lease = self.fleet.loop.run(self.leases.take(chunk))
        if lease is not None and (chunk.shard, chunk.offset) in self.parts:
            self.hint(lease, Counts.of_rows(self.run.parts.rows(chunk)))
            return None
        if lease is not None and Runs(self.files).control(RUN).of(0) is Verb.CANCEL:
            self.fleet.loop.run(lease.release())
            return None
        return lease

    def commit_part(self, chunk: Chunk) -> Counts:
        rows = self.run.rows(chunk, STATUSES)
        if not self.run.parts.commit(chunk, rows):
            self.run.parts.count_extra(chunk, calls=1, maybe_charged=0)
        return Counts.of_rows(rows)

    def hint(self, lease: Lease, counts: Counts) -> None:
        self.fleet.loop.run(lease.commit(orjson.dumps(counts.to_json())))

    def work(self, chunk: Chunk) -> None:
        """From the message to the end, undisturbed."""
        lease = self.take(chunk)
        if lease is not None:
            self.hint(lease, self.commit_part(chunk))

    def drain(self) -> None:
        while (chunk := self.pop()) is not None:
            self.work(chunk)

    def control(self, verb: Verb) -> None:
        cancelled = 0 if verb is Verb.CANCEL else None
        control = Runs(self.files).set_control(RUN, Control(verb=verb, cancelled=cancelled))
        self.board.note_control(RUN, control)

    def flush(self) -> None:
        """`FLUSHALL`, of our prefix."""
        for key in self.fleet.client.scan_iter(self.keys.queue("*"), count=1000):
            self.fleet.client.delete(key)

    def holds(self, chunk: Chunk) -> bool:
        return bool(self.fleet.client.exists(self.keys.lease(chunk)))

    def parks(self, chunk: Chunk) -> bool:
        return (self.fleet.client.zscore(self.keys.parked(), chunk.id) or 0.0) > time.time()

    def expire(self, chunk: Chunk) -> None:
        self.fleet.client.delete(self.keys.lease(chunk))

    def time_passes(self) -> None:
        """Whatever was to wait is due."""
        self.now += LONG
        for member in self.fleet.client.zrange(self.keys.parked(), 0, -1):
            self.fleet.client.zadd(self.keys.parked(), {member: 0.0})

    def rows(self, name: str = "manifest.jsonl") -> list[Json]:
        return [orjson.loads(line) for line in self.files.contents[f"runs/{RUN}/{name}"].splitlines()]

    def check_finished(self) -> None:
        """Every image has one row, in plan order, and what was paid is counted."""
        rows = self.rows()
        assert [row["id"] for row in rows] == [f"filestack:h{number}" for number in range(self.run.planned)]
        summary = read_summary(self.files, RUN)
        assert summary is not None
        cancelled = Runs(self.files).control(RUN).cancelled is not None
        assert (summary["state"], summary["remaining"]) == ("cancelled" if cancelled else "completed", 0)
        assert summary["planned"] == len(rows)
        extra, _ = self.run.parts.extra()
        assert summary["calls"] <= Counts.of_rows(rows).calls + extra


@pytest.fixture
def world(fleet: Fleet) -> World:
    return World(fleet)


# --- the model --------------------------------------------------------------------------------------------


class Fate(RuleBasedStateMachine):
    """Anything may happen at any time; `teardown` lets all go well from then on."""

    def __init__(self, fleet: Fleet) -> None:
        super().__init__()
        self.world = World(fleet)
        self.refills = [self.world.refill(), self.world.refill()]
        self.known: list[set[tuple[int, int]]] = [set(), set()]  #: committed, as each refill was told
        self.in_hand: list[Chunk] = []  #: taken off the queue, no lease yet
        self.working: list[tuple[Chunk, Lease]] = []  #: some of them in vain, their lease is over
        self.processes = 0
        self.planned, self.paused, self.cancelled = False, False, False
        self.orderly = True  #: no message was lost, sent twice or held up
        self.told: set[tuple[int, int]] = set()  #: parts that Redis told of and that were not there

    # --- planning

    @initialize(images=st.integers(1, 40), chunk_size=st.integers(1, 12))
    def begin(self, images: int, chunk_size: int) -> None:
        self.plan_another_shard(images, chunk_size)
        self.tick(0)

    @precondition(lambda self: not self.planned and not self.cancelled)
    @rule(images=st.integers(1, 40), chunk_size=st.integers(1, 12))
    def plan_another_shard(self, images: int, chunk_size: int) -> None:
        self.world.run.shard(images, chunk_size)

    @precondition(lambda self: not self.planned and not self.cancelled)
    @rule()
    def finish_planning(self) -> None:
        self.world.run.finish_plan()
        self.planned = True

    # --- refill

    @rule(who=st.integers(0, 1), count=st.integers(2, 4))
    def ticks(self, who: int, count: int) -> None:
        for _ in range(count):
            self.tick(who)

    @rule(who=st.integers(0, 1))
    def tick(self, who: int) -> None:
        world, refill = self.world, self.refills[who]
        self._look_before(who)
        known = self.known[who]
        chunks = world.run.chunks
        untouchable = {chunk for chunk in chunks if world.holds(chunk) or world.parks(chunk)}
        waiting = {Chunk.from_message(orjson.loads(message)) for message in world.waiting}
        world.published.clear()
        leads = refill.tick()
        published = list(world.published)
        places = {(chunk.shard, chunk.offset) for chunk in published}
        assert leads or not published
        assert not ((self.paused or self.cancelled) and published)
        assert len(set(published)) == len(published)
        assert set(published) <= set(chunks)
        assert not set(published) & untouchable
        assert not places & known
        uncommitted = [(chunk.shard, chunk.offset) for chunk in chunks]
        uncommitted = [place for place in uncommitted if place not in known | self.told]
        assert places - self.told <= set(uncommitted[: self._window()])
        if self.in_hand:
            self.orderly = False
        if self.orderly:
            assert not waiting & set(published)
        self._look_after(leads=leads)

    def _look_before(self, who: int) -> None:
        """Note what the refill is about to be told."""
        refill = self.refills[who]
        done = {place for place in self.world.board.done(RUN, 0) if place in self.world.parts}
        self.known[who] = (self.known[who] if refill._leading else self.world.parts) | done

    def _look_after(self, *, leads: bool) -> None:
        board = self.world.board
        counts, closed, done = board.counts(RUN, 0), board.closed_shards(RUN, 0), board.done(RUN, 0)
        if leads and counts is not None and not self.told:
            counted = [
                chunk.count
                for chunk in self.world.run.chunks
                if chunk.shard in closed or (chunk.shard, chunk.offset) in done
            ]
            assert counts.settled == sum(counted)
        if finished(self.world.files, RUN, 0):
            self.world.check_finished()

    def _window(self) -> int:
        return max(WINDOW_PER_PROCESS * self.processes, MIN_WINDOW)

    @rule(who=st.integers(0, 1), nth=st.integers(1, 6), written=st.booleans())
    def refiller_dies_at_a_write(self, who: int, nth: int, *, written: bool) -> None:
        self.world.files.die_at(nth, written=written)
        try:
            self.tick(who)
        except Died:
            self.refills[who] = self.world.refill()
        finally:
            self.world.files.die_at(0, written=False)

    @rule(silently=st.booleans())
    def leader_leaves(self, *, silently: bool) -> None:
        if silently:
            self.world.fleet.client.delete(self.world.keys.refill_leader())
        for refill in () if silently else self.refills:
            refill.resign()

    @rule(processes=st.integers(0, 10))
    def workers_come_and_go(self, processes: int) -> None:
        self.world.board.note_worker("worker", processes)
        self.processes = processes

    @rule(pause=st.booleans())
    def pause_or_resume(self, *, pause: bool) -> None:
        self.world.control(Verb.PAUSE if pause else Verb.RESUME)
        self.paused = pause

    @precondition(lambda self: not self.cancelled and not finished(self.world.files, RUN, 0))
    @rule(chance=st.integers(0, 9))
    def cancel(self, chance: int) -> None:
        if chance == 0:  # most examples are to go on to their end
            self.world.control(Verb.CANCEL)
            self.cancelled = True

    # --- messages

    @precondition(lambda self: self.world.waiting)
    @rule()
    def deliver(self) -> None:
        chunk = self.world.pop()
        assert chunk is not None
        self.in_hand.append(chunk)

    @precondition(lambda self: self.world.waiting)
    @rule(count=st.integers(1, 8))
    def deliver_and_take(self, count: int) -> None:
        for _ in range(count):
            if (chunk := self.world.pop()) is not None:
                self._take(chunk)

    @precondition(lambda self: self.world.waiting)
    @rule(count=st.integers(1, 20))
    def work_well(self, count: int) -> None:
        for _ in range(count):
            if (chunk := self.world.pop()) is not None:
                self.world.work(chunk)

    @precondition(lambda self: self.world.waiting)
    @rule(data=st.data())
    def lose_a_message(self, data: st.DataObject) -> None:
        message = data.draw(st.sampled_from(self.world.waiting))
        self.world.fleet.client.lrem(self.world.queue, 1, message)
        self.orderly = False

    @precondition(lambda self: self.world.waiting)
    @rule(data=st.data())
    def duplicate_a_message(self, data: st.DataObject) -> None:
        message = data.draw(st.sampled_from(self.world.waiting))
        self.world.fleet.client.lpush(self.world.queue, message)
        self.orderly = False

    # --- workers

    @precondition(lambda self: self.in_hand)
    @rule(data=st.data())
    def take(self, data: st.DataObject) -> None:
        self._take(self.in_hand.pop(data.draw(st.integers(0, len(self.in_hand) - 1))))

    def _take(self, chunk: Chunk) -> None:
        lease = self.world.take(chunk)
        if lease is not None:
            self.working.append((chunk, lease))

    def _worker(self, data: st.DataObject) -> tuple[Chunk, Lease]:
        return self.working.pop(data.draw(st.integers(0, len(self.working) - 1)))

    @precondition(lambda self: self.working)
    @rule(data=st.data())
    def commit(self, data: st.DataObject) -> None:
        chunk, lease = self._worker(data)
        self.world.hint(lease, self.world.commit_part(chunk))

    @precondition(lambda self: self.working)
    @rule(data=st.data())
    def die_between_part_and_hint(self, data: st.DataObject) -> None:
        chunk, _ = self._worker(data)
        self.world.commit_part(chunk)

    @precondition(lambda self: self.working)
    @rule(data=st.data())
    def die_at_work(self, data: st.DataObject) -> None:
        self._worker(data)

    @precondition(lambda self: self.working)
    @rule(data=st.data(), seconds=st.sampled_from([0.0, LONG]))
    def park(self, data: st.DataObject, seconds: float) -> None:
        _, lease = self._worker(data)
        self.world.fleet.loop.run(lease.park(seconds))

    @precondition(lambda self: self.working)
    @rule(data=st.data(), who=st.integers(0, 1))
    def commit_after_another_did(self, data: st.DataObject, who: int) -> None:
        chunk, lease = self._worker(data)
        for other in self.world.run.headers[chunk.shard].chunks(RUN, 0):
            self.world.expire(other)
            self.world.work(other)
        self.tick(who)
        self.world.hint(lease, self.world.commit_part(chunk))
        self.tick(who)

    @precondition(lambda self: self.working)
    @rule(data=st.data())
    def renew(self, data: st.DataObject) -> None:
        chunk, lease = self._worker(data)
        if self.world.fleet.loop.run(lease.renew()):
            self.working.append((chunk, lease))

    @precondition(lambda self: self.world.run.chunks)
    @rule(data=st.data())
    def lease_expires(self, data: st.DataObject) -> None:
        self.world.expire(data.draw(st.sampled_from(self.world.run.chunks)))

    @rule()
    def time_passes(self) -> None:
        self.world.time_passes()

    # --- Redis

    @rule()
    def flush_redis(self) -> None:
        self.world.flush()
        self.orderly, self.processes = False, 0

    @precondition(lambda self: self.world.run.chunks)
    @rule(data=st.data())
    def tell_of_a_part_that_is_not_there(self, data: st.DataObject) -> None:
        """What an earlier run of the same name may leave in Redis."""
        chunk = data.draw(st.sampled_from(self.world.run.chunks))
        if (chunk.shard, chunk.offset) not in self.world.parts:
            self.world.board.note_done(chunk, Counts(tagged=chunk.count))
            self.told.add((chunk.shard, chunk.offset))

    # --- and from then on all goes well

    def teardown(self) -> None:
        world = self.world
        if not self.planned and not self.cancelled:
            world.run.finish_plan()
        world.control(Verb.RESUME)
        for chunk in world.run.chunks:
            world.expire(chunk)
        world.fleet.client.delete(world.keys.refill_leader())
        rounds = 0
        while not finished(world.files, RUN, 0):
            rounds += 1
            assert rounds < MAX_ROUNDS
            world.time_passes()
            self.refills[0].tick()
            world.drain()
        world.check_finished()
        self._check_the_end()
        world.flush()

    def _check_the_end(self) -> None:
        """Whoever comes now, even with a memory of before, finds nothing to do in the end."""
        world, kept = self.world, dict(self.world.files.contents)
        for _ in range(5):
            self.refills[0].tick()
            world.drain()
        world.published.clear()
        assert self.refills[0].tick()
        assert world.published == []
        changed = {name for name in world.files.contents if world.files.contents[name] != kept.get(name)}
        assert changed <= set()
        assert world.board.counts(RUN, 0) is None


def run_model(fleet: Fleet, examples: int, steps: int) -> None:
    run_state_machine_as_test(
        lambda: Fate(fleet),  # type: ignore[arg-type] # any factory will do, says its documentation
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            report_multiple_bugs=False,
            suppress_health_check=[
                HealthCheck.too_slow,
                HealthCheck.filter_too_much,
                HealthCheck.data_too_large,
            ],
        ),
    )


@pytest.mark.timeout(600)  # to find the shortest way into a failure
def test_whatever_happens_every_chunk_is_committed_and_the_run_ends(fleet: Fleet) -> None:
    run_model(fleet, examples=30, steps=40)


@pytest.mark.long
@pytest.mark.timeout(3_600)
def test_whatever_happens_ten_thousand_times(fleet: Fleet) -> None:
    run_model(fleet, examples=10_000, steps=60)


# --- one thing at a time ----------------------------------------------------------------------------------


def test_an_undisturbed_run_publishes_every_chunk_once(world: World) -> None:
    for _ in range(5):
        world.run.shard(60, 10)
    world.run.finish_plan()
    refill = world.refill()
    for _ in range(4):
        assert refill.tick()
        world.drain()
    assert sorted(world.published) == world.run.chunks
    world.check_finished()


def test_it_publishes_ahead_three_chunks_a_process_within_bounds(world: World) -> None:
    world.run.shard(10_000, 10)
    refill = world.refill()
    for processes, most in ((0, 16), (5, 16), (20, 60), (10_000, 512)):
        world.board.note_worker("worker", processes)
        refill.tick()
        assert len(world.waiting) == most


def test_it_publishes_while_planning_goes_on(world: World) -> None:
    refill = world.refill()
    assert refill.tick()
    world.run.shard(10, 10)
    refill.tick()
    world.drain()
    refill.tick()
    assert not finished(world.files, RUN, 0)
    world.run.shard(10, 10)
    world.run.finish_plan()
    refill.tick()
    world.drain()
    refill.tick()
    world.check_finished()


def test_a_run_without_images_ends_at_once(world: World) -> None:
    world.run.finish_plan()
    world.refill().tick()
    world.check_finished()


def test_only_one_process_publishes(world: World) -> None:
    world.run.shard(10, 10)
    first, second = world.refill(), world.refill()
    assert first.tick()
    assert not second.tick()
    first.resign()
    assert second.tick()
    assert len(world.published) == 1


def test_a_message_that_was_lost_is_sent_again_after_the_grace(world: World) -> None:
    world.run.shard(30, 10)
    refill = world.refill()
    refill.tick()
    lost = world.pop()
    refill.tick()
    assert world.published == world.run.chunks
    refill.tick()
    assert world.published == [*world.run.chunks, lost]


def test_a_worker_has_the_grace_to_take_the_lease(world: World) -> None:
    world.run.shard(10, 10)
    refill = world.refill(grace_seconds=LONG)
    refill.tick()
    world.pop()
    for _ in range(3):
        refill.tick()
    assert len(world.published) == 1


def test_a_dead_worker_s_chunk_is_sent_again_when_its_lease_is_over(world: World) -> None:
    world.run.shard(10, 10)
    refill = world.refill()
    refill.tick()
    chunk = world.pop()
    assert chunk is not None
    world.take(chunk)
    for _ in range(3):
        refill.tick()
    assert world.published == [chunk]
    world.expire(chunk)
    refill.tick()
    assert world.published == [chunk, chunk]


def test_a_parked_chunk_is_sent_again_in_its_time(world: World) -> None:
    world.run.shard(10, 10)
    refill = world.refill()
    refill.tick()
    chunk = world.pop()
    assert chunk is not None
    lease = world.take(chunk)
    assert lease is not None
    world.fleet.loop.run(lease.park(LONG))
    for _ in range(3):
        refill.tick()
    assert world.published == [chunk]
    world.time_passes()
    refill.tick()
    assert world.published == [chunk, chunk]


def test_a_paused_run_is_not_published_and_goes_on_when_resumed(world: World) -> None:
    world.run.shard(10, 10)
    world.control(Verb.PAUSE)
    refill = world.refill()
    refill.tick()
    assert world.published == []
    world.control(Verb.RESUME)
    refill.tick()
    assert len(world.published) == 1


def test_a_pause_that_redis_does_not_know_of_holds(world: World) -> None:
    world.run.shard(10, 10)
    Runs(world.files).set_control(RUN, Control(verb=Verb.PAUSE))
    world.refill().tick()
    assert world.published == []


def test_a_run_whose_time_is_up_is_paused_and_resuming_gives_it_as_much_again(world: World) -> None:
    world.run.shard(10, 10)
    long_ago = "2020-01-01T00:00:00+00:00"
    Runs(world.files).set_control(RUN, Control(max_duration=3600.0, since=long_ago))
    refill = world.refill()
    refill.tick()
    assert world.published == []
    pause = Runs(world.files).control(RUN)
    assert (pause.verb, pause.reason) == (Verb.PAUSE, "time_limit")
    assert world.board.control(RUN) == pause
    lifted = Runs(world.files).set_control(RUN, Control(at=datetime.now(UTC).isoformat()))
    world.board.note_control(RUN, lifted)
    refill.tick()
    assert len(world.published) == 1


def cancelled(world: World) -> Refill:
    world.control(Verb.CANCEL)
    refill = world.refill()
    for _ in range(4):
        refill.tick()
        world.time_passes()
    return refill


def test_what_nobody_began_of_a_cancelled_run_becomes_rows_at_once(world: World) -> None:
    world.run.shard(60, 10)
    world.run.shard(30, 10)
    for chunk in world.run.chunks[:2]:
        world.work(chunk)
    cancelled(world)
    assert world.published == []
    world.check_finished()
    assert Counter(row["status"] for row in world.rows()) == {
        "tagged": 8,
        "failed": 6,
        "skipped": 6,
        "cancelled": 70,
    }


def test_a_cancelled_chunk_is_left_to_the_worker_that_holds_it(world: World) -> None:
    world.run.shard(30, 10)
    chunk = world.run.chunks[1]
    lease = world.take(chunk)
    assert lease is not None
    refill = cancelled(world)
    assert world.parts == {(0, 0), (0, 20)}
    world.hint(lease, world.commit_part(chunk))
    refill.tick()
    world.check_finished()
    assert {row["status"] for row in world.rows()[10:20]} == {"tagged", "failed", "skipped"}


def test_a_lease_that_redis_may_have_lost_is_given_time_to_come_back(world: World) -> None:
    """A worker takes its lease again a pulse after a flush; its paid results must not be passed over."""
    world.run.shard(10, 10)
    lease = world.take(world.run.chunks[0])
    assert lease is not None
    world.control(Verb.CANCEL)
    world.flush()
    refill = world.refill()
    refill.tick()
    assert world.parts == set()
    world.fleet.loop.run(lease.renew())
    world.now += LONG
    refill.tick()
    assert world.parts == set()


def test_what_is_planned_while_a_run_is_being_cancelled_does_not_count(world: World) -> None:
    world.run.shard(10, 10)
    refill = world.refill()
    refill.tick()
    world.control(Verb.CANCEL)
    header = ShardHeader(1, 1, 10, 10, {}, 11)
    name = f"runs/{RUN}/passes/0000/plan/00000001.jsonl.gz"
    world.now += LONG
    refill.tick()  # closes the plan
    world.files.contents[name] = jsonl.pack(
        [asdict(header), {"kind": "handle", "source": {"handle": "late"}}]
    )
    refill.tick()
    refill.tick()
    world.check_finished()


def test_a_cancelled_run_can_be_undone_and_stays_cancelled(world: World) -> None:
    world.run.shard(10, 10)
    cancelled(world).resign()
    Passes(world.files, RUN).create(PassSpec(1, PassKind.UNDO, {}, ["0000"], created_at=a_spec().created_at))
    Plan(world.files, RUN, 1).finish(PlanSummary(0, 0, 0, {}))
    world.control(Verb.RESUME)
    summary = LiveRun(world.files, RUN, None).summary()
    assert (summary["pass"], summary["state"]) == (1, "running")
    world.refill().tick()
    final = read_summary(world.files, RUN)
    assert final is not None
    assert (final["pass"], final["state"], final["cancelled"]) == (1, "cancelled", 10)


def test_a_leader_that_died_is_replaced_as_soon_as_a_worker_would_be(world: World) -> None:
    assert [leader_seconds(lease) for lease in (2.0, 8.0, 90.0)] == [5.0, 8.0, 15.0]
    assert Refill(world.files, world.board, world.publish, leader_seconds=8.0).tick()
    assert 0 < world.fleet.client.pttl(world.keys.refill_leader()) <= 8_000


def test_a_leader_whose_ticks_are_long_leads_for_longer_than_they_take(world: World) -> None:
    def publish(_chunk: Chunk, _lane: str) -> None:
        world.now += 20.0

    world.run.shard(10, 10)
    refill = Refill(world.files, world.board, publish, only=RUN, clock=lambda: world.now)
    for _ in range(2):
        refill.tick()
    assert 30_000 < world.fleet.client.pttl(world.keys.refill_leader()) <= 40_000


def test_a_commit_without_its_hint_is_found_by_the_next_leader(world: World) -> None:
    world.run.shard(10, 10)
    world.run.finish_plan()
    world.commit_part(world.run.chunks[0])
    refill = world.refill()
    for _ in range(2):
        refill.tick()
    assert world.published == []
    world.check_finished()


def test_what_redis_lost_of_the_counts_is_put_back(world: World) -> None:
    world.run.shard(100, 10)
    world.run.shard(100, 10)
    refill = world.refill()
    refill.tick()
    for _ in range(13):
        world.work(world.pop() or world.run.chunks[0])
    refill.tick()
    before = world.board.counts(RUN, 0)
    assert before is not None
    assert before.settled == 130
    world.flush()
    refill.tick()
    assert world.board.counts(RUN, 0) == before


def test_counts_that_take_several_looks_to_put_back_are_unknown_meanwhile(world: World) -> None:
    world.run.shard((RECOUNTS_PER_TICK + 10) * 10, 10)
    for chunk in world.run.chunks[:-1]:
        world.commit_part(chunk)
    refill = world.refill()
    refill.tick()
    assert world.board.counts(RUN, 0) is None
    refill.tick()
    counts = world.board.counts(RUN, 0)
    assert counts is not None
    assert counts.settled == (RECOUNTS_PER_TICK + 9) * 10


def test_who_commits_late_to_a_compacted_shard_is_not_counted_again(world: World) -> None:
    world.run.shard(10, 10)
    refill = world.refill()
    refill.tick()
    chunk = world.pop()
    assert chunk is not None
    lease = world.take(chunk)
    assert lease is not None
    world.expire(chunk)
    world.work(chunk)
    refill.tick()
    world.hint(lease, world.commit_part(chunk))
    refill.tick()
    counts = world.board.counts(RUN, 0)
    assert counts is not None
    assert counts.settled == 10


def test_counts_are_whole_before_a_single_shard_is_opened(world: World) -> None:
    for _ in range(3):
        world.run.shard(10, 10)
    world.commit_part(world.run.chunks[2])
    world.control(Verb.PAUSE)
    world.refill().tick()
    counts = world.board.counts(RUN, 0)
    assert counts is not None
    assert counts.settled == 10


def test_views_that_a_dead_refiller_left_out_are_written_by_the_next(world: World) -> None:
    world.run.shard(10, 10)
    world.run.finish_plan()
    refill = world.refill()
    refill.tick()
    world.drain()
    world.files.die_at(4, written=True)  # rows, entry, index, and then the mark
    with contextlib.suppress(Died):
        refill.tick()
    world.files.die_at(0, written=False)
    assert world.files.exists(f"runs/{RUN}/passes/0000/_SUCCESS")
    assert not finished(world.files, RUN, 0)
    refill.resign()
    world.refill().tick()
    world.check_finished()


class SlowFiles(MemoryFiles):
    """Writes no view before it is let to."""

    def __init__(self) -> None:
        super().__init__()
        self.let = threading.Event()

    def replace(self, name: str, data: Iterable[bytes]) -> None:
        self.let.wait()
        super().replace(name, data)


def test_views_that_take_long_hold_up_no_tick(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tagmill.worker.refill.FINISH_SECONDS", 0.0)
    files = SlowFiles()
    run, board = SmallRun(files), Board(fleet.client, Keys(f"refill-{next(_prefixes)}"), QUEUE)
    run.shard(10, 10)
    run.finish_plan()
    run.commit(run.chunks[0])
    refill = Refill(files, board, lambda _chunk, _lane: None, only=RUN)
    for _ in range(3):
        assert refill.tick()
        assert not finished(files, RUN, 0)
    files.let.set()
    monkeypatch.setattr("tagmill.worker.refill.FINISH_SECONDS", 60.0)
    refill.tick()
    assert finished(files, RUN, 0)


def test_following_a_run_asks_the_store_for_next_to_nothing(fleet: Fleet) -> None:
    files = CountingFiles()
    run, board = SmallRun(files), Board(fleet.client, Keys(f"refill-{next(_prefixes)}"), QUEUE)
    run.shard(400, 10)
    refill, live = Refill(files, board, lambda _chunk, _lane: None, only=RUN), LiveRun(files, RUN, board)
    for planned in (False, True):
        if planned:
            run.finish_plan()
        refill.tick()
        live.summary()
        files.requests = 0
        for _ in range(10):
            refill.tick()
            live.summary()
        # While planning goes on, a look asks whether it is finished, and for new shards.
        assert files.requests == (0 if planned else 20)


# --- chunks that wait for workflow jobs -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("job_seconds", "limit", "published"),
    [(None, None, MIN_WINDOW), (60.0, None, MIN_WINDOW + 12), (60.0, 4.0, MIN_WINDOW + 24), (6.0, None, 18)],
)
def test_while_jobs_run_more_chunks_are_begun(
    fleet: Fleet, job_seconds: float | None, limit: float | None, published: int
) -> None:
    """Two calls a second by the plan, ten images a chunk."""
    files, sent, keys = MemoryFiles(), list[Chunk](), Keys(f"refill-{next(_prefixes)}")
    run = SmallRun(files, a_spec(planned_rate=2.0, job_seconds=job_seconds))
    run.shard(1000, 10)
    if limit is not None:
        fleet.client.hset(keys.waits(RUN), "limit", limit)
    Refill(files, Board(fleet.client, keys, QUEUE), lambda chunk, _: sent.append(chunk), only=RUN).tick()
    assert len(sent) == published


# --- answers for images of equal content ------------------------------------------------------------------


def test_who_refills_hands_answers_on_until_nobody_waits(fleet: Fleet) -> None:
    copies = Copies([n % 5 for n in range(23)], ["down", "tagged", "tagged"] + ["tagged"] * 20)
    board, published = Board(fleet.client, Keys(f"refill-{next(_prefixes)}"), QUEUE), list[Chunk]()
    refill = Refill(
        copies.files, board, lambda chunk, _lane: published.append(chunk), only=RUN, grace_seconds=0.0
    )
    copies.plan(finish=False)
    live = LiveRun(copies.files, RUN, board)
    refill.tick()
    assert published == []  # as long as images come, nobody knows which of them wait

    copies.finish_plan()
    worked: list[int] = []
    while live.summary()["state"] == "running":
        refill.tick()
        await_followers_planned()
        while published:
            chunk = published.pop()
            rows = copies.commit(Passes(copies.files, RUN).read(chunk.pass_no), chunk)
            board.note_done(chunk, Counts.of_rows(rows))
            worked.append(chunk.pass_no)
            summary = live.summary()
            assert (summary["pass"], summary["state"]) == (chunk.pass_no, "running")

    assert sorted(set(worked)) == [0, 1, 2]
    assert worked == sorted(worked)
    assert live.summary() == read_summary(copies.files, RUN)
    assert {row["status"] for row in copies.rows()} == {"failed", "tagged", "duplicate"}


def test_a_failure_to_plan_is_told_and_planning_begins_again(fleet: Fleet) -> None:
    copies = Copies([0, 0], ["tagged", "tagged"])
    copies.plan()
    copies.work(Passes(copies.files, RUN).newest())
    rows = f"runs/{RUN}/passes/0000/manifest/00000000.jsonl.gz"
    lost = copies.files.read(rows)
    copies.files.remove(rows)
    board = Board(fleet.client, Keys(f"refill-{next(_prefixes)}"), QUEUE)
    refill = Refill(copies.files, board, lambda _chunk, _lane: None, only=RUN)
    refill.tick()
    await_followers_planned()
    copies.files.create(rows, lost)

    with pytest.raises(FileNotFoundError):
        refill.tick()
    await_followers_planned()
    refill.tick()

    assert Plan(copies.files, RUN, 1).planned() == 1
    refill.resign()


def test_cancelled_while_answers_are_handed_on_each_image_has_its_row(fleet: Fleet) -> None:
    copies = Copies([n % 2 for n in range(9)], ["down"] + ["tagged"] * 8)
    copies.plan()
    copies.work(Passes(copies.files, RUN).newest())
    board = Board(fleet.client, Keys(f"refill-{next(_prefixes)}"), QUEUE)
    cancel = Runs(copies.files).set_control(RUN, Control(verb=Verb.CANCEL, cancelled=1))
    board.note_control(RUN, cancel)
    now = itertools.count(step=LONG)
    refill = Refill(copies.files, board, lambda _chunk, _lane: None, only=RUN, clock=lambda: float(next(now)))

    while (summary := read_summary(copies.files, RUN)) is None:
        refill.tick()
        await_followers_planned()

    assert (summary["state"], summary["remaining"]) == ("cancelled", 0)
    assert (summary["failed"], summary["tagged"], summary["duplicate"], summary["cancelled"]) == (1, 1, 3, 4)
    assert len(copies.rows()) == 9


def await_followers_planned() -> None:
    for thread in threading.enumerate():
        if thread.name == "followers":
            thread.join()


# --- a fleet with several runs ----------------------------------------------------------------------------


@pytest.fixture
def shared(world: World) -> Refill:
    """Serves every run of the store."""
    return world.refill(only=None)


def another_run(files: MemoryFiles, run_id: str, *, embedded: bool = False) -> SmallRun:
    run = SmallRun(files, RunSpec(run_id, a_spec().created_at, {}, "fake", (), embedded=embedded))
    run.shard(10, 10)
    return run


def test_every_run_of_the_fleet_is_served(world: World, shared: Refill) -> None:
    another_run(world.files, "b-run")
    another_run(world.files, "c-run", embedded=True)
    shared.tick()
    assert [chunk.run_id for chunk in world.published] == ["b-run"]
    another_run(world.files, "d-run")
    shared.tick()
    world.now += RUNS_SECONDS
    shared.tick()
    assert [chunk.run_id for chunk in world.published] == ["b-run", "d-run"]


def test_a_listener_without_a_fleet_serves_what_events_plan_here(world: World) -> None:
    run_ids = []
    for name, embedded in (("fleets", False), ("here", True)):
        template = RunSpec("template", a_spec().created_at, {}, "fake", (), embedded=embedded)
        events = EventRuns(world.files, template, name)
        run_ids.append(events.append([Event("a", Planned(ImageRef(Handle("a"))))]).run_id)
    another_run(world.files, "z-run", embedded=True)
    world.refill(None, embedded=True).tick()
    assert [chunk.run_id for chunk in world.published] == run_ids[1:]


def test_a_run_that_cannot_be_served_does_not_stop_the_others(world: World, shared: Refill) -> None:
    for run_id, run_file in (("a-newer", b'{"format": 99}'), ("b-damaged", b"{"), ("c-not-made", None)):
        world.files.create(f"runs/{run_id}/input/list.txt", b"")
        if run_file:
            world.files.create(f"runs/{run_id}/run.json", run_file)
    another_run(world.files, "d-run")
    with capture_logs() as logs:
        for _ in range(3):
            shared.tick()
    assert [chunk.run_id for chunk in world.published] == ["d-run"]
    assert [entry["run_id"] for entry in logs] == ["a-newer", "b-damaged"]  # the other one is no run yet


def test_chunks_go_into_the_lane_of_their_run(world: World, shared: Refill) -> None:
    another_run(world.files, "b-run")
    spec = RunSpec("events", a_spec().created_at, {}, "fake", (), embedded=False, lane="events")
    SmallRun(world.files, spec).shard(10, 10)
    shared.tick()
    assert [(chunk.run_id, lane) for chunk, lane in zip(world.published, world.lanes, strict=True)] == [
        ("b-run", "backfill"),
        ("events", "events"),
    ]


def test_a_run_is_found_at_once_when_somebody_tells_of_it(world: World, shared: Refill) -> None:
    shared.tick()
    another_run(world.files, "b-run")
    world.board.nudge("b-run")
    shared.tick()
    assert [chunk.run_id for chunk in world.published] == ["b-run"]


@pytest.mark.parametrize("status", ["tagged", "cancelled"])
def test_a_run_that_events_plan_ends_with_its_hour(world: World, shared: Refill, status: str) -> None:
    long_ago = datetime(2026, 1, 1, 12, tzinfo=UTC)
    template = RunSpec("template", a_spec().created_at, {}, "fake", (), embedded=False)
    writer = EventRuns(world.files, template, "x", clock=lambda: long_ago)
    run_id = writer.append([Event("a", Planned(ImageRef(Handle("a"))))]).run_id
    if status == "cancelled":
        cancel = Control(verb=Verb.CANCEL, cancelled=0)
        Runs(world.files).set_control(run_id, cancel)
    for _ in range(3):
        world.now += RUNS_SECONDS
        shared.tick()
        for chunk in world.published:
            work_on(world, run_id, chunk)
    shared.tick()
    summary = read_summary(world.files, run_id)
    assert summary is not None
    assert (summary["planned"], summary[status]) == (1, 1)
    assert writer.append([Event("b", Planned(ImageRef(Handle("b"))))]).run_id > run_id


def work_on(world: World, run_id: str, chunk: Chunk) -> None:
    """Commit a chunk of a run of handles, as a worker does."""
    images = Plan(world.files, run_id, 0).images(chunk)
    context = RowContext(run_id, 0, TagPolicy.from_json({}), "fake", "1", "f" * 16)
    rows = [
        build_row(context, chunk.shard, chunk.offset + index, image.ref, outcome(Status.TAGGED))
        for index, image in enumerate(images)
    ]
    if Parts(world.files, run_id, 0).commit(chunk, rows):
        world.board.note_done(chunk, Counts.of_rows(rows))


def test_one_run_s_failure_is_the_failure_of_who_serves_it_alone(world: World) -> None:
    world.files.contents[f"runs/{RUN}/run.json"] = b"{"
    with pytest.raises(ValueError, match="unexpected end of data"):
        world.refill().tick()


def test_redis_away_ends_the_tick(world: World, shared: Refill) -> None:
    another_run(world.files, "b-run")

    def refuse(_chunk: Chunk, _lane: str) -> None:
        raise RedisUnavailableError("away")

    shared._publish = refuse
    with pytest.raises(RedisUnavailableError):
        shared.tick()


def test_a_finished_run_leaves_nothing_in_redis_even_if_its_finisher_died(
    world: World, shared: Refill
) -> None:
    run = another_run(world.files, "b-run", embedded=False)
    run.finish_plan()
    run.commit(run.chunks[0])
    for _ in range(2):
        shared.tick()
    assert finished(world.files, "b-run", 0)
    world.board.note_done(run.chunks[0], Counts(tagged=10))
    shared.resign()
    world.refill(only=None).tick()
    assert world.board.done("b-run", 0) == {}


def test_it_says_how_many_workers_the_rate_has_use_for(world: World, shared: Refill) -> None:
    world.board.note_worker("worker", 4)
    shared.tick()
    assert world.fleet.client.llen(world.keys.useful_workers()) == 1

    run = another_run(world.files, "b-run", embedded=False)
    now, half_the_rate = world.board.now(), range(0, 2001, 250)
    noted = Pace(100.0, [Sample(now - 40 + settled / 50, settled, 0.0, settled) for settled in half_the_rate])
    world.board.note_pace("b-run", 0, noted)
    for name, value in {"held": 0, "lanes": 2000, "limit": 100, "account": "one"}.items():
        world.fleet.client.hset(world.keys.waits("b-run"), name, value)
    counts = orjson.dumps(Counts(tagged=2000).to_json())
    world.fleet.client.hset(world.keys.progress("b-run", 0), run.chunks[0].name, counts)
    world.now += RUNS_SECONDS
    shared.tick()
    assert world.fleet.client.llen(world.keys.useful_workers()) == 2
