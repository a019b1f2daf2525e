"""How far the received webhook events were dealt with, and which ones that were."""

from __future__ import annotations

import gzip
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice

import orjson

from tagmill.worker.store.base import Files
from tagmill.worker.store.layout import webhooks_folder

ROOT = webhooks_folder("digests")
KEPT = timedelta(days=7)  #: for which an event is known again
READERS = 16  #: threads: a store far away answers slowly
AT_ONCE = 64  #: files
_DAY = "%Y%m%d"
_SUFFIX = ".json.gz"
_NUMBER_WIDTH = 8
Place = tuple[str, int]  #: day, number within it


@dataclass(frozen=True, slots=True)
class Digest:
    cursor: Mapping[str, int]  #: up to where events were read
    marks: list[str]  #: what tells those that are new in it from all others
    counts: Mapping[str, int]  #: of the new ones, by action


class Digests:
    """One reader's view; files are numbered within a day, and the first writer of a number counts."""

    def __init__(self, files: Files, now: datetime) -> None:
        self._files = files
        self._day, self._number = f"{now - KEPT:{_DAY}}", 0

    def read_on(self) -> Iterator[Digest]:
        """Yield what was added since the last look; at first, of a week, or else of the last day of all."""
        for day in self._days():
            for place in self._places(day):
                yield self._read(place)
                self._go_on_behind(place)

    def newest(self, marks: int) -> list[Digest]:
        """Return, of the same time, the last ones that have so many marks; read on behind them."""
        backwards = (place for day in reversed(self._days()) for place in reversed(list(self._places(day))))
        read: list[Place] = []
        found: list[Digest] = []
        with ThreadPoolExecutor(READERS) as readers:
            while marks > 0 and (places := list(islice(backwards, AT_ONCE))):
                read += places
                found += readers.map(self._read, places)
                marks -= sum(len(digest.marks) for digest in found[-len(places) :])
        if read:
            self._go_on_behind(read[0])
        return found[::-1]

    def add(self, digest: Digest, now: datetime) -> bool:
        """Return False when somebody else was faster."""
        day = max(f"{now:{_DAY}}", self._day)
        number = self._number + 1 if day == self._day else 1
        added = self._files.create(_name((day, number)), gzip.compress(orjson.dumps(digest), mtime=0))
        if added:
            self._go_on_behind((day, number))
        return added

    def _days(self) -> list[str]:
        days = list(self._files.folders(ROOT))
        return [day for day in days if day >= self._day] or days[-1:]

    def _places(self, day: str) -> Iterator[Place]:
        last = self._number if day == self._day else 0
        names = self._files.names(f"{ROOT}/{day}", f"{last:0{_NUMBER_WIDTH}d}{_SUFFIX}")
        return ((day, int(name.removesuffix(_SUFFIX))) for name in names)

    def _read(self, place: Place) -> Digest:
        return Digest(**orjson.loads(gzip.decompress(self._files.read(_name(place)))))

    def _go_on_behind(self, place: Place) -> None:
        self._day, self._number = place


def _name(place: Place) -> str:
    day, number = place
    return f"{ROOT}/{day}/{number:0{_NUMBER_WIDTH}d}{_SUFFIX}"


def recent_counts(files: Files, now: datetime) -> dict[str, int]:
    """Return the events of a week by action, the most frequent first."""
    sums = Counter[str]()
    for digest in Digests(files, now).read_on():
        sums.update(digest.counts)
    return dict(sums.most_common())
