"""Images per second and what each costs, at 50 ms a call: Tagmill's fleet beside plain Celery."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from benchmarks.consumption import Tree, peaks
from benchmarks.stage import Spent, Stage, program, running, spent_by, stage
from benchmarks.tables import Row, Table
from tagmill.config.celery import broker_url

LATENCY_SECONDS = 0.05
ROUNDS = 3
TAGMILL_PROCESSES, LANES = 2, 64
PLAIN_PROCESSES = 8
UNLIMITED = "100000/s"
LEAST_RATIO = 5.0  #: or the design is at fault


@dataclass(frozen=True, slots=True)
class System:
    """How to enqueue images and how to work on them, with the same servers."""

    name: str
    images: int
    produce: Callable[[Stage, int], Spent]
    worker: Callable[[Stage], AbstractContextManager[int]]
    await_end: Callable[[Stage, int], None]


def tables() -> Iterator[Table]:
    rounds = [(measure(TAGMILL), measure(PLAIN)) for _ in range(ROUNDS)]
    rows = [_medians(each) for each in zip(*rounds, strict=True)]
    ratio = statistics.median(tagmill["images/s"] / plain["images/s"] for tagmill, plain in rounds)
    verdict = "as promised" if ratio >= LEAST_RATIO else "MISSED, unless others kept the cores busy"
    cpu_ratio = rows[1]["worker CPU s/1000"] / rows[0]["worker CPU s/1000"]
    yield Table(
        f"Throughput at {LATENCY_SECONDS * 1000:.0f} ms a call, medians of {ROUNDS} rounds",
        rows,
        [
            f"Tagmill is {ratio:.1f} times as fast as plain Celery (at least {LEAST_RATIO:g}: {verdict})",
            f"and an image takes its worker {cpu_ratio:.1f} times less CPU time",
        ],
    )


def measure(system: System) -> Row:
    """CPU time from the first call to the end of the work; speed by the server's own record of arrivals."""
    images = system.images
    with stage(latency_seconds=LATENCY_SECONDS) as here:
        empty_bytes = here.redis_bytes()
        spent = system.produce(here, images)
        planned_bytes = here.redis_bytes() - empty_bytes
        with system.worker(here) as pid:
            tree = Tree(pid)
            with peaks({"worker_mb": tree.resident_mb, "redis_bytes": here.redis_bytes}) as peak:
                cpu_ms = _cpu_ms_per_image(here, tree, system)
        arrivals = here.sandbox.arrivals()
    return {
        "system": system.name,
        "images/s": (len(arrivals) - 1) / (max(arrivals) - min(arrivals)),
        **cpu_ms,
        "worker MB": peak["worker_mb"],
        "producer MB": spent.peak_mb,
        "Redis B/image planned": planned_bytes / images,
        "at most": (peak["redis_bytes"] - empty_bytes) / images,
        "calls/image": len(arrivals) / images,
    }


def _cpu_ms_per_image(here: Stage, worker: Tree, system: System) -> dict[str, float]:
    """Milliseconds per image are seconds per thousand."""
    trees = {"worker": worker, "server": Tree(here.sandbox.process.pid), "Redis": Tree(here.redis.pid)}
    here.await_calls(1)
    before = {name: tree.cpu_seconds() for name, tree in trees.items()}
    system.await_end(here, system.images)
    used = {name: tree.cpu_seconds() - before[name] for name, tree in trees.items()}
    return {f"{name} CPU s/1000": cpu / system.images * 1000 for name, cpu in used.items()}


def _medians(rounds: Sequence[Row]) -> Row:
    """Of each figure; words are the same in all rounds."""
    return {
        name: value if isinstance(value, str) else statistics.median(row[name] for row in rounds)
        for name, value in rounds[0].items()
    }


# --- Tagmill ----------------------------------------------------------------------------------------------

TAGMILL = System(
    f"Tagmill, {TAGMILL_PROCESSES} processes of {LANES} lanes",
    images=15_000,
    produce=lambda here, images: here.plan_handles(images, rate=UNLIMITED),
    worker=lambda here: here.worker(processes=TAGMILL_PROCESSES, concurrency=LANES, rate=UNLIMITED),
    await_end=lambda here, _: here.await_manifest(),
)

# --- plain Celery -----------------------------------------------------------------------------------------


def _environment(here: Stage) -> dict[str, str]:
    return here.environment() | {
        "BENCHMARK_BROKER_URL": broker_url(here.redis.url),
        "BENCHMARK_CDN_URL": here.sandbox.url,
        "BENCHMARK_KEY": here.sandbox.key,
        "BENCHMARK_SECRET": here.sandbox.secret,
    }


def _plain_worker(here: Stage) -> AbstractContextManager[int]:
    pool = ["--pool", "prefork", "--concurrency", str(PLAIN_PROCESSES)]
    command = [*program("celery"), "--app", "benchmarks.plain", "worker", *pool, "--loglevel", "ERROR"]
    return running(command, _environment(here))


PLAIN = System(
    f"plain Celery, {PLAIN_PROCESSES} processes",
    images=1_200,
    produce=lambda here, images: spent_by([*program("benchmarks.plain"), str(images)], _environment(here)),
    worker=_plain_worker,
    await_end=lambda here, images: here.await_calls(images),
)
