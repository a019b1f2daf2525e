"""What it takes to foresee a run and to find its equal content, and that memory does not grow with it."""

from __future__ import annotations

import hashlib
import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.stage import program, spent_by, without_settings
from benchmarks.tables import Row, Table
from tagmill.producer.sources.spec import Kind, SourceSpec
from tagmill.worker.models import ImageRef, S3Object
from tagmill.worker.store.folder import Folder
from tagmill.worker.store.plan import Plan, Planned, PlanSummary, ShardHeader
from tagmill.worker.store.runs import PLANNED, Control, Runs, RunSpec, Verb

RUN_ID = "benchmark"
FEW, MANY = 100_000, 1_000_000
SHARD, CHUNK = 10_000, 1_000
FOLDERS = 5_000  #: that images lie in
COPIES = 5  #: every so many-th image has the content of an earlier one
MOST_GROWTH = 1.2  #: of memory, from few images to many


def tables() -> Iterator[Table]:
    few, many = foresee(FEW), foresee(MANY)
    growth = many["MB"] / few["MB"]
    flat = "flat, as promised" if growth <= MOST_GROWTH else "NOT flat"
    yield Table(
        "tagmill plan, once the source is listed: statistics and equal content",
        [few, many],
        [f"{MANY // FEW} times the images, {growth:.2f} times the memory: {flat}"],
    )


def foresee(count: int) -> Row:
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder, "store")
        write_plan(Folder(store), count)
        settings = {"TAGMILL_RUN_STORE": str(store), "TMPDIR": folder}
        command = [*program("tagmill.producer.cli.main"), "plan", "--resume", RUN_ID, "--json"]
        spent = spent_by(command, without_settings() | settings)
    return {
        "images": count,
        "seconds": spent.seconds,
        "images/s": count / spent.seconds,
        "MB": spent.peak_mb,
    }


def write_plan(files: Folder, count: int) -> None:
    """A planned run over a bucket, as the producer would have made it."""
    source = SourceSpec(Kind.S3, "s3://benchmark/library/").to_json()
    spec = RunSpec(RUN_ID, "2026-01-01T00:00:00+00:00", source, "filestack", (), planned=True)
    runs, plan = Runs(files), Plan(files, RUN_ID, 0)
    runs.set_control(RUN_ID, Control(verb=Verb.PAUSE, reason=PLANNED))
    runs.create(spec)
    images = iter(objects(count))
    for first in range(0, count, SHARD):
        refs = [Planned(ImageRef(image)) for image in itertools.islice(images, SHARD)]
        plan.write(ShardHeader(first // SHARD, len(refs), first, CHUNK, {}, first + len(refs)), refs)
    plan.finish(PlanSummary(count // SHARD, count, count, {}))


def objects(count: int) -> Iterator[S3Object]:
    """In the order of their keys; contents are spread over all of them."""
    in_a_folder = max(count // FOLDERS, 1)
    for number in range(count):
        content = number * 7919 % count + 1 if number % COPIES == 0 else number
        etag = hashlib.md5(content.to_bytes(8), usedforsecurity=False).hexdigest()
        key = f"library/{number // in_a_folder:06d}/{number:09d}.jpg"
        yield S3Object("benchmark", key, etag, 2_000_000 + content % 1000, "2026-01-01T00:00:00Z")
