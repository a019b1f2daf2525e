"""Watch a run to its end, and refill while watching."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from tagmill.producer.display import Display
from tagmill.producer.live import LiveRun
from tagmill.worker.complaints import Complaints
from tagmill.worker.errors import RedisUnavailableError
from tagmill.worker.models import Json
from tagmill.worker.refill import Refill

TICK_SECONDS = 0.5
NO_REDIS = "redis_unavailable"  #: log event


@dataclass(slots=True)
class Interrupt:
    """What Ctrl-C asks for; a second one does not reach us."""

    asked: bool = False


class Follower:
    def __init__(
        self,
        live: LiveRun,
        refill: Refill,
        display: Display,
        *,
        interrupt: Interrupt,
        check_planner: Callable[[], None],
        supervise: Callable[[], None] = lambda: None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`supervise` brings back our own servers; `check_planner` raises what ended planning early."""
        self._live, self._refill, self._display = live, refill, display
        self._interrupt, self._check_planner = interrupt, check_planner
        self._supervise, self._sleep = supervise, sleep
        self._complaints = Complaints()

    def follow(self) -> Json:
        """Return the summary of a run that is completed, paused, cancelled, or left by Ctrl-C."""
        summary = self._look()
        while summary["state"] == "running" and not self._interrupt.asked:
            self._check_planner()
            self._sleep(TICK_SECONDS)
            summary = self._look()
        return summary

    def _look(self) -> Json:
        self._supervise()
        try:
            self._refill.tick()
            self._complaints.forget(NO_REDIS)
        except RedisUnavailableError as error:
            self._complaints.say(NO_REDIS, error)
        summary = self._live.summary()
        self._display.update(summary, planning=self._live.planning)
        return summary
