"""A run in a store, as small as a test wants it: planned and tagged without a producer or a worker."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

from tagmill.worker.models import Answer, Chunk, Failure, Handle, ImageRef, Json, Outcome, Status
from tagmill.worker.policy import TagPolicy
from tagmill.worker.rows import RowContext, build_row
from tagmill.worker.store.base import Files
from tagmill.worker.store.parts import Parts
from tagmill.worker.store.passes import PassKind, PassSpec
from tagmill.worker.store.plan import Plan, Planned, PlanSummary, ShardHeader
from tagmill.worker.store.runs import Runs, RunSpec

RUN = "a-run"
FIRST_PASS = PassSpec(0, PassKind.TAG, {})
CREATED = "2026-11-22T00:00:00+00:00"
TAGS = Answer({"auto": {"sky": 97}, "user": None}, http_status=200, latency_ms=3)
REFUSED = Failure("ImageRejectedError", "rejected", "no image")


def a_spec(run_id: str = RUN, **fields: Any) -> RunSpec:
    return RunSpec(run_id, CREATED, {}, "fake", (), **fields)


def planned(refs: Iterable[ImageRef]) -> list[Planned]:
    return [Planned(ref) for ref in refs]


class SmallRun:
    """Shards of handles `h0`, `h1` … in plan order."""

    def __init__(self, files: Files, spec: RunSpec | None = None) -> None:
        self.files, self.spec = files, spec or a_spec()
        Runs(files).create(self.spec)
        self.plan = Plan(files, self.spec.run_id, 0)
        self.parts = Parts(files, self.spec.run_id, 0)
        self.headers: list[ShardHeader] = []
        self.context = RowContext(
            self.spec.run_id, 0, TagPolicy.from_json(self.spec.policy), "fake", "1", "f" * 16
        )

    @property
    def planned(self) -> int:
        return sum(header.count for header in self.headers)

    @property
    def chunks(self) -> list[Chunk]:
        return [chunk for header in self.headers for chunk in header.chunks(self.spec.run_id, 0)]

    def shard(self, count: int, chunk_size: int) -> ShardHeader:
        """Plan one more."""
        first = self.planned
        header = ShardHeader(
            len(self.headers), count, first, chunk_size, {"line": first + count}, first + count
        )
        self.plan.write(header, planned(ImageRef(Handle(f"h{first + index}")) for index in range(count)))
        self.headers.append(header)
        return header

    def finish_plan(self) -> None:
        self.plan.finish(PlanSummary(len(self.headers), self.planned, self.planned, {}))

    def rows(self, chunk: Chunk, statuses: Sequence[Status] = (Status.TAGGED,)) -> list[Json]:
        """One a chunk's image, the statuses in turn."""
        images = zip(self.plan.images(chunk), itertools.cycle(statuses), strict=False)
        return [
            build_row(self.context, chunk.shard, chunk.offset + index, image.ref, outcome(status))
            for index, (image, status) in enumerate(images)
        ]

    def commit(self, chunk: Chunk, statuses: Sequence[Status] = (Status.TAGGED,)) -> list[Json]:
        rows = self.rows(chunk, statuses)
        self.parts.commit(chunk, rows)
        return rows


def outcome(status: Status) -> Outcome:
    if status is Status.TAGGED:
        return Outcome(status, TAGS, attempts=1, calls=1, http_status=200, tagged_at="2026-11-22T00:00:00Z")
    return Outcome(status, error=REFUSED, attempts=1, calls=int(status is not Status.SKIPPED))
