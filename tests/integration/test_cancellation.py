"""Chunks of a cancelled pass become rows without a worker: nothing that was paid for is dropped."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace

import orjson
import pytest
from fakes.files import MemoryFiles
from fakes.runs import FIRST_PASS, REFUSED, RUN, TAGS, SmallRun, a_spec
from servers.redis import RedisUnderTest

from tagmill.config.celery import QUEUE
from tagmill.worker.cancellation import Cancellation
from tagmill.worker.models import NOTHING_YET, Chunk, Json, Outcome, Status
from tagmill.worker.rows import PREVIOUS
from tagmill.worker.state.board import Board
from tagmill.worker.state.entries import Job
from tagmill.worker.state.journal import Journal
from tagmill.worker.state.keys import Keys
from tagmill.worker.store import jsonl
from tagmill.worker.store.parts import Parts
from tagmill.worker.store.passes import PassKind, PassSpec
from tagmill.worker.store.plan import Plan, Planned, ShardHeader
from tagmill.worker.store.started import Started

IMAGES = 4
TAGGED = Outcome(Status.TAGGED, TAGS, http_status=200, latency_ms=3, tagged_at="2026-11-22T00:00:00Z")
RETRY = PassSpec(1, PassKind.RETRY, {}, ["0000"])
prefixes = map("cancellation-{}".format, itertools.count())


@dataclass
class Site:
    """One chunk that nobody holds."""

    server: RedisUnderTest
    board: Board
    keys: Keys
    run: SmallRun
    current: PassSpec = FIRST_PASS

    @property
    def chunk(self) -> Chunk:
        return replace(self.run.chunks[0], pass_no=self.current.number)

    def worked(self, *steps: str) -> None:
        """Let a worker do that to the images in turn, and leave the chunk."""

        async def work() -> None:
            async with self.server.client() as redis:
                journal = Journal(redis, self.keys, self.chunk, Started(self.run.files, self.chunk))
                for index, step in enumerate(steps):
                    await STEPS[step](journal, index)

        asyncio.run(work())

    def settle(self) -> list[Json]:
        plan = Plan(self.run.files, RUN, self.current.number)
        cancellation = Cancellation(self.run.files, self.board, self.run.spec, self.current, plan)
        cancellation.settle(self.chunk)
        return list(Parts(self.run.files, RUN, self.current.number).rows(self.chunk))


async def nothing(journal: Journal, index: int) -> None:
    """It was not begun."""


async def died(journal: Journal, index: int) -> None:
    await journal.intent(index)


async def failed_once(journal: Journal, index: int) -> None:
    await journal.intent(index)
    await journal.retry(index, calls=1, attempts=1)


async def paid(journal: Journal, index: int) -> None:
    """And died before the write-back."""
    await journal.intent(index)
    await journal.settle(index, TAGGED.to_json(), calls=1, attempts=1)


async def answered_one_task(journal: Journal, index: int) -> None:
    await journal.intent(index)
    answer = replace(NOTHING_YET, results={"safe": {"data": {"sfw": True}}})
    await journal.advance(index, answer.to_json(), calls=1, attempts=1)


async def refused(journal: Journal, index: int) -> None:
    await journal.settle(
        index, Outcome(Status.FAILED, error=REFUSED, http_status=400).to_json(), calls=1, attempts=1
    )


async def overwrote(journal: Journal, index: int) -> None:
    await journal.keep_undo(index, "metadata", {"tagmill-tags": "old:1"})
    await paid(journal, index)


async def started(journal: Journal, index: int) -> None:
    """And gave the chunk back, to wait for the job."""
    await journal.intent(index, Job("handle", "handle", 1.0))
    await journal.begun(index, "job-1", calls=1)
    await journal.keep_undo(index, "metadata", {"tagmill-tags": "old:1"})
    await journal.keep()


STEPS = {
    step.__name__: step
    for step in (nothing, died, failed_once, paid, answered_one_task, refused, overwrote, started)
}


@pytest.fixture
def site(redis_server: RedisUnderTest) -> Iterator[Site]:
    keys = Keys(next(prefixes))
    with redis_server.sync_client() as client:
        run = SmallRun(MemoryFiles(), replace(a_spec(), write_back=("metadata",), price_per_1000="10"))
        run.shard(IMAGES, IMAGES)
        yield Site(redis_server, Board(client, keys, QUEUE), keys, run)


def test_images_that_were_not_begun_are_cancelled_and_cost_nothing(site: Site) -> None:
    rows = site.settle()
    assert [row["id"] for row in rows] == [f"filestack:h{number}" for number in range(IMAGES)]
    assert {(row["status"], row["calls"], row["cost"], row["error"]) for row in rows} == {
        ("cancelled", 0, 0.0, None)
    }


def test_what_was_paid_for_becomes_rows(site: Site) -> None:
    site.worked("paid", "refused", "failed_once", "died")
    rows = site.settle()
    told = [(row["status"], row["calls"], row["maybe_charged"], row["attempts"]) for row in rows]
    assert told == [("tagged", 1, 0, 1), ("failed", 1, 0, 1), ("cancelled", 1, 0, 1), ("cancelled", 1, 1, 0)]
    assert rows[0]["tags"] == TAGS.tags
    assert rows[1]["error"] == REFUSED.to_json()
    assert [row["cost"] for row in rows] == [0.01] * 4


def test_what_single_tasks_answered_stays_in_a_row_without_tags(site: Site) -> None:
    site.worked("answered_one_task")
    row = site.settle()[0]
    assert (row["status"], row["tags"], row["results"]) == (
        "cancelled",
        None,
        {"safe": {"data": {"sfw": True}}},
    )


def test_a_write_back_that_was_not_made_is_told(site: Site) -> None:
    site.worked("paid")
    write = site.settle()[0]["writes"]["metadata"]
    assert (write["status"], write["reason"]) == ("skipped", "cancelled")


def test_what_stood_there_before_is_kept(site: Site) -> None:
    site.worked("nothing", "overwrote")
    site.settle()
    data = site.run.files.read(f"runs/{RUN}/passes/0000/undo/{site.chunk.name}.jsonl.gz")
    assert list(jsonl.unpack(data)) == [
        {"id": "filestack:h1", "shard": 0, "index": 1, PREVIOUS: {"metadata": {"tagmill-tags": "old:1"}}}
    ]


def test_a_job_that_still_runs_is_not_waited_for_even_if_redis_forgot_it(site: Site) -> None:
    site.worked("started", "paid", "started", "died")
    with site.server.sync_client() as client:
        client.delete(site.keys.journal(site.chunk), site.keys.undo(site.chunk))
    told = [(row["status"], row["calls"], row["maybe_charged"]) for row in site.settle()]
    assert told == [("cancelled", 1, 0), ("tagged", 1, 0), ("cancelled", 1, 0), ("cancelled", 0, 0)]
    data = site.run.files.read(f"runs/{RUN}/passes/0000/undo/{site.chunk.name}.jsonl.gz")
    assert [line["index"] for line in jsonl.unpack(data)] == [0, 2]


def test_it_is_counted_and_its_journal_forgotten(site: Site) -> None:
    site.worked("overwrote", "failed_once")
    site.settle()
    [counts] = site.board.done(RUN, 0).values()
    assert (counts.tagged, counts.cancelled, counts.calls) == (1, 3, 2)
    assert site.board.journal(site.chunk) == {}
    assert site.board.undo_values(site.chunk) == {}


def test_a_part_that_is_there_stands(site: Site) -> None:
    kept = site.run.commit(site.chunk)
    assert site.settle() == kept
    [counts] = site.board.done(RUN, 0).values()
    assert (counts.tagged, counts.cancelled) == (IMAGES, 0)


def test_what_a_later_pass_did_not_come_to_stays_as_it_was(site: Site) -> None:
    earlier = site.run.commit(site.chunk, [Status.FAILED])
    site.current = RETRY
    plan = Plan(site.run.files, RUN, 1)
    planned = [Planned.from_json(row | {PREVIOUS: {"metadata": {}}}, (0, row["index"])) for row in earlier]
    plan.write(ShardHeader(0, IMAGES, 0, IMAGES, {}, IMAGES), planned)
    site.worked("nothing", "failed_once", "paid")
    rows = site.settle()
    assert rows[0] == rows[3] | {"index": 0, "id": "filestack:h0", "source": earlier[0]["source"]}
    assert rows[0] == earlier[0] | {"pass": 1, "cost": 0.01}
    assert rows[1] == earlier[1] | {"pass": 1, "cost": 0.02, "calls": 2, "attempts": 2}
    assert (rows[2]["status"], rows[2]["calls"], rows[2]["pass"]) == ("tagged", 2, 1)
    assert orjson.loads(orjson.dumps(rows)) == rows
