"""Keys a second of a listing, by requests at once, from a server that takes its time for each page."""

from __future__ import annotations

import os
import time
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from unittest.mock import patch

from servers.s3 import S3UnderTest, canned_s3

from benchmarks.tables import Row, Table
from tagmill.producer.sources.base import Filters
from tagmill.producer.sources.s3_client import listing_client
from tagmill.producer.sources.s3_listing import PAGE_SIZE, S3Listing

KEYS = 100_000
LATENCY_SECONDS = 0.05
WORKERS = (1, 2, 4, 8)


def tables() -> Iterator[Table]:
    with _served() as s3, patch.dict(os.environ, s3.environment):
        rows = [_listed(s3.url, workers) for workers in WORKERS]
    note = f"{KEYS:,} keys, {PAGE_SIZE:,} a page, {LATENCY_SECONDS * 1000:.0f} ms before each answer"
    yield Table("A bucket, by requests at once", rows, [note])


def _listed(url: str, workers: int) -> Row:
    client = listing_client(url, workers)
    source = S3Listing(lambda: client, "b", "in/", Filters(), list_workers=workers)
    started, cpu = time.perf_counter(), time.process_time()
    listed = sum(1 for _ in source.list({}))
    seconds = time.perf_counter() - started
    if listed != KEYS:
        raise RuntimeError(f"{listed} keys of {KEYS}")
    return {
        "requests at once": workers,
        "seconds": seconds,
        "keys/s": KEYS / seconds,
        "CPU seconds": time.process_time() - cpu,
    }


@contextmanager
def _served() -> Iterator[S3UnderTest]:
    """In a process of its own, so that it takes no time of the listing's."""
    spawning = get_context("spawn")
    ours, theirs = spawning.Pipe()
    process = spawning.Process(target=_serve, args=(theirs,), daemon=True)
    process.start()
    try:
        yield S3UnderTest(ours.recv())
    finally:
        ours.send(None)
        process.join()


def _serve(end: Connection) -> None:
    keys = [f"in/{number:08d}.jpg" for number in range(KEYS)]
    facts = "<LastModified>2026-01-02T03:04:05.000Z</LastModified><Size>1000</Size>"
    rows = [
        f'<Contents><Key>{key}</Key>{facts}<ETag>"{number:032x}"</ETag></Contents>'
        for number, key in enumerate(keys)
    ]

    def answer(query: dict[str, str]) -> tuple[int, str]:
        time.sleep(LATENCY_SECONDS)
        start = bisect_right(keys, query.get("continuation-token") or query.get("start-after", ""))
        end_of_page = start + int(query["max-keys"])
        more = end_of_page < KEYS
        token = f"<NextContinuationToken>{keys[end_of_page - 1]}</NextContinuationToken>" if more else ""
        head = f"<Name>b</Name><IsTruncated>{str(more).lower()}</IsTruncated>{token}"
        return 200, f"<ListBucketResult>{head}{''.join(rows[start:end_of_page])}</ListBucketResult>"

    with canned_s3(answer) as s3:
        end.send(s3.url)
        end.recv()
