"""The view of the queue, the leases and the live counts, on a real Redis."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator

import orjson
import pytest
import redis
from fakes.files import MemoryFiles
from fakes.runs import RUN, SmallRun
from hypothesis import given, settings
from hypothesis import strategies as st
from servers.redis import RedisUnderTest, running_redis

from tagmill.config.celery import LANES, QUEUE
from tagmill.producer.live import LiveRun
from tagmill.worker.counts import Counts
from tagmill.worker.errors import RedisUnavailableError
from tagmill.worker.models import Chunk
from tagmill.worker.publisher import Publisher
from tagmill.worker.state.board import Board
from tagmill.worker.state.keys import Keys
from tagmill.worker.state.liveness import Liveness
from tagmill.worker.state.pulse import Waits
from tagmill.worker.store.runs import Control, Verb

LONG = 60.0
CHUNKS = [Chunk(RUN, 0, number // 10, number % 10 * 10, 10) for number in range(30)]
_prefixes = itertools.count()


@pytest.fixture
def keys() -> Keys:
    return Keys(f"board-{next(_prefixes)}")


@pytest.fixture
def client(redis_server: RedisUnderTest) -> Iterator[redis.Redis]:
    with redis_server.sync_client() as client:
        yield client


@pytest.fixture
def board(client: redis.Redis, keys: Keys) -> Board:
    return Board(client, keys, QUEUE)


class Queue:
    """Celery's list, first in, first out."""

    def __init__(self, client: redis.Redis, keys: Keys, board: Board) -> None:
        self._client, self._name, self._board = client, keys.queue(QUEUE), board

    def publish(self, *chunks: Chunk) -> None:
        for chunk in chunks:
            self._board.note_published(chunk)
            self._client.lpush(self._name, chunk.id)

    def take(self, count: int = 1) -> None:
        for _ in range(count):
            assert self._client.rpop(self._name) is not None


@pytest.fixture
def queue(client: redis.Redis, keys: Keys, board: Board) -> Queue:
    return Queue(client, keys, board)


def ids(*chunks: Chunk) -> set[str]:
    return {chunk.id for chunk in chunks}


# --- one leader -------------------------------------------------------------------------------------------


def test_one_process_leads_until_it_resigns(board: Board) -> None:
    assert board.lead("a", LONG)
    assert not board.lead("b", LONG)
    assert board.lead("a", LONG)
    board.resign("b")
    assert not board.lead("b", LONG)
    board.resign("a")
    assert board.lead("b", LONG)


def test_a_silent_leader_is_replaced(board: Board, client: redis.Redis, keys: Keys) -> None:
    assert board.lead("a", LONG)
    assert 0 < client.pttl(keys.refill_leader()) <= LONG * 1000
    client.delete(keys.refill_leader())
    assert board.lead("b", LONG)
    assert not board.lead("a", LONG)


def test_a_worker_is_not_blamed_for_what_one_of_its_name_did(
    board: Board, client: redis.Redis, keys: Keys
) -> None:
    """In a container each has the pid of the one that was killed before."""
    liveness = Liveness(client, keys)
    board.note_worker("pod-1", 1)
    client.lpush(keys.queue(QUEUE), "waits")
    assert liveness.examine("pod-1", LONG) is None
    long_ago = orjson.loads(client.get(keys.look("pod-1")) or b"") | {"owing_since": 0.0}
    client.set(keys.look("pod-1"), orjson.dumps(long_ago))
    assert "has finished nothing" in (liveness.examine("pod-1", LONG) or "")
    board.forget_worker("pod-1")
    board.note_worker("pod-1", 1)
    assert liveness.examine("pod-1", LONG) is None


# --- the queue --------------------------------------------------------------------------------------------


def test_what_waits_in_the_queue_is_queued(board: Board, queue: Queue) -> None:
    assert board.queued(LONG) == set()
    queue.publish(*CHUNKS[:3])
    assert board.queued(LONG) == ids(*CHUNKS[:3])


def test_what_was_taken_counts_as_queued_within_the_grace_only(board: Board, queue: Queue) -> None:
    queue.publish(*CHUNKS[:3])
    queue.take()
    assert board.queued(LONG) == ids(*CHUNKS[:3])
    assert board.queued(0.0) == ids(*CHUNKS[1:3])
    assert board.queued(LONG) == ids(*CHUNKS[1:3])


def test_the_grace_begins_when_a_message_is_found_missing(board: Board, queue: Queue) -> None:
    queue.publish(CHUNKS[0])
    queue.take()
    assert board.queued(0.0) == ids(CHUNKS[0])
    assert board.queued(0.0) == set()


def test_a_chunk_published_again_waits_like_any_other(board: Board, queue: Queue) -> None:
    queue.publish(CHUNKS[0])
    queue.take()
    board.queued(0.0)
    board.queued(0.0)
    queue.publish(CHUNKS[0])
    assert board.queued(0.0) == board.queued(0.0) == ids(CHUNKS[0])


def test_an_emptied_queue_is_noticed(board: Board, queue: Queue, client: redis.Redis, keys: Keys) -> None:
    queue.publish(*CHUNKS[:5])
    client.delete(keys.queue(QUEUE))
    board.queued(0.0)
    assert board.queued(0.0) == set()


def test_a_flushed_redis_has_nothing_queued(
    board: Board, queue: Queue, client: redis.Redis, keys: Keys
) -> None:
    queue.publish(*CHUNKS[:5])
    client.delete(keys.queue(QUEUE), keys.published(), keys.missing())
    assert board.queued(LONG) == set()


def test_each_lane_has_a_queue_of_its_own(client: redis.Redis, keys: Keys) -> None:
    board, backfill = Board(client, keys, *LANES), Queue(client, keys, Board(client, keys, *LANES))
    backfill.publish(*CHUNKS[:2])
    board.note_published(CHUNKS[2], "events")
    client.lpush(keys.queue("events"), CHUNKS[2].id)
    assert board.queued(0.0) == ids(*CHUNKS[:3])
    assert client.rpop(keys.queue("events")) is not None
    assert board.queued(LONG) == ids(*CHUNKS[:3])
    board.queued(0.0)
    assert board.queued(0.0) == ids(*CHUNKS[:2])
    assert client.zcard(keys.published("events")) == 0


def test_a_nudge_is_heard_once_and_names_its_run(board: Board) -> None:
    board.nudge("a-run")
    board.nudge("b-run")
    board.await_nudge(LONG)
    assert board.take_reopened() == {"a-run", "b-run"}
    board.await_nudge(0.01)


def test_parked_chunks_come_back_when_their_time_has_come(
    board: Board, client: redis.Redis, keys: Keys
) -> None:
    now = time.time()
    client.zadd(keys.parked(), {CHUNKS[0].id: now + LONG, CHUNKS[1].id: now - 1})
    assert board.parked() == ids(CHUNKS[0])
    assert client.zcard(keys.parked()) == 1


def test_leased_chunks_are_those_that_a_worker_holds(board: Board, client: redis.Redis, keys: Keys) -> None:
    client.set(keys.lease(CHUNKS[1]), "token")
    assert board.leased(CHUNKS[:3]) == ids(CHUNKS[1])
    assert board.leased([]) == set()


def test_a_dead_fleet_s_messages_and_leases_are_forgotten(
    board: Board, queue: Queue, client: redis.Redis, keys: Keys
) -> None:
    queue.publish(*CHUNKS[:3])
    board.lead("dead", LONG)
    board.note_worker("dead", 4)
    client.set(keys.lease(CHUNKS[1]), "token")
    client.zadd(keys.parked(), {CHUNKS[2].id: time.time() + LONG})
    client.hset(keys.journal(CHUNKS[0]), "0", "paid")
    client.hset(keys.unacked(), "tag", "message")  # kombu puts it back half an hour after its worker died
    client.zadd(keys.unacked_index(), {"tag": time.time()})
    board.drop_queue()
    assert not client.exists(keys.unacked(), keys.unacked_index())
    assert board.queued(LONG) == board.parked() == board.leased(CHUNKS) == set()
    assert board.workers() == {}
    assert board.lead("alive", LONG)
    assert client.hgetall(keys.journal(CHUNKS[0])) == {b"0": b"paid"}


# --- live counts ------------------------------------------------------------------------------------------


def counts(number: int) -> Counts:
    found = Counts(tagged=number, failed=1, calls=number + 1, throttled=2)
    found.writes["written"] = number
    return found


def test_counts_are_unknown_until_somebody_counted(board: Board) -> None:
    assert board.counts(RUN, 0) is None
    board.note_counted(RUN, 0, whole=True)
    assert board.counts(RUN, 0) == Counts()
    board.note_counted(RUN, 0, whole=False)
    assert board.counts(RUN, 0) is None


def test_counts_are_those_of_shards_chunks_and_work_under_way(
    board: Board, client: redis.Redis, keys: Keys
) -> None:
    board.note_counted(RUN, 0, whole=True)
    board.close_shard(RUN, 0, 0, counts(100))
    board.close_shard(RUN, 0, 7, counts(200))
    board.note_done(CHUNKS[10], counts(10))
    client.hset(keys.progress(RUN, 0), CHUNKS[11].name, json.dumps(counts(1).to_json()))
    assert board.counts(RUN, 0) == Counts.total([counts(100), counts(200), counts(10), counts(1)])


def test_closing_a_shard_swaps_its_chunks_for_it(board: Board) -> None:
    board.note_counted(RUN, 0, whole=True)
    for chunk in CHUNKS[:11]:
        board.note_done(chunk, counts(10))
    board.close_shard(RUN, 0, 0, counts(100), CHUNKS[:10])
    assert board.done(RUN, 0) == {(1, 0): counts(10)}
    assert board.counts(RUN, 0) == Counts.total([counts(100), counts(10)])


def test_a_shard_is_closed_once(board: Board) -> None:
    board.note_counted(RUN, 0, whole=True)
    for _ in range(3):
        board.close_shard(RUN, 0, 3, counts(100))
    assert board.counts(RUN, 0) == counts(100)


@given(shards=st.sets(st.integers(0, 2_000), max_size=30))
@settings(deadline=None, max_examples=20)
def test_closed_shards_are_known_by_number(redis_server: RedisUnderTest, shards: set[int]) -> None:
    with redis_server.sync_client() as client:
        board = Board(client, Keys(f"board-{next(_prefixes)}"), QUEUE)
        for shard in shards:
            board.close_shard(RUN, 0, shard, Counts())
        assert board.closed_shards(RUN, 0) == shards
        assert board.closed(RUN, 0) == len(shards)


def test_a_shard_of_ten_thousand_chunks_can_be_closed(board: Board) -> None:
    chunks = [Chunk(RUN, 0, 0, offset, 1) for offset in range(10_000)]
    board.note_done(chunks[-1], counts(1))
    board.close_shard(RUN, 0, 0, counts(10_000), chunks)
    assert board.done(RUN, 0) == {}


def test_done_chunks_are_forgotten_by_place(board: Board) -> None:
    for chunk in CHUNKS[:3]:
        board.note_done(chunk, counts(1))
    board.forget_done(RUN, 0, [(0, 0), (0, 20), (9, 9)])
    board.forget_done(RUN, 0, [])
    assert list(board.done(RUN, 0)) == [(0, 10)]


def test_a_finished_pass_leaves_nothing(board: Board, client: redis.Redis, keys: Keys) -> None:
    board.note_counted(RUN, 0, whole=True)
    board.close_shard(RUN, 0, 0, counts(1))
    board.note_done(CHUNKS[10], counts(1))
    board.note_control(RUN, Control())
    board.forget(RUN, 0)
    assert client.keys(keys.queue("*")) == []


def test_waits_are_sums_since_the_beginning(board: Board, client: redis.Redis, keys: Keys) -> None:
    assert board.waits(RUN) == Waits()
    client.hset(keys.waits(RUN), mapping={"held": "1.5", "lanes": "4", "limit": "20", "account": "abc"})
    assert board.waits(RUN) == Waits(1.5, 4.0, 20.0, "abc")


# --- workers, control -------------------------------------------------------------------------------------


def test_live_workers_are_those_that_spoke_lately(board: Board, client: redis.Redis, keys: Keys) -> None:
    board.note_worker("one", 4)
    board.note_worker("two", 2, ["events"])
    client.hset(keys.workers(), "silent", json.dumps({"at": time.time() - LONG, "processes": 8}))
    assert board.workers() == {"one": 4, "two": 2}
    assert board.workers("events") == {"one": 4, "two": 2}
    assert board.workers("backfill") == {"one": 4}
    assert board.processes() == 6
    board.forget_worker("one")
    assert board.processes() == 2


def test_a_control_is_cached_for_some_seconds(board: Board, client: redis.Redis, keys: Keys) -> None:
    assert board.control(RUN) is None
    control = Control(3, Verb.PAUSE, "credentials", "no key", "worker", "now")
    board.note_control(RUN, control)
    assert board.control(RUN) == control
    assert 0 < client.ttl(keys.control(RUN)) <= 10


def test_denials_are_counted_anew(board: Board, client: redis.Redis, keys: Keys) -> None:
    client.sadd(keys.denied(RUN), "image")
    board.forget_failures(RUN)
    assert not client.exists(keys.denied(RUN))


# --- what a follower sees of it ---------------------------------------------------------------------------


@pytest.fixture
def run() -> SmallRun:
    run = SmallRun(MemoryFiles())
    run.shard(30, 10)
    return run


def test_a_run_is_told_from_redis_when_redis_knows_all(board: Board, run: SmallRun) -> None:
    live = LiveRun(run.files, RUN, board)
    run.commit(run.chunks[0])
    assert live.summary()["tagged"] == 10
    board.note_done(run.chunks[1], Counts(tagged=7))
    board.note_counted(RUN, 0, whole=True)
    assert live.summary()["tagged"] == 7


def test_a_run_is_told_from_the_files_while_redis_is_away(run: SmallRun) -> None:
    run.commit(run.chunks[0])
    with running_redis() as server, server.sync_client() as client:
        live = LiveRun(run.files, RUN, Board(client, Keys("t"), QUEUE))
        server.kill()
        assert (live.summary()["state"], live.summary()["tagged"]) == ("running", 10)


def test_what_redis_caches_of_control_is_believed(board: Board, run: SmallRun) -> None:
    live = LiveRun(run.files, RUN, board)
    board.note_control(RUN, Control(1, Verb.PAUSE, "credentials"))
    assert (live.summary()["state"], live.summary()["reason"]) == ("paused", "credentials")


# --- publishing -------------------------------------------------------------------------------------------


def test_a_message_is_numbers_and_nothing_else(redis_server: RedisUnderTest, client: redis.Redis) -> None:
    publisher = Publisher(redis_server.url, prefix := f"board-{next(_prefixes)}")
    chunk = Chunk("x" * 64, 9999, 99_999_999, 99_999, 10_000)
    publisher(chunk)
    publisher.close()
    (message,) = client.lrange(Keys(prefix).queue(QUEUE), 0, -1)
    assert len(message) <= 1_200
    body = json.loads(message)
    assert body["headers"]["argsrepr"] == "-"
    assert body["headers"]["kwargsrepr"] == "-"
    assert body["headers"]["task"] == "tagmill.tag_chunk"
    assert (body["content-type"], body["properties"]["body_encoding"]) == ("application/json", "base64")


def test_a_redis_that_takes_no_message_is_one_line() -> None:
    with running_redis() as server:
        publisher = Publisher(server.url, "t")
        publisher(CHUNKS[0])
        server.kill()
        with pytest.raises(RedisUnavailableError, match=r"^Redis takes no message \(\w+\)$"):
            publisher(CHUNKS[1])
        publisher.close()


def test_every_method_says_when_redis_is_away() -> None:
    with running_redis() as server, server.sync_client() as client:
        board = Board(client, Keys("t"), QUEUE)
        server.kill()
        for use in (
            lambda: board.lead("a", LONG),
            lambda: board.resign("a"),
            lambda: board.note_published(CHUNKS[0]),
            lambda: board.queued(LONG),
            board.parked,
            lambda: board.leased(CHUNKS[:1]),
            lambda: board.done(RUN, 0),
            lambda: board.note_done(CHUNKS[0], Counts()),
            lambda: board.forget_done(RUN, 0, [(0, 0)]),
            lambda: board.close_shard(RUN, 0, 0, Counts()),
            lambda: board.closed(RUN, 0),
            lambda: board.closed_shards(RUN, 0),
            lambda: board.counts(RUN, 0),
            lambda: board.note_counted(RUN, 0, whole=True),
            lambda: board.forget(RUN, 0),
            lambda: board.waits(RUN),
            lambda: board.note_worker("a", 1),
            lambda: board.forget_worker("a"),
            board.workers,
            lambda: board.note_control(RUN, Control()),
            lambda: board.control(RUN),
            lambda: board.forget_failures(RUN),
            board.drop_queue,
        ):
            with pytest.raises(RedisUnavailableError):
                use()


def test_a_new_run_finds_nothing_of_an_earlier_one_of_its_name(
    board: Board, client: redis.Redis, keys: Keys
) -> None:
    other = Chunk("another-run", 0, 0, 0, 10)
    for chunk in (CHUNKS[0], CHUNKS[11], other):
        client.hset(keys.journal(chunk), "0", "{}")
        client.hset(keys.undo(chunk), "0:metadata", "{}")
    board.note_done(CHUNKS[0], Counts(tagged=10))
    board.forget_run(RUN)
    assert board.done(RUN, 0) == {}
    assert not client.exists(*(key(chunk) for key in (keys.journal, keys.undo) for chunk in CHUNKS))
    assert client.exists(keys.journal(other), keys.undo(other)) == 2
