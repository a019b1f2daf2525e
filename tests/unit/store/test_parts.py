from __future__ import annotations

from fakes.files import MemoryFiles
from fakes.runs import RUN

from tagmill.worker.models import Chunk
from tagmill.worker.store import jsonl
from tagmill.worker.store.parts import Parts


def test_a_part_is_there_once_it_is_committed() -> None:
    parts, chunk = Parts(MemoryFiles(), RUN, 0), Chunk(RUN, 0, 1, 20, 10)
    assert not parts.committed(chunk)
    parts.commit(chunk, [{"index": 20}])
    assert parts.committed(chunk)
    assert list(parts.rows_at(1, 20)) == list(parts.rows(chunk)) == [{"index": 20}]
    assert parts.lines(chunk) == [b'{"index":20}']


def test_committed_chunks_are_listed_from_a_shard_on() -> None:
    parts = Parts(MemoryFiles(), RUN, 0)
    for shard, offset in [(0, 0), (1, 0), (1, 10), (2, 99_990), (12, 0)]:
        parts.commit(Chunk(RUN, 0, shard, offset, 10), [])
    assert parts.committed_from(0) == {(0, 0), (1, 0), (1, 10), (2, 99_990), (12, 0)}
    assert parts.committed_from(1) == {(1, 0), (1, 10), (2, 99_990), (12, 0)}
    assert parts.committed_from(3) == {(12, 0)}
    assert parts.committed_from(13) == set()


def test_previous_values_are_kept_beside_the_part_and_the_first_count() -> None:
    files, chunk = MemoryFiles(), Chunk(RUN, 0, 1, 20, 10)
    parts = Parts(files, RUN, 0)
    parts.keep_undo(chunk, [{"id": "a", "previous": {}}])
    parts.keep_undo(chunk, [{"id": "a", "previous": {"our": "own"}}])
    name = f"runs/{RUN}/passes/0000/undo/00000001-00020.jsonl.gz"
    assert list(jsonl.unpack(files.read(name))) == [{"id": "a", "previous": {}}]


def test_calls_that_no_row_tells_of_add_up() -> None:
    parts, chunk = Parts(MemoryFiles(), RUN, 0), Chunk(RUN, 0, 1, 20, 10)
    assert parts.extra() == (0, 0)
    parts.count_extra(chunk, calls=3, maybe_charged=1)
    parts.count_extra(chunk, calls=2, maybe_charged=0)
    assert parts.extra() == (5, 1)
