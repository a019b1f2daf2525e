"""The slots of a cron line in a time zone, as instants of UTC."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

FIELDS = 5
_STAR = re.compile(r"(^|,)\*")


@dataclass(frozen=True, slots=True)
class Cron:
    """What falls into the hour that is skipped comes at its end; what would come twice comes once.

    A line for every hour goes by the time that passes.
    """

    line: str
    zone: ZoneInfo

    @classmethod
    def parse(cls, text: str, zone: ZoneInfo) -> Cron:
        """Raise ValueError, with the rule as its text."""
        fields = text.split()
        if len(fields) != FIELDS:
            raise ValueError("write five fields: minute, hour, day of month, month, day of week")
        try:
            line = _fixed(fields)
            CronSim(line, datetime(2000, 1, 1, tzinfo=UTC))
        except CronSimError as error:
            raise ValueError(f"{str(error).lower()} in {text!r}") from None
        return cls(line, zone)

    def after(self, instant: datetime) -> Iterator[datetime]:
        """Yield the slots beyond `instant`, which has a time zone."""
        last = instant
        for local in CronSim(self.line, instant.astimezone(self.zone)):
            slot = local.astimezone(UTC)
            if slot > last:
                last = slot
                yield slot


def _fixed(fields: list[str]) -> str:
    """Say `*` of minute and hour as a range, unless each hour is meant: CronSim takes local time by that."""
    minute, hour, *days = fields
    if hour != "*":
        minute, hour = _STAR.sub(r"\g<1>0-59", minute), _STAR.sub(r"\g<1>0-23", hour)
    return " ".join([minute, hour, *days])
