"""What a run is doing now: from Redis when it knows, else from the files."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from typing import TypeVar

from tagmill.worker.counts import Counts
from tagmill.worker.errors import ConfigError, NotFoundError, RedisUnavailableError
from tagmill.worker.models import Json
from tagmill.worker.state.board import Board
from tagmill.worker.store.base import Files
from tagmill.worker.store.grants import run_grants
from tagmill.worker.store.manifest import Manifest
from tagmill.worker.store.parts import Parts
from tagmill.worker.store.passes import Passes
from tagmill.worker.store.plan import Plan
from tagmill.worker.store.runs import Control, Runs, RunSpec
from tagmill.worker.summary import read_summary, summary

T = TypeVar("T")


class LiveRun:
    """One run, read over and over; what never changes is read once."""

    def __init__(self, files: Files, run_id: str, board: Board | None) -> None:
        """Raise `NotFoundError` for an unknown run. `board` None: only the files are asked."""
        self._files, self._board, self.run_id = files, board, run_id
        self._runs = Runs(files)
        self.spec = self._runs.read(run_id)
        self._passes = Passes(files, run_id)
        self._images = Plan(files, run_id, 0)
        self._grants = run_grants(files, run_id)
        self._granted: int | None = None  #: as last read
        self.current = self._passes.newest()
        self._pass = LivePass(files, self.run_id, self.current.number)
        self.over = False  #: at the last look, nothing more was to come of it
        self._of_pass = self._of_run = Counts()  #: at the last look, unless it was over

    def summary(self) -> Json:
        """Return the same object that `summary.json` will hold."""
        known, planned = self._counts(), self._images.planned()
        whole = None if known is None else self._whole(known)
        # Only a run without work left can be finished: no need to ask the store at every look.
        if whole is None or (whole.settled + whole.waiting >= planned and not self.planning):
            final = self._final()
            if final is not None:
                return final
        self.over = False
        self._of_pass = self._pass.counts() if known is None else known
        self._of_run = self._whole(self._of_pass) if whole is None else whole
        return summary(
            self.spec,
            self.current,
            location=self._files.location,
            planned=planned,
            counts=self._of_run,
            drawn=self._drawn(),
            control=self.control(),
            found=self._images.found(),
        )

    def errors(self) -> dict[str, int]:
        """Return how many images went wrong, by code, as of the last look."""
        counts = self._pass.final_counts() if self.over else self._of_run
        return {code: count for code, count in sorted(counts.errors.items()) if count}

    def settled(self) -> int:
        """Return the number of images of the pass that had an outcome at the last look."""
        return self._pass.plan.planned() if self.over else self._of_pass.settled

    def control(self) -> Control:
        """Return what the refilling process noted lately, else what the files say."""
        return self._from_board(lambda board: board.control(self.run_id)) or self._runs.control(self.run_id)

    @property
    def planning(self) -> bool:
        """Whether more images may come."""
        return self._pass.plan.summary() is None

    def _final(self) -> Json | None:
        """Return the summary of a finished run; a pass may have been added since the last look."""
        if not self._pass.finished():
            return None
        newest = self._passes.newest()
        if newest.number > self.current.number:
            self.current = newest
            self._pass = LivePass(self._files, self.run_id, newest.number)
            return self.summary()
        final = read_summary(self._files, self.run_id)
        self.over = final is not None and final["pass"] == self.current.number
        return final if self.over else None

    def _drawn(self) -> int:
        """Return the calls of the budget that were drawn or lost; what Redis does not know of is lost."""
        drawn = self._from_board(lambda board: board.drawn(self._grants.folder))
        if drawn is None and (self._board is None or self._granted is None):
            self._granted = drawn = self._grants.granted()
        return drawn or self._granted or 0

    def _counts(self) -> Counts | None:
        """Return what Redis knows of the pass; None when it does not."""
        return self._from_board(lambda board: board.counts(self.run_id, self.current.number))

    def _whole(self, counts: Counts) -> Counts:
        """Counts of the run, with those of the pass; what was spent before stays spent while it goes on."""
        if self.current.number == 0:
            return counts
        whole = Counts.total([self._pass.kept(), counts])
        whole.calls = max(whole.calls, self._pass.before.calls)
        whole.maybe_charged = max(whole.maybe_charged, self._pass.before.maybe_charged)
        return whole

    def _from_board(self, read: Callable[[Board], T | None]) -> T | None:
        """Return None when Redis does not know, or is not there."""
        if self._board is None:
            return None
        try:
            return read(self._board)
        except RedisUnavailableError:
            return None


class LivePass:
    """One pass, from its files."""

    def __init__(self, files: Files, run_id: str, number: int) -> None:
        self.plan = Plan(files, run_id, number)
        self._manifest = Manifest(files, run_id, number)
        self._parts = Parts(files, run_id, number)
        self._shards: dict[int, Counts] = {}  #: of compacted shards
        self._chunks: dict[tuple[int, int], Counts] = {}  #: of committed chunks, by shard and offset
        self.before = Manifest(files, run_id, number - 1).counts() if number else Counts()

    def finished(self) -> bool:
        return self._manifest.finished()

    def final_counts(self) -> Counts:
        """Return those of the run after this pass, which must be finished."""
        return self._manifest.counts()

    def kept(self) -> Counts:
        """Return the counts of the run's images that the pass does not revise, as far as it is planned."""
        return self.before.less(self.plan.replaced())

    def counts(self) -> Counts:
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
    specs = list(_readable(files))
    if not specs:
        raise NotFoundError(f"no runs in {files.location}: start one with `tagmill run SOURCE`")
    return max(specs, key=lambda spec: spec.created_at).run_id


def _readable(files: Files) -> Iterator[RunSpec]:
    """Pass over what is just being created, and what a newer Tagmill wrote."""
    runs = Runs(files)
    for run_id in runs.ids():
        with contextlib.suppress(ConfigError):
            yield runs.read(run_id)
