"""The account's rate as the server holds it: fixed windows of wall time."""

from __future__ import annotations

from collections.abc import Callable

from tagmill.worker.rate import Rate, Window


class Throttle:
    """Admits a request when every window has room; a refused one takes no room."""

    def __init__(self, rate: Rate, clock: Callable[[], float]) -> None:
        self._windows = [_Count(window) for window in rate.windows]
        self._clock = clock

    def refused(self) -> tuple[float, float] | None:
        """None when admitted, otherwise the full window's limit and the Unix time it ends."""
        now = self._clock()
        for count in self._windows:
            count.turn(now)
        full = next((count for count in self._windows if count.full), None)
        if full is not None:
            return full.window.calls, full.end
        for count in self._windows:
            count.used += 1
        return None


class _Count:
    def __init__(self, window: Window) -> None:
        self.window = window
        self.used = 0
        self.end = 0.0

    @property
    def full(self) -> bool:
        return self.used + 1 > self.window.calls

    def turn(self, now: float) -> None:
        if now >= self.end:
            self.used = 0
            self.end = now - now % self.window.seconds + self.window.seconds
