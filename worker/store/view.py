"""What holds of a run: for each image the row of its newest finished pass, in plan order."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterable, Iterator
from operator import itemgetter

import orjson

from tagmill.worker.models import Json, Place, Status
from tagmill.worker.store.base import Files
from tagmill.worker.store.layout import run_folder
from tagmill.worker.store.manifest import Manifest

SINGLE_FILE_ROWS = 1_000_000  #: beyond, the index names the shards and there is no manifest.jsonl
FAILED = frozenset({Status.FAILED, Status.QUARANTINED})
BEFORE_ALL: Place = (-1, -1)


class View:
    """Over the passes before `until`, each of which must be finished. Memory: a shard of each pass."""

    def __init__(self, files: Files, run_id: str, until: int) -> None:
        self._files, self._run = files, run_folder(run_id)
        self._passes = [Manifest(files, run_id, number) for number in range(until)]

    def placed(self, after: Place = BEFORE_ALL) -> Iterator[tuple[Place, bytes]]:
        """Yield each image beyond that place, with its row as JSON without a line end."""
        revised = _newest_of_each(heapq.merge(*(self._revised(number, after) for number in self._later())))
        revision = next(revised, None)
        for place, line in self._first(after):
            if revision is not None and revision[0] == place:
                yield revision
                revision = next(revised, None)
            else:
                yield place, line

    def lines(self) -> Iterator[bytes]:
        return (line for _, line in self.placed())

    def write(self, rows: int) -> None:
        """Derive `manifest.jsonl` (up to a million rows) and `failures.jsonl`."""
        if rows <= SINGLE_FILE_ROWS:
            self._files.replace(f"{self._run}/manifest.jsonl", _with_line_ends(self.lines()))
        failed = (line for line in self.lines() if orjson.loads(line)["status"] in FAILED)
        self._files.replace(f"{self._run}/failures.jsonl", _with_line_ends(failed))

    def _later(self) -> range:
        return range(1, len(self._passes))

    def _first(self, after: Place) -> Iterator[tuple[Place, bytes]]:
        """The rows of pass 0 stand at their places, so that they need no reading."""
        shards = ((manifest, shard) for manifest in self._passes[:1] for shard in manifest.compacted())
        for manifest, shard in shards:
            if shard >= after[0]:
                placed = (((shard, index), line) for index, line in enumerate(manifest.lines(shard)))
                yield from (item for item in placed if item[0] > after)

    def _revised(self, number: int, after: Place) -> Iterator[tuple[Place, int, bytes]]:
        manifest = self._passes[number]
        for shard in manifest.compacted():
            for line in manifest.lines(shard):
                if (place := place_of(orjson.loads(line))) > after:
                    yield place, -number, line


def place_of(row: Json) -> Place:
    return row["shard"], row["index"]


def _newest_of_each(rows: Iterable[tuple[Place, int, bytes]]) -> Iterator[tuple[Place, bytes]]:
    for place, of_one_image in itertools.groupby(rows, key=itemgetter(0)):
        yield place, next(of_one_image)[2]


def _with_line_ends(lines: Iterable[bytes]) -> Iterator[bytes]:
    return (line + b"\n" for line in lines)
