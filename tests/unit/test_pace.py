from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagmill.producer.pace import SPAN_SECONDS, Pace


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_the_pace_is_that_of_the_last_half_minute(clock: Clock) -> None:
    pace = Pace(1_000.0, clock)
    settled = 0
    for step in range(120):
        pace.note(settled, 0.0, 0.0)
        clock.now += 1
        settled += 100 if step < 60 else 5
    assert pace.per_second == pytest.approx(5.0)


def test_nothing_is_known_after_one_look(clock: Clock) -> None:
    pace = Pace(10.0, clock)
    pace.note(50, 3.0, 9.0)
    assert (pace.per_second, pace.held_share, pace.eta_seconds(100)) == (0.0, 0.0, None)


def test_the_share_of_waiting_is_that_of_the_last_half_minute(clock: Clock) -> None:
    pace = Pace(10.0, clock)
    pace.note(0, 100.0, 400.0)
    clock.now += 10
    pace.note(0, 103.0, 404.0)
    assert pace.held_share == pytest.approx(0.75)


def test_the_limit_bounds_what_is_expected(clock: Clock) -> None:
    pace = Pace(10.0, clock)
    pace.note(0, 0.0, 0.0)
    clock.now += 10
    pace.note(1_000, 0.0, 0.0)  # a resumed run finds most of it done
    assert pace.per_second == pytest.approx(100.0)
    assert pace.eta_seconds(100) == pytest.approx(10.0)
    assert pace.eta_seconds(0) == 0.0


def test_a_slower_pace_than_the_limit_is_believed(clock: Clock) -> None:
    pace = Pace(10.0, clock)
    pace.note(0, 0.0, 0.0)
    clock.now += 10
    pace.note(20, 0.0, 0.0)
    assert pace.eta_seconds(100) == pytest.approx(50.0)


@given(
    st.lists(st.tuples(st.floats(0, 40), st.integers(0, 1_000), st.floats(0, 9), st.floats(0, 9)), min_size=1)
)
def test_whatever_it_is_told_it_says_something_sensible(
    looks: list[tuple[float, int, float, float]],
) -> None:
    clock = Clock()
    pace = Pace(10.0, clock)
    for seconds, settled, held, lanes in looks:
        clock.now += seconds
        pace.note(settled, held, lanes)
        assert 0.0 <= pace.held_share <= 1.0
        assert pace.per_second >= 0.0
        eta = pace.eta_seconds(10)
        assert eta is None or eta > 0
        assert pace._samples[-1].at - pace._samples[0].at <= SPAN_SECONDS
