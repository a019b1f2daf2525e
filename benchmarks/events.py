"""From an upload to its written tags, by way of S3, SQS and a listener, beside a backfill."""

from __future__ import annotations

import contextlib
import statistics
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field

from servers.fleet import PIXEL
from servers.s3 import S3UnderTest, running_s3
from servers.s3_notifications import sqs_client, wired
from servers.strict_s3 import StrictS3UnderTest, running_strict_s3

from benchmarks.stage import await_, program, running, stage
from benchmarks.tables import Row, Table

PER_SECOND, BACKFILL = 20, 100_000
RATE = "100/s"  #: the account's, which the backfill alone would use up
CALL_SECONDS = 0.05
LANES = 16  #: calls in flight per process: each call stands in line behind those of all others
MEDIAN_SECONDS, P99_SECONDS = 2.0, 5.0  #: promised where a worker serves events alone
LOOK_SECONDS = 0.002
WARM_UP = 20  #: uploads before those that count
ALONE = "one for events, one for the backfill"
#: Workers -> lanes and processes of each; how many seconds it is looked at.
FLEETS: Mapping[str, tuple[list[tuple[str, int]], int]] = {
    ALONE: ([("events", 4), ("nightly,backfill", 1)], 60),
    "one for all lanes": ([("events,nightly,backfill", 5)], 20),
}


def tables() -> Iterator[Table]:
    rows = [measure(name, lanes, seconds) for name, (lanes, seconds) in FLEETS.items()]
    alone = next(row for row in rows if row["workers"] == ALONE)
    kept = alone["p50 s"] < MEDIAN_SECONDS and alone["p99 s"] < P99_SECONDS
    verdict = "as promised" if kept else "MISSED, unless others kept the cores busy"
    promise = f"p50 below {MEDIAN_SECONDS:g} s and p99 below {P99_SECONDS:g} s with a worker for events alone"
    yield Table(
        f"From upload to written tags, {PER_SECOND} uploads/s beside a backfill of {BACKFILL:,} at {RATE}",
        rows,
        [f"promised: {promise}: {verdict}"],
    )


def measure(name: str, workers: list[tuple[str, int]], seconds: int) -> Row:
    with ExitStack() as stack:
        s3, sqs = stack.enter_context(running_strict_s3()), stack.enter_context(running_s3())
        here = stack.enter_context(stage(latency_seconds=CALL_SECONDS))
        here.plan_handles(BACKFILL, rate=RATE)
        environment = here.environment(rate=RATE, probe="off", allow_copy_events="true", concurrency=LANES)
        environment |= S3UnderTest(s3.url).environment
        client, bucket = sqs_client(sqs.url), s3.new_bucket()
        queue = client.create_queue(QueueName="uploads")["QueueUrl"]
        for lanes, processes in workers:
            own = {"TAGMILL_LANES": lanes, "TAGMILL_PROCESSES": str(processes)}
            stack.enter_context(running(program("tagmill.worker.serve"), environment | own))
        here.await_calls(500)
        listener = [*program("tagmill.producer.cli.main"), "listen", f"s3://{bucket}/", "--queue", queue]
        stack.enter_context(running(listener, environment))
        watch = stack.enter_context(watching(s3))
        stack.enter_context(wired(s3, client, queue))
        upload(s3, bucket, "warm-up", WARM_UP)
        await_(lambda: len(watch.written) == WARM_UP)
        calls, began = here.sandbox.stats()["calls"], time.monotonic()
        uploads = seconds * PER_SECOND
        upload(s3, bucket, "upload", uploads)
        backfilled = here.sandbox.stats()["calls"] - calls
        elapsed = time.monotonic() - began
        await_(lambda: len(watch.written) == WARM_UP + uploads)
        return {
            "workers": name,
            "uploads": uploads,
            **figures(watch),
            "calls/s meanwhile": backfilled / elapsed,
        }


def figures(watch: Watch) -> Row:
    waits = sorted(at - watch.put[key] for key, at in watch.written.items() if key.startswith("upload"))
    return {
        "p50 s": statistics.median(waits),
        "p99 s": statistics.quantiles(waits, n=100)[98],
        "most s": waits[-1],
    }


def upload(s3: StrictS3UnderTest, bucket: str, stem: str, count: int) -> None:
    """At an even pace, whatever happens to them."""
    client, began = s3.client(), time.monotonic()
    for number in range(count):
        time.sleep(max(began + number / PER_SECOND - time.monotonic(), 0.0))
        client.put_object(Bucket=bucket, Key=f"{stem}-{number}.png", Body=PIXEL)


# --- what the server saw ----------------------------------------------------------------------------------


@dataclass(slots=True)
class Watch:
    """Key -> when it was put, and when its metadata was written first."""

    put: dict[str, float] = field(default_factory=dict)
    written: dict[str, float] = field(default_factory=dict)


@contextlib.contextmanager
def watching(s3: StrictS3UnderTest) -> Iterator[Watch]:
    watch, stopped = Watch(), threading.Event()

    def look() -> None:
        seen = 0
        while not stopped.wait(LOOK_SECONDS):
            events, now = s3.events[seen:], time.monotonic()
            seen += len(events)
            for event in events:
                into = watch.put if event.operation == "PutObject" else watch.written
                into.setdefault(event.key, now)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield watch
    finally:
        stopped.set()
        thread.join()
