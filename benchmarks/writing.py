"""What a write-back costs at each place, and for how long it could overwrite somebody else's metadata.

The server is the tests' strict S3 in a process of its own: it bounds the writes per second, not the CPU time
that each takes.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import random
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from servers.s3 import S3UnderTest
from servers.strict_s3 import running_strict_s3

from benchmarks.tables import Row, Table
from tagmill.worker.canary import Canary
from tagmill.worker.capabilities import Capabilities
from tagmill.worker.models import ImageRef, LocalFile, S3Object
from tagmill.worker.sidecar_prefix import SidecarPrefix
from tagmill.worker.sinks.base import Tagging
from tagmill.worker.sinks.s3_annotation import S3AnnotationSink
from tagmill.worker.sinks.s3_metadata import S3MetadataSink
from tagmill.worker.sinks.s3_sidecar import S3SidecarSink
from tagmill.worker.sinks.s3_tags import S3TagsSink
from tagmill.worker.sinks.sidecar import SidecarSink
from tagmill.worker.writeback import WriteBack

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

IMAGES, LANES = 1_000, 32
BUCKET = "library"
CONTENT = b"\xff\xd8" + b"image" * 10_000
LABELS = {f"label {number}": 50.0 + number for number in range(10)}
ANSWER = {"auto": LABELS, "user": None}
TAGGING = Tagging("first-run", "filestack", "0" * 16, "1" * 16, ANSWER, "2026-01-01T00:00:00Z")
REWRITES, REWRITTEN_WITHIN_SECONDS = 1_000, 0.05
FIRST = (0, 0)  #: a place of the plan that the canary looks at

_processes = multiprocessing.get_context("spawn")


def tables() -> Iterator[Table]:
    with strict_s3() as client, tempfile.TemporaryDirectory() as folder:
        write_backs = {"sidecar of a file": (WriteBack([SidecarSink()]), files(Path(folder)))}
        for name, write_back in of_objects(client).items():
            write_backs[name] = write_back, stock(client, name)
        rows = [asyncio.run(measure(name, *each)) for name, each in write_backs.items()]
        exposed = [asyncio.run(exposure(client, lanes)) for lanes in (1, LANES)]
        lost = asyncio.run(lose(client))
    yield Table(f"Write-backs of {IMAGES:,} images, {LANES} at once", rows)
    within = f"{REWRITTEN_WITHIN_SECONDS * 1000:.0f} ms from the beginning of a write"
    note = (
        f"{lost} of {REWRITES:,} rewrites of metadata alone, each at some moment of the {within}, were lost"
    )
    yield Table("A metadata write from its look to the end of its copy, milliseconds", exposed, [note])


# --- writes -----------------------------------------------------------------------------------------------


def of_objects(client: S3Client) -> dict[str, WriteBack]:
    canary = Canary(client, TAGGING.run_id, Capabilities.of_s3)
    sidecars = S3SidecarSink(client, lanes=LANES, prefix=SidecarPrefix.parse(None))
    return {
        "metadata": WriteBack([S3MetadataSink(client, lanes=LANES)]),
        "metadata, no conditions": WriteBack([S3MetadataSink(client, lanes=LANES, known=Capabilities)]),
        "metadata, canaries": WriteBack([S3MetadataSink(client, lanes=LANES)], canary=canary),
        "tags": WriteBack([S3TagsSink(client, lanes=LANES)]),
        "annotation": WriteBack([S3AnnotationSink(client, lanes=LANES, proven=lambda _: True)]),
        "sidecar of an object": WriteBack([sidecars]),
    }


async def measure(name: str, write_back: WriteBack, refs: Sequence[ImageRef]) -> Row:
    """Write everything, and then the same again, which changes nothing."""

    async def write(ref: ImageRef) -> None:
        (write,) = (await write_back.write(ref, TAGGING, keep, FIRST)).values()
        ended[write.status] += 1

    ended: Counter[str] = Counter()
    first, again = await timed(write, refs), await timed(write, refs)
    if ended != {"written": IMAGES, "unchanged": IMAGES}:
        raise RuntimeError(f"{name}: {ended}")
    return {
        "place": name,
        "writes/s": first[0],
        "CPU ms": first[1],
        "again/s": again[0],
        "CPU ms again": again[1],
    }


async def timed(act: Callable[[ImageRef], Awaitable[None]], refs: Sequence[ImageRef]) -> tuple[float, float]:
    """Return images per second, and this process's CPU milliseconds for each."""
    todo = iter(refs)

    async def lane() -> None:
        for ref in todo:
            await act(ref)

    started, cpu = time.monotonic(), time.process_time()
    async with asyncio.TaskGroup() as group:
        for _ in range(LANES):
            group.create_task(lane())
    return len(refs) / (time.monotonic() - started), (time.process_time() - cpu) / len(refs) * 1000


# --- the window -------------------------------------------------------------------------------------------


class Watched:
    """A client that notes how long after the answer of a HEAD the answer of the COPY has come."""

    def __init__(self, client: S3Client) -> None:
        self._client = client
        self._looked_at: dict[str, float] = {}
        self.milliseconds: list[float] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def head_object(self, **arguments: Any) -> Any:
        answer = self._client.head_object(**arguments)
        self._looked_at[arguments["Key"]] = time.monotonic()
        return answer

    def copy_object(self, **arguments: Any) -> Any:
        answer = self._client.copy_object(**arguments)
        self.milliseconds.append((time.monotonic() - self._looked_at[arguments["Key"]]) * 1000)
        return answer


async def exposure(client: S3Client, lanes: int) -> Row:
    refs, watched = stock(client, f"window {lanes}"), Watched(client)
    write_back = WriteBack([S3MetadataSink(cast("S3Client", watched), lanes=lanes)])
    todo = iter(refs)

    async def lane() -> None:
        for ref in todo:
            await write_back.write(ref, TAGGING, keep)

    await asyncio.gather(*(lane() for _ in range(lanes)))
    percentiles = statistics.quantiles(watched.milliseconds, n=100)
    return {
        "at once": lanes,
        "median": percentiles[49],
        "99 of 100": percentiles[98],
        "longest": max(watched.milliseconds),
    }


async def lose(client: S3Client) -> int:
    """Return how many rewrites of the metadata alone were overwritten by a write at the same time."""
    at: Any = {"Bucket": BUCKET, "Key": "contested.jpg"}
    etag = client.put_object(**at, Body=CONTENT)["ETag"].strip('"')
    ref, sink = ImageRef(S3Object(BUCKET, at["Key"], etag, len(CONTENT))), S3MetadataSink(client, lanes=1)
    moments = random.Random(7)  # noqa: S311 - no secret

    def rewrite(number: int) -> None:
        time.sleep(moments.uniform(0, REWRITTEN_WITHIN_SECONDS))
        client.copy_object(**at, CopySource=at, MetadataDirective="REPLACE", Metadata={"number": str(number)})

    lost = 0
    for number in range(REWRITES):
        tagging = replace(TAGGING, run_id=f"run-{number}")
        await asyncio.gather(asyncio.to_thread(rewrite, number), sink.write(ref, tagging, keep_nothing))
        lost += client.head_object(**at)["Metadata"]["number"] != str(number)
    return lost


# --- images -----------------------------------------------------------------------------------------------


def stock(client: S3Client, name: str) -> list[ImageRef]:
    def put(number: int) -> ImageRef:
        key = f"{name}/{number:05d}.jpg"
        etag = client.put_object(Bucket=BUCKET, Key=key, Body=CONTENT, ContentType="image/jpeg")["ETag"]
        return ImageRef(S3Object(BUCKET, key, etag.strip('"'), len(CONTENT)))

    with ThreadPoolExecutor(LANES) as threads:
        return list(threads.map(put, range(IMAGES)))


def files(folder: Path) -> list[ImageRef]:
    refs = []
    for number in range(IMAGES):
        path = folder / f"{number:05d}.jpg"
        path.write_bytes(CONTENT)
        found = path.stat()
        name = path.name.encode()
        refs.append(ImageRef(LocalFile.at(str(folder), name, found.st_size, found.st_mtime_ns)))
    return refs


async def keep(_: str, __: Mapping[str, Any]) -> None:
    """Where former values go is not what is measured."""


async def keep_nothing(_: Mapping[str, Any]) -> None:
    """As above."""


# --- in a process of its own ------------------------------------------------------------------------------


@contextlib.contextmanager
def strict_s3() -> Iterator[S3Client]:
    """Yield a client of an empty server with one bucket."""
    ours, theirs = _processes.Pipe()
    server = _processes.Process(target=_serve, args=(theirs,), daemon=True)
    server.start()
    try:
        client = S3UnderTest(ours.recv()).client(attempts=1, connections=LANES)
        client.create_bucket(Bucket=BUCKET)
        yield client
    finally:
        server.kill()
        server.join()


def _serve(pipe: Connection) -> None:
    with running_strict_s3() as server:
        pipe.send(server.url)
        pipe.recv()
