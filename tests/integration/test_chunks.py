"""One chunk from lease to commit, on a real Redis and a folder: who does it, and what stops it."""

from __future__ import annotations

import asyncio
import errno
import itertools
import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import cast

import orjson
import pytest
from fakes.engine import FakeEngine
from fakes.limiter import FakeLimiter
from fakes.runs import RUN, SmallRun
from fakes.scripted import GatedEngine, ScriptedEngine
from fakes.sink import FakeSink
from redis.asyncio import Redis
from servers.redis import RedisUnderTest

from tagmill.worker import chunks
from tagmill.worker.budget import Budget
from tagmill.worker.chunks import STORE_PAUSE_SECONDS, ChunkLimits, ChunkRunner
from tagmill.worker.equipment import Equipment
from tagmill.worker.errors import (
    CredentialsError,
    EngineUnavailableError,
    ImageRejectedError,
    QuotaExhaustedError,
    RedisUnavailableError,
    RunError,
    RunStoreUnavailableError,
)
from tagmill.worker.history import History
from tagmill.worker.models import Chunk, Json
from tagmill.worker.pipeline import Pipeline
from tagmill.worker.policy import TagPolicy
from tagmill.worker.retry import RetryBudget
from tagmill.worker.sinks.base import Tagging
from tagmill.worker.state.breaker import Breaker
from tagmill.worker.state.budget import OpenGrants
from tagmill.worker.state.denials import Denials
from tagmill.worker.state.entries import Entry
from tagmill.worker.state.journal import Journal
from tagmill.worker.state.keys import Keys
from tagmill.worker.state.leases import Lease, Leases
from tagmill.worker.state.limiter import Limiter
from tagmill.worker.store import jsonl
from tagmill.worker.store.folder import Folder
from tagmill.worker.store.passes import PassKind
from tagmill.worker.store.runs import Control, Runs, Verb
from tagmill.worker.store.started import Started
from tagmill.worker.tagger import Tagger
from tagmill.worker.transfer import Transfers
from tagmill.worker.undoing import Undoing
from tagmill.worker.writeback import WriteBack

WITHIN_SECONDS = 15.0
IMAGES = 8
prefixes = map("chunks-{}".format, itertools.count())


class FullFolder(Folder):
    """No room for the names that `full` picks."""

    full: Callable[[str], bool] = staticmethod(lambda _: False)

    def create(self, name: str, data: bytes) -> bool:
        if self.full(name):
            raise RunStoreUnavailableError(f"run store: {name}: {os.strerror(errno.ENOSPC)}")
        return super().create(name, data)


@dataclass
class Site:
    """One chunk, and what works on it."""

    redis: Redis
    files: FullFolder
    engine: FakeEngine = field(default_factory=ScriptedEngine)
    sink: FakeSink = field(default_factory=FakeSink)
    limits: ChunkLimits = field(default_factory=lambda: ChunkLimits(240, 90, 7200))
    lanes: int = 4
    price_per_1000: str | None = None
    shutting_down: bool = False
    keys: Keys = field(default_factory=lambda: Keys(next(prefixes)))
    stopped: asyncio.Event = field(default_factory=asyncio.Event)  #: a pipeline was told to stop

    def __post_init__(self) -> None:
        self.small = SmallRun(self.files)
        self.small.shard(IMAGES, IMAGES)
        self.chunk: Chunk = self.small.chunks[0]

    def runner(self) -> ChunkRunner:
        """Another worker."""
        write_back = WriteBack([self.sink])
        equipment = Equipment(
            run_id=RUN,
            policy=TagPolicy(),
            kind=PassKind.TAG,
            tagger=Tagger(self.engine, Transfers(), keep_uploads=False),
            write_back=write_back,
            undoing=Undoing(write_back, History(self.files)),
            limiter=cast(Limiter, FakeLimiter()),
            breaker=Breaker(self.redis, self.keys, "account"),
            denials=Denials(self.redis, self.keys, RUN),
            budget=Budget(self.small.spec, Runs(self.files), [], OpenGrants(self.redis, self.keys)),
            retry_budget=RetryBudget(0.0),
            lanes=self.lanes,
            price_per_1000=self.price_per_1000,
        )
        return ChunkRunner(
            self.files,
            self.redis,
            self.keys,
            equipment,
            self.limits,
            spec=self.small.spec,
            plan=self.small.plan,
            shutting_down=lambda: self.shutting_down,
        )

    async def run(self) -> str:
        return await asyncio.wait_for(self.runner().run(self.chunk), WITHIN_SECONDS)

    def journal(self) -> Journal:
        return Journal(self.redis, self.keys, self.chunk, Started(self.files, self.chunk))

    async def lease(self) -> Lease | None:
        return await Leases(self.redis, self.keys, 90).take(self.chunk)

    async def free(self) -> bool:
        return await self.redis.get(self.keys.lease(self.chunk)) is None

    async def parked_seconds(self) -> float | None:
        """From now, in whole milliseconds, as it is kept; None: it is not parked."""
        score = await self.redis.zscore(self.keys.parked(), self.chunk.id)
        seconds, microseconds = await self.redis.time()
        return None if score is None else round(score - seconds - microseconds / 1e6, 3)

    async def done(self) -> Json | None:
        found = await self.redis.hget(self.keys.done(RUN, 0), self.chunk.name)
        return orjson.loads(found) if found else None

    def rows(self) -> list[Json]:
        return list(self.small.parts.rows(self.chunk))

    def undo(self) -> list[Json]:
        data = self.files.read(f"runs/{RUN}/passes/0000/undo/{self.chunk.name}.jsonl.gz")
        return list(jsonl.unpack(data))

    @property
    def committed(self) -> bool:
        return self.small.parts.committed(self.chunk)


@pytest.fixture(autouse=True)
def quick_pulse(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "PULSE_SECONDS", 0.02)


@pytest.fixture
async def site(
    redis_server: RedisUnderTest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Site]:
    stop, told = Pipeline.stop, asyncio.Event()

    def stop_and_say_so(pipeline: Pipeline, park_seconds: float = 0.0) -> None:
        stop(pipeline, park_seconds)
        told.set()

    monkeypatch.setattr(Pipeline, "stop", stop_and_say_so)
    async with redis_server.client() as redis:
        working = Site(redis, FullFolder(tmp_path), stopped=told)
        yield working


async def in_work(site: Site) -> tuple[GatedEngine, asyncio.Task[str]]:
    """A chunk with a call in every lane."""
    site.engine = engine = GatedEngine()
    running = asyncio.create_task(site.run())
    await asyncio.wait_for(engine.in_flight(site.lanes), WITHIN_SECONDS)
    return engine, running


def called(monkeypatch: pytest.MonkeyPatch, owner: type, name: str) -> asyncio.Event:
    """Set when this method is called from now on."""
    happened, method = asyncio.Event(), getattr(owner, name)

    def call(*args: object) -> object:
        happened.set()
        return method(*args)

    monkeypatch.setattr(owner, name, call)
    return happened


# --- done -------------------------------------------------------------------------------------------------


async def test_a_chunk_is_committed_in_plan_order_and_leaves_redis(site: Site) -> None:
    assert await site.run() == "committed"
    assert [row["index"] for row in site.rows()] == list(range(IMAGES))
    assert {row["status"] for row in site.rows()} == {"tagged"}
    done = await site.done()
    assert done is not None
    assert (done["tagged"], done["calls"], done["writes"]["written"]) == (IMAGES, IMAGES, IMAGES)
    assert await site.free()
    for key in (site.keys.journal(site.chunk), site.keys.undo(site.chunk)):
        assert not await site.redis.exists(key)
    assert not await site.redis.hexists(site.keys.progress(RUN, 0), site.chunk.name)


async def test_a_part_that_exists_is_not_worked_on_again(site: Site) -> None:
    site.small.commit(site.chunk)
    assert await site.run() == "committed"
    assert site.engine.asked == []
    done = await site.done()
    assert done is not None
    assert done["tagged"] == IMAGES
    assert await site.free()


async def test_undo_values_are_there_before_the_part(site: Site) -> None:
    other = Tagging("earlier-run", "fake", "f", "p", {"auto": {"old": 1}}, "2026-01-01T00:00:00Z")
    site.sink.written = {"filestack:h3": other}
    site.files.full = lambda name: "/parts/" in name
    assert await site.run() == "parked"
    undo = {line["index"]: line["previous"]["fake"]["values"] for line in site.undo()}
    assert undo == {index: asdict(other) | {"labels": []} if index == 3 else {} for index in range(IMAGES)}
    site.files.full = lambda _: False
    assert await site.run() == "committed"
    assert "previous" not in json.dumps(site.rows())


async def test_a_chunk_commits_after_redis_was_flushed(site: Site) -> None:
    engine, running = await in_work(site)
    await site.redis.flushall()
    engine.gate.set()
    assert await running == "committed"
    assert len(engine.asked) == IMAGES
    assert {row["calls"] for row in site.rows()} == {1}
    assert len(site.undo()) == IMAGES
    assert await site.free()


async def test_a_worker_puts_back_what_a_flush_of_redis_took_from_its_successor(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    written, write_again = asyncio.Event(), Journal.write_again

    async def write_and_say_so(journal: Journal) -> None:
        await write_again(journal)
        written.set()

    monkeypatch.setattr(Journal, "write_again", write_and_say_so)
    engine, running = await in_work(site)
    await site.redis.flushall()
    await asyncio.wait_for(written.wait(), WITHIN_SECONDS)
    found = await site.journal().load()
    assert found == {index: Entry(in_flight=True) for index in range(site.lanes)}
    engine.gate.set()
    assert await running == "committed"


# --- somebody else's --------------------------------------------------------------------------------------


async def test_a_chunk_that_another_worker_holds_is_left_alone(site: Site) -> None:
    assert await site.lease() is not None
    assert await site.run() == "held"
    assert site.engine.asked == []
    assert not await site.free()


async def test_a_lost_lease_stops_the_worker(site: Site) -> None:
    engine, running = await in_work(site)
    await site.redis.set(site.keys.lease(site.chunk), "another")
    assert await stopped(site, engine, running) == "lost"
    assert not site.committed
    assert await site.redis.get(site.keys.lease(site.chunk)) == b"another"


async def stopped(site: Site, engine: GatedEngine, running: asyncio.Task[str]) -> str:
    """Let the calls in flight finish once no new image is taken; return what became of the chunk."""
    await asyncio.wait_for(site.stopped.wait(), WITHIN_SECONDS)
    engine.gate.set()
    return await asyncio.wait_for(running, WITHIN_SECONDS)


async def test_a_second_committer_counts_its_own_calls_and_goes_home(site: Site) -> None:
    engine, running = await in_work(site)
    site.small.commit(site.chunk)
    engine.gate.set()
    assert await asyncio.wait_for(running, WITHIN_SECONDS) == "committed"
    assert site.small.parts.extra() == (IMAGES, 0)
    assert {row["writes"].get("fake") for row in site.rows()} == {None}  # the first one's rows


# --- not now ----------------------------------------------------------------------------------------------


async def test_a_paused_run_is_not_worked_on(site: Site) -> None:
    Runs(site.files).set_control(RUN, Control(verb=Verb.PAUSE, reason="asked"))
    assert await site.run() == "paused"
    assert site.engine.asked == []
    assert await site.free()
    assert await site.parked_seconds() is None


@pytest.mark.parametrize("verb", [Verb.PAUSE, Verb.CANCEL])
async def test_a_control_stops_a_chunk_within_a_pulse(site: Site, verb: Verb) -> None:
    engine, running = await in_work(site)
    Runs(site.files).set_control(RUN, Control(verb=verb))
    await site.redis.delete(site.keys.control(RUN))  # as time does
    assert await stopped(site, engine, running) == "parked"
    assert len(engine.asked) == site.lanes
    assert await site.free()


async def test_a_shutdown_parks_the_chunk_and_the_next_worker_goes_on(site: Site) -> None:
    engine, running = await in_work(site)
    site.shutting_down = True
    assert await stopped(site, engine, running) == "parked"
    parked = await site.parked_seconds()
    assert parked is not None
    assert parked < 0.001  # Redis keeps milliseconds
    site.shutting_down = False
    assert await site.run() == "committed"
    assert {row["calls"] for row in site.rows()} == {1}
    assert len(engine.asked) == IMAGES


async def test_a_parked_chunk_pays_nothing_again_when_redis_is_lost(site: Site) -> None:
    engine, running = await in_work(site)
    site.shutting_down = True
    assert await stopped(site, engine, running) == "parked"
    await site.redis.flushall()
    site.shutting_down = False
    assert await site.run() == "committed"
    assert {row["calls"] for row in site.rows()} == {1}
    assert len(engine.asked) == IMAGES
    assert [line["previous"]["fake"]["values"] for line in site.undo()] == [{}] * IMAGES


async def test_a_run_store_that_is_full_when_the_chunk_is_parked_costs_nothing_either(site: Site) -> None:
    engine, running = await in_work(site)
    site.files.full = lambda name: "/started/" in name
    site.shutting_down = True
    assert await stopped(site, engine, running) == "parked"
    assert round(await site.parked_seconds() or 0) == STORE_PAUSE_SECONDS
    site.shutting_down = False
    assert await site.run() == "committed"
    assert len(engine.asked) == IMAGES


async def test_the_deadline_parks_the_chunk(site: Site) -> None:
    site.limits = ChunkLimits(0.05, 90, 7200)
    engine, running = await in_work(site)
    assert await stopped(site, engine, running) == "parked"
    assert len(engine.asked) == site.lanes


async def test_a_distant_retry_parks_the_chunk_until_then(site: Site) -> None:
    cast(ScriptedEngine, site.engine).scripts["h2"] = [EngineUnavailableError("x", retry_after=40, calls=1)]
    assert await site.run() == "parked"
    parked = await site.parked_seconds()
    assert parked is not None
    assert 35 < parked <= 40
    assert not site.committed
    assert await site.run() == "committed"
    assert [row["calls"] for row in site.rows()] == [1, 1, 2, 1, 1, 1, 1, 1]


# --- trouble ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("full", ["/parts/", "/undo/"])
async def test_a_full_store_parks_the_chunk_and_keeps_what_is_paid(site: Site, full: str) -> None:
    site.files.full = lambda name: full in name
    assert await site.run() == "parked"
    parked = await site.parked_seconds()
    assert parked is not None
    assert 0 < parked < STORE_PAUSE_SECONDS + 1
    assert await site.free()
    site.files.full = lambda _: False
    assert await site.run() == "committed"
    assert len(site.engine.asked) == IMAGES
    assert {row["writes"]["fake"]["status"] for row in site.rows()} == {"written"}
    assert site.sink.writes == IMAGES


@pytest.mark.parametrize("error", [CredentialsError("who are you?"), QuotaExhaustedError("used up")])
async def test_the_accounts_failure_pauses_the_run_for_everybody(site: Site, error: RunError) -> None:
    cast(ScriptedEngine, site.engine).scripts["h0"] = [error]
    assert await site.run() == "parked"
    control = Runs(site.files).control(RUN)
    assert (control.verb, control.reason, control.message) == (Verb.PAUSE, error.code, str(error))
    cached = orjson.loads(await site.redis.get(site.keys.control(RUN)) or b"null")
    assert cached["reason"] == error.code  # others hear of it within a pulse
    assert await site.run() == "paused"
    assert await site.journal().load() != {}


async def test_a_cap_that_is_reached_pauses_the_run_and_a_raised_one_lets_it_go_on(site: Site) -> None:
    runs = Runs(site.files)
    runs.set_control(RUN, Control(max_calls=3))
    assert await site.run() == "parked"
    control = runs.control(RUN)
    assert (control.verb, control.reason, control.max_calls) == (Verb.PAUSE, "budget", 3)
    assert len(site.engine.asked) == 3
    runs.set_control(RUN, Control(max_calls=IMAGES))
    assert await site.run() == "committed"
    assert len(site.engine.asked) == IMAGES


async def test_a_cap_raised_while_the_last_calls_are_in_flight_leaves_the_run_going_on(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    used_up = called(monkeypatch, Pipeline, "wind_down")
    runs = Runs(site.files)
    runs.set_control(RUN, Control(max_calls=site.lanes - 1))
    site.engine = engine = GatedEngine()
    running = asyncio.create_task(site.run())
    await asyncio.wait_for(engine.in_flight(site.lanes - 1), WITHIN_SECONDS)
    await asyncio.wait_for(used_up.wait(), WITHIN_SECONDS)
    raised = runs.set_control(RUN, Control(max_calls=IMAGES))
    engine.gate.set()
    assert await asyncio.wait_for(running, WITHIN_SECONDS) == "parked"
    assert runs.control(RUN) == raised
    assert await site.run() == "committed"


async def test_a_cap_set_while_a_chunk_is_in_work_holds_within_a_pulse(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, running = await in_work(site)
    heard = called(monkeypatch, Budget, "heed")
    Runs(site.files).set_control(RUN, Control(max_calls=site.lanes + 1))
    await site.redis.delete(site.keys.control(RUN))  # as time does
    await asyncio.wait_for(heard.wait(), WITHIN_SECONDS)
    engine.gate.set()
    assert await asyncio.wait_for(running, WITHIN_SECONDS) == "parked"
    assert len(engine.asked) == site.lanes + 1


async def test_a_run_whose_images_fail_pauses_itself_and_begins_to_count_anew(site: Site) -> None:
    site.small.spec = replace(site.small.spec, max_failure_rate=25.0, failure_sample=IMAGES)
    rejected = [ImageRejectedError("no image", calls=1)]
    cast(ScriptedEngine, site.engine).scripts = {f"h{n}": list(rejected) for n in range(3)}
    assert await site.run() == "committed"  # nothing paid for is lost
    control = Runs(site.files).control(RUN)
    assert (control.verb, control.reason) == (Verb.PAUSE, "failure_rate")
    assert (control.message or "").startswith(f"3 of the last {IMAGES} images failed, more than 25 %")
    assert await site.redis.exists(site.keys.failures(RUN))


async def test_images_that_an_earlier_worker_settled_are_not_counted_again(site: Site) -> None:
    site.small.spec = replace(site.small.spec, max_failure_rate=25.0, failure_sample=IMAGES)
    engine = cast(ScriptedEngine, site.engine)
    engine.scripts = {f"h{n}": [ImageRejectedError("no image", calls=1)] for n in range(2)}
    engine.scripts["h5"] = [CredentialsError("who are you?")]
    site.lanes = 1
    assert await site.run() == "parked"
    Runs(site.files).set_control(RUN, Control())
    assert await site.run() == "committed"
    counted = await site.redis.hmget(site.keys.failures(RUN), ["images_before", "failed_before"])
    assert counted == [b"8", b"2"]


async def test_without_a_run_store_no_call_is_drawn_and_the_chunk_waits(site: Site) -> None:
    site.files.full = lambda name: "/grants/" in name
    assert await site.run() == "parked"
    assert site.engine.asked == []
    assert await site.parked_seconds() == pytest.approx(STORE_PAUSE_SECONDS, abs=5)


async def test_rows_state_the_cost_of_their_calls(site: Site) -> None:
    site.price_per_1000 = "1.5"
    await site.run()
    assert {row["cost"] for row in site.rows()} == {0.0015}


async def test_an_outage_of_the_api_beyond_the_limit_pauses_the_run(site: Site) -> None:
    site.limits = ChunkLimits(240, 90, outage_seconds=0.001)
    cast(ScriptedEngine, site.engine).down = lambda _: EngineUnavailableError("down", calls=1)
    assert await site.run() == "parked"
    assert Runs(site.files).control(RUN).reason == "outage"
    assert not site.committed


async def test_a_pulse_that_fails_does_not_cost_the_chunk(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    beats = asyncio.Semaphore(0)

    async def fail(*_: object) -> None:
        beats.release()
        raise next(errors)

    errors = itertools.cycle(
        [RedisUnavailableError("away"), RunStoreUnavailableError("x"), KeyError("surprise")]
    )
    monkeypatch.setattr(chunks.Work, "_look", fail)
    engine, running = await in_work(site)
    for _ in range(3):
        await asyncio.wait_for(beats.acquire(), WITHIN_SECONDS)
    engine.gate.set()
    assert await asyncio.wait_for(running, WITHIN_SECONDS) == "committed"


async def test_a_pulse_that_does_not_hear_of_the_end_ends_all_the_same(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As redis-py over Python 3.11's `asyncio.wait_for`, which swallows a cancellation now and then."""
    looking = asyncio.Event()

    async def look(_: object) -> None:
        looking.set()
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(WITHIN_SECONDS)

    monkeypatch.setattr(chunks.Work, "_look", look)
    engine, running = await in_work(site)
    await looking.wait()
    engine.gate.set()
    assert await asyncio.wait_for(running, WITHIN_SECONDS / 2) == "committed"
