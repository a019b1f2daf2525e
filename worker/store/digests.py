"""How far the received webhook events were dealt with, and which ones that were."""

from __future__ import annotations

import gzip
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import orjson

from tagmill.worker.store.base import Files
from tagmill.worker.store.layout import webhooks_folder

ROOT = webhooks_folder("digests")
KEPT = timedelta(days=7)  #: for which an event is known again
_DAY = "%Y%m%d"
_SUFFIX = ".json.gz"
_NUMBER_WIDTH = 8


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
        days = list(self._files.folders(ROOT))
        for day in [day for day in days if day >= self._day] or days[-1:]:
            yield from self._of_day(day)

    def add(self, digest: Digest, now: datetime) -> bool:
        """Return False when somebody else was faster."""
        day = max(f"{now:{_DAY}}", self._day)
        number = self._number + 1 if day == self._day else 1
        name = f"{ROOT}/{day}/{number:0{_NUMBER_WIDTH}d}{_SUFFIX}"
        added = self._files.create(name, gzip.compress(orjson.dumps(digest), mtime=0))
        if added:
            self._day, self._number = day, number
        return added

    def _of_day(self, day: str) -> Iterator[Digest]:
        last = self._number if day == self._day else 0
        folder = f"{ROOT}/{day}"
        for name in self._files.names(folder, f"{last:0{_NUMBER_WIDTH}d}{_SUFFIX}"):
            yield Digest(**orjson.loads(gzip.decompress(self._files.read(f"{folder}/{name}"))))
            self._day, self._number = day, int(name.removesuffix(_SUFFIX))


def recent_counts(files: Files, now: datetime) -> dict[str, int]:
    """Return the events of a week by action, the most frequent first."""
    sums = Counter[str]()
    for digest in Digests(files, now).read_on():
        sums.update(digest.counts)
    return dict(sums.most_common())
