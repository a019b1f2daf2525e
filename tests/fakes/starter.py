"""What a schedule does to runs, without a source: its runs are made at once and have no images."""

from __future__ import annotations

import dataclasses
from datetime import datetime

from fakes.runs import a_spec

from tagmill.producer.schedules.schedule import Schedule
from tagmill.worker.background import Background, Stopped
from tagmill.worker.errors import TaggingError
from tagmill.worker.rate import Rate
from tagmill.worker.store.base import Files
from tagmill.worker.store.plan import Plan, PlanSummary
from tagmill.worker.store.runs import Runs
from tagmill.worker.summary import write_summary


class FakeStarter:
    def __init__(self, files: Files) -> None:
        self.runs = Runs(files)
        self.created: list[str] = []  #: attempts too
        self.fails: TaggingError | None = None  #: an attempt does
        self.planning_fails: TaggingError | None = None
        self.plans = True  #: planning ends at once; else when it is stopped

    def create(self, schedule: Schedule, run_id: str, now: datetime) -> None:
        self.created.append(run_id)
        if self.fails is not None:
            raise self.fails
        rate = schedule.options(run_id, now).rate
        self.runs.create(a_spec(run_id, rate=str(rate) if rate else None))

    def planner(self, run_id: str) -> Background:
        def plan(stopped: Stopped) -> None:
            if self.planning_fails is not None:
                raise self.planning_fails
            while not (self.plans or stopped()):
                pass
            if self.plans:
                Plan(self.runs.files, run_id, 0).finish(PlanSummary(0, 0, 0, {}))

        return Background(plan, "planner")

    def set_rate(self, run_id: str, rate: Rate, *, by: str, at: datetime) -> None:
        when = at.isoformat()
        self.runs.change(
            run_id, lambda now: dataclasses.replace(now, rate=str(rate), rate_at=when, by=by, at=when)
        )

    def complete(self, run_id: str) -> None:
        write_summary(self.runs.files, run_id, {"pass": 0})
