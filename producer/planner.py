"""Image references to plan shards, streaming; killed, it continues from the last shard's cursor."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from tagmill.producer.sources.base import Cursor, Listed
from tagmill.worker.background import Stopped
from tagmill.worker.counts import Counts
from tagmill.worker.models import Json
from tagmill.worker.store.plan import Plan, Planned, PlanSummary, ShardHeader

CHUNK_SECONDS = 60.0  #: what a chunk should take at the planned rate
PARALLEL_CHUNKS = 4  #: chunks that share the rate, as a guess before any worker is known
MIN_CHUNK, MAX_CHUNK = 10, 1_000
DISAPPEARED = "disappeared"  #: why something is told of that the source did not list

Listing = Callable[[Cursor, int], Iterable[Listed]]  #: (after, images planned so far) -> what comes next
#: Looks for equal content when all is listed; what it found, None when it was stopped.
Search = Callable[[Stopped], Json | None]


@dataclass(frozen=True, slots=True)
class ChunkSizing:
    rate: float  #: calls/s
    fixed: int | None = None

    def for_shard(self, images: int) -> int:
        """Return images per chunk, so that even a small shard is work for several processes."""
        if self.fixed is not None:
            return self.fixed
        by_time = self.rate * CHUNK_SECONDS / PARALLEL_CHUNKS
        by_share = math.ceil(images / PARALLEL_CHUNKS)
        return max(MIN_CHUNK, min(MAX_CHUNK, int(by_time), by_share))


@dataclass(slots=True)
class _Position:
    """How far planning is: all that the next shard's header says."""

    shard: int = 0
    planned: int = 0
    cursor: Cursor = field(default_factory=dict)
    listed: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    replaced: Counts | None = None  #: of a later pass
    found: Counter[str] = field(default_factory=Counter)

    @classmethod
    def after(cls, header: ShardHeader) -> _Position:
        return cls(
            header.shard + 1,
            header.first + header.count,
            header.cursor,
            header.listed,
            Counter(header.skipped),
            Counts.from_json(header.replaced) if header.replaced else None,
            Counter(header.found),
        )

    def take(self, item: Listed) -> None:
        """Count what was come upon, and remember to go on behind it."""
        self.cursor = item.cursor
        self.listed += item.why != DISAPPEARED
        if item.why is not None:
            self.found[item.why] += 1
        elif item.ref is None:
            self.skipped[item.skipped or "unknown"] += 1

    def replace(self, rows: Iterable[Json]) -> None:
        """Count rows that the pass replaces."""
        counts = Counts.of_rows(rows)
        if counts.settled:
            self.replaced = Counts.total([self.replaced or Counts(), counts])


class Planner:
    def __init__(
        self,
        plan: Plan,
        listing: Listing,
        *,
        shard_size: int,
        sizing: ChunkSizing,
        search: Search | None = None,
    ) -> None:
        self._plan, self._listing, self._shard_size, self._sizing = plan, listing, shard_size, sizing
        self._search = search

    def run(self, stopped: Stopped) -> PlanSummary | None:
        """Plan what is not planned yet; None when stopped, what is written stays and counts."""
        summary = self._plan.summary()
        while summary is None and not stopped():
            summary = self._plan_from(self._resumed(), stopped)
        return summary

    def _resumed(self) -> _Position:
        newest = self._plan.newest()
        return _Position.after(newest) if newest else _Position()

    def _plan_from(self, position: _Position, stopped: Stopped) -> PlanSummary | None:
        """Return None when stopped, or when another producer was faster and its shard counts."""
        images: list[Planned] = []
        for item in self._listing(position.cursor, position.planned):
            if stopped():
                return None
            position.take(item)
            if item.ref is None:
                continue
            images.append(Planned(item.ref, item.row))
            if len(images) == self._shard_size:
                if not self._write(position, images):
                    return None
                images.clear()
        if images and not self._write(position, images):
            return None
        if self._plan.shards(after=position.shard - 1):
            return None  # another producer saw more
        return self._finish(position, stopped)

    def _finish(self, position: _Position, stopped: Stopped) -> PlanSummary | None:
        duplicates = self._search(stopped) if self._search is not None else None
        if self._search is not None and duplicates is None:
            return None
        skipped = dict(sorted(position.skipped.items()))
        summary = PlanSummary(
            position.shard,
            position.planned,
            position.listed,
            skipped,
            duplicates=duplicates,
            found=dict(sorted(position.found.items())),
        )
        self._plan.finish(summary)
        return self._plan.summary()  # of whoever came first

    def _write(self, position: _Position, images: list[Planned]) -> bool:
        if self._plan.pass_no:
            position.replace(image.row for image in images if image.row is not None)
        header = ShardHeader(
            shard=position.shard,
            count=len(images),
            first=position.planned,
            chunk_size=self._sizing.for_shard(len(images)),
            cursor=position.cursor,
            listed=position.listed,
            skipped=dict(sorted(position.skipped.items())),
            replaced=position.replaced.to_json() if position.replaced else None,
            deduplicated=self._search is not None,
            found=dict(sorted(position.found.items())),
        )
        if not self._plan.write(header, images):
            return False
        position.shard += 1
        position.planned += len(images)
        return True
