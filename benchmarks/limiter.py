"""How much of the allowed rate processes use together, and the worst second that the server sees.

Without Celery and HTTP: calls are lines to a server that logs when each arrives.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from multiprocessing.synchronize import Barrier, Event
from pathlib import Path
from typing import Any

from servers.redis import free_port, running_redis

from benchmarks.tables import Row, Table
from tagmill.worker.rate import Rate
from tagmill.worker.state.connection import connect
from tagmill.worker.state.keys import Keys
from tagmill.worker.state.limiter import Limiter

CALL_SECONDS = 0.05  #: until the server answers
LANES = 64  #: in each process
SETTLE_SECONDS = 1.0  #: not measured: connections are opened
SPARE_SECONDS = 0.5  #: senders may begin before the first arrival

STEADY_SECONDS = 4.0
LEAST_SHARE, CEILING = 0.95, 1.2
RATES, PROCESSES = (20, 100, 400), (1, 2, 4)

_processes = multiprocessing.get_context("spawn")


def tables() -> Iterator[Table]:
    rows = [measure(processes, rate, STEADY_SECONDS) for rate in RATES for processes in PROCESSES]
    yield Table(f"The limiter alone, {STEADY_SECONDS:g} s of each", rows, [verdict(rows)])


def measure(processes: int, rate: float, seconds: float) -> dict[str, Any]:
    """Run `processes` senders for `seconds` and return what arrived, against what the rate allows."""
    with tempfile.TemporaryDirectory() as folder, running_redis() as redis:
        log, stop, port = os.path.join(folder, "arrivals"), _processes.Event(), free_port()
        ready = _processes.Barrier(processes)
        for_seconds = SETTLE_SECONDS + seconds + SPARE_SECONDS
        senders = [
            _processes.Process(target=_send, args=(redis.url, port, rate, for_seconds, ready))
            for _ in range(processes)
        ]
        server = _processes.Process(target=_log_arrivals, args=(port, log, stop))
        with _running([server], stop), _running(senders):
            for sender in senders:
                sender.join()
        arrivals = [float(line) for line in Path(log).read_text().split()]
    start = min(arrivals) + SETTLE_SECONDS
    return {"processes": processes, "rate": rate, **judge(arrivals, rate, start, start + seconds)}


def judge(arrivals: Sequence[float], rate: float, start: float, end: float) -> dict[str, Any]:
    """Share of the calls that the rate allows from `start` to `end`; the worst second of all."""
    measured = [at for at in arrivals if start <= at < end]
    worst = _worst_second(sorted(arrivals))
    return {
        "calls": len(measured),
        "share": round(len(measured) / ((end - start) * rate), 4),
        "worst second": worst,
        "worst / rate": round(worst / rate, 3),
        "within": worst <= CEILING * rate + 1,
    }


def verdict(rows: Sequence[Row]) -> str:
    least, within = min(row["share"] for row in rows), all(row["within"] for row in rows)
    kept = "as promised" if least >= LEAST_SHARE and within else "MISSED"
    return f"promised: a share of {LEAST_SHARE:g}, no second above {CEILING:g} times the rate and one: {kept}"


def _worst_second(arrivals: Sequence[float]) -> int:
    first, worst = 0, 0
    for last, at in enumerate(arrivals):
        while arrivals[first] <= at - 1.0:
            first += 1
        worst = max(worst, last - first + 1)
    return worst


@contextlib.contextmanager
def _running(processes: Sequence[Any], stop: Event | None = None) -> Iterator[None]:
    for process in processes:
        process.start()
    try:
        yield
    finally:
        if stop is not None:
            stop.set()
        for process in processes:
            process.join(5)
            process.kill()


# --- in a process of its own --------------------------------------------------------------------------------


def _log_arrivals(port: int, log: str, stop: Event) -> None:
    arrivals: list[float] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):  # Python 3.11 would report the end
            while await reader.readline():
                arrivals.append(time.time())
                await asyncio.sleep(CALL_SECONDS)
                writer.write(b"\n")

    async def serve() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", port, backlog=1024)
        await asyncio.to_thread(stop.wait)
        server.close()

    asyncio.run(serve())
    Path(log).write_text("\n".join(map(repr, arrivals)))


def _send(redis_url: str, port: int, rate: float, for_seconds: float, ready: Barrier) -> None:
    async def lane(limiter: Limiter) -> None:
        reader, writer = await _connected(port)
        with contextlib.closing(writer):
            while True:
                await limiter.acquire()
                writer.write(b"call\n")
                await reader.readline()

    async def lanes() -> None:
        async with connect(redis_url) as redis:
            limiter = Limiter(redis, Keys("benchmark"), [("account", Rate.parse(f"{rate}/s"))], "account")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(for_seconds):
                    await asyncio.gather(*(lane(limiter) for _ in range(LANES)))

    ready.wait()
    asyncio.run(lanes())


async def _connected(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    while True:
        try:
            return await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.05)  # the server is starting
