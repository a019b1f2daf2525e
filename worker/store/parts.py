"""What chunks leave behind: parts, undo values, and calls that no row tells of."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Iterable, Iterator
from typing import Any

import orjson

from tagmill.worker.models import Chunk
from tagmill.worker.store import jsonl
from tagmill.worker.store.base import Files
from tagmill.worker.store.layout import pass_folder, shard_name

_SUFFIX = ".jsonl.gz"


class Parts:
    def __init__(self, files: Files, run_id: str, pass_no: int) -> None:
        self._files = files
        self._folder = pass_folder(run_id, pass_no)

    def commit(self, chunk: Chunk, rows: Iterable[Any]) -> bool:
        """Return False when another worker committed this chunk first."""
        return self._files.create(self._name(chunk.name), jsonl.pack(rows))

    def committed(self, chunk: Chunk) -> bool:
        return self._files.exists(self._name(chunk.name))

    def committed_from(self, shard: int) -> set[tuple[int, int]]:
        """(shard, offset) of every committed chunk of this shard and those after it, in one listing."""
        names = self._files.names(f"{self._folder}/parts", shard_name(shard))
        return {_place(name.removesuffix(_SUFFIX)) for name in names}

    def rows(self, chunk: Chunk) -> Iterator[dict[str, Any]]:
        return self.rows_at(chunk.shard, chunk.offset)

    def rows_at(self, shard: int, offset: int) -> Iterator[dict[str, Any]]:
        return jsonl.unpack(self._files.read(self._name(f"{shard_name(shard)}-{offset:05d}")))

    def lines_of_shard(self, shard: int) -> Iterator[bytes]:
        """Rows of the shard's committed chunks, in plan order, as JSON without line ends."""
        stem = shard_name(shard)
        names = self._files.names(f"{self._folder}/parts", stem)
        for name in itertools.takewhile(lambda name: name.startswith(stem), names):
            yield from jsonl.unpack_lines(self._files.read(f"{self._folder}/parts/{name}"))

    def lines(self, chunk: Chunk) -> list[bytes]:
        return jsonl.unpack_lines(self._files.read(self._name(chunk.name)))

    def keep_undo(self, chunk: Chunk, previous: Iterable[Any]) -> None:
        """Keep the values that our own keys had before; first writer wins, as for the part."""
        self._files.create(f"{self._folder}/undo/{chunk.name}{_SUFFIX}", jsonl.pack(previous))

    def count_extra(self, chunk: Chunk, calls: int, maybe_charged: int) -> None:
        """Record calls that a second committer made: they were paid, but no row of the part tells of them."""
        name = f"{self._folder}/extra/{chunk.name}-{secrets.token_hex(8)}.json"
        self._files.create(name, orjson.dumps({"calls": calls, "maybe_charged": maybe_charged}))

    def extra(self) -> tuple[int, int]:
        """Sum of the extra calls, and of those among them whose fate is unknown."""
        folder = f"{self._folder}/extra"
        values = [orjson.loads(self._files.read(f"{folder}/{name}")) for name in self._files.names(folder)]
        return sum(value["calls"] for value in values), sum(value["maybe_charged"] for value in values)

    def _name(self, name: str) -> str:
        return f"{self._folder}/parts/{name}{_SUFFIX}"


def _place(name: str) -> tuple[int, int]:
    shard, offset = name.split("-")
    return int(shard), int(offset)
