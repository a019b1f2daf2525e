"""Which of the slots that have come is to be started."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from datetime import datetime, timedelta
from enum import StrEnum

ON_TIME = timedelta(minutes=5)  #: a slot that could not start for longer was missed


class CatchUp(StrEnum):
    LATEST = "latest"  #: of several missed slots the newest
    ALL = "all"  #: each, one after another
    NONE = "none"  #: none that was missed


def choose(slots: Iterable[datetime], catch_up: CatchUp, now: datetime) -> datetime | None:
    """`slots`: that have come and were not started, the oldest first."""
    if catch_up is CatchUp.ALL:
        return next(iter(slots), None)
    newest = next(iter(deque(slots, maxlen=1)), None)
    missed = newest is not None and now - newest > ON_TIME
    return None if missed and catch_up is CatchUp.NONE else newest
