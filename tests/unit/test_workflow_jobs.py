"""Images whose answers come from workflow jobs: started once, heard of or asked for, or given up."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fakes.rig import Rig, handles, totals, value
from fakes.runs import a_spec, planned
from fakes.workflow import WORKFLOW, WorkflowEngine, job_of, told
from redis.asyncio import Redis

from tagmill.worker.collecting import SHORTEST_PARK_SECONDS
from tagmill.worker.errors import (
    AccessDeniedError,
    AnswerLostError,
    BudgetExhaustedError,
    CredentialsError,
    EngineUnavailableError,
    EngineUnreachableError,
    ImageNotFoundError,
    ImageRejectedError,
    ThrottledError,
)
from tagmill.worker.models import ImageRef, LocalFile, Status
from tagmill.worker.pipeline import Result
from tagmill.worker.state import group_commit
from tagmill.worker.state.jobs import Jobs
from tagmill.worker.store.webhook_events import WORKFLOW as WORKFLOW_ACTION
from tagmill.worker.store.webhook_events import Event, EventWriter
from tagmill.worker.webhooks.hints import hand_over
from tagmill.worker.workflow_jobs import WorkflowJobs

DEADLINE = 900.0
START = datetime(2026, 11, 25, 12, tzinfo=UTC).timestamp()
LOST = AnswerLostError("no whole answer", calls=1, maybe_charged=1)


@dataclass
class Visits:
    """Worker after worker at the same chunk, and the time in between."""

    rig: Rig
    engine: WorkflowEngine
    time: float = START
    images: int = 3
    refs: list[ImageRef] | None = None  #: other ones

    def __post_init__(self) -> None:
        self.hints = Jobs(self.rig.redis, self.rig.keys)
        self.rig.engine, self.rig.now, self.rig.sleep = self.engine, lambda: self.time, self.sleep
        self.rig.jobs = WorkflowJobs(self.engine, self.hints, self.rig.files, WORKFLOW, DEADLINE)

    async def sleep(self, seconds: float) -> None:
        self.time += seconds

    async def visit(self) -> Result:
        """Another worker has the chunk, and gives it back in good order."""
        journal = self.rig.journal()
        pipeline = self.rig.pipeline(journal)
        result = await pipeline.run(planned(self.refs or handles(self.images)))
        await journal.keep()
        return result

    async def visits_until(self, time: float) -> Result:
        """Come back whenever it is due."""
        result = await self.visit()
        while self.time < time and len(result.outcomes) < self.images:
            self.time += max(result.park_seconds, SHORTEST_PARK_SECONDS)
            result = await self.visit()
        return result


@pytest.fixture(autouse=True)
def no_gathering(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_commit, "GATHER_SECONDS", 0)


@pytest.fixture
def chunk(redis: Redis) -> Visits:
    return Visits(Rig(redis), WorkflowEngine())


def statuses(result: Result) -> list[Status]:
    return [outcome.status for _, outcome in sorted(result.outcomes.items())]


def codes(result: Result) -> list[str | None]:
    return [
        error.code if (error := outcome.error) else None for _, outcome in sorted(result.outcomes.items())
    ]


# --- from start to end ------------------------------------------------------------------------------------


async def test_the_first_visit_starts_every_job_and_the_next_ones_collect(chunk: Visits) -> None:
    first = await chunk.visit()
    assert (first.outcomes, first.park_seconds) == ({}, 3.0)
    assert chunk.engine.started == {value(index): 1 for index in range(3)}
    chunk.time += 3
    chunk.engine.end(value(0), value(2))
    second = await chunk.visit()
    assert sorted(second.outcomes) == [0, 2]
    chunk.engine.end(value(1))
    chunk.time += second.park_seconds
    last = await chunk.visit()
    assert statuses(last) == [Status.TAGGED] * 3
    assert totals(last) == (3, 0, 3)
    assert chunk.engine.started.total() == 3
    answer = last.outcomes[1].answer
    assert answer is not None
    assert answer.tags["auto"] == {value(1): 97}
    assert (last.outcomes[1].latency_ms, last.outcomes[1].transfer) == (7500, "handle")


async def test_polls_come_at_growing_intervals_and_are_no_calls(chunk: Visits) -> None:
    chunk.images = 1
    waits = []
    for _ in range(10):
        result = await chunk.visit()
        waits.append(round(result.park_seconds, 2))
        chunk.time += result.park_seconds
    assert waits == [3.0, 4.5, 6.75, 10.12, 15.19, 22.78, 30.0, 30.0, 30.0, 30.0]
    assert chunk.engine.polls[job_of(value(0))] == 9
    assert (await chunk.rig.entries())[0].calls == 1


async def test_nothing_is_asked_before_it_is_due(chunk: Visits) -> None:
    await chunk.visit()
    chunk.time += 2.9
    result = await chunk.visit()
    assert chunk.engine.polls.total() == 0
    assert result.park_seconds == SHORTEST_PARK_SECONDS


async def test_a_webhook_is_heard_without_asking(chunk: Visits) -> None:
    await chunk.visit()
    for index in range(3):
        waiting = await chunk.hints.find(job_of(value(index)))
        assert waiting is not None
        assert (waiting.chunk, waiting.index) == (chunk.rig.chunk, index)
        await chunk.hints.deliver(chunk.rig.chunk, job_of(value(index)), told(value(index)))
    result = await chunk.visit()
    assert statuses(result) == [Status.TAGGED] * 3
    assert chunk.engine.polls.total() == 0


async def test_it_is_told_how_much_was_heard_when_nobody_waits_any_more_too(chunk: Visits) -> None:
    assert (await chunk.visit()).heard == 0
    for index in range(3):
        await chunk.hints.deliver(chunk.rig.chunk, job_of(value(index)), told(value(index)))
        assert (await chunk.visit()).heard == index + 1
    assert (await chunk.visit()).heard == 3


@pytest.mark.parametrize(
    "odd", [{"status": "Running", "results": None}, {"sources": ["a", "b"]}, {"status": "7"}]
)
async def test_a_webhook_that_tells_of_no_end_changes_nothing(chunk: Visits, odd: dict[str, Any]) -> None:
    await chunk.visit()
    await chunk.hints.deliver(chunk.rig.chunk, job_of(value(0)), told(value(0), **odd))
    assert (await chunk.visit()).outcomes == {}
    chunk.engine.end(*map(value, range(3)))
    chunk.time += 3
    assert statuses(await chunk.visit()) == [Status.TAGGED] * 3


async def test_an_upload_is_kept_until_its_job_has_ended(chunk: Visits, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(64))
    chunk.refs = [ImageRef(LocalFile.at(bytes(tmp_path), b"a.png", 72, 0))]
    await chunk.visit()
    (upload,) = chunk.engine.uploads
    chunk.time += 3
    await chunk.visit()
    assert list(chunk.engine.uploads) == [upload]
    chunk.engine.end(upload)
    chunk.time += 5
    assert statuses(await chunk.visit()) == [Status.TAGGED]
    assert (chunk.engine.uploads, chunk.engine.upload_calls) == ({}, 1)


async def test_a_failed_job_is_its_images_alone(chunk: Visits) -> None:
    await chunk.visit()
    chunk.engine.end(*map(value, range(3)))
    chunk.engine.ended[job_of(value(1))] = told(value(1), status="Failed", results={})
    chunk.time += 3
    result = await chunk.visit()
    assert codes(result) == [None, "workflow_failed", None]
    assert totals(result) == (3, 0, 3)


async def test_a_job_that_does_not_end_is_given_up_after_a_last_look(chunk: Visits) -> None:
    result = await chunk.visits_until(START + 2 * DEADLINE)
    assert codes(result) == ["workflow_timeout"] * 3
    assert chunk.time == pytest.approx(START + DEADLINE, abs=1)
    assert totals(result) == (3, 0, 3)
    assert chunk.engine.started.total() == 3


async def test_what_ends_at_the_last_moment_counts(chunk: Visits) -> None:
    await chunk.visit()
    chunk.time += 10 * DEADLINE  # the run was paused
    chunk.engine.end(*map(value, range(3)))
    assert statuses(await chunk.visit()) == [Status.TAGGED] * 3


# --- asking is not to be in the way -----------------------------------------------------------------------


async def test_polls_take_only_permits_that_are_spare(chunk: Visits) -> None:
    await chunk.visit()
    chunk.engine.end(*map(value, range(3)))
    chunk.time += 3
    chunk.rig.limiter.busy = True
    result = await chunk.visit()
    assert (result.outcomes, chunk.engine.polls.total()) == ({}, 0)
    assert result.park_seconds == SHORTEST_PARK_SECONDS
    chunk.rig.limiter.busy = False
    assert len((await chunk.visit()).outcomes) == 3


async def test_the_last_poll_waits_for_its_permit(chunk: Visits) -> None:
    await chunk.visit()
    chunk.engine.end(*map(value, range(3)))
    chunk.time += DEADLINE
    chunk.rig.limiter.busy = True
    assert statuses(await chunk.visit()) == [Status.TAGGED] * 3


async def test_throttled_polls_slow_the_account_down_and_cost_no_image(chunk: Visits) -> None:
    await chunk.visit()
    chunk.engine.poll_failures = [ThrottledError("slow", retry_after=20.0)]
    chunk.time += 3
    assert (await chunk.visit()).outcomes == {}
    assert chunk.rig.limiter.throttles == [20.0]


async def test_a_service_that_fails_is_asked_again_even_after_the_deadline(chunk: Visits) -> None:
    chunk.images = 1
    await chunk.visit()
    down = EngineUnavailableError("down", http_status=500)
    chunk.time += DEADLINE
    chunk.engine.poll_failures = [down]
    assert (await chunk.visit()).outcomes == {}
    chunk.engine.end(value(0))
    chunk.time += 60
    assert statuses(await chunk.visit()) == [Status.TAGGED]


async def test_but_not_for_ever(chunk: Visits) -> None:
    chunk.images = 1
    await chunk.visit()
    chunk.time += 2 * DEADLINE
    chunk.engine.poll_failures = [EngineUnavailableError("down", http_status=500)]
    assert codes(await chunk.visit()) == ["workflow_timeout"]


async def test_while_the_service_is_off_nothing_is_asked_and_nothing_given_up(chunk: Visits) -> None:
    chunk.rig.probe_seconds = 60.0
    await chunk.visit()
    for number in range(10):
        await chunk.rig.breaker.failed(f"image{number}", unreachable=True)
    chunk.time += 3 * DEADLINE
    result = await chunk.visit()
    assert (result.outcomes, chunk.engine.polls.total()) == ({}, 0)


async def test_a_job_that_the_service_does_not_know_goes_on_until_its_deadline(chunk: Visits) -> None:
    chunk.images = 1
    await chunk.visit()
    chunk.time += 3
    chunk.engine.poll_failures = [ImageNotFoundError("no job", http_status=404)]
    assert (await chunk.visit()).outcomes == {}
    chunk.time += DEADLINE
    chunk.engine.poll_failures = [ImageNotFoundError("no job", http_status=404)]
    assert codes(await chunk.visit()) == ["workflow_timeout"]


async def test_refused_credentials_while_asking_stop_the_chunk(chunk: Visits) -> None:
    await chunk.visit()
    chunk.time += 3
    chunk.engine.poll_failures = [CredentialsError("no")]
    result = await chunk.visit()
    assert isinstance(result.stopped_by, CredentialsError)
    assert result.outcomes == {}


# --- starts that fail -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "starts", "calls"),
    [
        (ThrottledError("slow", retry_after=0.0, calls=1), 1, 2),
        (EngineUnreachableError("no connection"), 1, 1),
        (EngineUnavailableError("408", calls=1), 1, 2),
    ],
)
async def test_what_was_surely_not_started_is_started_again(
    chunk: Visits, error: Exception, starts: int, calls: int
) -> None:
    chunk.images = 1
    chunk.engine.scripts[value(0)] = [error]
    await chunk.visit()
    assert chunk.engine.started[value(0)] == starts
    entry = (await chunk.rig.entries())[0]
    assert (entry.calls, entry.maybe_charged) == (calls, 0)


async def test_a_refused_image_has_failed_and_the_others_go_on(chunk: Visits) -> None:
    chunk.engine.scripts[value(1)] = [ImageRejectedError("no image", calls=1)]
    chunk.engine.scripts[value(2)] = [AccessDeniedError("not yours", calls=1)]
    result = await chunk.visit()
    assert codes(result) == ["rejected", "forbidden"]
    assert result.park_seconds == 3.0


async def test_a_start_whose_answer_is_lost_is_never_repeated(chunk: Visits) -> None:
    chunk.engine.scripts[value(1)] = [LOST]
    chunk.engine.end(value(0), value(2))
    result = await chunk.visits_until(START + 2 * DEADLINE)
    assert codes(result) == [None, "workflow_timeout", None]
    assert [locator.value for locator in chunk.engine.asked].count(value(1)) == 1
    assert (result.outcomes[1].calls, result.outcomes[1].maybe_charged) == (1, 1)
    assert chunk.time == pytest.approx(START + DEADLINE, abs=1)


async def test_at_its_deadline_a_lost_start_is_looked_for_among_the_stored_events(chunk: Visits) -> None:
    chunk.images = 1
    chunk.engine.scripts[value(0)] = [LOST]
    await chunk.visit()
    received = datetime.fromtimestamp(START + 5, UTC)
    others = [told(value(1)), told(value(0), workflow="another"), told(value(0), sources=["x", value(0)])]
    events = [
        Event("main", received.isoformat(), number, WORKFLOW_ACTION, text)
        for number, text in enumerate([*others, told(value(0), jobid=None)])
    ]
    EventWriter(chunk.rig.files).write(events, received)
    chunk.time += DEADLINE
    result = await chunk.visit()
    assert statuses(result) == [Status.TAGGED]
    assert totals(result) == (1, 1, 1)


async def test_a_webhook_may_tell_of_a_lost_start_before_that(chunk: Visits) -> None:
    chunk.engine.scripts[value(0)] = [LOST]
    await chunk.visit()
    for number, text in enumerate([told(value(0), workflow="another"), told(value(0), jobid="some-job")]):
        event = Event("main", "2026-11-25T12:00:05+00:00", number, WORKFLOW_ACTION, text)
        assert await hand_over(chunk.hints, event) == bool(number)
    result = await chunk.visit()
    assert statuses(result) == [Status.TAGGED]
    assert (result.outcomes[0].calls, result.outcomes[0].maybe_charged) == (1, 1)


@pytest.mark.parametrize(("jobid", "is_heard"), [("another", False), (None, True)])
async def test_a_webhook_that_does_not_tell_its_job_is_known_by_its_source(
    chunk: Visits, jobid: str | None, *, is_heard: bool
) -> None:
    await chunk.visit()
    text = told(value(0), jobid=jobid)
    event = Event("main", "2026-11-25T12:00:05+00:00", 1, WORKFLOW_ACTION, text)
    assert await hand_over(chunk.hints, event) == is_heard
    assert list((await chunk.visit()).outcomes) == [0] * is_heard


async def test_a_start_without_an_id_is_paid_for_sure_and_waited_for_likewise(chunk: Visits) -> None:
    chunk.images, chunk.engine.nameless = 1, True
    result = await chunk.visit()
    assert result.park_seconds == DEADLINE
    entry = (await chunk.rig.entries())[0]
    assert (entry.calls, entry.maybe_charged) == (1, 0)


async def test_a_death_after_the_intent_leaves_a_job_that_may_run(chunk: Visits) -> None:
    chunk.images = 1
    await chunk.visit()
    journal = chunk.rig.journal()
    job = (await journal.load())[0].job
    assert job is not None
    await journal.intent(0, replace(job, id=None))  # and nothing more of this worker
    chunk.time += 3
    result = await chunk.visit()
    assert (result.outcomes, chunk.engine.started.total()) == ({}, 1)
    entry = (await chunk.rig.entries())[0]
    assert (entry.calls, entry.maybe_charged, entry.suspect) == (2, 1, False)


async def test_a_cap_ends_the_starting_and_what_was_started_is_collected(chunk: Visits) -> None:
    chunk.rig.spec = a_spec("run-1", max_calls=2)
    first = await chunk.visit()
    assert isinstance(first.stopped_by, BudgetExhaustedError)
    chunk.engine.end(*map(value, range(3)))
    chunk.time += 3
    second = await chunk.visit()
    assert statuses(second) == [Status.TAGGED] * 2
    chunk.rig.spec = a_spec("run-1", max_calls=3)
    await chunk.visit()
    chunk.time += 3
    assert statuses(await chunk.visit()) == [Status.TAGGED] * 3
    assert chunk.engine.started.total() == 3


# --- Redis is lost ----------------------------------------------------------------------------------------


async def test_a_chunk_that_waits_loses_nothing_with_redis(chunk: Visits) -> None:
    await chunk.visit()
    chunk.engine.end(value(0), value(1))
    chunk.time += 3
    await chunk.visit()
    await chunk.rig.redis.flushall()
    chunk.engine.end(value(2))
    result = await chunk.visit()
    assert statuses(result) == [Status.TAGGED] * 3
    assert totals(result) == (3, 0, 3)
    assert chunk.engine.started.total() == 3


async def test_a_worker_that_holds_the_chunk_says_again_whom_it_waits_for(chunk: Visits) -> None:
    journal = chunk.rig.journal()
    pipeline = chunk.rig.pipeline(journal)
    await pipeline.run(planned(handles(3)))
    await chunk.rig.redis.flushall()
    await pipeline.write_again()
    assert await chunk.hints.find(job_of(value(2))) is not None
    assert len(await chunk.rig.entries()) == 3


async def test_lost_redis_is_no_reason_to_start_a_lost_job_again(chunk: Visits) -> None:
    chunk.engine.scripts[value(0)] = [LOST]
    await chunk.visit()
    await chunk.rig.redis.flushall()
    await chunk.visit()
    for index in range(1, 3):
        assert await chunk.hints.find(job_of(value(index))) is not None
    assert chunk.engine.calls == {value(index): 1 for index in range(3)}


async def test_only_what_is_new_is_written(chunk: Visits) -> None:
    def files() -> list[str]:
        return [name for name in chunk.rig.files.contents if "/started/" in name]

    await chunk.visit()
    assert len(files()) == 1
    chunk.time += 3
    await chunk.visit()  # every job was asked for, and none had ended
    await chunk.visit()
    assert len(files()) == 1
    chunk.engine.end(value(0))
    chunk.time += 30
    await chunk.visit()
    assert len(files()) == 2
