"""What a call costs to be drawn from its caps: wall clock and CPU of the process, without the call."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from fakes.runs import a_spec
from servers.redis import running_redis

from benchmarks.tables import Table
from tagmill.worker.budget import Budget, Cap
from tagmill.worker.state.budget import OpenGrants
from tagmill.worker.state.connection import connect
from tagmill.worker.state.keys import Keys
from tagmill.worker.store.folder import Folder
from tagmill.worker.store.grants import Period
from tagmill.worker.store.runs import Runs

CALLS = 6_400
LANES = (1, 16, 64)
HIGH = 10**7  #: grants are as large as they get


def tables() -> Iterator[Table]:
    account = [
        Cap("a day", "accounts/one", Period.DAY, "", HIGH),
        Cap("a month", "accounts/one", Period.MONTH, "", HIGH),
    ]
    rows = [
        {"caps": name, "lanes": lanes, **asyncio.run(measure(lanes, cap, others))}
        for name, cap, others in (
            ("none", None, []),
            ("the run's", HIGH, []),
            ("the run's, a day's and a month's", HIGH, account),
        )
        for lanes in LANES
    ]
    yield Table(f"{CALLS:,} calls drawn, run store in a folder", rows)


async def measure(lanes: int, cap: int | None, others: Sequence[Cap]) -> dict[str, Any]:
    """Draw with so many lanes of one process."""
    with tempfile.TemporaryDirectory() as folder, running_redis(aof=True) as server:
        async with connect(server.url) as redis:
            spec = a_spec(f"run-{datetime.now(UTC):%H%M%S}", max_calls=cap)
            budget = Budget(spec, Runs(Folder(folder)), others, OpenGrants(redis, Keys("benchmark")))
            wall, cpu = time.perf_counter(), time.process_time()
            await asyncio.gather(*(_lane(budget, CALLS // lanes) for _ in range(lanes)))
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {"us a call": round(wall / CALLS * 1e6, 1), "us CPU a call": round(cpu / CALLS * 1e6, 1)}


async def _lane(budget: Budget, calls: int) -> None:
    for _ in range(calls):
        await budget.draw()
