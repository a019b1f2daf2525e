"""What `status --details` tells: from Redis what Redis knows, from the files the rest."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest
from fakes.files import MemoryFiles
from fakes.runs import FIRST_PASS, RUN, SmallRun, a_spec
from servers.redis import RedisUnderTest

from tagmill.config.celery import QUEUE
from tagmill.producer.details import Details
from tagmill.producer.live import LiveRun
from tagmill.worker.compaction import Compaction
from tagmill.worker.counts import Counts
from tagmill.worker.models import Json, Status
from tagmill.worker.pace import Pace, Sample
from tagmill.worker.rate import Rate
from tagmill.worker.state.board import Board
from tagmill.worker.state.breaker import Breaker
from tagmill.worker.state.keys import Keys
from tagmill.worker.state.leases import Leases
from tagmill.worker.state.limiter import Limiter, account_scope
from tagmill.worker.state.pulse import Pulse, Waits
from tagmill.worker.store.runs import Control, Runs, Verb

ACCOUNT = "account"
LEASE_SECONDS = 50.0
prefixes = map("details-{}".format, itertools.count())


@dataclass
class Site:
    """Thirty images in three chunks."""

    server: RedisUnderTest
    client: Any
    keys: Keys = field(default_factory=lambda: Keys(next(prefixes)))

    def __post_init__(self) -> None:
        self.run = SmallRun(MemoryFiles(), a_spec(rate="20/s", price_per_1000="2"))
        self.run.shard(30, 10)
        self.board = Board(self.client, self.keys, QUEUE)

    def look(self, board: Board | None) -> Json:
        return Details(LiveRun(self.run.files, RUN, board), board).look()

    def counted(self) -> None:
        """Redis knows all that is committed."""
        self.board.note_counted(RUN, 0, whole=True)

    def beat(self, waits: Waits) -> None:
        async def beat() -> None:
            async with self.server.client() as redis:
                await Pulse(redis, self.keys, self.run.chunks[0]).beat(orjson.dumps({"writes": {}}), waits)

        asyncio.run(beat())

    def hold(self, holder: str) -> None:
        async def take() -> None:
            async with self.server.client() as redis:
                leases = Leases(redis, self.keys, LEASE_SECONDS, holder)
                assert await leases.take(self.run.chunks[1]) is not None

        asyncio.run(take())

    def throttle(self, seconds: float) -> None:
        async def throttle() -> None:
            async with self.server.client() as redis:
                windows = [(account_scope(ACCOUNT), Rate.parse("20/s"))]
                await Limiter(redis, self.keys, windows, ACCOUNT).throttled(seconds)

        asyncio.run(throttle())

    def fail(self, calls: int) -> None:
        async def fail() -> None:
            async with self.server.client() as redis:
                for number in range(calls):
                    await Breaker(redis, self.keys, ACCOUNT).failed(f"h{number}", unreachable=True)

        asyncio.run(fail())


@pytest.fixture
def site(redis_server: RedisUnderTest) -> Iterator[Site]:
    with redis_server.sync_client() as client:
        yield Site(redis_server, client)


def test_without_redis_it_tells_what_the_files_do(site: Site) -> None:
    site.run.commit(site.run.chunks[0], [Status.TAGGED, Status.FAILED])
    told = site.look(None)
    assert (told["schema"], told["kind"], told["planning"]) == (1, "tag", True)
    assert (told["run"]["tagged"], told["run"]["remaining"], told["run"]["cost"]) == (5, 20, 0.02)
    assert told["errors"] == {"rejected": 5}
    assert told["caps"]["rate"] == "20/s"
    assert (told["workers"], told["limiter"], told["breaker"]) == (None, None, None)
    assert told["pace"]["eta_s"] is None
    assert orjson.loads(orjson.dumps(told)) == told


def test_it_tells_who_works_on_what_even_of_the_dead(site: Site) -> None:
    site.board.note_worker("alive-1", 4)
    site.hold("dead-2")
    workers = site.look(site.board)["workers"]
    assert [(worker["name"], worker["alive"], worker["processes"]) for worker in workers] == [
        ("alive-1", True, 4),
        ("dead-2", False, 0),
    ]
    [chunk] = workers[1]["chunks"]
    assert (chunk["pass"], chunk["chunk"]) == (0, "00000000-00010")
    assert 0 < chunk["lease_s"] <= LEASE_SECONDS


def test_what_was_noted_lately_tells_the_pace_at_the_first_look(site: Site) -> None:
    now = time.time()
    noted = Pace()
    for second in range(0, 40, 5):
        noted.note(Sample(now - 40 + second, second // 5, 3.0 * second, 4.0 * second))
    site.board.note_pace(RUN, 0, noted)
    site.beat(Waits(120.0, 160.0, 20.0, ACCOUNT))
    site.board.note_done(site.run.chunks[0], Counts(tagged=8))
    site.counted()
    pace = site.look(site.board)["pace"]
    assert pace["images_per_second"] == pytest.approx(0.2, rel=0.1)
    assert pace["eta_s"] == pytest.approx(22 / 0.2, rel=0.2)
    assert pace["limit_per_second"] == 20.0
    assert pace["limiter_share"] == pytest.approx(0.75, abs=0.05)
    assert pace["average_per_second"] is not None


def test_it_tells_why_calls_wait(site: Site) -> None:
    site.beat(Waits(0.0, 1.0, 20.0, ACCOUNT))
    told = site.look(site.board)
    assert told["limiter"] == {"blocked_s": 0.0, "share_of_rate": 1.0}
    assert told["breaker"] == {"open_since": None, "reason": None}
    site.throttle(30)
    site.fail(8)
    told = site.look(site.board)
    assert 25 < told["limiter"]["blocked_s"] <= 30
    assert told["limiter"]["share_of_rate"] == 0.5
    assert told["breaker"]["reason"] == "6 calls failed in a row"
    assert told["breaker"]["open_since"].endswith("+00:00")


def test_a_paused_run_has_no_pace_and_tells_who_paused_it(site: Site) -> None:
    pause = Control(
        verb=Verb.PAUSE, reason="requested", message="paused by me", by="me", at="now", rate="5/s"
    )
    Runs(site.run.files).set_control(RUN, pause)
    told = site.look(site.board)
    assert told["control"] == {"by": "me", "at": "now", "message": "paused by me"}
    assert told["caps"]["rate"] == "5/s"
    assert told["pace"]["images_per_second"] is None


def test_a_finished_run_tells_its_errors_and_its_average(site: Site) -> None:
    site.run.finish_plan()
    for chunk in site.run.chunks:
        site.run.commit(chunk, [Status.TAGGED, Status.FAILED])
    compaction = Compaction(site.run.files, site.run.spec, FIRST_PASS)
    compaction.finish([compaction.compact(header, 0) for header in site.run.headers])
    told = site.look(site.board)
    assert (told["run"]["state"], told["planning"]) == ("completed", False)
    assert told["errors"] == {"rejected": 15}
    assert told["pace"]["eta_s"] == 0.0
    assert told["pace"]["average_per_second"] is not None


def test_a_wiped_redis_changes_nothing_of_the_counts(site: Site) -> None:
    for chunk in site.run.chunks[:2]:
        site.run.commit(chunk, [Status.TAGGED, Status.FAILED])
        site.board.note_done(chunk, Counts.of_rows(site.run.parts.rows(chunk)))
    site.counted()
    before = site.look(site.board)
    for key in site.client.scan_iter(site.keys.queue("*")):
        site.client.delete(key)
    after = site.look(site.board)
    for told in (before, after):
        told["run"].pop("duration_s")
    assert (before["run"], before["errors"]) == (after["run"], after["errors"])
