"""What a schedule does to runs: the same as `tagmill run --detach` and `tagmill set`."""

from __future__ import annotations

from datetime import datetime

from tagmill.config.settings import Settings
from tagmill.producer.launch import Launch, create_run
from tagmill.producer.preparation import prepare
from tagmill.producer.safety import SILENT, Dialogue
from tagmill.producer.schedules.schedule import Schedule
from tagmill.producer.sources.spec import parse_source
from tagmill.producer.steering import Steering
from tagmill.worker.background import Background
from tagmill.worker.errors import ConfigError
from tagmill.worker.rate import Rate
from tagmill.worker.store.passes import Passes
from tagmill.worker.store.runs import Runs


class Starter:
    def __init__(self, settings: Settings, runs: Runs, redis_url: str) -> None:
        self._settings, self._runs, self._redis_url = settings, runs, redis_url

    def check(self, schedule: Schedule, now: datetime) -> None:
        """Raise `ConfigError` for what could never start, `NotFoundError` for a source that is not there."""
        source = parse_source(schedule.source, schedule.selection())
        prepare(schedule.settings(self._settings), source, schedule.options(schedule.run_id(now), now))

    def launch(self, schedule: Schedule, run_id: str, now: datetime, dialogue: Dialogue = SILENT) -> Launch:
        """Make the run. Raise `ConfigError` also when it is there already."""
        source = parse_source(schedule.source, schedule.selection())
        settings, options = schedule.settings(self._settings), schedule.options(run_id, now)
        return create_run(settings, source, options, dialogue, self._runs)

    def create(self, schedule: Schedule, run_id: str, now: datetime) -> None:
        """Make the run unless it is there. Nobody can be asked."""
        if not self._runs.is_free(run_id):
            return
        try:
            launch = self.launch(schedule, run_id, now)
        except ConfigError:
            if self._runs.is_free(run_id):
                raise
        else:
            launch.board(self._redis_url)

    def planner(self, run_id: str) -> Background:
        """Return what plans its first pass, not begun."""
        spec, first = self._runs.read(run_id), Passes(self._runs.files, run_id).read(0)
        return Launch(self._settings, self._runs, spec, first).planner()

    def set_rate(self, run_id: str, rate: Rate, *, by: str, at: datetime) -> None:
        """Do so unless the run is over."""
        spec, newest = self._runs.read(run_id), Passes(self._runs.files, run_id).newest()
        Steering(self._settings, self._runs, spec, newest).change({"rate": str(rate)}, by=by, at=at)
