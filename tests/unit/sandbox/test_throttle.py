"""The server's own rate."""

from __future__ import annotations

from tagmill.sandbox.throttle import Throttle
from tagmill.worker.rate import Rate


class Clock:
    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def test_a_window_admits_its_calls_and_names_its_end() -> None:
    throttle = Throttle(Rate.parse("2/s"), Clock(100.25))
    assert [throttle.refused() for _ in range(3)] == [None, None, (2.0, 101.0)]


def test_the_next_window_starts_empty() -> None:
    clock = Clock(100.0)
    throttle = Throttle(Rate.parse("1/s"), clock)
    assert throttle.refused() is None
    assert throttle.refused() is not None
    clock.now = 101.0
    assert throttle.refused() is None


def test_all_windows_hold_at_once() -> None:
    clock = Clock(120.0)
    throttle = Throttle(Rate.parse("2/s,3/m"), clock)
    assert [throttle.refused() for _ in range(3)] == [None, None, (2.0, 121.0)]
    clock.now = 121.0
    assert [throttle.refused() for _ in range(2)] == [None, (3.0, 180.0)]
