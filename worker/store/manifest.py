"""The manifest of one pass: compacted shards, the index written last, and the views people read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import orjson

from tagmill.worker.counts import Counts
from tagmill.worker.models import Json
from tagmill.worker.store import jsonl
from tagmill.worker.store.base import Files
from tagmill.worker.store.layout import pass_folder, run_folder, shard_name

SINGLE_FILE_ROWS = 1_000_000  #: beyond, the index names the shards and there is no manifest.jsonl
_ROWS, _COUNTS = ".jsonl.gz", ".json"


@dataclass(frozen=True, slots=True)
class ShardEntry:
    """`manifest/<shard>.json`, written after the rows: the shard is compacted."""

    shard: int
    rows: int
    sha256: str  #: of the gzipped file
    counts: Counts

    def to_json(self) -> Json:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Any) -> ShardEntry:
        return cls(**{**value, "counts": Counts.from_json(value["counts"])})


class Manifest:
    def __init__(self, files: Files, run_id: str, pass_no: int) -> None:
        self._files = files
        self._run = run_folder(run_id)
        self._folder = pass_folder(run_id, pass_no)

    def add_shard(self, shard: int, lines: list[bytes], throttled: int) -> ShardEntry:
        """Write the rows of a whole shard and then its entry; whoever comes second finds the same rows."""
        counts = Counts.of_rows(map(orjson.loads, lines))
        counts.throttled = throttled
        data = jsonl.pack_lines(lines)
        if not self._files.create(self._name(shard, _ROWS), data):
            data = self._files.read(self._name(shard, _ROWS))  # another zlib may have packed the same rows
        entry = ShardEntry(shard, len(lines), hashlib.sha256(data).hexdigest(), counts)
        first = self._files.create(self._name(shard, _COUNTS), orjson.dumps(entry.to_json()))
        return entry if first else self.entry(shard)

    def compacted(self) -> list[int]:
        """Numbers of the compacted shards, ascending."""
        names = self._files.names(f"{self._folder}/manifest")
        return [int(name.removesuffix(_COUNTS)) for name in names if name.endswith(_COUNTS)]

    def entry(self, shard: int) -> ShardEntry:
        return ShardEntry.from_json(orjson.loads(self._files.read(self._name(shard, _COUNTS))))

    def lines(self, shard: int) -> list[bytes]:
        """Rows of a compacted shard, as JSON without line ends."""
        return jsonl.unpack_lines(self._files.read(self._name(shard, _ROWS)))

    def finish(self, entries: list[ShardEntry], *, finished_at: str) -> None:
        """Write the index and, last, the mark that makes it count."""
        index = {
            "schema": 1,
            "finished_at": finished_at,
            "rows": sum(entry.rows for entry in entries),
            "shards": [
                {
                    "name": f"manifest/{shard_name(entry.shard)}{_ROWS}",
                    "rows": entry.rows,
                    "sha256": entry.sha256,
                }
                for entry in entries
            ],
        }
        self._files.create(f"{self._folder}/manifest.json", orjson.dumps(index, option=orjson.OPT_INDENT_2))
        self._files.create(f"{self._folder}/_SUCCESS", b"")

    def finished(self) -> bool:
        return self._files.exists(f"{self._folder}/_SUCCESS")

    def finished_at(self) -> str:
        """Only of a finished pass."""
        return str(orjson.loads(self._files.read(f"{self._folder}/manifest.json"))["finished_at"])

    def write_views(self, entries: list[ShardEntry]) -> None:
        """Derive `manifest.jsonl` (up to a million rows) and `failures.jsonl` from the shards."""
        if sum(entry.rows for entry in entries) <= SINGLE_FILE_ROWS:
            self._files.replace(f"{self._run}/manifest.jsonl", self._all_lines(entries))
        failing = [entry for entry in entries if entry.counts.failed or entry.counts.quarantined]
        self._files.replace(f"{self._run}/failures.jsonl", self._failed_lines(failing))

    def write_summary(self, summary: Json) -> None:
        data = orjson.dumps(summary, option=orjson.OPT_INDENT_2)
        self._files.replace(f"{self._run}/summary.json", [data])

    def _all_lines(self, entries: list[ShardEntry]) -> Iterator[bytes]:
        for entry in entries:
            yield from (line + b"\n" for line in self.lines(entry.shard))

    def _failed_lines(self, entries: list[ShardEntry]) -> Iterator[bytes]:
        for line in self._all_lines(entries):
            if orjson.loads(line)["status"] in {"failed", "quarantined"}:
                yield line

    def _name(self, shard: int, suffix: str) -> str:
        return f"{self._folder}/manifest/{shard_name(shard)}{suffix}"
