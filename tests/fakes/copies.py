"""Images of equal content, and what comes of asking for each: tagged pass by pass, without a worker."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass, field, replace

import orjson
from fakes.files import MemoryFiles
from fakes.runs import RUN, a_spec, planned

from tagmill.worker.compaction import Compaction
from tagmill.worker.followers import plan_followers
from tagmill.worker.models import (
    Answer,
    Chunk,
    Failure,
    ImageRef,
    Json,
    Outcome,
    S3Object,
    Status,
    Write,
    WriteStatus,
)
from tagmill.worker.outcomes import ALREADY_TAGGED, QUARANTINED, WAITING
from tagmill.worker.policy import TagPolicy
from tagmill.worker.rows import RowContext, outcome_of, row_for
from tagmill.worker.store.base import Files
from tagmill.worker.store.duplicates import Duplicates, Member
from tagmill.worker.store.parts import Parts
from tagmill.worker.store.passes import Passes, PassSpec
from tagmill.worker.store.plan import Plan, Planned, PlanSummary, ShardHeader
from tagmill.worker.store.runs import Runs
from tagmill.worker.store.view import View
from tagmill.worker.summary import read_summary

SHARD, CHUNK = 5, 3
MOST_PASSES = 5
CONTENT = Failure("ImageRejectedError", "rejected", "no image")
MOMENT = Failure("EngineUnavailableError", "unavailable", "down")
FATES: dict[str, Outcome] = {
    "tagged": Outcome(
        Status.TAGGED,
        Answer({"auto": {"sky": 97}, "user": None}, ("partial",)),
        tagged_at="2026-11-22T00:00:00Z",
    ),
    "stale": Outcome(
        Status.TAGGED,
        Answer({"auto": {"other": 1}, "user": None}),
        writes={"metadata": Write(WriteStatus.STALE, reason="content_changed")},
        tagged_at="2026-11-22T00:00:00Z",
    ),
    "refused": Outcome(Status.FAILED, error=CONTENT),
    "down": Outcome(Status.FAILED, error=MOMENT),
    "deadly": QUARANTINED,
    "marked": ALREADY_TAGGED,
}
CALLED = {"tagged", "stale", "refused", "down", "deadly"}


@dataclass
class Copies:
    """Images by their content and by what comes of asking for each, tagged without a worker."""

    contents: list[int]
    fates: list[str]
    files: Files = field(default_factory=MemoryFiles)
    asked: Counter[str] = field(default_factory=Counter)
    cancelled: bool = False  #: from now on nobody is asked
    spec = a_spec(dedupe="exact", shard_size=SHARD, chunk_size=CHUNK)

    def plan(self, *, finish: bool = True) -> None:
        Runs(self.files).create(self.spec)
        plan, images = Plan(self.files, RUN, 0), self.images
        shards = [images[first : first + SHARD] for first in range(0, len(images), SHARD)]
        for number, refs in enumerate(shards):
            first = number * SHARD
            header = ShardHeader(number, len(refs), first, CHUNK, {}, first + len(refs), deduplicated=True)
            plan.write(header, planned(refs))
        for number, members in itertools.groupby(self.members, key=lambda member: member.place[0]):
            Duplicates(self.files, RUN).write(number, members)
        if finish:
            self.finish_plan()

    def finish_plan(self) -> None:
        images = len(self.contents)
        Plan(self.files, RUN, 0).finish(PlanSummary(-(-images // SHARD), images, images, {}))

    @property
    def images(self) -> list[ImageRef]:
        return [
            ImageRef(S3Object("b", f"k{n}", f"{content:032x}", 1)) for n, content in enumerate(self.contents)
        ]

    @property
    def members(self) -> list[Member]:
        counts = Counter(self.contents)
        leaders = [self.contents.index(content) for content in self.contents]
        return [
            Member(divmod(number, SHARD), divmod(leader, SHARD), f"s3://b/k{leader}")
            for number, leader in enumerate(leaders)
            if counts[self.contents[number]] > 1
        ]

    def fate(self, image: str) -> str:
        return self.fates[int(image.rpartition("k")[2])]

    def work(self, current: PassSpec) -> None:
        """Every chunk of a planned pass, and what its refiller does at the end."""
        plan = Plan(self.files, RUN, current.number)
        compaction = Compaction(self.files, self.spec, current)
        headers = [plan.header(shard) for shard in plan.shards()]
        for header in headers:
            for chunk in header.chunks(RUN, current.number):
                self.commit(current, chunk)
        compaction.finish([compaction.compact(header, 0) for header in headers])

    def commit(self, current: PassSpec, chunk: Chunk) -> list[Json]:
        context = RowContext(RUN, current.number, TagPolicy(), "fake", "1", "f" * 16, current.kind)
        rows = [
            row_for(context, chunk, index, image, self.outcome(current, image))
            for index, image in enumerate(Plan(self.files, RUN, current.number).images(chunk))
        ]
        Parts(self.files, RUN, current.number).commit(chunk, rows)
        return rows

    def outcome(self, current: PassSpec, image: Planned) -> Outcome:
        if self.cancelled:
            return Outcome(Status.CANCELLED)
        if image.row is not None and current.kind.reuses(image.row):
            written = {"metadata": Write(WriteStatus.WRITTEN)} if image.row["raw_tags"] else {}
            return replace(outcome_of(image.row), writes=written)
        fate = self.fate(image.ref.id)
        if fate != "marked" and image.duplicate_of is not None:
            return WAITING
        self.asked[image.ref.id] += fate in CALLED
        return replace(FATES[fate], calls=int(fate in CALLED), attempts=1)

    def finish(self) -> int:
        """Return the number of passes it took."""
        passes = Passes(self.files, RUN)
        for _ in range(MOST_PASSES):
            current = passes.newest()
            plan_followers(self.files, self.spec, current, lambda: False)
            self.work(current)
            if read_summary(self.files, RUN) is not None:
                return current.number + 1
        raise AssertionError("images wait for ever")

    def rows(self) -> list[Json]:
        passes = Passes(self.files, RUN).count()
        return [orjson.loads(line) for line in View(self.files, RUN, passes).lines()]
