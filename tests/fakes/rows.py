"""Rows of any image with any outcome, and one of which a test says what matters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
from fakes.runs import RUN, a_spec
from hypothesis import strategies as st

from tagmill.worker.counts import Counts
from tagmill.worker.models import (
    Answer,
    BadLine,
    Failure,
    Handle,
    ImageRef,
    Json,
    LocalFile,
    Outcome,
    S3Object,
    Status,
    Write,
    WriteStatus,
)
from tagmill.worker.policy import TagPolicy
from tagmill.worker.rows import ERROR_LENGTH, RowContext, build_row, under_policy
from tagmill.worker.store.base import Files
from tagmill.worker.store.manifest import Manifest
from tagmill.worker.store.runs import Runs

CONTEXT = RowContext("a-run", 0, TagPolicy(), "filestack", "2", "f" * 16)
TEXT, COUNT = st.text(min_size=1), st.integers(0, 10**12)
TIME = st.datetimes().map(lambda time: f"{time:%Y-%m-%dT%H:%M:%S}Z".rjust(20, "0"))
SOURCES = st.one_of(
    st.builds(S3Object, TEXT, TEXT, st.none() | TEXT, st.none() | COUNT, st.none() | TIME, st.none() | TEXT),
    st.builds(LocalFile.at, st.just("/photos"), st.binary(min_size=1), COUNT, st.integers(-(2**62), 2**62)),
    st.builds(Handle, TEXT, st.none() | COUNT),
    st.builds(BadLine, st.text(), COUNT, TEXT),
)
ANSWERS = st.builds(
    Answer,
    st.fixed_dictionaries(
        {
            "auto": st.dictionaries(st.text(), st.integers(0, 100) | st.floats(0, 100)),
            "user": st.none() | st.text(),
        }
    ),
    st.lists(st.sampled_from(["no_tags", "partial"])).map(tuple),
)
WRITES = st.dictionaries(
    st.sampled_from(["metadata", "sidecar"]),
    st.builds(
        Write, st.sampled_from(WriteStatus), st.none() | TEXT, st.none() | TEXT, st.none() | TEXT, COUNT
    ),
)
COST = {
    "attempts": st.integers(0, 9),
    "calls": st.integers(0, 9),
    "maybe_charged": st.integers(0, 9),
    "http_status": st.none() | st.integers(100, 599),
    "latency_ms": st.none() | COUNT,
    "transfer": st.none() | st.sampled_from(["handle", "alias", "url", "upload"]),
}
TAGGED = st.builds(Outcome, st.just(Status.TAGGED), ANSWERS, writes=WRITES, tagged_at=TIME, **COST)
NOT_TAGGED = st.builds(
    Outcome,
    st.sampled_from([Status.FAILED, Status.SKIPPED, Status.QUARANTINED, Status.CANCELLED]),
    error=st.builds(Failure, TEXT, TEXT, st.text(max_size=2 * ERROR_LENGTH)),
    **COST,
)
ROWS = st.builds(
    lambda source, outcome, index: orjson.loads(
        orjson.dumps(build_row(CONTEXT, 7, index, ImageRef(source), outcome))
    ),
    SOURCES,
    TAGGED | NOT_TAGGED,
    st.integers(0, 9999),
)


def finished_run(files: Files, rows: Sequence[Json], shard_size: int = 10_000) -> None:
    """A run of one finished pass with these rows, each at its place and as its policy has it."""
    Runs(files).create(a_spec())
    manifest, entries = Manifest(files, RUN, 0), []
    for shard, start in enumerate(range(0, len(rows), shard_size)):
        placed = (
            {**under_policy(row, CONTEXT.policy), "run_id": RUN, "shard": shard, "index": index}
            for index, row in enumerate(rows[start : start + shard_size])
        )
        entries.append(manifest.add_shard(shard, [orjson.dumps(row) for row in placed], 0))
    counts = Counts.total(entry.counts for entry in entries)
    manifest.finish(entries, counts, finished_at="2026-11-22T00:00:00Z")


def a_row(**fields: Any) -> Json:
    """Of a handle that is tagged, but for these fields."""
    answer = Answer({"auto": {"sky": 97, "blur": 41}, "user": None}, http_status=200, latency_ms=312)
    outcome = Outcome(
        Status.TAGGED,
        answer,
        attempts=1,
        calls=1,
        http_status=200,
        latency_ms=312,
        transfer="handle",
        tagged_at="2026-11-22T00:00:00Z",
    )
    return build_row(CONTEXT, 0, 0, ImageRef(Handle("h")), outcome) | fields
