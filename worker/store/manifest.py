"""The manifest of one pass: compacted shards, and the index that is written last."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from typing import Any

import orjson

from tagmill.worker.counts import Counts
from tagmill.worker.models import Json
from tagmill.worker.store import jsonl
from tagmill.worker.store.base import Files
from tagmill.worker.store.layout import SUCCESS, pass_folder, shard_name

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

    def finish(self, entries: list[ShardEntry], counts: Counts, *, finished_at: str) -> None:
        """Write the index and, last, the mark that makes it count. `counts`: of the run, with this pass."""
        index = {
            "schema": 1,
            "finished_at": finished_at,
            "rows": sum(entry.rows for entry in entries),
            "counts": counts.to_json(),
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
        self._files.create(f"{self._folder}/{SUCCESS}", b"")

    def finished(self) -> bool:
        return self._files.exists(f"{self._folder}/{SUCCESS}")

    def finished_at(self) -> str:
        """Only of a finished pass."""
        return str(self._index()["finished_at"])

    def counts(self) -> Counts:
        """Return those of the run after this pass; only of a finished pass."""
        return Counts.from_json(self._index()["counts"])

    def _index(self) -> Json:
        index: Json = orjson.loads(self._files.read(f"{self._folder}/manifest.json"))
        return index

    def _name(self, shard: int, suffix: str) -> str:
        return f"{self._folder}/manifest/{shard_name(shard)}{suffix}"
