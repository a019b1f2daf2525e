"""Whether an image is asked for, by what is known of it: pure decisions."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from tagmill.producer.modes import Mode
from tagmill.worker.known import Known
from tagmill.worker.models import Source
from tagmill.worker.policy import TagPolicy
from tagmill.worker.store.runs import RunSpec


class Why(StrEnum):
    """Why an image of a known source is planned, or is not; counted by these names."""

    NEW = "new"
    CHANGED = "changed"  #: its content
    FAILED = "failed"  #: last time
    REFUSED = "refused"  #: by the service last time, for what it is: not planned
    RECONFIGURED = "reconfigured"  #: the engine is asked otherwise than then
    OLD = "old"  #: its answer
    LOST = "lost"  #: its answer, which another policy or place needs, is in the store no more
    REAPPLIED = "reapplied"  #: the answer that is there, under another policy or to another place: no call
    ADOPTED = "adopted"  #: tagged by an event run since: its answer is taken over, no call
    AGAIN = "again"  #: nothing but that all are wanted
    UNCHANGED = "unchanged"  #: not planned


NOT_PLANNED = frozenset({Why.UNCHANGED, Why.REFUSED})
WITH_ANSWER = frozenset({Why.REAPPLIED, Why.ADOPTED})  #: planned, and not called for


@dataclass(frozen=True, slots=True)
class Verdict:
    why: Why
    fresh: bool = False  #: an answer that the service remembers will not do


@dataclass(frozen=True, slots=True)
class Standard:
    """What a run measures images by."""

    mode: Mode
    engine_config: str
    policy: str
    sinks: frozenset[str]
    retag_before: str | None = None  #: RFC 3339

    @classmethod
    def of(cls, spec: RunSpec) -> Standard:
        return cls(
            Mode(spec.mode),
            spec.engine_config,
            TagPolicy.from_json(spec.policy).hash,
            frozenset(spec.write_back),
            spec.retag_before,
        )

    def judge(self, known: Known | None, source: Source) -> Verdict:
        if known is None:
            return Verdict(Why.NEW)
        verdict = self._judge(known, source)
        if self.mode is Mode.ALL and verdict.why in {*NOT_PLANNED, Why.REAPPLIED}:
            return Verdict(Why.AGAIN)
        return verdict

    def _judge(self, known: Known, source: Source) -> Verdict:
        changed = not known.has_content_of(source)
        if known.failed:
            if known.refused and not changed and known.engine_config == self.engine_config:
                return Verdict(Why.REFUSED)
            return Verdict(Why.CHANGED if changed else Why.FAILED, fresh=changed or known.fresh)
        if self.mode is Mode.MISSING:
            return Verdict(Why.UNCHANGED)
        if changed:
            return Verdict(Why.CHANGED, fresh=True)
        if known.engine_config != self.engine_config:
            return Verdict(Why.RECONFIGURED)
        return self._judge_tags(known) if known.tagged else Verdict(Why.UNCHANGED)

    def _judge_tags(self, known: Known) -> Verdict:
        if self._is_old(known):
            return Verdict(Why.OLD, fresh=True)
        if known.policy != self.policy or not self.sinks <= set(known.sinks):
            return Verdict(Why.LOST if known.place is None else Why.REAPPLIED)
        return Verdict(Why.UNCHANGED)

    def _is_old(self, known: Known) -> bool:
        before = self.retag_before
        return before is not None and datetime.fromisoformat(known.at) < datetime.fromisoformat(before)
