"""Where one pass stands: which chunks are not committed yet, from the plan and the parts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tagmill.worker.models import Chunk
from tagmill.worker.store.base import Files
from tagmill.worker.store.manifest import Manifest, ShardEntry
from tagmill.worker.store.parts import Parts
from tagmill.worker.store.plan import Plan, PlanSummary, ShardHeader


class Frontier:
    """Kept in memory by the process that refills; opens shards as they are needed, never the whole plan."""

    def __init__(self, files: Files, run_id: str, pass_no: int, *, whole_plan: bool = False) -> None:
        """`whole_plan`: no chunk is to be worked on before planning is finished."""
        self.run_id, self.pass_no, self._whole_plan = run_id, pass_no, whole_plan
        self.plan = Plan(files, run_id, pass_no)
        self._manifest = Manifest(files, run_id, pass_no)
        self.compacted: set[int] = set(self._manifest.compacted())
        self._planned: PlanSummary | None = None
        self._known = -1  #: newest shard seen in the plan
        self._waiting: list[int] = []  #: planned, not opened, ascending
        self._open: dict[int, ShardHeader] = {}
        self._look_for_shards()
        self._parts = Parts(files, run_id, pass_no)
        self._committed: set[tuple[int, int]] = set()
        self.commit(self._parts.committed_from(min(self._waiting, default=self._known + 1)))

    def window(self, size: int) -> list[Chunk]:
        """Return the first `size` chunks, in plan order, that are not committed."""
        found: list[Chunk] = []
        for shard in self._shards():
            found += self._uncommitted(self._open[shard])
            if len(found) >= size:
                break
        return found[:size]

    def commit(self, chunks: Iterable[tuple[int, int]]) -> None:
        """Note committed chunks by (shard, offset)."""
        self._committed |= {place for place in chunks if place[0] not in self.compacted}

    def committed(self) -> list[tuple[int, int]]:
        """Return (shard, offset) of the committed chunks of shards that are not compacted, opened or not."""
        return sorted(self._committed)

    def whole_shards(self) -> list[ShardHeader]:
        """Return open shards whose every chunk is committed: ready to compact."""
        return [header for header in self._open.values() if not self._uncommitted(header)]

    def close(self, shard: int) -> None:
        """Note that a shard is compacted."""
        self.compacted.add(shard)
        del self._open[shard]
        self._forget(shard)

    def look_again(self, shard: int) -> None:
        """Believe nothing of an open shard but its files."""
        self._forget(shard)
        self._committed |= {place for place in self._parts.committed_from(shard) if place[0] == shard}

    def complete(self) -> bool:
        """Tell whether planning is finished and every shard compacted."""
        if self._open or self._waiting:
            return False
        self._look_for_shards()
        planned = self._planned
        return planned is not None and not self._waiting and len(self.compacted) >= planned.shards

    @property
    def planned(self) -> bool:
        """Whether planning was finished at the last look."""
        return self._planned is not None

    def entry(self, shard: int) -> ShardEntry:
        """Return what a compacted shard holds."""
        return self._manifest.entry(shard)

    def entries(self) -> list[ShardEntry]:
        return [self.entry(shard) for shard in sorted(self.compacted)]

    def _shards(self) -> Iterator[int]:
        """Open shards first, then waiting ones, each opened when it is reached."""
        yield from list(self._open)
        if not self._waiting and not self._planned:
            self._look_for_shards()
        while self._waiting:
            shard = self._waiting.pop(0)
            self._open[shard] = self.plan.header(shard)
            yield shard

    def _look_for_shards(self) -> None:
        self._planned, fresh = self.plan.look(after=self._known)
        if self._whole_plan and self._planned is None:
            return
        self._known = max(fresh, default=self._known)
        self._waiting += [shard for shard in fresh if shard not in self.compacted]
        if self._planned is not None:
            self._leave_out(self._planned)

    def _leave_out(self, whole: PlanSummary) -> None:
        """Forget shards that do not count after all."""
        self._waiting = [shard for shard in self._waiting if whole.covers(shard)]
        self._open = {shard: header for shard, header in self._open.items() if whole.covers(shard)}

    def _forget(self, shard: int) -> None:
        self._committed = {place for place in self._committed if place[0] != shard}

    def _uncommitted(self, header: ShardHeader) -> list[Chunk]:
        chunks = header.chunks(self.run_id, self.pass_no)
        return [chunk for chunk in chunks if (chunk.shard, chunk.offset) not in self._committed]
