"""Signed webhooks that a receiver on one core takes, how soon it answers, and what a kill costs: nothing."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from servers.redis import free_port
from servers.s3 import running_s3
from servers.webhook_load import SECRET, Sent, storm

from benchmarks.stage import await_, program, running, without_settings
from benchmarks.tables import Row, Table
from tagmill.worker.store.base import Files
from tagmill.worker.store.bucket import Bucket
from tagmill.worker.store.folder import Folder
from tagmill.worker.store.webhook_events import WebhookEvents

STORM_SECONDS, STEADY_SECONDS = 5.0, 10.0
LANES = 32
STEADY_PER_SECOND = 50.0  #: at which the time to an answer is told
KILLS = 5
KILL_AFTER = 500  #: answers
LEAST_PER_SECOND = 300.0
MOST_MS = {"a folder": 50.0, "S3 (moto)": 250.0}  #: median
RECEIVERS_CORE, SENDERS_CORES = {0}, {1}


@dataclass(frozen=True, slots=True)
class Store:
    name: str
    files: Files
    environment: dict[str, str]


def tables() -> Iterator[Table]:
    with _stores() as stores, _pinned(SENDERS_CORES):
        rows = [measure(store) for store in stores]
        yield Table("Signed webhooks, receiver on one core, sender on another", rows, _verdicts(rows))
        lost = [_killed(stores[0], number) for number in range(KILLS)]
        thanked, missing = (sum(each) for each in zip(*lost, strict=True))
        yield Table(
            f"The receiver killed {KILLS} times under load",
            [{"acknowledged": thanked, "lost": missing}],
            [f"promised: nothing acknowledged is lost: {'as promised' if not missing else 'MISSED'}"],
        )


def measure(store: Store) -> Row:
    """As many as it takes, then the time to an answer at a steady pace."""
    with _receiver(store) as (_, url):
        fast = asyncio.run(storm(url, LANES, _for(STORM_SECONDS)))
        steady = asyncio.run(
            storm(url, LANES, _for(STEADY_SECONDS), per_second=STEADY_PER_SECOND, first=10**6)
        )
    milliseconds = sorted(one.seconds * 1000 for one in steady)
    return {
        "run store": store.name,
        "webhooks/s": len(fast) / STORM_SECONDS,
        "median ms at full speed": statistics.median(one.seconds * 1000 for one in fast),
        f"median ms at {STEADY_PER_SECOND:g}/s": statistics.median(milliseconds),
        "p99 ms": milliseconds[int(len(milliseconds) * 0.99)],
        "all acknowledged": all(one.status == 200 for one in (*fast, *steady)),
    }


def _verdicts(rows: list[Row]) -> list[str]:
    per_second = rows[0]["webhooks/s"]
    fast = "as promised" if per_second >= LEAST_PER_SECOND else "MISSED, unless others kept the cores busy"
    soon = all(row[f"median ms at {STEADY_PER_SECOND:g}/s"] < MOST_MS[row["run store"]] for row in rows)
    limits = ", ".join(f"{limit:g} ms on {name}" for name, limit in MOST_MS.items())
    return [
        f"promised: {LEAST_PER_SECOND:g} a second on a folder: {fast}",
        f"promised: a median below {limits}: {'as promised' if soon else 'MISSED'}",
    ]


def _killed(store: Store, number: int) -> tuple[int, int]:
    """Return how many were acknowledged before the kill, and how many of them are not there."""
    first = 10**7 * (number + 1)
    with _receiver(store) as (pid, url):

        def go_on(sent: list[Sent]) -> bool:
            if len(sent) >= KILL_AFTER:
                os.kill(pid, signal.SIGKILL)
            return True

        sent = asyncio.run(storm(url, LANES, go_on, first=first))
    thanked = {one.id for one in sent if one.status == 200}
    kept = {event.id for event in WebhookEvents(store.files).since(datetime.now(UTC) - timedelta(hours=1))}
    return len(thanked), len(thanked - kept)


def _for(seconds: float) -> Callable[[list[Sent]], bool]:
    end = time.monotonic() + seconds
    return lambda _: time.monotonic() < end


@contextlib.contextmanager
def _stores() -> Iterator[list[Store]]:
    with tempfile.TemporaryDirectory() as folder, running_s3() as s3:
        bucket = s3.bucket()
        in_s3 = {**s3.environment, "TAGMILL_RUN_STORE": f"s3://{bucket}/runs"}
        yield [
            Store("a folder", Folder(folder), {"TAGMILL_RUN_STORE": folder}),
            Store("S3 (moto)", Bucket(s3.client(), bucket, "runs"), in_s3),
        ]


@contextlib.contextmanager
def _receiver(store: Store) -> Iterator[tuple[int, str]]:
    """Yield the pid and where to send to."""
    port = free_port()
    own = {"TAGMILL_WEBHOOK_SECRETS": SECRET, "TAGMILL_LOG_LEVEL": "error", **store.environment}
    command = [*program("tagmill.producer.cli.main"), "serve", "--port", str(port)]
    with contextlib.ExitStack() as stack:
        with _pinned(RECEIVERS_CORE):
            pid = stack.enter_context(running(command, without_settings() | own))
        await_(lambda: _is_open(port))
        yield pid, f"http://127.0.0.1:{port}/webhooks/filestack/default"


@contextlib.contextmanager
def _pinned(cores: set[int]) -> Iterator[None]:
    """This process, and those that it starts, keep to these cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _is_open(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False
