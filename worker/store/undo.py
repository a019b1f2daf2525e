"""Previous values of our own keys, as a run's passes kept them before their writes."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any

from tagmill.worker.models import Json, Place
from tagmill.worker.rows import PREVIOUS
from tagmill.worker.store import jsonl
from tagmill.worker.store.base import Files
from tagmill.worker.store.layout import pass_folder
from tagmill.worker.store.view import place_of

Values = dict[str, Any]  #: by sink


def undo_lines(rows: Sequence[Json], previous: Mapping[int, Values]) -> list[Json]:
    """What stood at our keys before this run: `previous` by index in `rows`."""
    return [
        {name: rows[index][name] for name in ("id", "shard", "index")} | {PREVIOUS: values}
        for index, values in sorted(previous.items())
    ]


class UndoValues:
    """Asked for place after place, ascending: reads each file once, holds one a pass."""

    def __init__(self, files: Files, run_id: str, until: int) -> None:
        """`until`: the passes before this one."""
        self._files, self._run_id = files, run_id
        merged = heapq.merge(*(self._of_pass(number) for number in range(until)), key=itemgetter(0, 1))
        self._next = iter(merged)
        self._ahead = next(self._next, None)

    def __iter__(self) -> Iterator[tuple[Place, Values]]:
        """Yield all that is left to be asked for."""
        while self._ahead is not None:
            place = self._ahead[0]
            yield place, self.at(place)

    def at(self, place: Place) -> Values:
        """Return what stood there before the run's first write, by sink: the oldest pass knows."""
        found: Values = {}
        while self._ahead is not None and self._ahead[0] <= place:
            if self._ahead[0] == place:
                found = {**self._ahead[2], **found}
            self._ahead = next(self._next, None)
        return found

    def _of_pass(self, number: int) -> Iterator[tuple[Place, int, Values]]:
        folder = f"{pass_folder(self._run_id, number)}/undo"
        for name in self._files.names(folder):
            for record in jsonl.unpack(self._files.read(f"{folder}/{name}")):
                yield place_of(record), number, record[PREVIOUS]
