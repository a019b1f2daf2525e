"""From events to the plan of the hour's run; nothing is acknowledged before it stands there."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence

import structlog

from tagmill.producer.listeners.base import Delivery, Feed
from tagmill.worker.complaints import Complaints
from tagmill.worker.errors import RedisUnavailableError, RunStoreUnavailableError
from tagmill.worker.events import Event, Verdict
from tagmill.worker.store.event_runs import Appended, EventRuns

PAUSE_SECONDS = 1.0
NO_STORE, NO_REDIS, NO_FEED = "run_store_unavailable", "redis_unavailable", "events_unavailable"

log = structlog.get_logger()


class Listener:
    def __init__(
        self,
        feed: Feed,
        runs: EventRuns,
        *,
        nudge: Callable[[str], None],
        stopped: Callable[[], bool],
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`nudge`: tell the fleet of more in that run; whoever refills finds it by itself, too, but later."""
        self._feed, self._runs, self._nudge = feed, runs, nudge
        self._stopped, self._sleep = stopped, sleep
        self._complaints = Complaints()
        self.counts: Counter[str] = Counter()  #: events, by what became of them

    def run(self) -> None:
        """Listen until stopped."""
        try:
            while not self._stopped():
                if deliveries := self._take():
                    self._keep(deliveries)
        finally:
            self._feed.close()

    def _take(self) -> Sequence[Delivery]:
        try:
            found = self._feed.take()
        except (RunStoreUnavailableError, RedisUnavailableError) as error:
            self._complaints.say(NO_FEED, error)
            self._sleep(PAUSE_SECONDS)
            return ()
        self._complaints.forget(NO_FEED)
        return found

    def _keep(self, deliveries: Sequence[Delivery]) -> None:
        events = [event for delivery in deliveries for event in delivery.events]
        appended = self._append(events) if events else None
        if events and appended is None:
            return  # they will be told again
        self._feed.done(deliveries)
        passed_over = sum((Counter(delivery.passed_over) for delivery in deliveries), Counter[str]())
        self._count(appended, passed_over)

    def _append(self, events: Sequence[Event]) -> Appended | None:
        """Return None when stopped before the run store took them."""
        while not self._stopped():
            try:
                appended = self._runs.append(events)
            except RunStoreUnavailableError as error:
                self._complaints.say(NO_STORE, error)
                self._sleep(PAUSE_SECONDS)
                continue
            self._complaints.forget(NO_STORE)
            if appended.verdicts[Verdict.NEW]:
                self._tell(appended.run_id)
            return appended
        return None

    def _tell(self, run_id: str) -> None:
        try:
            self._nudge(run_id)
            self._complaints.forget(NO_REDIS)
        except RedisUnavailableError as error:
            self._complaints.say(NO_REDIS, error)

    def _count(self, appended: Appended | None, passed_over: Counter[str]) -> None:
        verdicts = appended.verdicts if appended else Counter[Verdict]()
        counts = Counter({verdict.value: count for verdict, count in verdicts.items()}) + passed_over
        self.counts += counts
        log.info("events_taken", run_id=appended and appended.run_id, **counts)
        if verdicts[Verdict.TOO_OFTEN]:
            log.warning("events_too_often", images=verdicts[Verdict.TOO_OFTEN])
