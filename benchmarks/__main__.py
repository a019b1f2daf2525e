"""`make bench`: every subject, or those that `BENCH_ARGS` names. See docs/benchmarks.md."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))  # the servers that tests start, too

from benchmarks import (
    budget,
    events,
    export,
    foreseeing,
    incremental,
    lanes,
    limiter,
    listing,
    planning,
    rates,
    startup,
    storage,
    tag_window,
    throughput,
    webhooks,
    writing,
)
from benchmarks.tables import Table, keep, machine

SUBJECTS: dict[str, Callable[[], Iterator[Table]]] = {
    "throughput": throughput.tables,
    "limiter": limiter.tables,
    "lanes": lanes.tables,
    "budget": budget.tables,
    "rates": rates.tables,
    "startup": startup.tables,
    "planning": planning.tables,
    "storage": storage.tables,
    "listing": listing.tables,
    "foreseeing": foreseeing.tables,
    "incremental": incremental.tables,
    "writing": writing.tables,
    "export": export.tables,
    "tag-window": tag_window.tables,
    "webhooks": webhooks.tables,
    "events": events.tables,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("subjects", nargs="*", metavar="SUBJECT", help=f"of: {', '.join(SUBJECTS)}")
    chosen = parser.parse_args().subjects or list(SUBJECTS)
    if unknown := set(chosen) - set(SUBJECTS):
        parser.error(f"no subject {min(unknown)!r}: choose from {', '.join(SUBJECTS)}")
    facts = machine()
    print(" · ".join(f"{name} {value}" for name, value in facts.items()), end="\n\n")
    for subject in chosen:
        started = time.monotonic()
        found = list(SUBJECTS[subject]())
        keep(subject, facts, found)
        print(*found, sep="\n", end=f"({subject}: {time.monotonic() - started:.0f} s)\n\n", flush=True)


if __name__ == "__main__":
    main()
