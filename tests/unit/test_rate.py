from __future__ import annotations

import math

import pytest

from tagmill.worker.rate import Rate

DEFAULT = Rate.parse("4/s")


@pytest.mark.parametrize(
    ("text", "per_second", "per_day"),
    [
        ("20/s", 20.0, None),
        ("20/s,60/m", 1.0, None),
        ("3600/h", 1.0, None),
        ("20/s,5000/d", 20.0, 5000),
        ("5000/d", math.inf, 5000),
        ("5000/d,70/d", math.inf, 70),
    ],
)
def test_a_day_is_a_budget_and_all_else_a_pace(text: str, per_second: float, per_day: int | None) -> None:
    rate = Rate.parse(text)
    assert (rate.per_second, rate.per_day) == (per_second, per_day)


def test_a_budget_without_a_pace_takes_the_default_pace() -> None:
    assert Rate.parse("5000/d").paced(DEFAULT) == Rate.parse("4/s,5000/d")
    assert Rate.parse("20/s,5000/d").paced(DEFAULT) == Rate.parse("20/s,5000/d")


@pytest.mark.parametrize("text", ["0.5/d", "0/d"])
def test_less_than_a_call_a_day_is_no_rate(text: str) -> None:
    with pytest.raises(ValueError, match="write calls per unit"):
        Rate.parse(text)
