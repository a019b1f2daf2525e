"""`tagmill beat`: every half a minute, look which runs are due.

The look is timed by the monotonic clock: when the machine's clock is set back, Celery's own beat waits until
the time of its last look has come again. And no message is needed, which could be lost.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime

import structlog

from tagmill.config.settings import TOML_FILE, Settings
from tagmill.producer.display import Print
from tagmill.producer.interrupts import Interrupt, interrupts
from tagmill.producer.launch import open_runs
from tagmill.producer.reach import open_board
from tagmill.producer.schedules.keeper import Keeper
from tagmill.producer.schedules.schedule import Schedule, schedules_of
from tagmill.producer.schedules.starting import Starter
from tagmill.worker.complaints import Complaints
from tagmill.worker.errors import ConfigError, NotFoundError, RedisUnavailableError, TaggingError
from tagmill.worker.state.board import Board
from tagmill.worker.state.checks import connect_checked

EVERY_SECONDS = 30.0
LEADER_TICKS = 2.5  #: a leader silent for longer is replaced
REST_SECONDS = 0.2  #: a wish to end is heard of after that
STOPPING = "stopping: planning is gone on with by the next beat"
WAITS, SCHEDULE_WAITS = "beat_waits", "schedule_waits"  #: log events
Clock = Callable[[], datetime]

log = structlog.get_logger()


def utc_now() -> datetime:
    return datetime.now(UTC)


class Beat:
    """Of several, one keeps the schedules; the others wait for its silence."""

    def __init__(
        self,
        keepers: Sequence[Keeper],
        board: Board,
        check: Callable[[], None],
        *,
        leader_seconds: float,
        clock: Clock,
    ) -> None:
        """`check` raises `TaggingError` where this machine had better not lead."""
        self._keepers = [(keeper, Complaints()) for keeper in keepers]
        self._board, self._check, self._clock = board, check, clock
        self._leader_seconds, self._token = leader_seconds, secrets.token_hex(8)
        self._complaints = Complaints()

    def tick(self) -> None:
        try:
            self._check()
            leads = self._board.lead_beats(self._token, self._leader_seconds)
        except TaggingError as error:
            self._complaints.say(WAITS, error)
            leads = False
        else:
            self._complaints.forget(WAITS)
        if leads:
            self._keep(self._clock())
        else:
            self._rest()

    def close(self) -> None:
        """Let another one lead at once."""
        self._rest()
        with contextlib.suppress(RedisUnavailableError):
            self._board.resign_beat(self._token)

    def _keep(self, now: datetime) -> None:
        for keeper, complaints in self._keepers:
            with structlog.contextvars.bound_contextvars(schedule=keeper.schedule.name):
                trouble = _tick(keeper, complaints, now)
            with contextlib.suppress(RedisUnavailableError):
                self._board.note_trouble(keeper.schedule.name, trouble)

    def _rest(self) -> None:
        for keeper, _ in self._keepers:
            keeper.rest()


def _tick(keeper: Keeper, complaints: Complaints, now: datetime) -> str | None:
    """Return what went wrong: the other schedules go on, and this one at the next tick."""
    try:
        keeper.tick(now)
    except TaggingError as error:
        complaints.say(SCHEDULE_WAITS, error)
        return str(error)
    except Exception as error:
        log.exception("schedule_failed")
        return type(error).__name__
    complaints.forget(SCHEDULE_WAITS)
    return None


def serve(
    settings: Settings, print_line: Print, *, clock: Clock = utc_now, every_seconds: float = EVERY_SECONDS
) -> None:
    """Work until told to stop. Raise `ConfigError` before any work."""
    opened = _opened(settings, clock, LEADER_TICKS * every_seconds)
    with opened as beat, interrupts(print_line, STOPPING) as interrupt:
        while not interrupt.asked:
            beat.tick()
            _sleep(every_seconds, interrupt)


@contextlib.contextmanager
def _opened(settings: Settings, clock: Clock, leader_seconds: float) -> Iterator[Beat]:
    redis_url = settings.redis_url
    if redis_url is None:
        raise ConfigError(
            "schedules need a fleet: set TAGMILL_REDIS_URL and start workers; without one, let cron of the "
            "machine start `tagmill run`"
        )
    schedules = schedules_of(settings)
    if not schedules:
        raise ConfigError(f"no schedule is set up: put [[schedule]] into {TOML_FILE}")
    board, runs = open_board(settings, redis_url), open_runs(settings)
    starter = Starter(settings, runs, redis_url)
    for schedule in schedules:
        _check(starter, schedule, clock())
    keepers = [Keeper(runs.files, schedule, starter) for schedule in schedules]
    beat = Beat(
        keepers,
        board,
        lambda: connect_checked(redis_url).close(),
        leader_seconds=leader_seconds,
        clock=clock,
    )
    log.info("beat_started", schedules=", ".join(schedule.name for schedule in schedules))
    try:
        yield beat
    finally:
        beat.close()


def _check(starter: Starter, schedule: Schedule, now: datetime) -> None:
    """A source or a file that is not there may come; all else would fail each time."""
    try:
        starter.check(schedule, now)
    except NotFoundError as error:
        log.warning("schedule_not_ready", schedule=schedule.name, error=str(error))
    except ConfigError as error:
        raise ConfigError(f"schedule {schedule.name}: {error}") from None


def _sleep(seconds: float, interrupt: Interrupt) -> None:
    end = time.monotonic() + seconds
    while not interrupt.asked and (left := end - time.monotonic()) > 0:
        time.sleep(min(left, REST_SECONDS))
