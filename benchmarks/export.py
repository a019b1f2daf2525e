"""How fast a manifest is exported and compared with another policy, and that memory does not grow with it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import orjson
from fakes.rows import a_row
from fakes.runs import RUN, a_spec

from benchmarks.planning import LABELS
from benchmarks.stage import program, spent_by, without_settings
from benchmarks.tables import Row, Table
from tagmill.worker.counts import Counts
from tagmill.worker.store.folder import Folder
from tagmill.worker.store.manifest import Manifest
from tagmill.worker.store.runs import Runs

SHARD_SIZE = 10_000
FEW_SHARDS, MANY_SHARDS = 5, 50
MOST_GROWTH = 1.2  #: of memory, from few shards to many
POLICY = "min_confidence = 55\nprefix = 'ai:'\n"


def tables() -> Iterator[Table]:
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        (here / "policy.toml").write_text(POLICY)
        for shards in (FEW_SHARDS, MANY_SHARDS):
            write_run(here / str(shards), shards)
        rows = [
            read(here, command, shards) for command in commands(here) for shards in (FEW_SHARDS, MANY_SHARDS)
        ]
    growth = max(many["MB"] / few["MB"] for few, many in zip(rows[::2], rows[1::2], strict=True))
    flat = "flat, as promised" if growth <= MOST_GROWTH else "NOT flat"
    yield Table(
        "Reading a manifest, start of the command included",
        rows,
        [f"{MANY_SHARDS // FEW_SHARDS} times the images, {growth:.2f} times the memory at most: {flat}"],
    )


def commands(here: Path) -> list[list[str]]:
    outputs = [
        ["export", RUN, "--output", str(here / f"rows.{kind}")] for kind in ("jsonl", "csv", "parquet")
    ]
    exploded = [*outputs[1], "--explode"]
    return [*outputs, exploded, ["policy", "diff", RUN, "--policy", str(here / "policy.toml")]]


def write_run(store: Path, shards: int) -> None:
    """A finished run whose images all have ten labels."""
    files = Folder(store)
    Runs(files).create(a_spec())
    manifest, tags = Manifest(files, RUN, 0), {"auto": LABELS, "user": None}
    lines = [
        orjson.dumps(a_row(id=f"filestack:handle{index:012}", index=index, tags=tags, raw_tags=tags))
        for index in range(SHARD_SIZE)
    ]
    entries = [manifest.add_shard(shard, lines, 0) for shard in range(shards)]
    manifest.finish(
        entries, Counts.total(entry.counts for entry in entries), finished_at="2026-11-22T00:00:00Z"
    )


def read(here: Path, command: list[str], shards: int) -> Row:
    images = shards * SHARD_SIZE
    settings = {**without_settings(), "TAGMILL_RUN_STORE": str(here / str(shards))}
    spent = spent_by([*program("tagmill.producer.cli.main"), *command], settings)
    return {
        "what": " ".join(
            word.rpartition("/")[2] for word in command if word not in {RUN, "--output", "--policy"}
        ),
        "images": images,
        "seconds": spent.seconds,
        "images/s": images / spent.seconds,
        "MB": spent.peak_mb,
    }
