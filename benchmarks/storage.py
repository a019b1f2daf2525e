"""What a run leaves in the run store, in bytes for each image, and what it asks of one in S3."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import random
import re
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from moto.server import ThreadedMotoServer
from servers.s3 import S3UnderTest

from benchmarks.handles import made_up_handles
from benchmarks.stage import await_, program, running, spent_by, stage
from benchmarks.tables import Row, Table
from tagmill.worker.compaction import Compaction
from tagmill.worker.models import Answer, ImageRef, Outcome, S3Object, Status, Write, WriteStatus
from tagmill.worker.policy import TagPolicy
from tagmill.worker.rows import RowContext, build_row
from tagmill.worker.store.folder import Folder
from tagmill.worker.store.layout import run_folder, state_folder
from tagmill.worker.store.parts import Parts
from tagmill.worker.store.passes import PassKind, PassSpec
from tagmill.worker.store.plan import Plan, Planned, PlanSummary, ShardHeader
from tagmill.worker.store.runs import RunSpec
from tagmill.worker.store.states import NO_STATE

SHARDS, SHARD_SIZE, CHUNK_SIZE = 5, 10_000, 1_000
TAGS, VOCABULARY = 10, 2_000  #: of an image, of a library
HANDLES, RATE, CHUNK_SIZES = 2_000, "100/s", (1_000, 50)  #: the difference is what a chunk asks for
SOURCE = "source"
RUN = RunSpec(
    "benchmark",
    "2026-01-01T00:00:00+00:00",
    {"input": None},
    "benchmark",
    ("metadata",),
    state={"name": SOURCE, "base": NO_STATE},
)


def tables() -> Iterator[Table]:
    with tempfile.TemporaryDirectory() as folder:
        _run(Folder(folder))
        found = list(_sizes(Path(folder)))
    yield Table(f"Bytes in the run store, {SHARDS * SHARD_SIZE} images of {TAGS} tags each", found)
    rows = [asked(chunk_size) for chunk_size in CHUNK_SIZES]
    yield Table(f"Requests to a run store in S3, {HANDLES} handles at {RATE}, from planned to done", rows)


def asked(chunk_size: int) -> Row:
    """Plan and work with the run store in a bucket, and count what is asked of it meanwhile."""
    with counted_s3() as (url, seen), stage() as here:
        s3 = S3UnderTest(url)
        bucket = f"runs-{chunk_size}"  # the server keeps them as long as this process lives
        s3.client().create_bucket(Bucket=bucket)
        settings = {"run_store": f"s3://{bucket}/store", "rate": RATE, "chunk_size": chunk_size}
        environment = here.environment(**settings) | s3.environment
        listed = here.folder / "handles.txt"
        listed.write_text("".join(f"{handle}\n" for handle in made_up_handles(HANDLES)))
        command = [*program("tagmill.producer.cli.main"), "run", str(listed), "--run-id", RUN.run_id]
        spent_by([*command, "--detach", "--shared-path"], environment)
        seen.clear()
        began = time.monotonic()
        with running(program("tagmill.worker.serve"), environment):
            await_(lambda: seen["summary"] > 0)
        return {"chunks": HANDLES // chunk_size, "seconds": time.monotonic() - began} | {
            kind: seen[kind] for kind in ("GET", "HEAD", "PUT", "LIST")
        }


@contextlib.contextmanager
def counted_s3() -> Iterator[tuple[str, Counter[str]]]:
    """Yield moto's S3 and how often it was asked for what; `summary`: puts of a run's summary."""
    seen: Counter[str] = Counter()

    def count(record: logging.LogRecord) -> bool:
        method, path = re.findall(r"([A-Z]+) (/\S*)", record.getMessage())[0]  # in colours
        seen["LIST" if "list-type=2" in path else method] += 1
        seen["summary"] += method == "PUT" and path.endswith("/summary.json")
        return False

    server_log = logging.getLogger("werkzeug")
    server_log.setLevel(logging.INFO)
    server_log.addFilter(count)
    server = ThreadedMotoServer("127.0.0.1", port=0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}", seen
    finally:
        server.stop()
        server_log.removeFilter(count)


def _sizes(store: Path) -> Iterator[Row]:
    images, run = SHARDS * SHARD_SIZE, store / run_folder(RUN.run_id)
    places = {"plan": "passes/0000/plan", "parts": "passes/0000/parts", "shards": "passes/0000/manifest"}
    sizes = {
        name: [file.stat().st_size for file in (run / place).iterdir()] for name, place in places.items()
    }
    sizes["state"] = [file.stat().st_size for file in (store / state_folder(SOURCE, 1)).iterdir()]
    sizes["view"] = [(run / "manifest.jsonl").stat().st_size]  # up to a million rows; the index beyond
    for name, files in sizes.items():
        yield {"what": name, "files": len(files), "bytes/image": sum(files) / images}


def _run(files: Folder) -> None:
    draw = random.Random(0)  # noqa: S311 - the same library each time
    headers = [_shard(files, shard, draw) for shard in range(SHARDS)]
    images = SHARDS * SHARD_SIZE
    Plan(files, RUN.run_id, 0).finish(PlanSummary(SHARDS, images, images, {}))
    compaction = Compaction(files, RUN, PassSpec(0, PassKind.TAG, {}))
    compaction.finish([compaction.compact(header, 0) for header in headers])


def _shard(files: Folder, shard: int, draw: random.Random) -> ShardHeader:
    first = shard * SHARD_SIZE
    header = ShardHeader(shard, SHARD_SIZE, first, CHUNK_SIZE, {}, first + SHARD_SIZE)
    refs = [_object(first + place, draw) for place in range(SHARD_SIZE)]
    Plan(files, RUN.run_id, 0).write(header, [Planned(ref) for ref in refs])
    context = RowContext(RUN.run_id, 0, TagPolicy(), "benchmark", "2", "0" * 16)
    for chunk in header.chunks(RUN.run_id, 0):
        places = range(chunk.offset, chunk.offset + chunk.count)
        rows = [build_row(context, shard, place, refs[place], _outcome(draw)) for place in places]
        Parts(files, RUN.run_id, 0).commit(chunk, rows)
    return header


def _object(number: int, draw: random.Random) -> ImageRef:
    when = datetime.fromtimestamp(1_700_000_000 + draw.randrange(80_000_000), UTC).isoformat()
    key = f"photos/{number // 1_000:06d}/{number:09d}-{draw.getrandbits(64):016x}.jpg"
    return ImageRef(S3Object("a-bucket-of-photos", key, _etag(draw), draw.randrange(9_000_000), when))


def _outcome(draw: random.Random) -> Outcome:
    tags = {f"label {draw.randrange(VOCABULARY)}": draw.randrange(30, 101) for _ in range(TAGS)}
    return Outcome(
        Status.TAGGED,
        Answer({"auto": tags, "user": None}, http_status=200, latency_ms=draw.randrange(200, 2_000)),
        attempts=1,
        calls=1,
        http_status=200,
        latency_ms=draw.randrange(200, 2_000),
        writes={"metadata": Write(WriteStatus.WRITTEN, _etag(draw))},
        transfer="presigned",
        tagged_at=datetime.fromtimestamp(1_780_000_000 + draw.randrange(80_000), UTC).isoformat(),
    )


def _etag(draw: random.Random) -> str:
    return hashlib.md5(draw.randbytes(8), usedforsecurity=False).hexdigest()
