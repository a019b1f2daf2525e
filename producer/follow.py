"""Watch a run to its end, and refill while watching."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from tagmill.producer.display import Display
from tagmill.producer.interrupts import Interrupt
from tagmill.producer.live import LiveRun
from tagmill.worker.complaints import Complaints
from tagmill.worker.errors import RedisUnavailableError
from tagmill.worker.models import Json
from tagmill.worker.publisher import Publisher
from tagmill.worker.refill import Refill, leader_seconds
from tagmill.worker.state.board import Board
from tagmill.worker.store.runs import Runs, RunSpec

TICK_SECONDS = 0.5
NO_REDIS = "redis_unavailable"  #: log event


class Follower:
    def __init__(
        self,
        live: LiveRun,
        refill: Refill,
        display: Display,
        *,
        interrupt: Interrupt,
        nudge: Callable[[], None] = lambda: None,
        check_planner: Callable[[], None] = lambda: None,
        supervise: Callable[[], None] = lambda: None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`supervise` brings back our own servers; `check_planner` raises what ended planning early.

        `nudge`: tell whoever leads the refill, where this process does not, to look at the run at once.
        """
        self._live, self._refill, self._display = live, refill, display
        self._interrupt, self._nudge, self._check_planner = interrupt, nudge, check_planner
        self._supervise, self._sleep = supervise, sleep
        self._complaints = Complaints()

    def follow(self) -> Json:
        """Return the summary of a run that is completed, paused, cancelled, or left by Ctrl-C."""
        summary = self._look()
        while self._goes_on(summary) and not self._interrupt.asked:
            self._check_planner()
            self._sleep(TICK_SECONDS)
            summary = self._look()
        return summary

    def _goes_on(self, summary: Json) -> bool:
        """A cancelled run is followed until it has all its rows."""
        return summary["state"] in {"running", "cancelled"} and not self._live.over

    def _look(self) -> Json:
        self._supervise()
        try:
            if not self._refill.tick():
                self._nudge()
            self._complaints.forget(NO_REDIS)
        except RedisUnavailableError as error:
            self._complaints.say(NO_REDIS, error)
        summary = self._live.summary()
        self._display.update(summary, planning=self._live.planning)
        return summary


@contextlib.contextmanager
def refilling(
    runs: Runs, spec: RunSpec, board: Board, *, redis_url: str, redis_prefix: str, lease_seconds: float
) -> Iterator[Refill]:
    """Yield a refill that takes its turn. A fleet has more runs: whoever leads serves them all."""
    publisher = Publisher(redis_url, redis_prefix)
    refill = Refill(
        runs.files,
        board,
        publisher,
        only=spec.run_id if spec.embedded else None,
        leader_seconds=leader_seconds(lease_seconds),
    )
    try:
        yield refill
    finally:
        refill.resign()
