"""Images that a source's state knows and its listing no longer has: found while the run is planned."""

from __future__ import annotations

from collections.abc import Iterator

from tagmill.worker.known import Known
from tagmill.worker.store import jsonl
from tagmill.worker.store.base import Files
from tagmill.worker.store.layout import pass_folder, run_folder, shard_name

BLOCK = 10_000


class Departures:
    """`disappeared/<shard>-<k>.jsonl.gz`: those noticed while that shard was filled.

    A planner that continues behind a shard finds those after it once more, and gives them the same names.
    """

    def __init__(self, files: Files, run_id: str) -> None:
        self._files, self._run = files, run_folder(run_id)
        self._folder = f"{pass_folder(run_id, 0)}/disappeared"
        self._waiting: list[bytes] = []
        self._block = 0

    def note(self, known: Known, shard: int) -> None:
        self._waiting.append(known.to_line())
        if len(self._waiting) == BLOCK:
            self.flush(shard)

    def flush(self, shard: int) -> None:
        if self._waiting:
            name = f"{self._folder}/{shard_name(shard)}-{self._block:05d}.jsonl.gz"
            self._files.create(name, jsonl.pack_lines(self._waiting))
            self._waiting.clear()
            self._block += 1

    def end_shard(self, shard: int) -> None:
        """Before its last image is planned: what comes now belongs to the next."""
        self.flush(shard)
        self._block = 0

    def known(self) -> Iterator[Known]:
        """Yield all, in key order."""
        for data in self._blocks():
            yield from map(Known.from_line, jsonl.unpack_lines(data))

    def write_view(self) -> None:
        """Derive `disappeared.jsonl.gz`, where there are any."""
        if next(self._files.names(self._folder), None) is not None:
            self._files.replace(f"{self._run}/disappeared.jsonl.gz", self._blocks())

    def _blocks(self) -> Iterator[bytes]:
        return (self._files.read(f"{self._folder}/{name}") for name in self._files.names(self._folder))
