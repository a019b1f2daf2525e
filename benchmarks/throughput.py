"""Images per second and what each costs, at 50 ms a call: Tagmill's fleet beside plain Celery."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from benchmarks.consumption import Tree, peaks
from benchmarks.stage import Stage, await_, made_up_handles, program, running, stage
from benchmarks.tables import Row, Table
from tagmill.config.celery import broker_url

LATENCY_SECONDS = 0.05
ROUNDS = 3
TAGMILL_IMAGES, PLAIN_IMAGES = 20_000, 1_500
PROCESSES, LANES = 2, 64
PLAIN_PROCESSES = 8
UNLIMITED = "100000/s"
LEAST_RATIO = 5.0  #: or the design is at fault


def tables() -> Iterator[Table]:
    rounds = [(tagmill(), plain_celery()) for _ in range(ROUNDS)]
    rows = [_medians([first for first, _ in rounds]), _medians([second for _, second in rounds])]
    ratio = statistics.median(first["images_s"] / second["images_s"] for first, second in rounds)
    verdict = "as promised" if ratio >= LEAST_RATIO else "MISSED"
    yield Table(
        f"Throughput at {LATENCY_SECONDS * 1000:.0f} ms a call, medians of {ROUNDS} rounds",
        rows,
        [f"Tagmill is {ratio:.1f} times as fast as plain Celery (at least {LEAST_RATIO:g}: {verdict})"],
    )


def tagmill(images: int = TAGMILL_IMAGES) -> Row:
    with stage(latency_seconds=LATENCY_SECONDS) as here:
        empty = here.redis_bytes()
        planned = here.plan(images, rate=UNLIMITED)
        planned_bytes = here.redis_bytes() - empty
        with here.worker(PROCESSES, LANES, rate=UNLIMITED) as pid:
            figures = _figures(here, pid, images, empty, here.await_manifest)
    return {
        "system": f"Tagmill, {PROCESSES} × {LANES} lanes",
        **figures,
        "redis_bytes_planned": planned_bytes / images,
        "producer_mb": planned.peak_mb,
    }


def plain_celery(images: int = PLAIN_IMAGES) -> Row:
    with stage(latency_seconds=LATENCY_SECONDS) as here:
        empty = here.redis_bytes()
        _enqueue(here, images)
        planned_bytes = here.redis_bytes() - empty
        with running(_plain_worker(), _plain_environment(here)) as pid:
            figures = _figures(here, pid, images, empty, lambda: _await_calls(here, images))
    return {
        "system": f"plain Celery, {PLAIN_PROCESSES} processes",
        **figures,
        "redis_bytes_planned": planned_bytes / images,
        "producer_mb": float("nan"),
    }


def _figures(
    here: Stage, worker_pid: int, images: int, empty_bytes: float, await_end: Callable[[], None]
) -> dict[str, Any]:
    """From the first call to the end of the work; speed by the server's own record of arrivals."""
    trees = {"worker": Tree(worker_pid), "server": Tree(here.sandbox.process.pid), "redis": Tree(here.redis.pid)}
    with peaks({"worker_mb": trees["worker"].resident_mb, "redis_bytes": here.redis_bytes}) as peak:
        here.await_first_call()
        before = {name: tree.cpu_seconds() for name, tree in trees.items()}
        await_end()
        used = {name: tree.cpu_seconds() - before[name] for name, tree in trees.items()}
    arrivals = here.sandbox.arrivals()
    return {
        "images_s": (len(arrivals) - 1) / (max(arrivals) - min(arrivals)),
        **{f"{name}_cpu_s_per_1000": cpu / images * 1000 for name, cpu in used.items()},
        "worker_mb": peak["worker_mb"],
        "redis_bytes_peak": (peak["redis_bytes"] - empty_bytes) / images,
        "calls_per_image": len(arrivals) / images,
    }


def _enqueue(here: Stage, images: int) -> None:
    from benchmarks.plain import QUEUE, TASK, app

    with app.connection_for_write(broker_url(here.redis.url)) as connection:
        for handle in made_up_handles(images):
            app.send_task(TASK, args=[handle], queue=QUEUE, connection=connection)


def _plain_worker() -> Sequence[str]:
    pool = ["--pool", "prefork", "--concurrency", str(PLAIN_PROCESSES)]
    return [*program("celery"), "--app", "benchmarks.plain", "worker", *pool, "--loglevel", "ERROR"]


def _plain_environment(here: Stage) -> dict[str, str]:
    return here.environment() | {
        "BENCHMARK_BROKER_URL": broker_url(here.redis.url),
        "BENCHMARK_CDN_URL": here.sandbox.url,
        "BENCHMARK_KEY": here.sandbox.key,
        "BENCHMARK_SECRET": here.sandbox.secret,
    }


def _await_calls(here: Stage, images: int) -> None:
    await_(lambda: here.sandbox.stats()["calls"] >= images)


def _medians(rounds: Sequence[Row]) -> Row:
    """Of each figure; words are the same in all rounds."""
    return {
        name: value if isinstance(value, str) else statistics.median(row[name] for row in rounds)
        for name, value in rounds[0].items()
    }
