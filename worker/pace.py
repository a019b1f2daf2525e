"""How fast a run goes and when it will be done, from what it said of itself lately."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import astuple, dataclass
from typing import Any

SPAN_SECONDS = 30.0  #: what "now" means
KEPT_SECONDS = 3600.0
SPACING = 1 / 8  #: samples are as far apart as this share of their age: a hundred tell of an hour
ENOUGH_IMAGES = 100  #: settled within a span, to tell the pace to a few per cent
COUNTED_SECONDS = 1.2  #: outcomes are counted once a second, so each count may be late by so much
HELD_SHARE = 0.1  #: of its time, from which a run goes as fast as the limiter lets it


@dataclass(frozen=True, slots=True)
class Sample:
    """Sums since the start of the run, or of its pass."""

    at: float  #: seconds, by any clock
    settled: int  #: images
    held_seconds: float  #: of the lanes' time, for which the limiter held them
    lane_seconds: float


class Pace:
    """`limit`: images/s that the limiter lets through; None: not known."""

    def __init__(self, limit: float | None = None, samples: Iterable[Sample] = ()) -> None:
        self.limit = limit
        self.samples = list(samples)

    def limit_to(self, limit: float | None) -> None:
        """Go on under another limit: what was measured under the one before tells nothing."""
        if self.limit is not None and limit != self.limit:
            self.samples.clear()
        self.limit = limit

    def note(self, sample: Sample) -> None:
        """Samples come in the order of their times; one that takes settled images back begins anew."""
        if self.samples and sample.settled < self.samples[-1].settled:
            self.samples.clear()
        self.samples.append(sample)
        self._thin(sample.at)

    @property
    def per_second(self) -> float:
        """Images settled a second, over the last half minute."""
        return _rate(self._recent(), self.samples[-1]) if self.samples else 0.0

    @property
    def held_share(self) -> float:
        """Share of the lanes' time, 0 to 1, that the limiter held them, over the last half minute."""
        if not self.samples:
            return 0.0
        first, last = self._recent(), self.samples[-1]
        lanes = last.lane_seconds - first.lane_seconds
        return min(max((last.held_seconds - first.held_seconds) / lanes, 0.0), 1.0) if lanes > 0 else 0.0

    def eta_seconds(self, remaining: int) -> float | None:
        """None while nothing moves."""
        pace = self._expected()
        return 0.0 if not remaining else remaining / pace if pace > 0 else None

    def to_json(self) -> list[Any]:
        return [astuple(sample) for sample in self.samples]

    @staticmethod
    def samples_of(value: Iterable[Any]) -> list[Sample]:
        """Read what `to_json` wrote."""
        return [Sample(*fields) for fields in value]

    def _expected(self) -> float:
        """Images a second from now on."""
        if not self.samples:
            return 0.0
        first, last = self._base(), self.samples[-1]
        measured, span = _rate(first, last), last.at - first.at
        if self.limit is None:
            return measured
        # What counting cannot tell from the limit is the limit, where that is what holds the run.
        unsure = COUNTED_SECONDS * self.limit
        if self.held_share >= HELD_SHARE and abs(measured - self.limit) * span <= unsure:
            return self.limit
        return measured if span >= SPAN_SECONDS else min(measured, self.limit)

    def _base(self) -> Sample:
        """Where the span begins that tells the pace: half a minute ago, earlier if too little was settled."""
        last, working = self.samples[-1], self._working()
        long = [sample for sample in working if last.at - sample.at >= SPAN_SECONDS]
        sure = [sample for sample in long if last.settled - sample.settled >= ENOUGH_IMAGES]
        return sure[-1] if sure else working[0]

    def _working(self) -> list[Sample]:
        """Samples from the first that saw something settled: before, everything was being started."""
        start = self.samples[0].settled
        moved = [sample for sample in self.samples if sample.settled > start]
        return moved or self.samples

    def _recent(self) -> Sample:
        now = self.samples[-1].at
        return next(sample for sample in self.samples if now - sample.at <= SPAN_SECONDS)

    def _thin(self, now: float) -> None:
        """Drop what is too old, and samples whose neighbours are near enough to each other."""
        young = [sample for sample in self.samples if now - sample.at <= KEPT_SECONDS]
        kept = young[:1]
        for sample, following in itertools.pairwise(young[1:]):
            if following.at - kept[-1].at > SPACING * (now - sample.at):
                kept.append(sample)
        self.samples = kept + young[1:][-1:]


def _rate(first: Sample, last: Sample) -> float:
    return (last.settled - first.settled) / (last.at - first.at) if last.at > first.at else 0.0
