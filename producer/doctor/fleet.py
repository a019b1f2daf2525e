"""A fleet: Redis and the run store, whether they are fit for it, and whether somebody does its work."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from tagmill.config.celery import LANES
from tagmill.producer.redis_server import find_redis_server
from tagmill.producer.schedules.overview import NO_BEAT
from tagmill.producer.schedules.schedule import Schedule
from tagmill.worker.check import Check
from tagmill.worker.errors import ConfigError
from tagmill.worker.state.board import Board
from tagmill.worker.state.checks import connect_checked
from tagmill.worker.state.connection import seconds_of
from tagmill.worker.store.opening import open_probed

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

OLDEST_REDIS = (6, 2)


def check_redis(url: str | None) -> list[Check]:
    """Version, persistence, eviction and clock of the fleet's Redis, or which server a run would start."""
    if url is None:
        return [Check.of("redis", lambda: f"a run brings its own: {find_redis_server()}")]
    return [Check.of("redis", lambda: _look(url))]


def _look(url: str) -> str:
    """Cluster, eviction and clock are refused by `connect_checked`."""
    with connect_checked(url) as client:
        info, now = client.info(), seconds_of(client.time())
    version = str(info["redis_version"])
    if tuple(map(int, version.split(".")[:2])) < OLDEST_REDIS:
        raise ConfigError(f"redis-server {version} is too old; run 6.2 or newer")
    if not info.get("aof_enabled"):
        raise ConfigError(
            f"redis-server {version} keeps no append-only file: a restart would lose the journal of paid "
            "calls; set `appendonly yes`"
        )
    return f"redis-server {version}, append-only file, no eviction, clock {now - time.time():+z.1f} s"


def check_run_store(run_store: str, s3_client: Callable[[], S3Client]) -> Check:
    def look() -> str:
        return f"{open_probed(run_store, s3_client).location} creates files only where there are none"

    return Check.of("run store", look)


def check_fleet(board: Board) -> list[Check]:
    """Workers of each lane, and messages that they did not understand."""
    return [Check.of("workers", lambda: _workers(board)), Check.of("messages", lambda: _messages(board))]


def check_schedules(board: Board | None, read: Callable[[], Iterable[Schedule]]) -> Check:
    """Whether they can be read and somebody keeps them, and what is in their way; None: there is no fleet."""
    return Check.of("schedules", lambda: _schedules(board, [schedule.name for schedule in read()]))


def _workers(board: Board) -> str:
    if unserved := [lane for lane in LANES if not board.workers(lane)]:
        raise ConfigError(f"no worker serves {', '.join(unserved)}: start `tagmill worker`")
    return f"{len(board.workers())}, who serve {', '.join(LANES)}"


def _messages(board: Board) -> str:
    """Of the last hour."""
    if foreign := board.insight.foreign_messages():
        counted = ", ".join(f"{count} of version {version}" for version, count in foreign.items())
        raise ConfigError(
            f"not understood and left to refill: {counted}; the fleet is of several versions: update all"
        )
    return "all are understood"


def _schedules(board: Board | None, names: Sequence[str]) -> str:
    if board is None:
        raise ConfigError("schedules need a fleet: set TAGMILL_REDIS_URL and start workers")
    if not board.beats():
        raise ConfigError(f"{', '.join(names)}: {NO_BEAT}")
    if troubles := [f"{name}: {text}" for name, text in board.troubles().items() if name in names]:
        raise ConfigError("; ".join(troubles))
    return f"{', '.join(names)}: a beat keeps them"
