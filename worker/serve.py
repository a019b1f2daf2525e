"""One worker of the fleet: Celery's pool for chunks, and a thread that takes its turn at refill."""

from __future__ import annotations

import argparse
import os
import sys
import threading
import warnings
from collections.abc import Callable

import structlog
from celery.exceptions import CPendingDeprecationWarning, SecurityWarning

from tagmill.config.celery import LANES
from tagmill.config.logs import configure_logs
from tagmill.config.settings import Settings, load_settings
from tagmill.worker.app import create_app, worker_name
from tagmill.worker.complaints import Complaints
from tagmill.worker.errors import ConfigError, TaggingError
from tagmill.worker.publisher import Publisher
from tagmill.worker.refill import Refill, leader_seconds
from tagmill.worker.s3 import store_client
from tagmill.worker.state.board import Board
from tagmill.worker.state.checks import connect_checked
from tagmill.worker.state.keys import Keys
from tagmill.worker.store.opening import open_probed

MAX_DEFAULT_PROCESSES = 4
TICK_SECONDS = 2.0
LEAST_REST_SECONDS = 0.2  #: between two ticks, whatever the news
WAITS = "housekeeping_waits"  #: log event

log = structlog.get_logger()


def serve(settings: Settings, only: str | None = None, *, embedded: bool = False) -> int:
    """Work until told to stop; return the exit code. `embedded`: without a fleet.

    `only`: then the one run to refill; else those that events plan. Raise `ConfigError` before any work.
    """
    if not embedded and not settings.has_credentials:  # who starts servers of its own has looked
        raise ConfigError("a worker needs TAGMILL_FILESTACK_API_KEY and TAGMILL_FILESTACK_APP_SECRET")
    # Celery warns of root because of pickle; this worker accepts JSON only.
    warnings.filterwarnings("ignore", category=SecurityWarning)
    processes = settings.processes or min(os.cpu_count() or 1, MAX_DEFAULT_PROCESSES)
    app = create_app(settings, processes)
    housekeeping = Housekeeping(settings, processes, only, embedded=embedded)
    worker = app.Worker(
        hostname=housekeeping.name,
        concurrency=processes,
        pool="prefork",
        queues=settings.lanes.split(","),
        loglevel=settings.log_level.upper(),
        quiet=True,  # no banner: the log says what is connected
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
    )
    # At each lost connection it would question a choice of config/celery.py; a worker resets the filters.
    warnings.filterwarnings("ignore", category=CPendingDeprecationWarning)
    with housekeeping:
        worker.start()
    return int(worker.exitcode or 0)


class Housekeeping:
    """Says that the worker lives, and refills when no other process does."""

    def __init__(self, settings: Settings, processes: int, only: str | None, *, embedded: bool) -> None:
        """Raise `ConfigError` or `RedisUnavailableError` for a Redis or a run store that will not do."""
        if settings.redis_url is None:
            raise ConfigError("TAGMILL_REDIS_URL is not set: a worker belongs to a fleet")
        self.name = worker_name()
        self._processes, self._lanes = processes, settings.lanes.split(",")
        self._board = Board(connect_checked(settings.redis_url), Keys(settings.redis_prefix), *LANES)
        self._board.forget_worker(self.name)  # one that was killed: in a container all have the same pid
        files = open_probed(
            settings.run_store,
            lambda: store_client(settings.s3_endpoint_url),
        )
        publisher = Publisher(settings.redis_url, settings.redis_prefix)
        self._refill = Refill(
            files,
            self._board,
            publisher,
            only=only,
            embedded=embedded,
            leader_seconds=leader_seconds(settings.lease_seconds),
        )
        self._leads = False
        self._complaints = Complaints()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="housekeeping", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.is_set():
            self._quietly(self._tick)
            self._quietly(self._rest)
        self._quietly(self._leave)

    def _tick(self) -> None:
        self._board.note_worker(self.name, self._processes, self._lanes)
        self._leads = self._refill.tick()

    def _rest(self) -> None:
        """Sleep until the next tick; who leads is woken by news."""
        self._stopped.wait(LEAST_REST_SECONDS if self._leads else TICK_SECONDS)
        if self._leads and not self._stopped.is_set():
            self._board.await_nudge(TICK_SECONDS)

    def _leave(self) -> None:
        self._board.forget_worker(self.name)
        self._refill.resign()

    def _quietly(self, step: Callable[[], None]) -> None:
        """Go on after an outage: a thread that died of it would take recovery with it."""
        try:
            step()
            self._complaints.forget(WAITS)
        except TaggingError as error:
            self._complaints.say(WAITS, error)
        except Exception:
            log.exception("housekeeping_failed")


def main() -> int:
    """`python -m tagmill.worker.serve`; without a fleet `--run RUN_ID`, or `--events` for a listener."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--run")
    parser.add_argument("--events", action="store_true")
    said = parser.parse_args()
    try:
        settings = load_settings()
        configure_logs(settings.log_level, settings.log_format, settings.secrets())
        return serve(settings, said.run, embedded=said.events or said.run is not None)
    except TaggingError as error:
        print(f"tagmill worker: {error}", file=sys.stderr)  # noqa: T201 - before there is a log
        return 2


if __name__ == "__main__":
    sys.exit(main())
