from __future__ import annotations

from fakes.files import MemoryFiles

from tagmill.worker.models import Chunk
from tagmill.worker.store.started import Kept, Started

CHUNK = Chunk("run-1", 2, 3, 200, 100)
NAME = "runs/run-1/passes/0002/started/00000003-00200.{:04d}.jsonl.gz"


def test_nothing_was_begun() -> None:
    assert Started(MemoryFiles(), CHUNK).load() == Kept()


def test_files_are_numbered_and_the_newest_entry_and_the_oldest_value_count() -> None:
    files = MemoryFiles()
    started = Started(files, CHUNK)
    assert started.keep(0, {7: {"calls": 1}, 8: {"calls": 1}}, {7: {"metadata": {"a": 1}}}) == 1
    assert started.keep(1, {7: {"calls": 2}}, {7: {"metadata": {"a": 2}, "tags": {}}}) == 2
    assert sorted(files.contents) == [NAME.format(0), NAME.format(1)]
    undo = {7: {"metadata": {"a": 1}, "tags": {}}}
    assert started.load() == Kept({7: {"calls": 2}, 8: {"calls": 1}}, undo, 2)


def test_two_workers_that_had_the_chunk_overwrite_nothing() -> None:
    files = MemoryFiles()
    started = Started(files, CHUNK)
    started.keep(0, {7: {"calls": 1}}, {})
    assert started.keep(0, {8: {"calls": 1}}, {}) == 2
    assert started.load().entries == {7: {"calls": 1}, 8: {"calls": 1}}


def test_chunks_and_passes_are_apart() -> None:
    files = MemoryFiles()
    Started(files, CHUNK).keep(0, {7: {}}, {})
    for other in (Chunk("run-1", 2, 3, 300, 100), Chunk("run-1", 1, 3, 200, 100)):
        assert Started(files, other).load() == Kept()
