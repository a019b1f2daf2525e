from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagmill.worker.errors import (
    AccessDeniedError,
    BadResponseError,
    EngineUnavailableError,
    EngineUnreachableError,
    ImageNotFoundError,
    ItemError,
    SinkBusyError,
    SinkConflictError,
    ThrottledError,
)
from tagmill.worker.retry import (
    LONGEST_SECONDS,
    SHORTEST_SECONDS,
    RetryBudget,
    delay,
    floor_per_second,
    is_account_failure,
    nothing_else,
)

RNG = Random(7)  # noqa: S311 - guards nothing


@pytest.mark.parametrize("error", [EngineUnavailableError, EngineUnreachableError, SinkConflictError])
def test_the_moments_failures_get_three_attempts(error: type[ItemError]) -> None:
    delays = [delay(error("down"), attempt, RNG) for attempt in (1, 2, 3)]
    assert [wait is None for wait in delays] == [False, False, True]


def test_a_busy_store_gets_more_attempts() -> None:
    delays = [delay(SinkBusyError("busy"), attempt, RNG) for attempt in range(1, 7)]
    assert [wait is None for wait in delays] == [*[False] * 5, True]


def test_an_answer_that_is_none_gets_two_attempts() -> None:
    assert delay(BadResponseError("no JSON"), 1, RNG) is not None
    assert delay(BadResponseError("no JSON"), 2, RNG) is None


@pytest.mark.parametrize("error", [ImageNotFoundError, AccessDeniedError])
def test_permanent_failures_are_not_tried_again(error: type[ItemError]) -> None:
    assert delay(error("gone"), 1, RNG) is None


def test_throttling_costs_no_attempt() -> None:
    assert delay(ThrottledError("too fast", retry_after=30), 99, RNG) == 0.0


def test_the_servers_delay_wins() -> None:
    assert delay(EngineUnavailableError("down", retry_after=42), 1, RNG) == 42
    assert delay(EngineUnavailableError("down", retry_after=-1), 1, RNG) == 0.0


@given(seed=st.integers(), attempt=st.integers(1, 2))
def test_delays_are_random_within_bounds(seed: int, attempt: int) -> None:
    wait = delay(EngineUnavailableError("down"), attempt, Random(seed))  # noqa: S311 - guards nothing
    assert wait is not None
    assert SHORTEST_SECONDS <= wait <= min(2.0**attempt, LONGEST_SECONDS)


def retries(budget: RetryBudget, wanted: int, now: float) -> int:
    return sum(budget.take(now) == 0.0 for _ in range(wanted))


def test_a_few_retries_are_free() -> None:
    assert retries(RetryBudget(now=0.0), 100, now=0.0) == 10


def test_first_attempts_earn_a_tenth() -> None:
    budget = RetryBudget(now=0.0)
    retries(budget, 100, now=0.0)
    taken = 0
    for _ in range(1000):
        budget.first_attempt()
        taken += retries(budget, 1, now=0.0)
    assert taken == pytest.approx(100, abs=1)


def test_a_retry_that_must_wait_is_told_how_long_and_then_taken() -> None:
    budget = RetryBudget(now=0.0)
    retries(budget, 100, now=0.0)
    wait = budget.take(0.0)
    assert wait > 0
    assert budget.take(wait) == 0.0


@pytest.mark.parametrize(("rate", "floor"), [(0.5, 0.1), (10, 1.0), (1000, 2.0)])
def test_a_process_has_a_trickle_of_retries_for_its_share_of_the_rate(rate: float, floor: float) -> None:
    budget = RetryBudget(0.0, floor_per_second(rate))
    retries(budget, 100, now=0.0)
    assert floor_per_second(rate) == pytest.approx(floor)
    assert budget.take(0.0) == pytest.approx(1 / floor)


def test_savings_are_bounded() -> None:
    budget = RetryBudget(now=0.0)
    for _ in range(100_000):
        budget.first_attempt()
    assert retries(budget, 100, now=1e6) == 10


@pytest.mark.parametrize(
    ("counts", "verdict"),
    [
        ((19, 19, 19), False),
        ((20, 1, 501), True),  # many images of the run
        ((9, 9, 199), False),
        ((10, 10, 200), True),  # a twentieth
        ((10, 10, 201), False),
    ],
)
def test_many_denials_are_the_accounts(counts: tuple[int, int, int], verdict: bool) -> None:  # noqa: FBT001 - a parameter of the test
    assert is_account_failure(*counts) is verdict


@pytest.mark.parametrize(("denied", "tagged", "verdict"), [(2, 0, False), (3, 0, True), (3, 1, False)])
def test_a_chunk_of_refusals_alone_casts_doubt(denied: int, tagged: int, verdict: bool) -> None:  # noqa: FBT001 - a parameter of the test
    assert nothing_else(denied, tagged) is verdict
