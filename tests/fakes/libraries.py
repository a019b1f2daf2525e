"""A source over and over: an S3 prefix that a test changes, runs over it without a worker."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
from fakes.runs import TAGS

from tagmill.producer.modes import against_state
from tagmill.producer.planner import Planner
from tagmill.producer.planning import make_planner
from tagmill.producer.preparation import RunOptions
from tagmill.producer.sources.base import Cursor, Listed
from tagmill.producer.sources.spec import Kind, SourceSpec
from tagmill.worker.compaction import Compaction
from tagmill.worker.engine_config import engine_config
from tagmill.worker.errors import RunError
from tagmill.worker.models import ImageRef, Json, Outcome, S3Object, Status, Write, WriteStatus
from tagmill.worker.policy import TagPolicy
from tagmill.worker.rows import RowContext, outcome_of, row_for
from tagmill.worker.store.base import Files
from tagmill.worker.store.parts import Parts
from tagmill.worker.store.passes import PassKind, PassSpec
from tagmill.worker.store.plan import Plan, Planned
from tagmill.worker.store.runs import Runs, RunSpec
from tagmill.worker.store.states import State, States

BUCKET = "bucket"
URI = f"s3://{BUCKET}/"


@dataclass
class Library:
    """Objects by key, listed in key order."""

    objects: dict[str, str] = field(default_factory=dict)  #: key -> ETag
    passed_over: set[str] = field(default_factory=set)
    dies_before: str | None = None  #: once

    def describe(self) -> str:
        return URI

    def list(self, after: Cursor) -> Iterator[Listed]:
        for key in sorted(self.objects.keys() | self.passed_over):
            if key == self.dies_before:
                self.dies_before = None
                raise RunError("no answer", code="source")
            if key > after.get("after", ""):
                skipped = "archived" if key in self.passed_over else None
                ref = None if skipped else ImageRef(S3Object(BUCKET, key, self.objects[key], 7))
                yield Listed(ref, {"after": key}, skipped)


Tagged = Callable[[Planned], Outcome]


def tagged(image: Planned) -> Outcome:
    if image.row is not None:
        return outcome_of(image.row)
    return Outcome(Status.TAGGED, TAGS, attempts=1, calls=1, tagged_at="2026-11-22T00:00:00Z")


def written(etag_after: str) -> dict[str, Write]:
    return {"metadata": Write(WriteStatus.WRITTEN, etag_after=etag_after)}


class Series:
    """One run after the other over one source."""

    def __init__(self, files: Files, library: Library | None = None, shard_size: int = 10) -> None:
        self.files, self.library = files, library or Library()
        self.shard_size = shard_size
        self.source = SourceSpec(Kind.S3, URI)
        self._runs = 0

    def spec(self, options: RunOptions | None = None, **fields: Any) -> RunSpec:
        self._runs += 1
        bare = RunSpec(
            f"run-{self._runs}",
            f"2026-11-22T00:00:{self._runs:02d}+00:00",
            self.source.to_json(),
            "filestack",
            fields.pop("write_back", ()),
            shard_size=self.shard_size,
            chunk_size=self.shard_size,
            **fields,
        )
        return against_state(self.files, bare, self.source, options or RunOptions())

    def planner(self, spec: RunSpec) -> Planner:
        Runs(self.files).create(spec)
        return make_planner(Runs(self.files), spec, self.library)

    def plan(self, options: RunOptions | None = None, **fields: Any) -> RunSpec:
        spec = self.spec(options, **fields)
        assert self.planner(spec).run(lambda: False) is not None
        return spec

    def finish(self, spec: RunSpec, outcome: Tagged = tagged) -> None:
        """Settle every planned image, as workers would."""
        plan, policy = Plan(self.files, spec.run_id, 0), TagPolicy.from_json(spec.policy)
        config = engine_config(spec.engine, spec.tags_version, spec.resize, spec.engine_options)
        context = RowContext(spec.run_id, 0, policy, spec.engine, "2", config)
        for shard in plan.shards():
            for chunk in plan.header(shard).chunks(spec.run_id, 0):
                images = enumerate(plan.images(chunk))
                rows = [row_for(context, chunk, index, image, outcome(image)) for index, image in images]
                Parts(self.files, spec.run_id, 0).commit(chunk, rows)
        self.compact(spec)

    def compact(self, spec: RunSpec) -> None:
        plan, current = Plan(self.files, spec.run_id, 0), PassSpec(0, PassKind.TAG, spec.policy)
        compaction = Compaction(self.files, spec, current)
        compaction.finish([compaction.compact(plan.header(shard), 0) for shard in plan.shards()])

    def run(
        self, options: RunOptions | None = None, outcome: Tagged = tagged, **fields: Any
    ) -> tuple[list[str], Mapping[str, int]]:
        """Return the keys that were asked for, and how many images were found how."""
        spec = self.plan(options, **fields)
        self.finish(spec, outcome)
        return [key_of(image) for image in self.planned(spec) if image.row is None], self.found(spec)

    def planned(self, spec: RunSpec) -> list[Planned]:
        plan = Plan(self.files, spec.run_id, 0)
        chunks = [chunk for shard in plan.shards() for chunk in plan.header(shard).chunks(spec.run_id, 0)]
        return [image for chunk in chunks for image in plan.images(chunk)]

    def found(self, spec: RunSpec) -> dict[str, int]:
        whole = Plan(self.files, spec.run_id, 0).summary()
        assert whole is not None
        return whole.found

    def rows(self, spec_id: str) -> list[Json]:
        data = self.files.read(f"runs/{spec_id}/manifest.jsonl")
        return [orjson.loads(line) for line in data.splitlines()]

    @property
    def state(self) -> State:
        """The newest."""
        states = States(self.files, self.spec().state["name"])
        return states.state(states.newest())


def key_of(image: Planned) -> str:
    return image.ref.id.removeprefix(URI)
