"""The tags of a chunk's images to the run's places; what stood there before is journaled first."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

from tagmill.worker.equipment import Equipment
from tagmill.worker.history import tagging_of
from tagmill.worker.models import Outcome, Write, WriteStatus
from tagmill.worker.sinks.base import Tagging
from tagmill.worker.state.journal import Journal
from tagmill.worker.store.passes import PassKind
from tagmill.worker.store.plan import Planned

Persist = Callable[[Callable[[], Awaitable[None]]], Awaitable[None]]  #: sits out a restart of Redis


class Placing:
    def __init__(self, kit: Equipment, journal: Journal, persist: Persist) -> None:
        self._kit, self._journal, self._persist = kit, journal, persist

    def due(self, outcome: Outcome) -> bool:
        return outcome.answer is not None and bool(self._kit.write_back) and not outcome.writes

    async def place(self, index: int, planned: Planned, outcome: Outcome) -> Outcome:
        """Write, or take back what the run wrote; an image's failed write is its row's matter."""
        if self._kit.kind is PassKind.UNDO:
            return replace(outcome, writes=await self._kit.undoing.undo(planned))
        return replace(outcome, writes=await self._write(index, planned, outcome))

    async def _write(self, index: int, planned: Planned, outcome: Outcome) -> dict[str, Write]:
        async def keep(sink: str, previous: Mapping[str, Any]) -> None:
            await self._persist(lambda: self._journal.keep_undo(index, sink, previous))

        ours = self._journal.written(index)
        ref, tagging = planned.ref.at(outcome.behind), self._tagging(planned, outcome)
        writes = await self._kit.write_back.write(ref, tagging, keep, planned.place)
        return {name: _ours(write) if name in ours else write for name, write in writes.items()}

    def _tagging(self, planned: Planned, outcome: Outcome) -> Tagging:
        assert outcome.answer is not None and outcome.tagged_at is not None  # noqa: S101, PT018 - only answers are written
        policy = self._kit.policy.hash
        tags, labels = self._kit.policy.judge(outcome.answer.tags, outcome.answer.results)
        row = planned.row
        if row is not None and self._kit.kind.reuses(row) and (earlier := tagging_of(row)) is not None:
            return replace(earlier, tags=tags, labels=tuple(labels), policy=policy)
        engine = self._kit.tagger.engine
        return Tagging(
            self._kit.run_id,
            engine.name,
            engine.config_hash,
            policy,
            tags,
            outcome.tagged_at,
            tuple(labels),
        )


def _ours(write: Write) -> Write:
    """Call a write by its name that this run made before its worker died."""
    return replace(write, status=WriteStatus.WRITTEN) if write.status is WriteStatus.UNCHANGED else write
