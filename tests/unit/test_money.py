from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagmill.worker.money import calls_for, cost_of

prices = st.decimals("0.0001", "1000", places=4).map(str)


@pytest.mark.parametrize(
    ("calls", "price", "cost"),
    [
        (1, "1.5", 0.0015),
        (1000, "1.5", 1.5),
        (3, "0.1", 0.0003),
        (1, "0.0005", 0.000001),
        (1, "0.0004", 0.0),
        (100_000_000, "0.1", 10_000.0),
        (0, "1", 0.0),
    ],
)
def test_cost_is_rounded_half_up_to_a_millionth(calls: int, price: str, cost: float) -> None:
    assert cost_of(calls, price) == cost


def test_without_a_price_there_is_no_cost() -> None:
    assert cost_of(1000, None) is None


@given(st.integers(0, 10**9), prices)
def test_the_number_says_the_decimal_to_the_last_digit(calls: int, price: str) -> None:
    exact = calls * Decimal(price) / 1000
    assert abs(Decimal(repr(cost_of(calls, price))) - exact) <= Decimal("0.0000005")


@pytest.mark.parametrize(
    ("cost", "price", "calls"),
    [("1.5", "1.5", 1000), ("0.10", "1.5", 66), ("0.001", "1.5", 0), ("10", "3", 3333)],
)
def test_a_cost_buys_whole_calls(cost: str, price: str, calls: int) -> None:
    assert calls_for(cost, price) == calls


@given(st.decimals("0.01", "100000", places=2), prices)
def test_what_a_cost_buys_does_not_exceed_it_and_one_more_would(cost: Decimal, price: str) -> None:
    calls = calls_for(str(cost), price)
    assert calls * Decimal(price) / 1000 <= cost < (calls + 1) * Decimal(price) / 1000
