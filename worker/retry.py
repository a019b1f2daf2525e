"""When to try again, and when failures say that it is the account. Pure: chance and time are passed in."""

from __future__ import annotations

from random import Random

from tagmill.worker.errors import (
    BadResponseError,
    ItemError,
    RetryableError,
    SinkBusyError,
    ThrottledError,
)

ATTEMPTS = 3
BAD_RESPONSE_ATTEMPTS = 2
BUSY_ATTEMPTS = 6  #: a store that asks for time gets about half a minute, in growing pauses
SHORTEST_SECONDS = 0.5
LONGEST_SECONDS = 30.0
RETRY_RATIO = 0.1
LEAST_FLOOR_PER_SECOND, MOST_FLOOR_PER_SECOND = 0.1, 2.0
MOST_SAVED = 10.0


def delay(error: ItemError, attempt: int, rng: Random) -> float | None:
    """Return the seconds to wait after attempt number `attempt` (from 1), or None to give the image up.

    Throttling costs no attempt and no wait here: the limiter holds the whole fleet.
    """
    if isinstance(error, ThrottledError):
        return 0.0
    if not isinstance(error, RetryableError) or attempt >= _attempts(error):
        return None
    if error.retry_after is not None:
        return max(error.retry_after, 0.0)
    return rng.uniform(SHORTEST_SECONDS, min(2.0**attempt, LONGEST_SECONDS))


def _attempts(error: RetryableError) -> int:
    if isinstance(error, SinkBusyError):
        return BUSY_ATTEMPTS
    return BAD_RESPONSE_ATTEMPTS if isinstance(error, BadResponseError) else ATTEMPTS


def floor_per_second(calls_per_second: float) -> float:
    """A process's trickle of retries, for its share of the account's rate."""
    return min(max(RETRY_RATIO * calls_per_second, LEAST_FLOOR_PER_SECOND), MOST_FLOOR_PER_SECOND)


class RetryBudget:
    """Keeps retries to a tenth of first attempts, plus a trickle: one more has to wait, none is dropped."""

    def __init__(self, now: float, floor_per_second: float = MOST_FLOOR_PER_SECOND) -> None:
        """`floor_per_second`: retries that need no first attempts; a chunk's last images have none."""
        self._saved, self._floor = MOST_SAVED, floor_per_second
        self._filled_at = now

    def first_attempt(self) -> None:
        """Earn a part of a retry."""
        self._saved = min(self._saved + RETRY_RATIO, MOST_SAVED)

    def take(self, now: float) -> float:
        """Return 0.0 and spend a retry, or the seconds after which to ask again."""
        self._saved = min(self._saved + (now - self._filled_at) * self._floor, MOST_SAVED)
        self._filled_at = now
        if self._saved < 1.0:
            return (1.0 - self._saved) / self._floor
        self._saved -= 1.0
        return 0.0


def is_account_failure(distinct_denied: int, denied_here: int, calls_here: int) -> bool:
    """Whether so many images answered 403, in the run and in this chunk so far, speak against the account."""
    return (
        distinct_denied >= 20  # noqa: PLR2004 - the rule itself
        or (calls_here >= 200 and denied_here >= 0.05 * calls_here)  # noqa: PLR2004 - the rule itself
    )


def nothing_else(denied: int, tagged_here: int) -> bool:
    """Whether a chunk at its end knows of refusals only: the account's, unless it worked elsewhere."""
    return denied >= 3 and tagged_here == 0  # noqa: PLR2004 - the rule itself
