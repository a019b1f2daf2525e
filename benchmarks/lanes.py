"""Lanes that flood one account: what each gets of the rate, and how soon a backfill yields.

Without Celery and HTTP, as in `limiter`: a call is over when its time has come.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import time
from collections.abc import Iterator, Mapping
from multiprocessing.synchronize import Barrier

from servers.redis import running_redis

from benchmarks.tables import Row, Table
from tagmill.config.settings import load_settings
from tagmill.worker.rate import Rate
from tagmill.worker.state.connection import connect
from tagmill.worker.state.keys import Keys
from tagmill.worker.state.limiter import Limiter, Share, account_scope, lane_scope

ACCOUNT = "account"
CALLS_IN_FLIGHT = 64  #: of each process
ALONE_SECONDS, TOGETHER_SECONDS = 3.0, 6.0  #: of the backfill, of all
WINDOW_SECONDS = 0.5  #: over which a rate is taken
YIELD_SECONDS = 1.0  #: promised
NEARLY = 0.9  #: of a share is had within the promise, as a window holds few calls
RATES = (20, 100, 400)
FLOODS: tuple[Mapping[str, int], ...] = (
    {"events": 1, "backfill": 2},
    {"events": 1, "nightly": 1, "backfill": 2},
)

_processes = multiprocessing.get_context("spawn")


def tables() -> Iterator[Table]:
    rows = [measure(flood, rate) for flood in FLOODS for rate in RATES]
    kept = all(row["yields s"] <= YIELD_SECONDS and row["kept"] for row in rows)
    promise = f"events have their share within {YIELD_SECONDS:g} s, no lane less than its own"
    yield Table(
        f"Lanes that flood the account for {TOGETHER_SECONDS:g} s, after the backfill alone",
        rows,
        [f"promised: {promise}: {'as promised' if kept else 'MISSED, unless others kept the cores busy'}"],
    )


def measure(flood: Mapping[str, int], rate: int) -> Row:
    """`flood`: lanes and their processes; all but the backfill begin when it has been at work for a while."""
    calls, came = _calls(flood, rate)
    start, end = came + YIELD_SECONDS, came + TOGETHER_SECONDS
    rates = {lane: sum(start <= at < end for at in calls[lane]) / (end - start) for lane in flood}
    shares = {lane: load_settings().share_of(lane) for lane in flood}
    return {
        "rate": rate,
        **{f"{lane}/s": rates.get(lane, 0.0) for lane in ("events", "nightly", "backfill")},
        "first s": min(calls["events"]) - came,
        "yields s": _until(calls["events"], came, NEARLY * shares["events"] * rate),
        "kept": all(rates[lane] >= NEARLY * shares[lane] * rate for lane in flood),
    }


def _until(calls: list[float], came: float, rate: float) -> float:
    """Return the seconds until the first window that holds the rate."""
    needed = int(rate * WINDOW_SECONDS)
    ordered = sorted(calls)
    windows = zip(ordered, ordered[needed - 1 :], strict=False)
    return next((first - came for first, last in windows if last - first <= WINDOW_SECONDS), float("inf"))


def _calls(flood: Mapping[str, int], rate: int) -> tuple[dict[str, list[float]], float]:
    """Return when each lane's calls left, and when the last process of those that came later was ready."""
    lanes = [lane for lane, processes in flood.items() for _ in range(processes)]
    with running_redis() as redis, _processes.Manager() as manager:
        ready, sent = _processes.Barrier(len(lanes)), manager.list()
        senders = [
            _processes.Process(target=_send, args=(redis.url, lane, rate, ready, sent)) for lane in lanes
        ]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join()
        told = list(sent)
    calls = {lane: [at for each, _, times in told if each == lane for at in times] for lane in flood}
    return calls, max(began for each, began, _ in told if each == "events")


# --- in a process of its own ------------------------------------------------------------------------------


def _send(
    redis_url: str, lane: str, rate: int, ready: Barrier, sent: list[tuple[str, float, list[float]]]
) -> None:
    ready.wait()
    alone = lane == "backfill"
    if not alone:
        time.sleep(ALONE_SECONDS)
    began, times = time.time(), list[float]()
    asyncio.run(_flood(redis_url, lane, rate, times, TOGETHER_SECONDS + (ALONE_SECONDS if alone else 0)))
    sent.append((lane, began, times))


async def _flood(redis_url: str, lane: str, rate: int, times: list[float], seconds: float) -> None:
    windows = [(account_scope(ACCOUNT), Rate.parse(f"{rate}/s"))]
    share = Share(lane_scope(ACCOUNT, lane), load_settings().share_of(lane))
    async with connect(redis_url) as redis:
        limiter = Limiter(redis, Keys("benchmark"), windows, ACCOUNT, share)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await asyncio.gather(*(_call(limiter, times) for _ in range(CALLS_IN_FLIGHT)))


async def _call(limiter: Limiter, times: list[float]) -> None:
    while True:
        await limiter.acquire()
        times.append(time.time())
