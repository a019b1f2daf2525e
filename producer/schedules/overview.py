"""All schedules at a glance: what ran last, what comes next, what is in the way."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from datetime import datetime

from tagmill.producer.listing import listed_run
from tagmill.producer.schedules.keeper import is_over
from tagmill.producer.schedules.schedule import Schedule
from tagmill.worker.models import Json
from tagmill.worker.store.base import Files
from tagmill.worker.store.layout import run_folder
from tagmill.worker.store.runs import Runs
from tagmill.worker.store.schedules import ScheduleLog, Start

NO_BEAT = "no beat keeps them: start `tagmill beat`"


def overview(
    files: Files, schedules: Iterable[Schedule], troubles: Mapping[str, str], now: datetime
) -> list[Json]:
    """`troubles`: what keeps runs from being made or planned, by schedule."""
    return [
        {
            "name": schedule.name,
            "cron": schedule.cron,
            "time_zone": str(schedule.time_zone),
            "source": schedule.source,
            "lane": schedule.lane,
            "catch_up": schedule.catch_up,
            "last": _last(files, ScheduleLog(files, schedule.name)),
            "trouble": troubles.get(schedule.name),
            "next": [slot.isoformat() for slot in upcoming(schedule, now, 1)],
        }
        for schedule in schedules
    ]


def upcoming(schedule: Schedule, now: datetime, count: int) -> list[datetime]:
    """Return the next slots, in the schedule's time zone."""
    slots = itertools.islice(schedule.timing.after(now), count)
    return [slot.astimezone(schedule.time_zone) for slot in slots]


def _last(files: Files, log: ScheduleLog) -> Json | None:
    start = log.newest()
    if start is None:
        return None
    return {"slot": start.slot.isoformat(), "run_id": start.run_id, **_state(files, log, start)}


def _state(files: Files, log: ScheduleLog, start: Start) -> Json:
    """`open`: the next slot waits for it."""
    outcome = log.outcome(start)
    if outcome is None:
        return {"state": "starting", "reason": None, "error": None, "open": True}
    if outcome.error is not None:
        return {"state": "failed", "reason": None, "error": outcome.error, "open": False}
    if not files.exists(f"{run_folder(start.run_id)}/run.json"):
        return {"state": "deleted", "reason": None, "error": None, "open": False}
    runs = Runs(files)
    listed = listed_run(runs, runs.read(start.run_id), lambda _: None)
    still = not is_over(files, start.run_id)
    return {"state": listed["state"], "reason": listed["reason"], "error": None, "open": still}
