from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from fakes.files import MemoryFiles
from fakes.runs import RUN, SmallRun, planned
from hypothesis import given
from hypothesis import strategies as st

from tagmill.worker.models import BadLine, Chunk, Handle, ImageRef, LocalFile, S3Object
from tagmill.worker.store.plan import Plan, PlanSummary, ShardHeader

REFS = [
    ImageRef(S3Object("bucket", "a b/ü\u2028.jpg", "9b2cf5", 12, "2026-11-01T00:00:00Z", "v1"), fresh=True),
    ImageRef(S3Object("bucket", "key")),
    ImageRef(LocalFile.at("/photos", b"nature/\xff\n.jpg", 12, 1_700_000_000_000_000_000)),
    ImageRef(Handle("AbCdEfGhIjKlMnOpQr01", line=3)),
    ImageRef(BadLine("handles.csv", 7, "no such column")),
]
HEADER = ShardHeader(0, len(REFS), 0, 2, {"line": 7}, 9, {"empty": 4})


@pytest.fixture
def plan() -> Plan:
    return Plan(MemoryFiles(), RUN, 0)


def test_references_of_every_kind_come_back(plan: Plan) -> None:
    assert plan.write(HEADER, planned(REFS))
    assert plan.header(0) == HEADER
    assert plan.images(Chunk(RUN, 0, 0, 0, 5)) == planned(REFS)
    assert plan.images(Chunk(RUN, 0, 0, 2, 2)) == planned(REFS[2:4])


def test_the_same_shard_is_the_same_bytes() -> None:
    first, second = MemoryFiles(), MemoryFiles()
    for files in (first, second):
        Plan(files, RUN, 0).write(HEADER, planned(REFS))
    assert first.contents == second.contents
    assert list(first.contents) == [f"runs/{RUN}/passes/0000/plan/00000000.jsonl.gz"]


def test_the_first_of_two_producers_counts(plan: Plan) -> None:
    assert plan.write(HEADER, planned(REFS))
    other = ShardHeader(0, 1, 0, 2, {"line": 1}, 1)
    assert not plan.write(other, planned(REFS[:1]))
    assert plan.header(0) == HEADER


@given(count=st.integers(1, 400), chunk_size=st.integers(1, 120))
def test_chunks_cover_a_shard_once_in_order(count: int, chunk_size: int) -> None:
    chunks = list(ShardHeader(3, count, 0, chunk_size, {}, 0).chunks(RUN, 0))
    assert [index for chunk in chunks for index in range(chunk.offset, chunk.offset + chunk.count)] == [
        *range(count)
    ]
    assert {chunk.count for chunk in chunks[:-1]} <= {chunk_size}
    assert [chunk.id for chunk in chunks] == sorted(chunk.id for chunk in chunks)


def test_shards_are_listed_from_anywhere() -> None:
    run = SmallRun(MemoryFiles())
    for _ in range(12):
        run.shard(1, 1)
    assert run.plan.shards() == list(range(12))
    assert run.plan.shards(after=9) == [10, 11]
    assert run.plan.shards(after=11) == []


def test_what_is_planned_grows_until_planning_is_finished() -> None:
    run = SmallRun(MemoryFiles())
    assert run.plan.planned() == 0
    assert run.plan.newest() is None
    run.shard(7, 3)
    assert run.plan.planned() == 7
    run.shard(5, 3)
    assert run.plan.planned() == 12
    assert run.plan.newest() == run.headers[1]
    assert run.plan.summary() is None
    run.finish_plan()
    assert run.plan.summary() == PlanSummary(2, 12, 12, {})
    assert run.plan.planned() == 12


def test_the_first_summary_counts(plan: Plan) -> None:
    plan.finish(PlanSummary(1, 5, 5, {}))
    plan.finish(PlanSummary(2, 6, 6, {}))
    assert plan.summary() == PlanSummary(1, 5, 5, {})


def test_a_plan_is_closed_where_it_stands() -> None:
    run = SmallRun(MemoryFiles())
    run.shard(7, 3)
    other = Plan(run.files, RUN, 0)
    assert other.planned() == 7
    run.plan.close()
    assert other.summary() == PlanSummary(1, 7, 7, {}, closed=True)
    assert not other.write(ShardHeader(1, 1, 7, 1, {}, 8), planned(REFS[:1]))
    assert (other.planned(), other.newest()) == (7, run.headers[0])


def test_an_empty_plan_can_be_closed() -> None:
    run = SmallRun(MemoryFiles())
    run.plan.close()
    assert run.plan.summary() == PlanSummary(0, 0, 0, {}, closed=True)
    assert (run.plan.planned(), run.plan.newest()) == (0, None)


def test_a_plan_that_is_whole_is_not_closed() -> None:
    run = SmallRun(MemoryFiles())
    run.shard(7, 3)
    run.finish_plan()
    run.plan.close()
    assert run.plan.summary() == PlanSummary(1, 7, 7, {})


def test_a_shard_written_while_the_plan_was_closed_does_not_count() -> None:
    run = SmallRun(MemoryFiles())
    run.shard(7, 3)
    late = Plan(run.files, RUN, 0)
    late.write(ShardHeader(1, 1, 7, 1, {}, 8), planned(REFS[:1]))
    seen = Plan(run.files, RUN, 0)
    assert seen.planned() == 8
    late.finish(PlanSummary(1, 7, 7, {}, closed=True))
    assert (seen.shards(), seen.planned(), seen.newest()) == ([0], 7, run.headers[0])


def test_threads_may_share_a_plan() -> None:
    run = SmallRun(MemoryFiles())
    for _ in range(6):
        run.shard(50, 10)
    with ThreadPoolExecutor(8) as pool:
        for chunk, images in zip(run.chunks * 5, pool.map(run.plan.images, run.chunks * 5), strict=True):
            assert [image.ref.id for image in images] == [
                f"filestack:h{50 * chunk.shard + chunk.offset + index}" for index in range(10)
            ]


def test_a_listing_with_a_hole_is_believed_up_to_it() -> None:
    files = MemoryFiles()
    run = SmallRun(files)
    for _ in range(3):
        run.shard(1, 1)
    del files.contents[f"runs/{RUN}/passes/0000/plan/00000001.jsonl.gz"]
    assert run.plan.shards() == [0]
