"""How many workers the accounts' rates have use for, by how those at work use them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil

MOST = 1_000  #: workers; to start more is for people to decide
FASTEST_GROWTH = 2  #: times as many at once: what is measured tells little of a fleet of another size


@dataclass(frozen=True, slots=True)
class Use:
    """A run at work, over the last half minute."""

    account: str
    per_second: float  #: images that it settles
    limit: float  #: that the rates let through
    held_share: float  #: of its lanes' time, 0 to 1, that the limiter held them


def useful_workers(workers: int, uses: Iterable[Use]) -> int:
    """Return how many workers there should be; `workers`: how many there are.

    Held lanes are too many, and a rate that is not used up has room for more: of the workers the busy share,
    times the head-room, which is the limit over what is used of it.
    """
    by_account: dict[str, list[Use]] = {}
    for use in uses:
        by_account.setdefault(use.account, []).append(use)
    wanted = sum(_useful(workers, runs) for runs in by_account.values())
    return min(max(ceil(wanted), 1), max(workers, 1) * FASTEST_GROWTH, MOST)


def _useful(workers: int, runs: list[Use]) -> float:
    used = sum(run.per_second for run in runs)
    if not used:
        return workers
    busy = sum((1 - run.held_share) * run.per_second for run in runs) / used
    return workers * busy * max(run.limit for run in runs) / used
