"""One schedule: its due slot becomes a run, which is planned, and has the rate of the time of day."""

from __future__ import annotations

import itertools
from datetime import datetime, timedelta
from typing import Protocol

import structlog

from tagmill.producer.schedules.due import choose
from tagmill.producer.schedules.schedule import Schedule
from tagmill.worker.background import Background
from tagmill.worker.errors import TaggingError
from tagmill.worker.rate import Rate
from tagmill.worker.store.base import Files
from tagmill.worker.store.layout import run_folder
from tagmill.worker.store.passes import Passes
from tagmill.worker.store.plan import Plan
from tagmill.worker.store.runs import Runs, Verb, effective
from tagmill.worker.store.schedules import Outcome, ScheduleLog, Start
from tagmill.worker.summary import finished

RETRY = timedelta(minutes=5)  #: between two attempts to make a run

log = structlog.get_logger()


class Starts(Protocol):
    """What is done to runs; each raises `TaggingError`."""

    def create(self, schedule: Schedule, run_id: str, now: datetime) -> None:
        """Make the run unless it is there."""

    def planner(self, run_id: str) -> Background: ...

    def set_rate(self, run_id: str, rate: Rate, *, by: str, at: datetime) -> None: ...


class Keeper:
    """Any number of them may keep a schedule at once, and die at any point: files say what is to be done."""

    def __init__(self, files: Files, schedule: Schedule, starter: Starts) -> None:
        self.schedule, self._files, self._starter = schedule, files, starter
        self._runs, self._log = Runs(files), ScheduleLog(files, schedule.name)
        self._timing = {"cron": schedule.cron, "time_zone": str(schedule.time_zone)}
        self._over = 0  #: number of the newest start that was seen over
        self._failed: tuple[datetime, TaggingError] | None = None  #: when it is tried again, and why
        self._planning: Background | None = None

    def tick(self, now: datetime) -> None:
        """Do what is due; `now` in UTC. Raise `TaggingError`: the next tick tries again."""
        start = self._log.newest()
        if start is not None and start.number != self._over and not self._is_over(start):
            self._go_on(start, now)
            return
        self._over = start.number if start is not None else 0
        slot = self._due(now)
        if slot is None or (start is not None and not self._is_over(start)):  # a later pass may go on
            return
        self.rest()  # of a run that was cancelled meanwhile
        self._failed = None
        begun = self._log.append(start, slot, self.schedule.run_id(slot), now)
        if begun is not None:
            log.info("slot_started", run_id=begun.run_id)
            self._go_on(begun, now)

    def rest(self) -> None:
        """Stop what goes on here; somebody else does it, or nobody."""
        if self._planning is not None:
            self._planning.end()
            self._planning = None

    # --- which slot ---------------------------------------------------------------------------------------

    def _due(self, now: datetime) -> datetime | None:
        since, newest = self._log.since(self._timing, now), self._log.newest_slot(now)
        slots = self.schedule.timing.after(max(since, newest) if newest else since)
        return choose(itertools.takewhile(lambda slot: slot <= now, slots), self.schedule.catch_up, now)

    def _is_over(self, start: Start) -> bool:
        """Whether nothing more is to come of it."""
        outcome = self._log.outcome(start)
        return outcome is not None and (outcome.error is not None or is_over(self._files, start.run_id))

    # --- its run ------------------------------------------------------------------------------------------

    def _go_on(self, start: Start, now: datetime) -> None:
        if self._log.outcome(start) is not None or self._create(start, now):
            self._plan(start.run_id)
            self._keep_rate(start, now)

    def _create(self, start: Start, now: datetime) -> bool:
        """Raise `TaggingError` while that fails; return False when it has for good: the next slot is due."""
        if self._failed is not None and now < self._failed[0]:
            raise self._failed[1]
        try:
            self._starter.create(self.schedule, start.run_id, now)
        except TaggingError as error:
            self._failed = (now + RETRY, error)
            if self._due(now) is None:
                raise
            self._log.settle(start, Outcome(str(error)))
            log.warning("slot_failed", run_id=start.run_id, error=str(error))
            return False
        self._log.settle(start, Outcome())
        return True

    def _plan(self, run_id: str) -> None:
        goes_on = self._runs.control(run_id).running
        planning, self._planning = self._planning, None
        if planning is not None and not planning.wait(0):
            self._planning = planning
            if not goes_on:
                planning.stop()
        elif goes_on and Plan(self._files, run_id, 0).summary() is None:
            self._planning = self._starter.planner(run_id)
            self._planning.start()

    def _keep_rate(self, start: Start, now: datetime) -> None:
        """Change the rate at each step of the timetable; what people set in between holds until the next."""
        if self.schedule.timetable is None:
            return
        step, control = self.schedule.timetable.at(now), self._runs.control(start.run_id)
        set_at = datetime.fromisoformat(control.rate_at) if control.rate_at else start.at
        holds = effective(self._runs.read(start.run_id), control).rate
        if set_at < step.since and holds != str(step.rate):
            by = f"schedule {self.schedule.name}"
            self._starter.set_rate(start.run_id, step.rate, by=by, at=now)


def is_over(files: Files, run_id: str) -> bool:
    """Whether the run is completed, cancelled or deleted."""
    if not files.exists(f"{run_folder(run_id)}/run.json"):
        return True
    newest = Passes(files, run_id).count() - 1
    cancelled = Runs(files).control(run_id).of(newest) is Verb.CANCEL
    return cancelled or finished(files, run_id, newest)
