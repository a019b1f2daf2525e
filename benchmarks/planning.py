"""How fast a library is planned and compacted, and that the producer's memory does not grow with it."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator

from benchmarks.handles import made_up_handles
from benchmarks.stage import Spent, stage
from benchmarks.tables import Row, Table
from tagmill.worker.compaction import Compaction
from tagmill.worker.models import Answer, Handle, ImageRef, Outcome, Status
from tagmill.worker.policy import TagPolicy
from tagmill.worker.rows import RowContext, build_row
from tagmill.worker.store.folder import Folder
from tagmill.worker.store.parts import Parts
from tagmill.worker.store.passes import PassKind, PassSpec
from tagmill.worker.store.plan import Plan, Planned, PlanSummary, ShardHeader
from tagmill.worker.store.runs import RunSpec

FEW_HANDLES, MANY_HANDLES = 100_000, 1_000_000
FILES, FILES_IN_A_FOLDER = 20_000, 1_000
MOST_GROWTH = 1.2  #: of the producer's memory, from few handles to many
SHARDS, CHUNKS, CHUNK_SIZE = 5, 10, 1_000
LABELS = {f"label {number}": 50 + number for number in range(10)}


def tables() -> Iterator[Table]:
    few, many = (plan_handles(count) for count in (FEW_HANDLES, MANY_HANDLES))
    growth = many["producer MB"] / few["producer MB"]
    flat = "flat, as promised" if growth <= MOST_GROWTH else "NOT flat"
    yield Table(
        "Planning, start of the command included",
        [plan_folder(), few, many],
        [f"{MANY_HANDLES // FEW_HANDLES} times the images, {growth:.2f} times the producer's memory: {flat}"],
    )
    yield Table("Compaction of parts to the manifest and its views", [compact()])


def plan_handles(count: int) -> Row:
    with stage() as here:
        spent = here.plan_handles(count)
    return _row("list of handles", count, spent)


def plan_folder() -> Row:
    with stage() as here:
        root = here.folder / "library"
        for number in range(FILES):
            folder = root / f"{number // FILES_IN_A_FOLDER:04d}"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{number:08d}.jpg").write_bytes(b"-")
        spent = here.plan(root)
    return _row("folder", FILES, spent)


def _row(source: str, images: int, spent: Spent) -> Row:
    return {
        "source": source,
        "images": images,
        "seconds": spent.seconds,
        "images/s": images / spent.seconds,
        "producer MB": spent.peak_mb,
    }


def compact() -> Row:
    with tempfile.TemporaryDirectory() as folder:
        files, spec = Folder(folder), _spec()
        headers = [_write_shard(files, shard) for shard in range(SHARDS)]
        images = sum(header.count for header in headers)
        Plan(files, spec.run_id, 0).finish(PlanSummary(SHARDS, images, images, {}))
        compaction = Compaction(files, spec, PassSpec(0, PassKind.TAG, {}))
        started = time.monotonic()
        entries = [compaction.compact(header, 0) for header in headers]
        compacted = time.monotonic()
        compaction.finish(entries)
        ended = time.monotonic()
    return {
        "rows": images,
        "seconds for shards": compacted - started,
        "for views": ended - compacted,
        "rows/s": images / (ended - started),
    }


def _write_shard(files: Folder, shard: int) -> ShardHeader:
    count = CHUNKS * CHUNK_SIZE
    header = ShardHeader(shard, count, shard * count, CHUNK_SIZE, {}, (shard + 1) * count)
    refs = [ImageRef(Handle(handle)) for handle in made_up_handles(count)]
    Plan(files, _spec().run_id, 0).write(header, [Planned(ref) for ref in refs])
    context = RowContext(_spec().run_id, 0, TagPolicy(), "benchmark", "2", "0" * 16)
    outcome = Outcome(Status.TAGGED, Answer({"auto": LABELS, "user": None}), attempts=1, calls=1)
    for chunk in header.chunks(_spec().run_id, 0):
        places = range(chunk.offset, chunk.offset + chunk.count)
        rows = [build_row(context, shard, place, refs[place], outcome) for place in places]
        Parts(files, _spec().run_id, 0).commit(chunk, rows)
    return header


def _spec() -> RunSpec:
    return RunSpec("benchmark", "2026-01-01T00:00:00+00:00", {}, "benchmark", ())
