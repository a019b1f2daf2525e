"""What can be read of a run before, during and after its passes."""

from __future__ import annotations

import orjson
import pytest
from fakes.files import MemoryFiles
from fakes.runs import RUN, SmallRun, a_spec

from tagmill.producer.settled import Settled
from tagmill.worker.compaction import Compaction
from tagmill.worker.errors import NotFoundError
from tagmill.worker.models import Json
from tagmill.worker.policy import TagPolicy
from tagmill.worker.store.manifest import Manifest
from tagmill.worker.store.passes import Passes, PassKind, PassSpec

POLICY = TagPolicy(min_confidence=50)


@pytest.fixture
def small() -> SmallRun:
    """Three shards of four images, in chunks of two."""
    small = SmallRun(MemoryFiles(), a_spec(policy=POLICY.to_json()))
    for _ in range(3):
        small.shard(4, 2)
    small.finish_plan()
    return small


def compaction(small: SmallRun) -> Compaction:
    return Compaction(small.files, small.spec, Passes(small.files, RUN).read(0))


def read(small: SmallRun) -> list[Json]:
    return [orjson.loads(line) for line in Settled(small.files, RUN).lines()]


def places(rows: list[Json]) -> list[tuple[int, int]]:
    return [(row["shard"], row["index"]) for row in rows]


def test_while_the_first_pass_goes_on_the_committed_chunks_are_read_in_plan_order(small: SmallRun) -> None:
    assert read(small) == []
    for number in (5, 0, 1, 3):
        small.commit(small.chunks[number])
    compaction(small).compact(small.headers[0], 0)
    small.files.contents.pop(f"runs/{RUN}/passes/0000/parts/00000000-00000.jsonl.gz")  # type: ignore[attr-defined]  # in memory
    assert places(read(small)) == [(0, 0), (0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 2), (2, 3)]
    settled = Settled(small.files, RUN)
    assert not settled.complete
    assert settled.caveat == f"run {RUN} is not finished: this is about the images that are settled so far"
    assert settled.policies() == {POLICY.hash: POLICY}


@pytest.fixture
def finished(small: SmallRun) -> SmallRun:
    for chunk in small.chunks:
        small.commit(chunk)
    made = compaction(small)
    made.finish([made.compact(header, 0) for header in small.headers])
    return small


def test_a_finished_pass_is_read_whole(finished: SmallRun) -> None:
    settled = Settled(finished.files, RUN)
    assert (len(read(finished)), settled.complete, settled.caveat) == (12, True, None)


def test_a_later_pass_is_read_once_it_is_finished(finished: SmallRun) -> None:
    other = TagPolicy(max_tags=1)
    Passes(finished.files, RUN).create(PassSpec(1, PassKind.RETAG, other.to_json()))
    before = read(finished)
    settled = Settled(finished.files, RUN)
    assert settled.caveat == f"pass 1 of run {RUN} is not finished: this is how it stood before"
    manifest = Manifest(finished.files, RUN, 1)
    revised = {**before[5], "pass": 1, "policy": other.hash}
    manifest.add_shard(0, [orjson.dumps(revised)], 0)
    assert read(finished) == before

    manifest.finish([manifest.entry(0)], manifest.entry(0).counts, finished_at="2026-11-22T00:00:00Z")

    assert read(finished) == [*before[:5], revised, *before[6:]]
    assert Settled(finished.files, RUN).policies() == {POLICY.hash: POLICY, other.hash: other}


def test_an_unknown_run_is_not_found() -> None:
    with pytest.raises(NotFoundError, match="no run nobody"):
        Settled(MemoryFiles(), "nobody")
