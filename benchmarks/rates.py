"""How a whole worker keeps the account's rate, by the record of arrivals of the server that it calls."""

from __future__ import annotations

import time
from collections.abc import Iterator

from benchmarks.limiter import PROCESSES, RATES, judge, verdict
from benchmarks.stage import stage
from benchmarks.tables import Row, Table

LATENCY_SECONDS = 0.05
STEADY_SECONDS = 6.0
SETTLE_SECONDS = 2.0  #: not measured: processes start one after another
SPARE_SECONDS = 4.0  #: images planned beyond, so that no process runs out of work


def tables() -> Iterator[Table]:
    rows = [end_to_end(processes, rate) for rate in RATES for processes in PROCESSES]
    yield Table(f"The rate of a whole worker, {STEADY_SECONDS:g} s of each", rows, [verdict(rows)])


def end_to_end(processes: int, rate: int, seconds: float = STEADY_SECONDS) -> Row:
    with stage(latency_seconds=LATENCY_SECONDS) as here:
        here.plan_handles(int(rate * (SETTLE_SECONDS + seconds + SPARE_SECONDS)), rate=f"{rate}/s")
        with here.worker(processes=processes, rate=f"{rate}/s"):
            here.await_calls(1)
            time.sleep(SETTLE_SECONDS + seconds)
            arrivals = here.sandbox.arrivals()
    start = arrivals[0] + SETTLE_SECONDS
    return {"processes": processes, "rate": rate, **judge(arrivals, rate, start, start + seconds)}
