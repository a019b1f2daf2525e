from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagmill.worker.pace import KEPT_SECONDS, SPAN_SECONDS, Pace, Sample

START_UP_SECONDS = 3.0


def moving(pace: Pace, seconds: float, per_second: float, *, held: float = 0.0, step: float = 1.0) -> None:
    """Note what goes on from the last sample."""
    before = pace.samples[-1] if pace.samples else Sample(100.0, 0, 0.0, 0.0)
    for number in range(int(seconds / step) + 1):
        spent = number * step
        pace.note(
            Sample(
                before.at + spent,
                before.settled + int(spent * per_second),
                before.held_seconds + 4 * held * spent,
                before.lane_seconds + 4 * spent,
            )
        )


def test_the_pace_is_that_of_the_last_half_minute() -> None:
    pace = Pace()
    moving(pace, 60, 100)
    moving(pace, 60, 5)
    assert pace.per_second == pytest.approx(5.0)


def test_nothing_is_known_before_a_second_look() -> None:
    pace = Pace(10.0)
    assert (pace.per_second, pace.held_share, pace.eta_seconds(100)) == (0.0, 0.0, None)
    pace.note(Sample(100.0, 50, 3.0, 9.0))
    assert (pace.per_second, pace.held_share, pace.eta_seconds(100)) == (0.0, 0.0, None)
    assert pace.eta_seconds(0) == 0.0


def test_the_share_of_waiting_is_that_of_the_last_half_minute() -> None:
    pace = Pace(10.0)
    moving(pace, 60, 5, held=0.1)
    moving(pace, 60, 5, held=0.75)
    assert pace.held_share == pytest.approx(0.75)


def test_what_was_settled_before_is_no_pace() -> None:
    """A resumed run finds most of it done."""
    pace = Pace(10.0)
    pace.note(Sample(100.0, 0, 0.0, 0.0))
    pace.note(Sample(102.0, 1_000, 0.0, 0.0))
    moving(pace, 20, 8)
    assert pace.eta_seconds(80) == pytest.approx(10.0)


def test_for_its_first_half_minute_nothing_is_expected_to_be_faster_than_the_limit() -> None:
    pace = Pace(10.0)
    moving(pace, 20, 30)
    assert pace.eta_seconds(100) == pytest.approx(10.0)
    moving(pace, 20, 30)  # images that cost no call are not held up
    assert pace.eta_seconds(300) == pytest.approx(10.0, rel=0.05)


def test_a_slower_pace_than_the_limit_is_believed() -> None:
    pace = Pace(10.0)
    moving(pace, 20, 2, held=0.5)
    assert pace.eta_seconds(100) == pytest.approx(50.0)


def test_under_another_limit_it_is_measured_anew() -> None:
    pace = Pace(10.0)
    moving(pace, 60, 10, held=0.5)
    pace.limit_to(10.0)
    assert pace.per_second == pytest.approx(10.0)
    pace.limit_to(40.0)
    assert (pace.per_second, pace.eta_seconds(100)) == (0.0, None)


def test_a_new_pass_begins_anew() -> None:
    pace = Pace()
    moving(pace, 60, 5)
    pace.note(Sample(200.0, 3, 0.0, 0.0))
    assert len(pace.samples) == 1


def test_a_slow_run_is_told_from_a_long_span() -> None:
    pace = Pace()
    moving(pace, 3_000, 0.1, step=5.0)
    assert pace.eta_seconds(100) == pytest.approx(1_000, rel=0.05)


def test_it_comes_back_from_json_and_stays_small() -> None:
    pace = Pace()
    moving(pace, 4 * KEPT_SECONDS, 3, step=2.0)
    again = Pace(samples=Pace.samples_of(pace.to_json()))
    assert again.samples == pace.samples
    assert len(again.samples) < 100
    assert again.per_second == pytest.approx(3.0, rel=0.05)


@given(
    st.lists(
        st.tuples(st.floats(0, 40), st.integers(0, 1_000), st.floats(0, 9), st.floats(0, 9)), min_size=1
    ),
    st.none() | st.floats(0.1, 100),
)
def test_whatever_it_is_told_it_says_something_sensible(
    looks: list[tuple[float, int, float, float]], limit: float | None
) -> None:
    pace, now = Pace(limit), 0.0
    for seconds, settled, held, lanes in looks:
        now += seconds
        pace.note(Sample(now, settled, held, lanes))
        assert 0.0 <= pace.held_share <= 1.0
        assert pace.per_second >= 0.0
        eta = pace.eta_seconds(10)
        assert eta is None or eta > 0
        assert pace.samples[-1].at - pace.samples[0].at <= KEPT_SECONDS
    assert SPAN_SECONDS < KEPT_SECONDS


# --- when it will be done: 10 % after 5 % of a steady run -------------------------------------------------


def looks(rate: float, total: int, held: float, seed: int) -> Iterator[tuple[float, Sample]]:
    """A steady run as it is seen: chunks in work say how far they are every second, each at its moment."""
    chance = random.Random(seed)  # noqa: S311 - the same for a seed
    phases = [chance.random() for _ in range(chance.choice([1, 2, 4, 16]))]
    ends = START_UP_SECONDS + total / rate
    now = chance.random()
    while now < ends:
        settled = sum(
            max(int((rate * (now - START_UP_SECONDS - (now - phase) % 1.0) - number) / len(phases)) + 1, 0)
            for number, phase in enumerate(phases)
            if now > START_UP_SECONDS + 1
        )
        lanes = 8 * max(now - START_UP_SECONDS, 0.0)
        yield ends - now, Sample(now, settled, held * lanes, lanes)
        now += max(2.0, total / rate / 400)


@pytest.mark.parametrize(
    ("rate", "seconds", "held"),
    [
        (20.0, 60.0, 0.6),  # at the limit: the pace is known before it can be measured
        (100.0, 120.0, 0.3),
        (4.0, 3_600.0, 0.9),
        (5_000 / 86_400, 2 * 86_400.0, 0.99),
        (30.0, 900.0, 0.0),  # the service is slower than the limit: the pace is measured
        (300.0, 3_600.0, 0.0),
    ],
)
@pytest.mark.parametrize("seed", range(5))
def test_a_steady_runs_end_is_known_to_a_tenth_after_a_twentieth_of_it(
    rate: float, seconds: float, held: float, seed: int
) -> None:
    pace = Pace(rate if held else 2 * rate)
    total = int(rate * seconds)
    for left, sample in looks(rate, total, held, seed):
        pace.note(sample)
        if sample.at < START_UP_SECONDS + 0.05 * seconds:
            continue
        eta = pace.eta_seconds(total - sample.settled)
        assert eta is not None
        assert abs(eta - left) <= max(0.1 * left, 2.0, 2 / rate)
