from __future__ import annotations

import pytest
from fakes.files import CountingFiles
from fakes.runs import FIRST_PASS, RUN, SmallRun

from tagmill.worker.compaction import Compaction
from tagmill.worker.frontier import Frontier
from tagmill.worker.models import Chunk
from tagmill.worker.store.plan import ShardHeader


@pytest.fixture
def files() -> CountingFiles:
    return CountingFiles()


@pytest.fixture
def run(files: CountingFiles) -> SmallRun:
    return SmallRun(files)


def places(chunks: list[Chunk]) -> list[tuple[int, int]]:
    return [(chunk.shard, chunk.offset) for chunk in chunks]


def frontier_of(run: SmallRun) -> Frontier:
    return Frontier(run.files, RUN, 0)


def compact(run: SmallRun, frontier: Frontier, header: ShardHeader) -> None:
    Compaction(run.files, run.spec, FIRST_PASS).compact(header, throttled=0)
    frontier.close(header.shard)


def test_the_window_is_the_first_chunks_in_plan_order_that_are_not_committed(run: SmallRun) -> None:
    run.shard(25, 10)
    run.shard(20, 10)
    frontier = frontier_of(run)
    assert places(frontier.window(4)) == [(0, 0), (0, 10), (0, 20), (1, 0)]
    frontier.commit([(0, 10), (1, 0)])
    assert frontier.window(10) == [run.chunks[0], run.chunks[2], run.chunks[4]]
    assert frontier.committed() == [(0, 10), (1, 0)]


def test_where_the_whole_plan_is_needed_nothing_is_handed_out_before(run: SmallRun) -> None:
    run.shard(25, 10)
    frontier = Frontier(run.files, RUN, 0, whole_plan=True)
    assert frontier.window(4) == []
    assert not frontier.complete()
    run.finish_plan()
    assert places(frontier.window(4)) == [(0, 0), (0, 10), (0, 20)]


def test_only_shards_that_the_window_needs_are_opened(files: CountingFiles, run: SmallRun) -> None:
    for _ in range(50):
        run.shard(20, 10)
    frontier = frontier_of(run)
    files.requests = 0
    frontier.window(4)
    assert files.requests == 2
    frontier.window(4)
    assert files.requests == 2


def test_it_begins_with_what_is_committed_and_compacted_already(run: SmallRun) -> None:
    for _ in range(3):
        run.shard(20, 10)
    for chunk in run.chunks[:3]:
        run.commit(chunk)
    compact(run, frontier_with_all_open(run), run.headers[0])
    frontier = frontier_of(run)
    assert frontier.compacted == {0}
    assert places(frontier.window(10)) == [(1, 10), (2, 0), (2, 10)]


def frontier_with_all_open(run: SmallRun) -> Frontier:
    frontier = frontier_of(run)
    frontier.window(1_000)
    return frontier


def test_shards_planned_later_are_found_when_the_window_is_not_full(run: SmallRun) -> None:
    run.shard(10, 10)
    frontier = frontier_of(run)
    run.shard(10, 10)
    assert places(frontier.window(1)) == [(0, 0)]
    assert places(frontier.window(2)) == [(0, 0), (1, 0)]
    run.finish_plan()
    assert places(frontier.window(3)) == [(0, 0), (1, 0)]


def test_once_all_is_planned_and_open_nothing_is_asked(files: CountingFiles, run: SmallRun) -> None:
    run.shard(10, 10)
    run.finish_plan()
    frontier = frontier_with_all_open(run)
    files.requests = 0
    for _ in range(10):
        frontier.window(100)
        assert not frontier.complete()
    assert files.requests == 0


def test_a_shard_whose_every_chunk_is_committed_is_whole(run: SmallRun) -> None:
    first, second = run.shard(20, 10), run.shard(5, 10)
    frontier = frontier_with_all_open(run)
    assert frontier.whole_shards() == []
    frontier.commit([(0, 0), (1, 0)])
    assert frontier.whole_shards() == [second]
    frontier.commit([(0, 10)])
    assert frontier.whole_shards() == [first, second]
    frontier.close(0)
    assert frontier.whole_shards() == [second]
    assert frontier.committed() == [(1, 0)]


def test_chunks_of_a_closed_shard_are_not_committed_once_more(run: SmallRun) -> None:
    run.shard(10, 10)
    frontier = frontier_with_all_open(run)
    frontier.commit([(0, 0)])
    frontier.close(0)
    frontier.commit([(0, 0)])
    assert frontier._committed == set()


def test_it_is_complete_when_all_is_planned_and_compacted(run: SmallRun) -> None:
    run.shard(10, 10)
    frontier = frontier_with_all_open(run)
    run.commit(run.chunks[0])
    frontier.commit([(0, 0)])
    assert not frontier.complete()
    compact(run, frontier, run.headers[0])
    assert not frontier.complete()
    run.finish_plan()
    assert frontier.complete()
    assert [entry.rows for entry in frontier.entries()] == [10]
    assert frontier_of(run).complete()


def test_a_shard_planned_at_the_last_moment_is_not_forgotten(run: SmallRun) -> None:
    frontier = frontier_of(run)
    run.shard(10, 10)
    run.finish_plan()
    assert not frontier.complete()
    assert places(frontier.window(1)) == [(0, 0)]


def test_an_empty_plan_is_complete(run: SmallRun) -> None:
    frontier = frontier_of(run)
    assert not frontier.complete()
    run.finish_plan()
    assert frontier.complete()
    assert frontier.entries() == []


def test_a_shard_beyond_the_mark_is_worked_on_and_does_not_hold_up_the_end(run: SmallRun) -> None:
    """Two producers of which one saw more: its shard was written just before the other one's mark."""
    run.shard(10, 10)
    run.finish_plan()
    run.shard(10, 10)
    frontier = frontier_with_all_open(run)
    for chunk, header in zip(run.chunks, run.headers, strict=True):
        run.commit(chunk)
        compact(run, frontier, header)
    assert frontier.complete()


def test_it_believes_files_more_than_what_it_was_told(run: SmallRun) -> None:
    run.shard(30, 10)
    frontier = frontier_with_all_open(run)
    run.commit(run.chunks[1])
    frontier.commit([(0, 0), (0, 10), (0, 20)])
    frontier.look_again(0)
    assert places(frontier.window(10)) == [(0, 0), (0, 20)]
