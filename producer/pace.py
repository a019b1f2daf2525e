"""How fast a run goes and when it will be done, from what it said over the last half minute."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

SPAN_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class _Sample:
    at: float
    settled: int
    held_seconds: float
    lane_seconds: float


class Pace:
    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        """`rate`: the limit in calls/s; nothing is expected to go faster."""
        self._rate, self._clock = rate, clock
        self._samples: deque[_Sample] = deque()

    def note(self, settled: int, held_seconds: float, lane_seconds: float) -> None:
        """Give sums since the start of the run."""
        now = self._clock()
        self._samples.append(_Sample(now, settled, held_seconds, lane_seconds))
        while now - self._samples[0].at > SPAN_SECONDS:
            self._samples.popleft()

    @property
    def per_second(self) -> float:
        """Images settled a second."""
        first, last = self._samples[0], self._samples[-1]
        return max(last.settled - first.settled, 0) / (last.at - first.at) if last.at > first.at else 0.0

    @property
    def held_share(self) -> float:
        """Share of the lanes' time, 0 to 1, that the limiter held them."""
        first, last = self._samples[0], self._samples[-1]
        lanes = last.lane_seconds - first.lane_seconds
        return min(max((last.held_seconds - first.held_seconds) / lanes, 0.0), 1.0) if lanes > 0 else 0.0

    def eta_seconds(self, remaining: int) -> float | None:
        """None while nothing moves."""
        pace = min(self.per_second, self._rate)
        return remaining / pace if pace > 0 else None
