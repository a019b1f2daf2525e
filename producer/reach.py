"""Where a run's Redis is: the fleet's, or that of the embedded run that goes on here."""

from __future__ import annotations

from tagmill.config.celery import LANES
from tagmill.config.settings import Settings
from tagmill.producer.state_dir import Embedded, running, state_dir
from tagmill.worker.state.board import Board
from tagmill.worker.state.checks import connect_checked
from tagmill.worker.state.keys import Keys
from tagmill.worker.store.event_runs import EVENTS
from tagmill.worker.store.runs import RunSpec


def goes_on_here(settings: Settings, spec: RunSpec) -> Embedded | None:
    """Return who works on it, without a fleet, on this machine and in this state folder."""
    here = running(state_dir(settings.state_dir)) if spec.embedded else None
    works_on_it = here is not None and here.run_id in {spec.run_id, EVENTS if spec.open_until else None}
    return here if works_on_it else None


def open_board(settings: Settings, redis_url: str) -> Board:
    """Raise `RedisUnavailableError` or `ConfigError`."""
    return Board(connect_checked(redis_url), Keys(settings.redis_prefix), *LANES)


def reach(settings: Settings, spec: RunSpec) -> Board | None:
    """Return what Redis knows of the run; None: nobody has a Redis for it that is known here.

    Raise `RedisUnavailableError` for one that does not answer.
    """
    url = _redis_of_run(settings, spec) if spec.embedded else settings.redis_url
    return open_board(settings, url) if url is not None else None


def _redis_of_run(settings: Settings, spec: RunSpec) -> str | None:
    here = goes_on_here(settings, spec)
    return here.redis_url if here is not None else None
