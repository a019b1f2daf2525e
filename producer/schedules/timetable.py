"""Which rate a run has at which time of day."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

from tagmill.worker.rate import Rate

DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Step:
    """The rate that holds, and since when."""

    since: datetime
    rate: Rate


@dataclass(frozen=True, slots=True)
class Timetable:
    """Every day the same, in local time."""

    rates: tuple[tuple[time, Rate], ...]  #: at least one
    zone: ZoneInfo

    def at(self, now: datetime) -> Step:
        return max((step for step in self._around(now) if step.since <= now), key=lambda step: step.since)

    def _around(self, now: datetime) -> Iterator[Step]:
        """Those of today and of the two days before: a clock that is changed moves them by hours."""
        today = now.astimezone(self.zone).date()
        for day in (today, today - DAY, today - 2 * DAY):
            for at, rate in self.rates:
                yield Step(datetime.combine(day, at, self.zone).astimezone(UTC), rate)
