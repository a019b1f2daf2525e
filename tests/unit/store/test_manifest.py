from __future__ import annotations

import gzip
import hashlib

import orjson
import pytest
from fakes.files import MemoryFiles
from fakes.runs import RUN, SmallRun

from tagmill.worker.counts import Counts
from tagmill.worker.models import Status
from tagmill.worker.store.manifest import Manifest, ShardEntry

PASS = f"runs/{RUN}/passes/0000"


@pytest.fixture
def files() -> MemoryFiles:
    return MemoryFiles()


@pytest.fixture
def lines(files: MemoryFiles) -> list[bytes]:
    run = SmallRun(files)
    run.shard(6, 6)
    statuses = [Status.TAGGED, Status.FAILED, Status.QUARANTINED, Status.SKIPPED]
    return [orjson.dumps(row) for row in run.rows(run.chunks[0], statuses)]


def test_an_entry_tells_rows_hash_and_counts_of_its_file(files: MemoryFiles, lines: list[bytes]) -> None:
    entry = Manifest(files, RUN, 0).add_shard(4, lines, throttled=2)
    data = files.contents[f"{PASS}/manifest/00000004.jsonl.gz"]
    assert gzip.decompress(data).splitlines() == lines
    assert entry.sha256 == hashlib.sha256(data).hexdigest()
    assert (entry.shard, entry.rows) == (4, 6)
    assert entry.counts == Counts(
        tagged=2, failed=2, quarantined=1, skipped=1, calls=5, throttled=2, errors={"rejected": 4}
    )
    assert Manifest(files, RUN, 0).entry(4) == entry


def test_who_comes_second_finds_the_first_one_s_file_and_entry(
    files: MemoryFiles, lines: list[bytes]
) -> None:
    first = Manifest(files, RUN, 0).add_shard(4, lines, throttled=2)
    kept = dict(files.contents)
    assert Manifest(files, RUN, 0).add_shard(4, lines, throttled=0) == first
    assert files.contents == kept


def test_the_hash_is_that_of_the_file_even_if_another_packer_wrote_it(
    files: MemoryFiles, lines: list[bytes]
) -> None:
    other = gzip.compress(b"\n".join(lines) + b"\n", 1, mtime=0)
    files.contents[f"{PASS}/manifest/00000004.jsonl.gz"] = other
    assert Manifest(files, RUN, 0).add_shard(4, lines, 0).sha256 == hashlib.sha256(other).hexdigest()


def test_a_shard_without_its_entry_is_not_compacted(files: MemoryFiles, lines: list[bytes]) -> None:
    manifest = Manifest(files, RUN, 0)
    manifest.add_shard(1, lines, 0)
    manifest.add_shard(4, lines, 0)
    del files.contents[f"{PASS}/manifest/00000001.json"]
    assert manifest.compacted() == [4]


def test_the_index_names_every_shard_and_the_mark_comes_last(files: MemoryFiles, lines: list[bytes]) -> None:
    manifest = Manifest(files, RUN, 0)
    entries = [manifest.add_shard(shard, lines[: 3 + shard], 0) for shard in range(2)]
    assert not manifest.finished()
    manifest.finish(entries, Counts(), finished_at="2026-11-22T01:00:00+00:00")
    assert manifest.finished()
    assert list(files.contents)[-2:] == [f"{PASS}/manifest.json", f"{PASS}/_SUCCESS"]
    index = orjson.loads(files.contents[f"{PASS}/manifest.json"])
    assert (index["schema"], index["rows"], index["finished_at"]) == (1, 7, "2026-11-22T01:00:00+00:00")
    for listed, entry in zip(index["shards"], entries, strict=True):
        data = files.contents[f"{PASS}/{listed['name']}"]
        assert hashlib.sha256(data).hexdigest() == listed["sha256"] == entry.sha256
        assert len(gzip.decompress(data).splitlines()) == listed["rows"]


def test_finishing_again_changes_nothing(files: MemoryFiles, lines: list[bytes]) -> None:
    manifest = Manifest(files, RUN, 0)
    entries = [manifest.add_shard(0, lines, 0)]
    manifest.finish(entries, Counts(), finished_at="2026-11-22T01:00:00+00:00")
    manifest.finish(entries, Counts(), finished_at="2026-11-22T02:00:00+00:00")
    assert manifest.finished_at() == "2026-11-22T01:00:00+00:00"


def test_an_entry_of_before_a_new_write_status_can_be_read() -> None:
    value = ShardEntry(0, 1, "hash", Counts(tagged=1)).to_json()
    del value["counts"]["writes"]["stale"]
    assert ShardEntry.from_json(value).counts == Counts(tagged=1)
