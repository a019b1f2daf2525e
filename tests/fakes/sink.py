"""A sink that remembers, and fails when told to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from tagmill.worker.errors import TaggingError
from tagmill.worker.models import ImageRef, Write, WriteStatus
from tagmill.worker.sinks.base import Keep, Tagging, Written, marker


@dataclass
class FakeSink:
    """`failures` are raised one a change, first to last, before it is done; `mark_failures` likewise."""

    name: str = "fake"
    written: dict[str, Tagging] = field(default_factory=dict)  #: image id -> what was last written
    replaced: dict[tuple[str, str], str | None] = field(
        default_factory=dict
    )  #: (image id, run) -> run before
    writes: int = 0  #: how often something was written or undone
    changed: set[str] = field(default_factory=set)  #: ids whose content is no longer the tagged one
    failures: list[TaggingError] = field(default_factory=list)
    mark_failures: list[TaggingError] = field(default_factory=list)

    async def write(self, ref: ImageRef, tagging: Tagging, keep: Keep) -> Write:
        self._fail()
        if ref.id in self.changed:
            return Write(WriteStatus.STALE, reason="content_changed")
        standing = self.written.get(ref.id)
        if standing and standing == replace(tagging, run_id=standing.run_id):
            return Write(WriteStatus.UNCHANGED)
        if standing is None or standing.run_id != tagging.run_id:
            run = standing.run_id if standing else None
            await keep({"sink": self.name, "run": run, "values": asdict(standing) if standing else {}})
            self.replaced[ref.id, tagging.run_id] = run
        return self._put(ref, tagging)

    async def undo(self, ref: ImageRef, written: Written) -> Write:
        self._fail()
        standing = self.written.get(ref.id)
        if standing is None or _tagging(written.previous) == standing:
            return Write(WriteStatus.UNCHANGED)
        if ref.id in self.changed or not _is_as_written(standing, written):
            return written.not_ours()
        replaced = self.replaced[ref.id, standing.run_id]
        kept = written.kept(replaced)
        if kept is None and replaced is not None:
            earlier = await written.earlier(replaced)
            if earlier is None:
                return Write(WriteStatus.SKIPPED, reason="previous_lost")
            kept = {"values": asdict(earlier.tagging)}
        return self._put(ref, _tagging(kept))

    async def marked(self, ref: ImageRef, engine_config: str, policy: str, run_id: str) -> bool | None:
        if self.mark_failures:
            raise self.mark_failures.pop(0)
        standing = self.written.get(ref.id)
        if standing is None or standing.run_id == run_id or ref.id in self.changed:
            return False
        return standing.marker == marker(engine_config, policy)

    async def aclose(self) -> None:
        """Nothing is held open."""

    def _fail(self) -> None:
        if self.failures:
            raise self.failures.pop(0)

    def _put(self, ref: ImageRef, tagging: Tagging | None) -> Write:
        self.writes += 1
        if tagging is None:
            del self.written[ref.id]
        else:
            self.written[ref.id] = tagging
        return Write(WriteStatus.WRITTEN)


def _is_as_written(standing: Tagging, written: Written) -> bool:
    same_tags = written.as_written is None or written.as_written.tags == standing.tags
    return standing.run_id == written.run_id and same_tags


def _tagging(kept: Mapping[str, Any] | None) -> Tagging | None:
    if not (kept and kept["values"]):
        return None
    return Tagging(**{**kept["values"], "labels": tuple(kept["values"]["labels"])})
