"""What a run is doing now: from Redis when it knows, else from the files."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import TypeVar

from tagmill.worker.counts import Counts
from tagmill.worker.errors import NotFoundError, RedisUnavailableError
from tagmill.worker.models import Json
from tagmill.worker.state.board import Board
from tagmill.worker.store.base import Files
from tagmill.worker.store.layout import run_folder
from tagmill.worker.store.manifest import Manifest
from tagmill.worker.store.parts import Parts
from tagmill.worker.store.plan import Plan
from tagmill.worker.store.runs import Control, Runs
from tagmill.worker.summary import read_summary, summary

PASS = 0
T = TypeVar("T")


class LiveRun:
    """One run, read over and over; what never changes is read once."""

    def __init__(self, files: Files, run_id: str, board: Board | None) -> None:
        """Raise `NotFoundError` for an unknown run. `board` None: only the files are asked."""
        self._files, self._board, self.run_id = files, board, run_id
        self._runs = Runs(files)
        self.spec = self._runs.read(run_id)
        self._plan = Plan(files, run_id, PASS)
        self._manifest = Manifest(files, run_id, PASS)
        self._parts = Parts(files, run_id, PASS)
        self._planned: int | None = None  #: once planning is finished
        self._shards: dict[int, Counts] = {}  #: of compacted shards
        self._chunks: dict[tuple[int, int], Counts] = {}  #: of committed chunks, by shard and offset

    def summary(self) -> Json:
        """Return the same object that `summary.json` will hold."""
        counts, planned = self._counts(), self.planned()
        # Only a run without work left can be finished: no need to ask the store at every look.
        if counts is None or (counts.settled >= planned and not self.planning):
            final = read_summary(self._files, self.run_id) if self._manifest.finished() else None
            if final is not None:
                return final
        return summary(
            self.spec,
            location=self._files.location,
            pass_no=PASS,
            planned=planned,
            counts=counts or self._counts_of_files(),
            control=self.control(),
        )

    def control(self) -> Control:
        """Return what the refilling process noted lately, else what the files say."""
        return self._from_board(lambda board: board.control(self.run_id)) or self._runs.control(self.run_id)

    def planned(self) -> int:
        if self._planned is None and (whole := self._plan.summary()) is not None:
            self._planned = whole.images
        return self._plan.planned() if self._planned is None else self._planned

    @property
    def planning(self) -> bool:
        """Whether more images may come."""
        return self._planned is None

    def _counts(self) -> Counts | None:
        return self._from_board(lambda board: board.counts(self.run_id, PASS))

    def _from_board(self, read: Callable[[Board], T | None]) -> T | None:
        """Return None when Redis does not know, or is not there."""
        if self._board is None:
            return None
        try:
            return read(self._board)
        except RedisUnavailableError:
            return None

    def _counts_of_files(self) -> Counts:
        for shard in self._manifest.compacted():
            if shard not in self._shards:
                self._shards[shard] = self._manifest.entry(shard).counts
        first_open = next(shard for shard in itertools.count() if shard not in self._shards)
        places = [place for place in self._parts.committed_from(first_open) if place[0] not in self._shards]
        for place in places:
            if place not in self._chunks:
                self._chunks[place] = Counts.of_rows(self._parts.rows_at(*place))
        return Counts.total([*self._shards.values(), *(self._chunks[place] for place in places)])


def newest_run(files: Files) -> str:
    """Return the id of the run created last; raise `NotFoundError` when there is none."""
    runs = Runs(files)
    specs = [runs.read(run_id) for run_id in runs.ids() if files.exists(f"{run_folder(run_id)}/run.json")]
    if not specs:
        raise NotFoundError(f"no runs in {files.location}: start one with `tagmill run SOURCE`")
    return max(specs, key=lambda spec: spec.created_at).run_id
