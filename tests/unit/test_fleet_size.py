"""Workers that the rate has use for."""

from __future__ import annotations

import pytest

from tagmill.worker.fleet_size import MOST, Use, useful_workers


def use(per_second: float, held: float, limit: float = 100.0, account: str = "one") -> Use:
    return Use(account, per_second, limit, held)


@pytest.mark.parametrize(
    ("workers", "uses", "useful"),
    [
        (4, [use(100, 0.75)], 1),  # three of four lanes wait for permits
        (4, [use(100, 0.5)], 2),
        (4, [use(98, 0.02)], 4),  # used up, and nobody waits
        (4, [use(60, 0.0)], 7),
        (4, [use(1, 0.0)], 8),  # however slow they are: twice as many at once
        (2, [use(0, 0.0)], 2),  # nothing is known
        (2, [], 1),
        (0, [], 1),
        (4, [use(50, 0.5), use(50, 0.5)], 2),  # runs share the account's rate
        (4, [use(25, 0.0), use(25, 0.0)], 8),
        (4, [use(100, 0.75), use(100, 0.75, account="two")], 2),  # and accounts do not
        (900, [use(50, 0.0)], MOST),
    ],
)
def test_no_more_workers_than_the_rate_has_use_for(workers: int, uses: list[Use], useful: int) -> None:
    assert useful_workers(workers, uses) == useful
