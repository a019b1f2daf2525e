from __future__ import annotations

from contextlib import suppress

import orjson
import pytest
from fakes.files import Died, MemoryFiles, MortalFiles
from fakes.runs import FIRST_PASS, RUN, SmallRun
from hypothesis import given, settings
from hypothesis import strategies as st

from tagmill.worker.compaction import Compaction
from tagmill.worker.counts import Counts
from tagmill.worker.models import Json, Status
from tagmill.worker.store.base import Files
from tagmill.worker.store.manifest import Manifest
from tagmill.worker.summary import finished, read_summary

STATUSES = [Status.TAGGED, Status.TAGGED, Status.FAILED, Status.SKIPPED]


def tagged_run(files: Files) -> SmallRun:
    run = SmallRun(files)
    for count in (25, 20, 7):
        run.shard(count, 10)
    run.finish_plan()
    for chunk in reversed(run.chunks):
        run.commit(chunk, STATUSES)
    return run


def compact_all(run: SmallRun) -> Json:
    """What whoever leads does, from the files alone."""
    compaction = Compaction(run.files, run.spec, FIRST_PASS)
    compaction.finish([compaction.compact(header, throttled=1) for header in run.headers])
    summary = read_summary(run.files, RUN)
    assert summary is not None
    return summary


@pytest.fixture
def files() -> MemoryFiles:
    return MemoryFiles()


def rows(files: MemoryFiles, name: str) -> list[Json]:
    return [orjson.loads(line) for line in files.contents[f"runs/{RUN}/{name}"].splitlines()]


def test_every_image_has_one_row_in_plan_order(files: MemoryFiles) -> None:
    compact_all(tagged_run(files))
    manifest_rows = rows(files, "manifest.jsonl")
    assert [row["id"] for row in manifest_rows] == [f"filestack:h{number}" for number in range(52)]
    assert [row["index"] for row in manifest_rows] == [*range(25), *range(20), *range(7)]
    assert [row["shard"] for row in manifest_rows] == [0] * 25 + [1] * 20 + [2] * 7
    failed = [row for row in manifest_rows if row["status"] == "failed"]
    assert rows(files, "failures.jsonl") == failed


def test_the_summary_counts_rows_and_calls_that_no_row_tells_of(files: MemoryFiles) -> None:
    run = tagged_run(files)
    run.parts.count_extra(run.chunks[0], calls=10, maybe_charged=3)
    run.parts.count_extra(run.chunks[0], calls=1, maybe_charged=0)
    summary = compact_all(run)
    counts = Counts.of_rows(rows(files, "manifest.jsonl"))
    assert (summary["state"], summary["planned"], summary["remaining"]) == ("completed", 52, 0)
    assert (summary["tagged"], summary["failed"]) == (counts.tagged, counts.failed)
    assert (summary["calls"], summary["maybe_charged"], summary["throttled"]) == (counts.calls + 11, 3, 3)
    assert orjson.loads(files.contents[f"runs/{RUN}/summary.json"]) == summary


def test_a_run_without_images_is_completed_with_empty_views(files: MemoryFiles) -> None:
    run = SmallRun(files)
    run.finish_plan()
    summary = compact_all(run)
    assert (summary["state"], summary["planned"]) == ("completed", 0)
    assert rows(files, "manifest.jsonl") == rows(files, "failures.jsonl") == []


def test_doing_it_again_changes_nothing(files: MemoryFiles) -> None:
    run = tagged_run(files)
    summary, kept = compact_all(run), dict(files.contents)
    assert compact_all(run) == summary
    assert files.contents == kept


def test_an_older_view_is_replaced(files: MemoryFiles) -> None:
    run = tagged_run(files)
    for name in ("manifest.jsonl", "failures.jsonl", "summary.json"):
        files.contents[f"runs/{RUN}/{name}"] = b"{}\n"
    compact_all(run)
    assert len(rows(files, "manifest.jsonl")) == 52


def test_a_shard_with_a_missing_part_is_not_compacted(files: MemoryFiles) -> None:
    run = tagged_run(files)
    del files.contents[f"runs/{RUN}/passes/0000/parts/00000000-00010.jsonl.gz"]
    with pytest.raises(FileNotFoundError):
        Compaction(files, run.spec, FIRST_PASS).compact(run.headers[0], throttled=0)
    assert not [name for name in files.contents if "/manifest/" in name]


def manifest_of(run: SmallRun) -> Manifest:
    return Manifest(run.files, RUN, 0)


def undisturbed() -> dict[str, bytes]:
    files = MemoryFiles()
    compact_all(tagged_run(files))
    return files.contents


@given(deaths=st.lists(st.tuples(st.integers(1, 11), st.booleans()), max_size=4))
@settings(deadline=None, max_examples=60)
def test_killed_at_any_write_the_next_one_finishes_the_same(deaths: list[tuple[int, bool]]) -> None:
    files = MortalFiles()
    run = tagged_run(files)
    for nth, written in deaths:
        files.die_at(nth, written=written)
        with suppress(Died):
            compact_all(run)
        assert not finished(files, RUN, 0) or manifest_of(run).finished()
    files.die_at(0, written=False)
    compact_all(run)
    assert without_times(files.contents) == without_times(undisturbed())


def without_times(contents: dict[str, bytes]) -> dict[str, bytes | Json]:
    timed = (f"runs/{RUN}/summary.json", f"runs/{RUN}/passes/0000/manifest.json")
    stripped: dict[str, bytes | Json] = dict(contents)
    for name in timed:
        value = orjson.loads(contents[name])
        stripped[name] = {key: value[key] for key in value.keys() - {"finished_at", "duration_s"}}
    return stripped
