from __future__ import annotations

import asyncio
from dataclasses import replace

from fakes.files import CountingFiles, MemoryFiles
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from tagmill.worker.models import Chunk
from tagmill.worker.state.entries import Entry, Job
from tagmill.worker.state.journal import KEPT_SECONDS, Journal
from tagmill.worker.state.keys import Keys
from tagmill.worker.store.started import Started

CHUNK = Chunk("run-1", 0, 3, 200, 100)


def a_journal(redis: Redis, keys: Keys, files: MemoryFiles | None = None) -> Journal:
    """`files`: the run store; else an empty one."""
    return Journal(redis, keys, CHUNK, Started(files or MemoryFiles(), CHUNK))


async def reopened(redis: Redis, keys: Keys) -> Journal:
    """What the next worker sees."""
    journal = a_journal(redis, keys)
    await journal.load()
    return journal


async def test_an_unknown_chunk_is_empty(redis: Redis, keys: Keys) -> None:
    journal = a_journal(redis, keys)
    assert await journal.load() == {}
    assert journal[7] == Entry()
    assert await journal.bury() == []


async def test_a_result_is_there_for_the_next_worker(redis: Redis, keys: Keys) -> None:
    journal = await reopened(redis, keys)
    await journal.intent(7)
    await journal.settle(7, {"tags": {"auto": {"größe": 97}}}, calls=1, attempts=1)
    settled = Entry(calls=1, attempts=1, result={"tags": {"auto": {"größe": 97}}})
    assert await a_journal(redis, keys).load() == {7: settled}


async def test_numbers_add_up_over_attempts_and_workers(redis: Redis, keys: Keys) -> None:
    journal = await reopened(redis, keys)
    await journal.intent(7)
    await journal.retry(7, calls=1, maybe_charged=1, attempts=1)
    journal = await reopened(redis, keys)
    await journal.intent(7)
    await journal.settle(7, {}, calls=2, attempts=1)
    assert (await reopened(redis, keys))[7] == Entry(calls=3, maybe_charged=1, attempts=2, result={})


async def test_an_upload_is_found_again_until_it_is_discarded(redis: Redis, keys: Keys) -> None:
    journal = await reopened(redis, keys)
    await journal.note_upload(7, "handle")
    await journal.intent(7)
    journal = await reopened(redis, keys)
    assert journal[7].upload == "handle"
    await journal.note_upload(7, None)
    assert (await reopened(redis, keys))[7].upload is None


async def test_a_death_makes_those_in_flight_suspects_and_counts_their_calls(
    redis: Redis, keys: Keys
) -> None:
    journal = await reopened(redis, keys)
    await asyncio.gather(*(journal.intent(index) for index in (9, 4, 5)))
    await journal.settle(5, {}, calls=1)
    journal = await reopened(redis, keys)
    assert await journal.bury() == [4, 9]
    assert journal[4] == Entry(calls=1, maybe_charged=1, suspect=True)


async def test_one_alone_in_flight_at_two_deaths_is_deadly(redis: Redis, keys: Keys) -> None:
    for deaths in (1, 2):
        journal = await reopened(redis, keys)
        await journal.intent(7)
        journal = await reopened(redis, keys)
        assert await journal.bury() == [7]
        assert journal[7].alone_deaths == deaths
        assert journal[7].deadly == (deaths == 2)


async def test_a_death_counts_once_however_often_it_is_buried(redis: Redis, keys: Keys) -> None:
    journal = await reopened(redis, keys)
    await journal.intent(7)
    two_at_once = [await reopened(redis, keys), await reopened(redis, keys)]
    for journal in (*two_at_once, await reopened(redis, keys)):
        assert await journal.bury() == [7]
    assert (await reopened(redis, keys))[7] == Entry(calls=1, maybe_charged=1, alone_deaths=1, suspect=True)


async def test_a_suspect_that_comes_back_is_suspect_no_more(redis: Redis, keys: Keys) -> None:
    journal = await reopened(redis, keys)
    await journal.intent(7)
    journal = await reopened(redis, keys)
    await journal.bury()
    await journal.intent(7)
    await journal.retry(7, calls=1)
    journal = await reopened(redis, keys)
    assert await journal.bury() == []
    assert journal[7] == Entry(calls=2, maybe_charged=1, alone_deaths=1)


async def test_an_orderly_end_is_no_death(redis: Redis, keys: Keys) -> None:
    journal = await reopened(redis, keys)
    await journal.intent(7)
    await journal.abandon()
    journal = await reopened(redis, keys)
    assert await journal.bury() == []
    assert journal[7] == Entry(calls=1, maybe_charged=1)


async def test_the_first_undo_value_stays(redis: Redis, keys: Keys) -> None:
    journal = await reopened(redis, keys)
    await journal.keep_undo(7, "metadata", {"tagmill-tags": None})
    await journal.keep_undo(7, "metadata", {"tagmill-tags": "sky:97"})
    await asyncio.gather(journal.keep_undo(7, "tags", {}), journal.keep_undo(8, "tags", {"a": 1}))
    values = {7: {"metadata": {"tagmill-tags": None}, "tags": {}}, 8: {"tags": {"a": 1}}}
    assert (await reopened(redis, keys)).undo_values() == values


async def test_what_redis_lost_is_put_back(redis: Redis, keys: Keys) -> None:
    journal = await reopened(redis, keys)
    await journal.intent(6)
    await journal.settle(7, {}, calls=1, attempts=1)
    await journal.keep_undo(7, "metadata", {"values": {}})
    before = journal.undo_values()
    await redis.flushall()
    await journal.write_again()
    found = await reopened(redis, keys)
    assert {6: found[6], 7: found[7]} == {6: journal[6], 7: journal[7]}
    assert found.undo_values() == before


async def test_lanes_of_one_moment_share_a_round_trip(redis: Redis, keys: Keys) -> None:
    journal = await reopened(redis, keys)
    before = (await redis.info("commandstats")).get("cmdstat_hset", {"calls": 0})["calls"]
    await asyncio.gather(*(journal.intent(index) for index in range(64)))
    assert (await redis.info("commandstats"))["cmdstat_hset"]["calls"] == before + 1
    assert len(await a_journal(redis, keys).load()) == 64


async def test_a_forgotten_journal_ends_by_itself(redis: Redis, keys: Keys) -> None:
    journal = await reopened(redis, keys)
    await journal.intent(7)
    await journal.keep_undo(7, "tags", {})
    for key in (keys.journal(CHUNK), keys.undo(CHUNK)):
        assert 0 < await redis.ttl(key) <= KEPT_SECONDS


Histories = st.lists(
    st.tuples(st.sampled_from(["intent", "settle", "retry", "die"]), st.integers(0, 3)), max_size=30
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=Histories)
async def test_every_call_that_left_is_counted_whatever_dies(
    redis: Redis, keys: Keys, history: list[tuple[str, int]]
) -> None:
    await redis.flushall()
    journal, left = await reopened(redis, keys), 0
    for step, index in history:
        if step == "die":
            journal = await reopened(redis, keys)
            await journal.bury()
        elif step == "intent" and not journal[index].in_flight and journal[index].result is None:
            await journal.intent(index)
            left += 1
        elif step == "settle" and journal[index].in_flight:
            await journal.settle(index, {}, calls=1)
        elif step == "retry" and journal[index].in_flight:
            await journal.retry(index, calls=1)
    journal = await reopened(redis, keys)
    await journal.bury()
    assert sum(entry.calls for entry in (await journal.load()).values()) == left


# --- the copy in the run store ----------------------------------------------------------------------------

JOB = Job("handle", "handle", since=1000.0)


async def worked(redis: Redis, keys: Keys, files: MemoryFiles) -> Journal:
    """A worker that leaves one image of each kind, and has not given the chunk back."""
    journal = a_journal(redis, keys, files)
    await journal.load()
    await journal.intent(1)
    await journal.settle(1, {"tags": 1}, calls=1, attempts=1)
    await journal.intent(2, JOB)
    await journal.begun(2, "job-2", calls=1, poll_at=1003.0)
    await journal.note_upload(3, "upload")
    await journal.keep_undo(1, "metadata", {"tagmill-tags": "old:1"})
    return journal


async def test_what_was_kept_outlives_redis(redis: Redis, keys: Keys) -> None:
    files = MemoryFiles()
    before = await worked(redis, keys, files)
    await before.keep()
    await redis.flushall()
    journal = a_journal(redis, keys, files)
    entries = await journal.load()
    assert entries == {index: before[index].lasting for index in (1, 2, 3)}
    assert journal.jobs() == {2: Job("handle", "handle", 1000.0, id="job-2")}
    assert journal.undo_values() == before.undo_values()
    assert journal.calls() == (2, 0)


async def test_what_redis_had_forgotten_is_put_back_by_whoever_finds_out(redis: Redis, keys: Keys) -> None:
    files = MemoryFiles()
    before = await worked(redis, keys, files)
    await before.keep()
    await redis.flushall()
    journal = a_journal(redis, keys, files)
    await journal.load()
    await journal.settle(2, {"tags": 2})
    await journal.keep()
    last = a_journal(redis, keys, files)
    assert (await last.load()).keys() == {1, 2, 3}
    assert (last.recovered, last.undo_values()) == (False, before.undo_values())


async def test_a_dead_workers_entries_are_kept_by_the_next(redis: Redis, keys: Keys) -> None:
    files = MemoryFiles()
    await worked(redis, keys, files)
    survivor = a_journal(redis, keys, files)
    await survivor.load()
    await survivor.keep()
    await redis.flushall()
    assert (await a_journal(redis, keys, files).load()).keys() == {1, 2, 3}


async def test_the_run_store_is_read_only_where_redis_may_have_forgotten_something(
    redis: Redis, keys: Keys
) -> None:
    files = CountingFiles()
    await (await worked(redis, keys, files)).keep()
    files.requests = 0
    journal = a_journal(redis, keys, files)
    await journal.load()
    await journal.keep()
    assert files.requests == 0
    await a_journal(redis, keys, files).load()
    assert files.requests == 0
    await a_journal(redis, keys, files).load()  # whoever was here before did not give it back
    assert files.requests == 2


async def test_what_redis_forgot_between_reading_and_keeping_is_not_taken_for_known(
    redis: Redis, keys: Keys
) -> None:
    files = MemoryFiles()
    await (await worked(redis, keys, files)).keep()
    journal = a_journal(redis, keys, files)
    await journal.load()
    await redis.flushall()
    await journal.intent(4)
    await journal.settle(4, {}, calls=1)
    await journal.keep()
    assert (await a_journal(redis, keys, files).load()).keys() == {1, 2, 3, 4}


async def test_redis_knows_better_than_a_file_and_a_later_file_than_an_earlier(
    redis: Redis, keys: Keys
) -> None:
    files = MemoryFiles()
    journal = await worked(redis, keys, files)
    await journal.keep()
    await journal.settle(2, {"tags": 2})
    await journal.keep()
    await journal.settle(3, {"tags": 3})  # and died
    assert (await a_journal(redis, keys, files).load())[3].result == {"tags": 3}
    await redis.flushall()
    entries = await a_journal(redis, keys, files).load()
    assert (entries[2].result, entries[3].result) == ({"tags": 2}, None)


async def test_the_value_that_was_there_first_is_the_one_to_go_back_to(redis: Redis, keys: Keys) -> None:
    files = MemoryFiles()
    await (await worked(redis, keys, files)).keep()
    await redis.flushall()
    journal = a_journal(redis, keys, files)
    await journal.load()
    await journal.keep_undo(1, "metadata", {"tagmill-tags": "our own"})
    await journal.keep_undo(1, "tags", {})
    await journal.keep()
    await redis.flushall()
    last = a_journal(redis, keys, files)
    await last.load()
    assert last.undo_values() == {1: {"metadata": {"tagmill-tags": "old:1"}, "tags": {}}}


async def test_a_poll_is_not_worth_a_file(redis: Redis, keys: Keys) -> None:
    files = CountingFiles()
    journal = await worked(redis, keys, files)
    await journal.keep()
    files.requests = 0
    await journal.polled(2, replace(journal.jobs()[2], polls=1, poll_at=1010.0))
    await journal.keep()
    assert files.requests == 0
    assert (await a_journal(redis, keys, files).load())[2].job == journal.jobs()[2]


async def test_a_death_after_a_start_leaves_its_job_to_be_waited_for(redis: Redis, keys: Keys) -> None:
    for _ in range(3):
        journal = await reopened(redis, keys)
        await journal.intent(7, JOB)
        journal = await reopened(redis, keys)
        assert await journal.bury() == []
    assert journal.jobs() == {7: JOB}
    assert (journal[7].calls, journal[7].maybe_charged, journal[7].suspect) == (3, 3, False)


async def test_a_start_that_was_cut_short_leaves_its_job_to_be_waited_for(redis: Redis, keys: Keys) -> None:
    journal = await reopened(redis, keys)
    await journal.intent(7, JOB)
    await journal.abandon()
    assert (await reopened(redis, keys))[7] == Entry(calls=1, maybe_charged=1, job=JOB)


async def test_a_start_that_was_refused_leaves_none(redis: Redis, keys: Keys) -> None:
    journal = await reopened(redis, keys)
    await journal.intent(7, JOB)
    await journal.retry(7, calls=1)
    assert journal.jobs() == {}
