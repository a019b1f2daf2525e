"""Events that make an image due, and which of them are news. Pure: the logs of event runs are the memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from tagmill.worker.store.plan import Planned

REMEMBERED = 300_000  #: names; what was heard of longer ago counts as new
BURST = 3  #: times that one image may become due
BURST_PERIOD = timedelta(hours=1)  #: within this


@dataclass(frozen=True, slots=True)
class Event:
    """One image that has become due. Two of equal name, order and mark are the same event, told twice."""

    name: str  #: of what happened: an image's id; or an event's own, for one that nothing may follow
    image: Planned
    order: str = ""  #: sorts the events of one name; what is older than another is settled with it
    mark: str = ""  #: tells those of equal order apart, where a server counts badly


class Verdict(StrEnum):
    NEW = "new"
    DUPLICATE = "duplicate"
    OUTDATED = "outdated"  #: a newer one of the same name is known
    TOO_OFTEN = "too_often"  #: as if its own write-back made it due again and again


@dataclass(slots=True)
class _Heard:
    order: str
    mark: str
    times: list[float]  #: of the last few; seconds since the epoch


class Recent:
    """The last events of each name."""

    def __init__(self) -> None:
        self._heard: dict[str, _Heard] = {}

    def judge(self, event: Event, now: datetime) -> Verdict:
        heard = self._heard.get(event.name)
        if heard is None:
            return Verdict.NEW
        if (event.order, event.mark) == (heard.order, heard.mark):
            return Verdict.DUPLICATE
        if event.order < heard.order:
            return Verdict.OUTDATED
        begun = now.timestamp() - BURST_PERIOD.total_seconds()
        often = len(heard.times) >= BURST and heard.times[0] > begun
        return Verdict.TOO_OFTEN if often else Verdict.NEW

    def note(self, record: Any) -> None:
        """Take in the record of a shard's events, as `record_of` made it."""
        if record:
            at = datetime.fromisoformat(record["at"]).timestamp()
            for name, order, mark in record["events"]:
                earlier = self._heard.pop(name, None)  # the newest name is the last to be forgotten
                times = [*(earlier.times if earlier else ()), at][-BURST:]
                self._heard[name] = _Heard(order, mark, times)
        for oldest in list(self._oldest()):
            del self._heard[oldest]

    def _oldest(self) -> Iterator[str]:
        excess = len(self._heard) - REMEMBERED
        return (name for name, _ in zip(self._heard, range(excess), strict=False))


def record_of(events: Sequence[Event], at: datetime) -> dict[str, Any]:
    """Return what a shard keeps of the events that planned its images, as JSON."""
    return {"at": at.isoformat(), "events": [[event.name, event.order, event.mark] for event in events]}


def newest_of_each(events: Sequence[Event]) -> list[Event]:
    """Return the last of the events of each name, in the order in which the names came up."""
    newest: dict[str, Event] = {}
    for event in events:
        known = newest.get(event.name)
        if known is None or event.order >= known.order:
            newest[event.name] = event
    return list(newest.values())
