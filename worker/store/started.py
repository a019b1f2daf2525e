"""What chunks had begun when a worker gave them back: the copy of their journals that Redis cannot lose."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from tagmill.worker.models import Chunk, Json
from tagmill.worker.store import jsonl
from tagmill.worker.store.base import Files
from tagmill.worker.store.layout import pass_folder

Entries = dict[int, Json]  #: by index in the chunk
Undo = dict[int, dict[str, Json]]  #: what stood at our keys before the first write, by index and sink


@dataclass(frozen=True, slots=True)
class Kept:
    entries: Entries = field(default_factory=dict)
    undo: Undo = field(default_factory=dict)
    files: int = 0  #: that it is spread over


class Started:
    """Of one chunk: `started/<chunk>.<k>.jsonl.gz`, each with what is new since the one before."""

    def __init__(self, files: Files, chunk: Chunk) -> None:
        self._files = files
        self._stem = f"{pass_folder(chunk.run_id, chunk.pass_no)}/started/{chunk.name}"

    def load(self) -> Kept:
        """Return each image's newest entry, and what was the first of its values."""
        entries: Entries = {}
        undo: Undo = {}
        files = list(self._read())
        for line in itertools.chain.from_iterable(map(jsonl.unpack, files)):
            index = line["index"]
            if "entry" in line:
                entries[index] = line["entry"]
            else:
                undo[index] = line["undo"] | undo.get(index, {})
        return Kept(entries, undo, len(files))

    def keep(self, number: int, entries: Mapping[int, object], undo: Mapping[int, object]) -> int:
        """Write another file and return how many there are; `number`: how many there were."""
        lines = [{"index": index, "entry": entry} for index, entry in sorted(entries.items())]
        lines += [{"index": index, "undo": values} for index, values in sorted(undo.items())]
        data = jsonl.pack(lines)
        while not self._files.create(self._name(number), data):
            number += 1  # another worker had the chunk, too
        return number + 1

    def _read(self) -> Iterator[bytes]:
        with suppress(FileNotFoundError):
            for number in itertools.count():
                yield self._files.read(self._name(number))

    def _name(self, number: int) -> str:
        return f"{self._stem}.{number:04d}.jsonl.gz"


def unread_entries(
    files: Files, run_id: str, pass_no: int, read: Collection[str]
) -> Iterator[tuple[str, list[Json]]]:
    """Yield the name of every file of a pass that was not read, and the entries in it."""
    folder = f"{pass_folder(run_id, pass_no)}/started"
    for name in files.names(folder):
        if name not in read:
            lines = jsonl.unpack(files.read(f"{folder}/{name}"))
            yield name, [line["entry"] for line in lines if "entry" in line]
