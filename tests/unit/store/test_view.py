from __future__ import annotations

from collections.abc import Iterable

import orjson
import pytest
from fakes.files import MemoryFiles
from fakes.runs import RUN
from hypothesis import given
from hypothesis import strategies as st

from tagmill.worker.models import Json
from tagmill.worker.store import view as module
from tagmill.worker.store.manifest import Manifest
from tagmill.worker.store.view import View

SHARDS, IMAGES = 3, 4
PLACES = [(shard, index) for shard in range(SHARDS) for index in range(IMAGES)]
FAILED = {(0, 1): "failed", (1, 0): "quarantined", (2, 3): "failed"}


def a_row(pass_no: int, place: tuple[int, int], status: str) -> bytes:
    return orjson.dumps(
        {
            "pass": pass_no,
            "shard": place[0],
            "index": place[1],
            "status": status,
            "calls": 1,
            "maybe_charged": 0,
            "error": None,
            "writes": {},
        }
    )


def add_pass(files: MemoryFiles, number: int, places: Iterable[tuple[int, int]], shard_size: int) -> None:
    """In plan order, in shards of its own."""
    lines = [a_row(number, place, "tagged") for place in sorted(places)]
    for shard, start in enumerate(range(0, len(lines), shard_size)):
        Manifest(files, RUN, number).add_shard(shard, lines[start : start + shard_size], 0)


@pytest.fixture
def files() -> MemoryFiles:
    """The first pass."""
    files = MemoryFiles()
    for shard in range(SHARDS):
        lines = [a_row(0, (shard, index), FAILED.get((shard, index), "tagged")) for index in range(IMAGES)]
        Manifest(files, RUN, 0).add_shard(shard, lines, 0)
    return files


def rows(files: MemoryFiles, name: str) -> list[Json]:
    return [orjson.loads(line) for line in files.contents[f"runs/{RUN}/{name}"].splitlines()]


def places(rows: Iterable[Json]) -> list[tuple[int, int]]:
    return [(row["shard"], row["index"]) for row in rows]


def test_all_rows_stand_in_order_and_those_that_failed_apart(files: MemoryFiles) -> None:
    files.contents[f"runs/{RUN}/manifest.jsonl"] = b"an older view\n"
    View(files, RUN, until=1).write(len(PLACES))
    assert places(rows(files, "manifest.jsonl")) == PLACES
    assert places(rows(files, "failures.jsonl")) == sorted(FAILED)


def test_what_a_later_pass_repaired_is_no_failure_any_more(files: MemoryFiles) -> None:
    add_pass(files, 1, FAILED, shard_size=2)
    View(files, RUN, until=2).write(len(PLACES))
    assert places(rows(files, "manifest.jsonl")) == PLACES
    assert rows(files, "failures.jsonl") == []


@given(
    later=st.lists(st.sets(st.sampled_from(PLACES)), max_size=4),
    shard_size=st.integers(1, 5),
    after=st.sampled_from([module.BEFORE_ALL, *PLACES]),
)
def test_the_newest_pass_that_has_an_image_speaks_for_it(
    later: list[set[tuple[int, int]]], shard_size: int, after: tuple[int, int]
) -> None:
    files = MemoryFiles()
    add_pass(files, 0, PLACES, shard_size=IMAGES)
    for number, revised in enumerate(later, start=1):
        add_pass(files, number, revised, shard_size)
    passes = [set(PLACES), *later]
    newest = {place: max(n for n, has in enumerate(passes) if place in has) for place in PLACES}
    found = list(View(files, RUN, until=1 + len(later)).placed(after))
    assert [place for place, _ in found] == [place for place in PLACES if place > after]
    assert all(orjson.loads(line)["pass"] == newest[place] for place, line in found)


@pytest.mark.parametrize(("most", "single"), [(len(PLACES), True), (len(PLACES) - 1, False)])
def test_beyond_a_million_rows_there_is_no_single_file(
    files: MemoryFiles, monkeypatch: pytest.MonkeyPatch, most: int, *, single: bool
) -> None:
    monkeypatch.setattr(module, "SINGLE_FILE_ROWS", most)
    View(files, RUN, until=1).write(len(PLACES))
    assert (f"runs/{RUN}/manifest.jsonl" in files.contents) is single
    assert len(rows(files, "failures.jsonl")) == 3
