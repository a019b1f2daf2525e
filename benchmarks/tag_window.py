"""What somebody else writes to an object's tags while we do: how often it is lost, seen, or not in the way.

S3 takes no condition for tags, so a tag set that is written between our read and our write is overwritten.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from servers.strict_s3 import StrictS3UnderTest, running_strict_s3

from benchmarks.tables import Row, Table
from tagmill.worker.errors import SinkConflictError
from tagmill.worker.models import ImageRef, S3Object
from tagmill.worker.sinks.base import Tagging
from tagmill.worker.sinks.s3_tags import S3TagsSink

ROUNDS = 1_000
WARM_UP = 20
TAGGING = Tagging("a-run", "filestack", "0" * 16, "0" * 16, {"auto": {"sky": 97}}, "2026-11-22T00:00:00Z")


async def keep(_: Mapping[str, Any]) -> None:
    """Takes no time here; a worker asks Redis in between."""


@dataclass
class Race:
    """Each round has an image of its own, one write of ours, and one tagger at a random moment of it."""

    server: StrictS3UnderTest
    sink: S3TagsSink
    bucket: str
    random: random.Random = field(default_factory=lambda: random.Random(7))  # noqa: S311 - no secret
    read_at: float | None = None  #: of this round, the read that our first write merges into
    windows: list[float] = field(default_factory=list)  #: seconds, at the server, from our read to our write
    ended: Counter[str] = field(default_factory=Counter)

    def watch(self) -> None:
        """Take the times at which requests arrive."""
        self.server.faults.always("GetObjectTagging", self._read)
        self.server.faults.always("PutObjectTagging", self._written)

    def _read(self) -> None:
        self.read_at = self.read_at or time.perf_counter()

    def _written(self) -> None:
        if len(self.windows) < self.ended.total() + 1 and self.read_at is not None:
            self.windows.append(time.perf_counter() - self.read_at)

    async def round(self, number: int, write_seconds: float) -> None:
        ref, self.read_at = self.image(number), None
        tagger = threading.Timer(self.random.uniform(0, write_seconds), self.tag, [ref])
        tagger.start()
        conflicts = await self.write(ref)
        tagger.join()
        await self.write(ref)
        kept = "team" in self.server.store.current(self.bucket, f"{number}").tags
        self.ended["kept" if kept and not conflicts else "seen and kept" if kept else "lost"] += 1

    def image(self, number: int) -> ImageRef:
        client = self.server.client()
        etag = client.put_object(Bucket=self.bucket, Key=f"{number}", Body=b"image")["ETag"].strip('"')
        return ImageRef(S3Object(self.bucket, f"{number}", etag, 5))

    def tag(self, ref: ImageRef) -> None:
        """The whole set, as most programs do it; at the store, so that it takes no time of its own."""
        self.server.store.edit(self.bucket, ref.source.key, tags={"team": "web"})  # type: ignore[union-attr] # an S3 object

    async def write(self, ref: ImageRef) -> int:
        """Return how often somebody was in the way."""
        conflicts = 0
        while True:
            try:
                await self.sink.write(ref, TAGGING, keep)
            except SinkConflictError:
                conflicts += 1
                continue
            return conflicts

    async def write_seconds(self) -> float:
        """Return how long a write takes, undisturbed."""
        taken = []
        for number in range(-WARM_UP, 0):
            ref = self.image(number)
            started = time.perf_counter()
            await self.write(ref)
            taken.append(time.perf_counter() - started)
        return statistics.median(taken)


def tables() -> Iterator[Table]:
    yield Table("Tags: a tagger at a random moment of our write", [asyncio.run(race())])


async def race() -> Row:
    with running_strict_s3() as server:
        sink = S3TagsSink(server.client(), lanes=2)
        contest = Race(server, sink, server.new_bucket())
        write_seconds = await contest.write_seconds()
        contest.watch()
        for number in range(ROUNDS):
            await contest.round(number, write_seconds)
        await sink.aclose()
    windows = sorted(contest.windows)
    return {
        "rounds": ROUNDS,
        "write ms": round(write_seconds * 1000, 1),
        "window ms": round(statistics.median(windows) * 1000, 1),
        "window p95 ms": round(windows[int(len(windows) * 0.95)] * 1000, 1),
        **{name: contest.ended[name] for name in ("kept", "seen and kept", "lost")},
    }
