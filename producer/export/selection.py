"""Which rows of a manifest are wanted, and which of their tags."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tagmill.worker.errors import ConfigError
from tagmill.worker.models import Json, Status
from tagmill.worker.policy import TagPolicy, folded

HIGHEST = 100
ANY_TAG = TagPolicy()


@dataclass(frozen=True, slots=True)
class Selection:
    """A row fits as a whole or not at all. The default takes every row."""

    statuses: frozenset[str] = frozenset()  #: any of them; none: all
    tags: TagPolicy = ANY_TAG  #: what it leaves of a row's tags are those that fit

    @classmethod
    def parse(cls, statuses: Sequence[str], patterns: Sequence[str], min_confidence: float) -> Selection:
        """Raise `ConfigError`."""
        for status in statuses:
            if status not in set(Status):
                raise ConfigError(f"--status {status}: use one of {', '.join(Status)}")
        if not 0 <= min_confidence <= HIGHEST:
            raise ConfigError(f"--min-confidence must be from 0 to {HIGHEST}")
        wanted = TagPolicy(min_confidence=min_confidence, allow=tuple(map(folded, patterns)))
        return cls(frozenset(statuses), wanted)

    def fits(self, row: Json) -> bool:
        """Where tags are asked for, one that fits is enough."""
        if self.statuses and row["status"] not in self.statuses:
            return False
        return self.tags == ANY_TAG or bool(self.fitting(row))

    def fitting(self, row: Json) -> Mapping[str, float]:
        """The tags of a row that fit, the most confident first."""
        return self.tags.labels(row["tags"]["auto"]) if row["tags"] else {}
