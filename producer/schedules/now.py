"""`tagmill schedule run`: a schedule's run without waiting for its slot."""

from __future__ import annotations

from datetime import UTC, datetime

from tagmill.config.settings import Settings
from tagmill.producer.launch import Launch, exists, open_runs
from tagmill.producer.safety import Dialogue
from tagmill.producer.schedules.keeper import is_over
from tagmill.producer.schedules.schedule import Schedule
from tagmill.producer.schedules.starting import Starter
from tagmill.worker.errors import ConfigError, TaggingError
from tagmill.worker.store.base import Files
from tagmill.worker.store.passes import Passes
from tagmill.worker.store.schedules import Outcome, ScheduleLog, Start


def start_now(settings: Settings, schedule: Schedule, dialogue: Dialogue, now: datetime) -> Launch:
    """Start the slot of this minute. Raise `ConfigError` while the schedule's last run is open."""
    if settings.redis_url is None:
        raise ConfigError("schedules need a fleet: set TAGMILL_REDIS_URL and start workers")
    runs = open_runs(settings)
    log = ScheduleLog(runs.files, schedule.name)
    slot = now.astimezone(UTC).replace(second=0, microsecond=0)
    run_id, last = schedule.run_id(slot), log.newest()
    if last is not None:
        _refuse_open(runs.files, log, last)
    if not runs.is_free(run_id):
        raise exists(run_id)
    start = log.append(last, slot, run_id, now)
    if start is None:
        raise ConfigError(
            f"a run of schedule {schedule.name} was started just now: see `tagmill schedule list`"
        )
    try:
        launch = Starter(settings, runs, settings.redis_url).launch(schedule, run_id, now, dialogue)
    except TaggingError as error:
        if runs.is_free(run_id):
            log.settle(start, Outcome(str(error)))
            raise
        # A beat found the start, and made the run meanwhile.
        launch = Launch(settings, runs, runs.read(run_id), Passes(runs.files, run_id).newest())
    log.settle(start, Outcome())
    return launch


def _refuse_open(files: Files, log: ScheduleLog, last: Start) -> None:
    outcome = log.outcome(last)
    if outcome is None or (outcome.error is None and not is_over(files, last.run_id)):
        raise ConfigError(
            f"run {last.run_id} of this schedule is not over: see `tagmill status {last.run_id}`, "
            "let it come to its end, or cancel it"
        )
