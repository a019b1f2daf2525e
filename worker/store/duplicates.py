"""Which images of a plan have equal content: found when all is listed, before the plan counts as finished."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tagmill.worker.models import Place
from tagmill.worker.store import jsonl
from tagmill.worker.store.base import Files
from tagmill.worker.store.layout import pass_folder, shard_name

_SUFFIX = ".jsonl.gz"


@dataclass(frozen=True, slots=True)
class Member:
    """One image of a group; the first in plan order leads it and is asked for all."""

    place: Place
    leader: Place
    leader_id: str


class Duplicates:
    """`duplicates/<shard>.jsonl.gz`, for shards that have any. Memory: one shard's."""

    def __init__(self, files: Files, run_id: str) -> None:
        self._files = files
        self._folder = f"{pass_folder(run_id, 0)}/duplicates"

    def write(self, shard: int, members: Iterable[Member]) -> None:
        """Of two producers the first counts; a group that it did not see so costs a call, not an image."""
        lines = [{"index": m.place[1], "leader": m.leader, "id": m.leader_id} for m in members]
        self._files.create(f"{self._folder}/{shard_name(shard)}{_SUFFIX}", jsonl.pack(lines))

    def leaders(self, shard: int) -> dict[int, str]:
        """Return, by the index of each follower, the id of its leader."""
        return {m.place[1]: m.leader_id for m in self._members(shard) if m.place != m.leader}

    def members(self) -> Iterator[Member]:
        """All images of all groups, leaders too, in plan order."""
        for name in self._files.names(self._folder):
            yield from self._members(int(name.removesuffix(_SUFFIX)))

    def _members(self, shard: int) -> Iterator[Member]:
        try:
            data = self._files.read(f"{self._folder}/{shard_name(shard)}{_SUFFIX}")
        except FileNotFoundError:
            return
        for line in jsonl.unpack(data):
            leader_shard, leader_index = line["leader"]
            yield Member((shard, line["index"]), (leader_shard, leader_index), line["id"])
