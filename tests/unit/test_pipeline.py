"""A chunk's images to outcomes: what is paid, what is counted, and what a death, outage or stop leaves."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import pytest
from fakes.crashes import POINTS, Crash, CrashingEngine, CrashingJournal, CrashingLimiter, CrashingSink
from fakes.engine import FakeEngine
from fakes.limiter import UNLIMITED, FakeLimiter
from fakes.rig import CHUNK, WITHIN_SECONDS, Rig, handles, totals, value
from fakes.rows import CONTEXT
from fakes.runs import a_spec, planned
from fakes.scripted import GatedEngine
from fakes.sink import FakeSink
from fakes.tasks import TASKS, CrashingTasksEngine, TasksEngine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis
from servers.redis import running_redis

from tagmill.worker.budget import Cap
from tagmill.worker.engines.base import Locator
from tagmill.worker.errors import (
    AccessDeniedError,
    BadResponseError,
    BudgetExhaustedError,
    CredentialsError,
    EngineUnavailableError,
    EngineUnreachableError,
    ImageNotFoundError,
    ImageRejectedError,
    PermanentError,
    QuotaExhaustedError,
    RedisUnavailableError,
    RunError,
    SinkRejectedError,
    TaggingError,
    ThrottledError,
    WriteBackSafetyError,
)
from tagmill.worker.models import (
    Answer,
    BadLine,
    ImageRef,
    Json,
    LocalFile,
    Outcome,
    Status,
    WriteStatus,
)
from tagmill.worker.pipeline import Pipeline, Result
from tagmill.worker.policy import TagPolicy, TagRule
from tagmill.worker.rate import Rate
from tagmill.worker.retry import ATTEMPTS, RetryBudget
from tagmill.worker.rows import RowContext, build_row
from tagmill.worker.rules import parse
from tagmill.worker.sinks.base import Tagging
from tagmill.worker.state import group_commit
from tagmill.worker.state.connection import connect
from tagmill.worker.state.denials import Denials
from tagmill.worker.state.entries import Entry
from tagmill.worker.state.journal import Journal
from tagmill.worker.store.grants import Period
from tagmill.worker.store.passes import PassKind
from tagmill.worker.store.plan import Planned

PNG = b"\x89PNG\r\n\x1a\n" + bytes(64)


@pytest.fixture(autouse=True)
def no_gathering(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_commit, "GATHER_SECONDS", 0)


@pytest.fixture
def rig(redis: Redis) -> Rig:
    return Rig(redis)


def pictures(folder: Path, count: int) -> list[ImageRef]:
    refs = []
    for number in range(count):
        (folder / f"{number}.png").write_bytes(PNG)
        refs.append(ImageRef(LocalFile.at(bytes(folder), b"%d.png" % number, len(PNG), 0)))
    return refs


# --- outcomes ---------------------------------------------------------------------------------------------


async def test_every_image_gets_one_outcome(rig: Rig) -> None:
    result = await rig.run(handles(25))
    assert {outcome.status for outcome in result.outcomes.values()} == {Status.TAGGED}
    assert sorted(rig.settled) == sorted(result.outcomes) == list(range(25))
    assert totals(result) == (25, 0, 25)
    assert rig.limiter.acquired == 25
    assert result.stopped_by is None


async def test_an_empty_chunk_is_done(rig: Rig) -> None:
    assert (await rig.run([])).outcomes == {}


@pytest.mark.parametrize(
    ("error", "calls"),
    [
        (EngineUnavailableError("down", calls=1, maybe_charged=1, http_status=None), 3),
        (EngineUnavailableError("failing", calls=1, http_status=502, latency_ms=7), 3),
        (BadResponseError("no tags", calls=1, http_status=200), 2),
        (ImageNotFoundError("gone", calls=1, http_status=404), 1),
        (ImageRejectedError("corrupt", calls=1, http_status=422), 1),
        (PermanentError("refused", calls=1, http_status=418), 1),
    ],
)
async def test_a_failing_image_is_given_up_with_all_that_it_cost(
    rig: Rig, error: TaggingError, calls: int
) -> None:
    rig.scripted.scripts[value(3)] = [error] * 5
    result = await rig.run(handles(10))
    failed = result.outcomes.pop(3)
    assert (failed.status, failed.attempts, failed.calls) == (Status.FAILED, calls, calls)
    assert failed.maybe_charged == calls * cast(Any, error).maybe_charged
    assert failed.error is not None
    assert failed.error.to_json() == {
        "class": type(error).__name__,
        "code": error.code,
        "message": str(error),
    }
    assert (failed.http_status, failed.latency_ms) == (
        cast(Any, error).http_status,
        cast(Any, error).latency_ms,
    )
    assert totals(result) == (9, 0, 9)


async def test_a_failure_of_the_moment_leaves_no_trace_but_its_cost(rig: Rig) -> None:
    rig.scripted.scripts[value(3)] = [EngineUnavailableError("x", calls=1, maybe_charged=1)] * 2
    outcome = (await rig.run(handles(10))).outcomes[3]
    assert (outcome.status, outcome.error) == (Status.TAGGED, None)
    assert (outcome.attempts, outcome.calls, outcome.maybe_charged) == (3, 3, 2)


async def test_a_missing_connection_costs_neither_call_nor_attempt(rig: Rig) -> None:
    rig.scripted.scripts[value(3)] = [EngineUnreachableError("refused")] * 6
    outcome = (await rig.run(handles(10))).outcomes[3]
    assert (outcome.status, outcome.attempts, outcome.calls) == (Status.TAGGED, 1, 1)


async def test_what_is_no_image_is_skipped_and_what_is_gone_has_failed(rig: Rig, tmp_path: Path) -> None:
    refs = pictures(tmp_path, 3)
    (tmp_path / "1.png").write_bytes(b"plain text")
    (tmp_path / "2.png").unlink()
    refs.append(ImageRef(BadLine("list.txt", 7, "no handle")))
    result = await rig.run(refs)
    found = [(result.outcomes[index].status, result.outcomes[index].calls) for index in range(4)]
    assert found == [(Status.TAGGED, 1), (Status.SKIPPED, 0), (Status.FAILED, 0), (Status.FAILED, 0)]


async def test_an_unexpected_error_costs_its_own_image_only_and_counts_its_call(rig: Rig) -> None:
    rig.scripted.scripts[value(3)] = [KeyError("surprise")]
    result = await rig.run(handles(10))
    failed = result.outcomes.pop(3)
    assert failed.error is not None
    assert (failed.status, failed.error.code) == (Status.FAILED, "internal")
    assert "surprise" not in failed.error.message
    assert (failed.calls, failed.maybe_charged) == (1, 1)
    assert {outcome.status for outcome in result.outcomes.values()} == {Status.TAGGED}
    assert await rig.in_flight() == []


async def test_an_unexpected_error_before_the_call_counts_none(rig: Rig, tmp_path: Path) -> None:
    rig.scripted.upload_failures = [KeyError("surprise")]
    outcome = (await rig.run(pictures(tmp_path, 1))).outcomes[0]
    assert (outcome.status, outcome.calls, outcome.maybe_charged) == (Status.FAILED, 0, 0)


# --- retries ----------------------------------------------------------------------------------------------


async def test_a_retry_lets_other_images_go_first(rig: Rig) -> None:
    rig.lanes = 1
    rig.scripted.scripts[value(0)] = [EngineUnavailableError("busy", retry_after=0.2, calls=1)]
    await rig.run(handles(4))
    assert [locator.value for locator in rig.engine.asked] == [value(index) for index in (0, 1, 2, 3, 0)]


async def test_a_retry_that_is_far_away_parks_the_chunk_until_then(rig: Rig) -> None:
    rig.scripted.scripts[value(0)] = [EngineUnavailableError("busy", retry_after=40, calls=1)]
    result = await rig.run(handles(4))
    assert sorted(result.outcomes) == [1, 2, 3]
    assert 39 < result.park_seconds <= 40
    assert result.stopped_by is None
    assert (await rig.entries())[0] == Entry(calls=1, attempts=1)


async def test_attempts_count_over_parking(rig: Rig) -> None:
    busy = EngineUnavailableError("busy", retry_after=40, calls=1)
    rig.scripted.scripts[value(0)] = [busy, busy, busy, busy]
    for _ in range(2):
        assert (await rig.run(handles(1))).outcomes == {}
    outcome = (await rig.run(handles(1))).outcomes[0]
    assert (outcome.status, outcome.attempts, outcome.calls) == (Status.FAILED, 3, 3)


async def test_without_retry_budget_a_retry_waits_and_none_is_dropped(rig: Rig) -> None:
    now, called_at = [1000.0], list[float]()
    rig.clock = lambda: now[0]
    rig.retry_budget = RetryBudget(1000.0)
    while rig.retry_budget.take(1000.0) == 0.0:
        pass
    busy = EngineUnavailableError("busy", calls=1)
    rig.scripted.scripts = {value(index): [busy] for index in (1, 5)}
    rig.scripted.down = lambda _: called_at.append(now[0])

    async def pass_time() -> None:
        while True:
            await asyncio.sleep(0.001)
            now[0] += 0.01

    passing = asyncio.create_task(pass_time())
    result = await rig.run(handles(6))
    passing.cancel()
    assert totals(result) == (8, 0, 8)
    # Two retries a second, but for the six tenths that first attempts earned.
    assert called_at[7] - called_at[0] > 0.6


# --- throttling -------------------------------------------------------------------------------------------


async def test_throttling_costs_no_attempt_and_slows_the_fleet(rig: Rig) -> None:
    rig.scripted.scripts[value(2)] = [ThrottledError("slow", retry_after=0.01, calls=1, http_status=429)] * 6
    result = await rig.run(handles(5))
    outcome = result.outcomes[2]
    assert (outcome.status, outcome.attempts, outcome.calls) == (Status.TAGGED, 1, 7)
    assert result.throttled == 6
    assert rig.limiter.throttles == [0.01] * 6


async def test_a_long_throttle_parks_the_chunk(rig: Rig) -> None:
    rig.lanes = 1
    rig.scripted.scripts[value(1)] = [ThrottledError("slow", retry_after=60, calls=1)]
    result = await rig.run(handles(9))
    assert sorted(result.outcomes) == [0]
    assert 58 < result.park_seconds <= 60
    assert len(rig.engine.asked) == 2
    assert (await rig.entries())[1] == Entry(calls=1)


async def test_a_throttled_upload_is_not_tried_again_before_its_time(rig: Rig, tmp_path: Path) -> None:
    rig.scripted.upload_failures = [ThrottledError("slow", retry_after=0.2)] * rig.lanes
    result = await rig.run(pictures(tmp_path, 20))
    assert totals(result) == (20, 0, 20)
    assert rig.scripted.upload_calls == 20 + rig.lanes


# --- breaker ----------------------------------------------------------------------------------------------


async def open_breaker(rig: Rig) -> None:
    breaker = rig.breaker
    for number in range(8):
        await breaker.failed(f"image-{number}", unreachable=False)
    assert await breaker.admit() >= 0
    assert (await breaker.snapshot()).open_since is not None


async def test_an_open_breaker_far_from_its_probe_parks_the_chunk_unpaid(rig: Rig) -> None:
    rig.probe_seconds = 60
    await open_breaker(rig)
    result = await rig.run(handles(5))
    assert (result.outcomes, rig.engine.asked, await rig.entries()) == ({}, [], {})
    assert 15 < result.park_seconds <= 60


async def test_one_probe_closes_the_breaker_for_all(rig: Rig) -> None:
    await open_breaker(rig)
    result = await rig.run(handles(30))
    assert totals(result) == (30, 0, 30)


async def test_nothing_is_uploaded_while_the_breaker_is_open(rig: Rig, tmp_path: Path) -> None:
    rig.probe_seconds = 60
    await open_breaker(rig)
    await rig.run(pictures(tmp_path, 5))
    assert rig.scripted.upload_calls == 0


@pytest.mark.parametrize("error", [EngineUnavailableError, EngineUnreachableError])
async def test_an_hours_outage_fails_no_image(rig: Rig, error: type[EngineUnavailableError]) -> None:
    probes = 360  # one in ten seconds
    rig.probe_seconds = 0.002
    rig.clock = lambda: time.monotonic() * 5000  # ten seconds in as much time
    rig.lanes = 8
    sent = 0 if error is EngineUnreachableError else 1
    rig.scripted.down = lambda call: error("down", calls=sent) if call <= probes else None
    result = await rig.run(handles(40))
    outcomes = result.outcomes.values()
    assert {outcome.status for outcome in outcomes} == {Status.TAGGED}
    assert max(outcome.attempts for outcome in outcomes) <= 3
    assert sum(outcome.attempts for outcome in outcomes) <= 40 + rig.lanes
    assert totals(result)[0] == 40 + probes * sent


async def test_bad_images_that_are_all_that_is_left_are_given_up(rig: Rig) -> None:
    rig.scripted.down = lambda _call: EngineUnavailableError("never", calls=1, http_status=500)
    result = await rig.run(handles(5))
    assert totals(result) == (5 * ATTEMPTS, 0, 5 * ATTEMPTS)
    assert (await rig.breaker.snapshot()).open_since is None


# --- the account ------------------------------------------------------------------------------------------


def denied() -> AccessDeniedError:
    return AccessDeniedError("no", calls=1, http_status=403)


async def test_a_denied_image_is_held_until_the_others_are_through(rig: Rig) -> None:
    rig.scripted.scripts = {value(index): [denied()] for index in (0, 4)}
    result = await rig.run(handles(12))
    assert set(rig.settled[-2:]) == {0, 4}
    assert [result.outcomes[index].status for index in (0, 1, 4)] == [
        Status.FAILED,
        Status.TAGGED,
        Status.FAILED,
    ]
    assert totals(result) == (12, 0, 12)


async def test_refusals_alone_stop_a_small_chunk_unless_the_account_worked_elsewhere(rig: Rig) -> None:
    rig.scripted.down = lambda _: denied()
    result = await rig.run(handles(3))
    assert (type(result.stopped_by), result.outcomes) == (CredentialsError, {})
    await Denials(rig.redis, rig.keys, "run-1").vouch()
    result = await rig.run(handles(3))
    assert result.stopped_by is None
    assert {outcome.status for outcome in result.outcomes.values()} == {Status.FAILED}


async def test_a_refused_image_is_not_settled_while_the_run_knows_of_refusals_only(rig: Rig) -> None:
    denials = Denials(rig.redis, rig.keys, "run-1")
    for number in range(2):
        await denials.denied(f"elsewhere-{number}")
    rig.scripted.down = lambda _: denied()
    result = await rig.run(handles(1))
    assert (type(result.stopped_by), result.outcomes) == (CredentialsError, {})


async def test_an_account_that_is_denied_settles_nothing(rig: Rig) -> None:
    rig.scripted.down = lambda _: denied()
    result = await rig.run(handles(50))
    assert isinstance(result.stopped_by, CredentialsError)
    assert (result.outcomes, rig.settled) == ({}, [])
    assert len(rig.engine.asked) <= 20 + rig.lanes
    entries = (await rig.entries()).values()
    assert sum(entry.calls for entry in entries) == len(rig.engine.asked)
    assert {(entry.in_flight, entry.result) for entry in entries} == {(False, None)}


async def test_denials_add_up_over_the_runs_chunks(rig: Rig) -> None:
    denials = Denials(rig.redis, rig.keys, "run-1")
    for number in range(19):
        await denials.denied(f"elsewhere-{number}")
    rig.scripted.scripts[value(8)] = [denied()]
    result = await rig.run(handles(9))
    assert isinstance(result.stopped_by, CredentialsError)
    assert 8 not in result.outcomes


@pytest.mark.parametrize("error", [CredentialsError("who?"), QuotaExhaustedError("used up")])
async def test_the_accounts_answer_stops_the_chunk_at_once(rig: Rig, error: RunError) -> None:
    rig.scripted.scripts[value(6)] = [error]
    result = await rig.run(handles(100))
    assert result.stopped_by is error
    assert 6 not in result.outcomes
    assert len(rig.engine.asked) <= 6 + 2 * rig.lanes
    assert (await rig.entries())[6] == Entry(calls=1)
    assert await rig.in_flight() == []


async def test_the_accounts_answer_to_an_upload_is_no_call(rig: Rig, tmp_path: Path) -> None:
    rig.scripted.upload_failures = [CredentialsError("who?")]
    result = await rig.run(pictures(tmp_path, 1))
    assert isinstance(result.stopped_by, CredentialsError)
    assert await rig.entries() == {}


async def test_an_answer_in_hand_outlives_the_accounts_refusal_to_discard(rig: Rig, tmp_path: Path) -> None:
    refs = pictures(tmp_path, 1)
    rig.scripted.discard_failures = [CredentialsError("who?")]
    assert isinstance((await rig.run(refs)).stopped_by, CredentialsError)
    result = await rig.run(refs)
    assert totals(result) == (1, 0, 1)
    assert rig.engine.uploads == {}


# --- stopping ---------------------------------------------------------------------------------------------


async def test_a_stop_finishes_calls_in_flight_and_takes_no_new_image(rig: Rig) -> None:
    rig.engine = engine = GatedEngine()
    pipeline = rig.pipeline()
    running = asyncio.create_task(pipeline.run(planned(handles(20))))
    await engine.in_flight(4)
    pipeline.stop()
    engine.gate.set()
    result = await asyncio.wait_for(running, WITHIN_SECONDS)
    assert sorted(result.outcomes) == [0, 1, 2, 3]
    assert len(engine.asked) == 4
    assert await rig.in_flight() == []
    rest = await rig.run(handles(20))
    assert totals(rest) == (20, 0, 20)
    assert len(engine.asked) == 20


async def waiting_for_permits(rig: Rig) -> tuple[Pipeline, asyncio.Task[Result]]:
    """A chunk in work whose every lane waits for its permit, for ever."""
    arrived = asyncio.Semaphore(0)

    async def sleep(_: float) -> None:
        arrived.release()
        await asyncio.Event().wait()

    rig.limiter = FakeLimiter(sleep=sleep)
    pipeline = rig.pipeline()
    running = asyncio.create_task(pipeline.run(planned(handles(20))))
    for _ in range(rig.lanes):
        await asyncio.wait_for(arrived.acquire(), WITHIN_SECONDS)
    return pipeline, running


async def test_lanes_that_wait_for_a_permit_put_their_image_back(rig: Rig) -> None:
    pipeline, running = await waiting_for_permits(rig)
    pipeline.stop(7.0)
    result = await asyncio.wait_for(running, WITHIN_SECONDS)
    assert (result.outcomes, rig.engine.asked, result.park_seconds) == ({}, [], 7.0)


async def test_being_told_to_stop_again_changes_nothing(rig: Rig) -> None:
    """Also not while lanes are being woken by the first time."""
    pipeline, running = await waiting_for_permits(rig)
    while not running.done():
        pipeline.stop()
        await asyncio.sleep(0)
    assert (await running).outcomes == {}


async def test_a_permit_that_is_far_away_parks_the_chunk(rig: Rig) -> None:
    rig.limiter = FakeLimiter(Rate.parse("2/m"))
    result = await rig.run(handles(5))
    assert 15 < result.park_seconds <= 30
    assert list(await rig.entries()) == list(result.outcomes)
    assert len(result.outcomes) == 1


# --- budget -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cap", [1, 3, 9])
async def test_a_cap_is_used_to_the_last_call_and_not_exceeded(rig: Rig, cap: int) -> None:
    rig.spec = a_spec("run-1", max_calls=cap)
    rig.limiter = FakeLimiter(Rate.parse("200/s"))  # lanes that have drawn a call wait for their turn
    result = await rig.run(handles(20))
    assert isinstance(result.stopped_by, BudgetExhaustedError)
    assert len(result.outcomes) == len(rig.engine.asked) == cap


async def test_a_call_that_was_not_sent_counts_against_no_cap(rig: Rig) -> None:
    rig.spec = a_spec("run-1", max_calls=5)
    rig.scripted.scripts = {value(n): [EngineUnreachableError("no route", retry_after=0)] for n in range(2)}
    result = await rig.run(handles(5))
    assert totals(result) == (5, 0, 5)
    assert len(rig.engine.asked) == 7


async def test_a_rate_per_day_that_is_used_up_parks_the_chunk_until_the_next(rig: Rig) -> None:
    rig.caps = [Cap("the rate", "accounts/one", Period.DAY, "", 3, waits=True)]
    result = await rig.run(handles(5))
    assert (result.stopped_by, len(result.outcomes)) == (None, 3)
    assert 0 < result.park_seconds <= 86_401


async def test_images_that_cost_no_call_are_settled_without_a_budget(rig: Rig) -> None:
    rig.spec = a_spec("run-1", max_calls=2)
    await rig.run(handles(2))
    rig.sink = FakeSink()
    result = await rig.run(handles(2))
    assert (result.stopped_by, len(result.outcomes)) == (None, 2)


async def test_a_cancelled_chunk_leaves_no_intent_that_looks_like_a_death(rig: Rig) -> None:
    rig.engine = engine = GatedEngine()
    running = asyncio.create_task(rig.pipeline().run(planned(handles(20))))
    await engine.in_flight(4)
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
    assert await rig.entries() == dict.fromkeys(range(4), Entry(calls=1, maybe_charged=1))


async def test_an_upload_of_a_stopped_chunk_is_used_by_the_next_worker(rig: Rig, tmp_path: Path) -> None:
    refs = pictures(tmp_path, 1)
    rig.scripted.scripts["fakeupload0000000000"] = [EngineUnavailableError("x", retry_after=60, calls=1)]
    assert (await rig.run(refs)).outcomes == {}
    result = await rig.run(refs)
    assert totals(result) == (2, 0, 2)
    assert (rig.scripted.upload_calls, rig.engine.uploads) == (1, {})


# --- uploads ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error", [ImageRejectedError("corrupt", calls=1), EngineUnavailableError("down", calls=1), denied()]
)
async def test_the_upload_of_a_failed_image_is_discarded(
    rig: Rig, tmp_path: Path, error: TaggingError
) -> None:
    rig.scripted.scripts["fakeupload0000000000"] = [error] * 3
    outcome = (await rig.run(pictures(tmp_path, 1))).outcomes[0]
    assert outcome.status is Status.FAILED
    assert rig.engine.uploads == {}


async def test_uploads_are_kept_when_asked_for(rig: Rig, tmp_path: Path) -> None:
    rig.keep_uploads = True
    await rig.run(pictures(tmp_path, 3))
    assert len(rig.engine.uploads) == 3


# --- write-back -------------------------------------------------------------------------------------------


async def test_a_failing_write_costs_no_call_and_keeps_the_tags(rig: Rig) -> None:
    rig.sink = FakeSink(failures=[SinkRejectedError("read-only"), cast(TaggingError, ValueError("surprise"))])
    result = await rig.run(handles(5))
    assert totals(result) == (5, 0, 5)
    writes = [outcome.writes["fake"].status for outcome in result.outcomes.values()]
    assert sorted(writes) == [WriteStatus.FAILED] * 2 + [WriteStatus.WRITTEN] * 3
    assert {outcome.status for outcome in result.outcomes.values()} == {Status.TAGGED}


async def test_after_a_write_that_did_harm_nothing_in_flight_is_written(rig: Rig) -> None:
    rig.sink = FakeSink(failures=[WriteBackSafetyError("it changed a header")])
    result = await rig.run(handles(8))
    assert isinstance(result.stopped_by, WriteBackSafetyError)
    assert (result.outcomes, rig.sink.written) == ({}, {})
    paid = sum(entry.calls for entry in (await rig.entries()).values())
    assert 1 <= paid <= rig.lanes

    result = await rig.run(handles(8))
    assert totals(result) == (8, 0, 8)
    assert len(rig.sink.written) == 8


async def test_harm_is_the_reason_that_counts(rig: Rig) -> None:
    pipeline = rig.pipeline()
    for error in (CredentialsError("no key"), WriteBackSafetyError("harm"), CredentialsError("no key")):
        pipeline._halt(error)
    assert isinstance(pipeline.result.stopped_by, WriteBackSafetyError)


async def test_tags_are_written_under_the_policy_and_journaled_as_they_were_answered(rig: Rig) -> None:
    rig.sink, rig.policy = FakeSink(), TagPolicy(min_confidence=50, prefix="ai:")
    answered = {"auto": {"sky": 97, "blur": 41}, "user": None}
    rig.engine.tags[value(0)] = answered
    result = await rig.run(handles(1))
    written = rig.sink.written["filestack:handle0000"]
    assert (written.tags, written.policy) == ({"auto": {"ai:sky": 97}, "user": None}, rig.policy.hash)
    entry = (await rig.entries())[0].result
    assert result.outcomes[0].answer is not None
    assert entry is not None
    assert result.outcomes[0].answer.tags == entry["answer"]["tags"] == answered


async def test_what_rules_add_is_written_too_and_not_journaled(rig: Rig) -> None:
    rule = TagRule(parse("results.tags_1.data eq {}"), add_tag="added", label="asked")
    rig.engine, rig.sink, rig.policy = TasksEngine(), FakeSink(), TagPolicy(rules=(rule,))
    result = await rig.run(handles(1))
    written = rig.sink.written["filestack:handle0000"]
    assert (written.tags["auto"], written.labels) == ({"sky": 97, "added": 100}, ("asked",))
    assert result.outcomes[0].answer is not None
    assert result.outcomes[0].answer.tags["auto"] == {"sky": 97}


async def test_the_runs_own_writes_are_no_undo_values(rig: Rig) -> None:
    rig.sink = FakeSink()
    await rig.run(handles(2))
    journal = rig.journal()
    await journal.load()
    assert journal.undo_values() == {
        index: {"fake": {"sink": "fake", "run": None, "values": {}}} for index in range(2)
    }


# --- nothing twice ----------------------------------------------------------------------------------------


def tagged_before(rig: Rig, refs: Sequence[ImageRef], run_id: str = "earlier-run") -> FakeSink:
    """Another run, or an earlier life of this one, wrote the tags of these with the same settings."""
    sink = FakeSink()
    config, policy = rig.engine.config_hash, rig.policy.hash
    tagging = Tagging(run_id, "fake", config, policy, {"auto": {}}, "2026-01-01T00:00:00Z")
    sink.written = {ref.id: tagging for ref in refs}
    return sink


async def test_what_an_earlier_run_tagged_costs_no_call_and_no_write(rig: Rig) -> None:
    rig.sink = tagged_before(rig, handles(5)[:3])
    result = await rig.run(handles(5))
    skipped = [result.outcomes[index] for index in range(3)]
    assert {(outcome.status, outcome.calls) for outcome in skipped} == {(Status.SKIPPED, 0)}
    assert {outcome.error and outcome.error.code for outcome in skipped} == {"already_tagged"}
    assert [dict(outcome.writes) for outcome in skipped] == [{}] * 3
    assert sorted(locator.value for locator in rig.engine.asked) == [value(3), value(4)]
    assert rig.sink.writes == 2


async def test_force_pays_again(rig: Rig) -> None:
    rig.sink, rig.force = tagged_before(rig, handles(3)), True
    assert totals(await rig.run(handles(3))) == (3, 0, 3)


async def test_new_content_is_paid_for_whatever_stands_there(rig: Rig) -> None:
    rig.sink = tagged_before(rig, handles(3))
    refs = [replace(ref, fresh=True) for ref in handles(3)]
    assert totals(await rig.run(refs)) == (3, 0, 3)


async def test_what_this_run_wrote_and_redis_forgot_gets_its_row_with_tags(rig: Rig) -> None:
    rig.sink = tagged_before(rig, handles(3), run_id="run-1")
    result = await rig.run(handles(3))
    assert {outcome.status for outcome in result.outcomes.values()} == {Status.TAGGED}


async def test_credentials_that_cannot_look_stop_the_run_before_a_call(rig: Rig) -> None:
    rig.sink = FakeSink(mark_failures=[CredentialsError("renew the AWS credentials")] * 9)
    result = await rig.run(handles(3))
    assert isinstance(result.stopped_by, CredentialsError)
    assert (rig.engine.asked, result.outcomes) == ([], {})


# --- Redis ------------------------------------------------------------------------------------------------


class ForgetfulJournal(Journal):
    """Every write fails `outages` times before it is heard, as in a restart of Redis."""

    outages = 3

    async def _write(self, fields: Sequence[Any]) -> None:
        if self.outages:
            self.outages -= 1
            raise RedisUnavailableError("away")
        self.outages = 3
        await super()._write(fields)


async def test_an_outage_of_redis_is_sat_out_and_nothing_is_counted_twice(rig: Rig) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    rig.sleep = sleep
    rig.scripted.scripts = {
        value(1): [EngineUnavailableError("x", calls=1, maybe_charged=1)],
        value(2): [ImageNotFoundError("gone", calls=1)],
    }
    journal = ForgetfulJournal(rig.redis, rig.keys, rig.chunk, rig.started())
    result = await asyncio.wait_for(rig.pipeline(journal).run(planned(handles(5))), WITHIN_SECONDS)
    assert totals(result) == (6, 1, 6)
    assert {0.1, 0.2, 0.4} <= set(slept)


async def test_a_redis_that_stays_away_ends_the_chunk_without_an_error(rig: Rig) -> None:
    rig.give_up_at = 0.0
    journal = ForgetfulJournal(rig.redis, rig.keys, rig.chunk, rig.started())
    journal.outages = 10**6
    result = await asyncio.wait_for(rig.pipeline(journal).run(planned(handles(5))), WITHIN_SECONDS)
    assert isinstance(result.stopped_by, RedisUnavailableError)
    assert (result.outcomes, rig.engine.asked) == ({}, [])


async def test_paid_answers_outlive_a_restart_of_redis() -> None:
    with running_redis(aof=True) as server:
        redis = connect(server.url)
        rig = Rig(redis, engine=GatedEngine())
        engine = cast(GatedEngine, rig.engine)
        running = asyncio.create_task(rig.pipeline().run(planned(handles(8))))
        await engine.in_flight(4)
        server.kill()
        engine.gate.set()
        await asyncio.to_thread(server.restart)
        result = await asyncio.wait_for(running, WITHIN_SECONDS)
        assert totals(result) == (8, 0, 8)
        assert len(engine.asked) == 8
        await redis.aclose()


# --- images that take several calls -----------------------------------------------------------------------


async def test_each_of_an_images_calls_is_drawn_and_counted(redis: Redis) -> None:
    rig = Rig(redis, engine=TasksEngine())
    result = await rig.run(handles(4))
    assert totals(result) == (12, 0, 12)
    assert rig.limiter.acquired == 12
    answer = result.outcomes[0].answer
    assert answer is not None
    assert (list(answer.results), answer.complete) == (list(TASKS), True)
    assert (await rig.entries())[0].answer is None


async def test_a_cap_ends_within_an_image_and_what_it_was_answered_is_not_paid_again(redis: Redis) -> None:
    rig = Rig(redis, engine=TasksEngine(), lanes=1, spec=a_spec("run-1", max_calls=5))
    first = await rig.run(handles(3))
    assert (len(first.outcomes), len(rig.engine.asked)) == (1, 5)
    assert isinstance(first.stopped_by, BudgetExhaustedError)
    rig.spec = a_spec("run-1", max_calls=9)
    assert totals(await rig.run(handles(3))) == (9, 0, 9)
    assert len(rig.engine.asked) == 9


async def test_a_task_has_attempts_of_its_own(redis: Redis) -> None:
    rig = Rig(redis, engine=TasksEngine(), lanes=1)
    failures = [EngineUnavailableError("busy", calls=1) for _ in range(6)]
    fine: Any = None
    rig.scripted.scripts[value(0)] = [*failures[:2], fine, *failures[2:4], fine, *failures[4:]]
    outcome = (await rig.run(handles(1))).outcomes[0]
    assert (outcome.status, outcome.calls, outcome.attempts) == (Status.TAGGED, 9, 9)


async def test_an_image_does_without_a_failed_task_but_not_without_the_main_one(redis: Redis) -> None:
    rig = Rig(redis, engine=TasksEngine(), lanes=1)
    fine: Any = None
    rig.scripted.scripts[value(0)] = [fine, ImageRejectedError("too large", calls=1)]
    rig.scripted.scripts[value(1)] = [fine, fine, *[EngineUnavailableError("busy", calls=1)] * 3]
    rig.scripted.scripts[value(2)] = [ImageRejectedError("too large", calls=1)]
    result = await rig.run(handles(3))
    answers = [outcome.answer and dict(outcome.answer.results) for outcome in result.outcomes.values()]
    data: Json = {"data": {}}
    assert [outcome.calls for _, outcome in sorted(result.outcomes.items())] == [3, 5, 1]
    assert answers == [
        {"tags_1": data, "safe": {"error": "rejected"}, "words": data},
        {"tags_1": data, "safe": data, "words": {"error": "unavailable"}},
        None,
    ]


async def test_a_refused_task_is_done_without_once_the_account_is_known_to_be_good(
    redis: Redis,
) -> None:
    rig = Rig(redis, engine=TasksEngine(), lanes=1)
    fine: Any = None
    rig.scripted.scripts[value(1)] = [
        fine,
        AccessDeniedError("no", calls=1),
        AccessDeniedError("no", calls=1),
    ]
    result = await rig.run(handles(3))
    answer = result.outcomes[1].answer
    assert answer is not None
    assert {name for name, one in answer.results.items() if "error" in one} == {"safe", "words"}
    assert (totals(result), result.stopped_by) == ((9, 0, 9), None)


async def test_of_a_tagged_image_the_failed_tasks_alone_are_asked_for_again(redis: Redis) -> None:
    """Though it bears the tags of this very run."""
    rig = Rig(redis, engine=TasksEngine(), sink=FakeSink(), lanes=1)
    fine: Any = None
    rig.scripted.scripts[value(0)] = [fine, fine, ImageRejectedError("too large", calls=1)]
    [ref] = handles(1)
    earlier = build_row(CONTEXT, 0, 0, ref, (await rig.run([ref])).outcomes[0])
    rig.kind, rig.chunk = PassKind.RETRY, replace(CHUNK, pass_no=1)
    result = await rig.pipeline().run([Planned(ref, earlier)])
    answer = result.outcomes[0].answer
    assert answer is not None
    assert (dict(answer.results), answer.flags) == ({task: {"data": {}} for task in TASKS}, ())
    assert (totals(result), len(rig.engine.asked)) == ((1, 0, 1), 4)


async def test_what_an_image_was_answered_before_its_main_task_failed_is_not_paid_again(redis: Redis) -> None:
    rig = Rig(redis, engine=TasksEngine(main=1), sink=FakeSink(), lanes=1)
    fine: Any = None
    rig.scripted.scripts[value(0)] = [fine, ImageRejectedError("too large", calls=1)]
    [ref] = handles(1)
    failed = (await rig.run([ref])).outcomes[0]
    earlier = build_row(CONTEXT, 0, 0, ref, failed)
    assert (earlier["raw_tags"], earlier["results"]) == (None, {"tags_1": {"data": {}}})
    rig.kind, rig.chunk = PassKind.RETRY, replace(CHUNK, pass_no=1)
    result = await rig.pipeline().run([Planned(ref, earlier)])
    answer = result.outcomes[0].answer
    assert answer is not None
    assert dict(answer.results) == {task: {"data": {}} for task in TASKS}
    assert (totals(result), len(rig.engine.asked)) == ((2, 0, 2), 4)


@pytest.mark.parametrize("point", ["permit", "intent", "answered", "advanced", "journaled"])
async def test_a_death_between_two_tasks_pays_only_the_one_in_flight_again(redis: Redis, point: str) -> None:
    engine = CrashingTasksEngine()
    rig = Rig(redis, engine=engine, sink=CrashingSink(), limiter=CrashingLimiter(UNLIMITED), lanes=1)
    workers = Mortal(rig, handles(3))
    assert await workers.die(point, nth=2)
    result = await workers.live()
    twice = {"answered": 1}.get(point, 0)
    unknown = {"answered": 1, "intent": 1}.get(point, 0)
    assert totals(result)[:2] == (9 + unknown, unknown)
    assert [sorted(set(paid)) for paid in engine.paid.values()] == [[0, 1, 2]] * 3
    assert sum(map(len, engine.paid.values())) == 9 + twice


# --- deaths -----------------------------------------------------------------------------------------------


@dataclass
class Mortal:
    """Workers that die one after the other over the same chunk."""

    rig: Rig
    refs: Sequence[ImageRef]
    deaths: int = 0
    most_in_flight: int = 0  #: calls cut short by deaths, added up

    async def die(self, point: str, nth: int = 1) -> bool:
        """Let a worker run until it dies; False when it came to its end instead."""
        crash = self._arm(Crash(point, nth))
        journal = CrashingJournal(self.rig.redis, self.rig.keys, self.rig.chunk, self.rig.started(), crash)
        pipeline = self.rig.pipeline(journal)
        running = asyncio.create_task(pipeline.run(planned(self.refs)))
        death = asyncio.create_task(crash.dead.wait())
        await asyncio.wait({running, death}, timeout=WITHIN_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        died = crash.dead.is_set()
        pipeline._waiting._give_up_at = float("-inf")
        for task in (running, death):
            task.cancel()
        await asyncio.gather(running, death, return_exceptions=True)
        self.most_in_flight += len(await self.rig.in_flight())
        self.deaths += died
        return died

    async def live(self) -> Result:
        self._arm(Crash())
        return await self.rig.run(self.refs)

    def _arm(self, crash: Crash) -> Crash:
        for part in (self.rig.engine, self.rig.sink, self.rig.limiter):
            cast(Any, part).crash = crash
        return crash


def mortal(redis: Redis, refs: Sequence[ImageRef], lanes: int) -> Mortal:
    rig = Rig(
        redis, engine=CrashingEngine(), sink=CrashingSink(), limiter=CrashingLimiter(UNLIMITED), lanes=lanes
    )
    return Mortal(rig, refs)


def assert_paid_and_counted(workers: Mortal, result: Result) -> None:
    """`asked` is the service's own list; what was in flight at a death may be paid again, and is counted."""
    asked = len(workers.rig.engine.asked)
    calls, maybe_charged, _ = totals(result)
    tagged = sum(outcome.status is Status.TAGGED for outcome in result.outcomes.values())
    assert calls - maybe_charged <= asked <= calls
    assert tagged <= asked <= tagged + workers.most_in_flight
    assert maybe_charged <= workers.most_in_flight
    # An upload that was answered but not noted is lost: at most one a lane, but for the lane at the point.
    assert len(workers.rig.engine.uploads) <= workers.deaths * (workers.rig.lanes - 1)


@pytest.mark.parametrize("lanes", [1, 4])
@pytest.mark.parametrize("point", POINTS)
async def test_a_death_at_any_point_loses_nothing(
    redis: Redis, tmp_path: Path, point: str, lanes: int
) -> None:
    workers = mortal(redis, pictures(tmp_path, 8), lanes)
    assert await workers.die(point, nth=3)
    result = await workers.live()
    assert {outcome.status for outcome in result.outcomes.values()} == {Status.TAGGED}
    assert len(result.outcomes) == 8
    assert_paid_and_counted(workers, result)
    assert workers.rig.sink is not None
    assert workers.rig.sink.writes == 8
    assert {index: kept["fake"] for index, kept in result.previous.items()} == {
        index: {"sink": "fake", "run": None, "values": {}} for index in range(8)
    }


async def test_only_a_call_in_flight_is_paid_again(redis: Redis) -> None:
    again = {}
    for point in ("permit", "intent", "answered", "journaled", "copied", "outcome"):
        workers = mortal(redis, handles(6), lanes=1)
        assert await workers.die(point, nth=3)
        result = await workers.live()
        again[point] = (len(workers.rig.engine.asked) - 6, totals(result)[:2])
    assert again == {
        "permit": (0, (6, 0)),
        "intent": (0, (7, 1)),  # nobody knows that it had not left
        "answered": (1, (7, 1)),
        "journaled": (0, (6, 0)),
        "copied": (0, (6, 0)),
        "outcome": (0, (6, 0)),
    }


async def test_a_paid_answer_is_journaled_before_its_image_is_touched(redis: Redis) -> None:
    workers = mortal(redis, handles(1), lanes=1)
    assert await workers.die("journaled")
    assert (await workers.rig.entries())[0].result is not None
    assert workers.rig.sink is not None
    assert workers.rig.sink.writes == 0


@dataclass
class CompanyEngine(FakeEngine):
    """Notes how many calls are in flight with each."""

    company: list[tuple[str, int]] = field(default_factory=list)
    _in_flight: int = 0

    async def start(self, locator: Locator, so_far: Answer | None = None) -> Answer:
        self._in_flight += 1
        self.company.append((locator.value, self._in_flight))
        await asyncio.sleep(0.002)  # so that calls that may meet do
        self._in_flight -= 1
        return await super().start(locator, so_far)


async def test_suspects_of_a_death_go_first_each_alone(redis: Redis) -> None:
    workers = mortal(redis, handles(20), lanes=4)
    await workers.die("answered", nth=9)
    suspects = set(await workers.rig.in_flight())
    assert len(suspects) > 1
    workers.rig.engine = engine = CompanyEngine()
    await workers.live()
    first = engine.company[: len(suspects)]
    assert {name for name, _ in first} == {value(index) for index in suspects}
    assert {company for _, company in first} == {1}
    assert max(company for _, company in engine.company) > 1


async def test_one_alone_in_flight_at_two_deaths_is_quarantined(redis: Redis) -> None:
    workers = mortal(redis, handles(6), lanes=1)
    for _ in range(2):
        assert await workers.die("answered", nth=1)
    result = await workers.live()
    assert result.outcomes[0].status is Status.QUARANTINED
    assert (result.outcomes[0].calls, result.outcomes[0].maybe_charged) == (2, 2)
    assert {result.outcomes[index].status for index in range(1, 6)} == {Status.TAGGED}
    assert len(workers.rig.engine.asked) == 2 + 5


async def test_the_upload_of_a_quarantined_image_is_discarded(redis: Redis, tmp_path: Path) -> None:
    workers = mortal(redis, pictures(tmp_path, 1), lanes=1)
    for _ in range(2):
        assert await workers.die("answered")
    assert (await workers.live()).outcomes[0].status is Status.QUARANTINED
    assert workers.rig.engine.uploads == {}


async def test_company_at_a_death_is_not_held_against_an_image(redis: Redis) -> None:
    workers = mortal(redis, handles(8), lanes=4)
    for _ in range(3):
        await workers.die("answered", nth=4)  # nobody is alone; suspects come through alone
    result = await workers.live()
    assert {outcome.status for outcome in result.outcomes.values()} == {Status.TAGGED}


async def test_undo_values_are_those_from_before_the_first_write(redis: Redis) -> None:
    """A worker that dies after the copy leaves an object that says our own tags."""
    workers = mortal(redis, handles(1), lanes=1)
    assert await workers.die("copied")
    result = await workers.live()
    assert result.previous == {0: {"fake": {"sink": "fake", "run": None, "values": {}}}}
    assert result.outcomes[0].writes["fake"].status is WriteStatus.WRITTEN


async def test_a_write_without_a_call_is_known_as_made_after_a_death(rig: Rig) -> None:
    """Nothing was journaled of the image but what stood there before."""
    ref, rig.kind = handles(1)[0], PassKind.FOLLOWERS
    rig.sink = tagged_before(rig, [ref], run_id="run-1")
    before: Json = {"sink": "fake", "run": None, "values": {}}
    await rig.journal().keep_undo(0, "fake", before)
    context = RowContext("run-1", 0, rig.policy, "fake", rig.engine.version, rig.engine.config_hash)
    answer = Answer({"auto": {}, "user": None})
    row = build_row(context, 0, 0, ref, Outcome(Status.DUPLICATE, answer, tagged_at="2026-01-01T00:00:00Z"))

    result = await rig.pipeline().run([Planned(ref, row)])

    assert (result.outcomes[0].status, rig.engine.asked) == (Status.DUPLICATE, [])
    assert result.outcomes[0].writes["fake"].status is WriteStatus.WRITTEN
    assert result.previous == {0: {"fake": before}}


async def test_a_follower_waits_unless_an_earlier_run_has_tagged_it(rig: Rig) -> None:
    rig.sink = tagged_before(rig, handles(1))
    images = [Planned(ref, duplicate_of="another") for ref in handles(2)]
    result = await rig.pipeline().run(images)
    assert [result.outcomes[index].status for index in range(2)] == [Status.SKIPPED, Status.DUPLICATE]
    assert (rig.engine.asked, rig.sink.writes, result.outcomes[1].answer) == ([], 0, None)


Deaths = st.lists(st.tuples(st.sampled_from(POINTS), st.integers(1, 6)), max_size=4)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(deaths=Deaths, images=st.integers(1, 6), lanes=st.integers(1, 4))
async def test_whatever_dies_every_image_ends_once_and_every_call_is_counted(
    redis: Redis, tmp_path: Path, deaths: list[tuple[str, int]], images: int, lanes: int
) -> None:
    workers = mortal(redis, pictures(tmp_path, images), lanes)
    for point, nth in deaths:
        await workers.die(point, nth)
    result = await workers.live()
    assert sorted(result.outcomes) == list(range(images))
    entries = await workers.rig.entries()
    for index, outcome in result.outcomes.items():
        assert outcome.status is (Status.QUARANTINED if entries[index].deadly else Status.TAGGED)
    assert_paid_and_counted(workers, result)
