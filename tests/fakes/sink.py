"""A sink that remembers, and fails when told to."""

from __future__ import annotations

from dataclasses import dataclass, field

from tagmill.worker.errors import TaggingError
from tagmill.worker.models import ImageRef, Write, WriteStatus
from tagmill.worker.sinks.base import Keep, Tagging


@dataclass
class FakeSink:
    """`failures` are raised one a call, first to last, before anything is written."""

    name: str = "fake"
    written: dict[str, Tagging] = field(default_factory=dict)  #: image id -> what was last written
    writes: int = 0  #: how often something was written
    changed: set[str] = field(default_factory=set)  #: ids whose content is no longer the tagged one
    failures: list[TaggingError] = field(default_factory=list)

    async def write(self, ref: ImageRef, tagging: Tagging, keep: Keep) -> Write:
        if self.failures:
            raise self.failures.pop(0)
        if ref.id in self.changed:
            return Write(WriteStatus.STALE, reason="content_changed")
        previous = self.written.get(ref.id)
        if previous and (previous.tags, previous.engine_config) == (tagging.tags, tagging.engine_config):
            return Write(WriteStatus.UNCHANGED)
        if previous is None or previous.run_id != tagging.run_id:
            await keep({"sink": self.name, "values": dict(previous.tags) if previous else {}})
        self.written[ref.id] = tagging
        self.writes += 1
        return Write(WriteStatus.WRITTEN)

    async def aclose(self) -> None:
        """Nothing is held open."""
