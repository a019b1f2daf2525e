"""The rows of a cancelled pass that nobody works on: what was paid for is kept, the rest was not begun."""

from __future__ import annotations

from dataclasses import replace

import structlog

from tagmill.worker.counts import Counts
from tagmill.worker.engine_config import engine_version
from tagmill.worker.models import Chunk, Outcome, Status, Write, WriteStatus
from tagmill.worker.policy import TagPolicy
from tagmill.worker.rows import RowContext, row_for
from tagmill.worker.state.board import Board
from tagmill.worker.state.entries import NOT_BEGUN, Entry, after_death
from tagmill.worker.state.journal import merged_undo
from tagmill.worker.store.base import Files
from tagmill.worker.store.parts import Parts
from tagmill.worker.store.passes import PassSpec
from tagmill.worker.store.plan import Plan
from tagmill.worker.store.runs import RunSpec
from tagmill.worker.store.started import Started, Undo
from tagmill.worker.store.undo import undo_lines

NOT_WRITTEN = Write(WriteStatus.SKIPPED, reason="cancelled")  #: its worker died between answer and write-back

log = structlog.get_logger()


class Cancellation:
    """Safe to use from several threads."""

    def __init__(self, files: Files, board: Board, spec: RunSpec, current: PassSpec, plan: Plan) -> None:
        self._files, self._board, self._plan, self._sinks = files, board, plan, spec.write_back
        self._parts = Parts(files, spec.run_id, current.number)
        self._context = RowContext(
            spec.run_id,
            current.number,
            TagPolicy.from_json(current.policy),
            spec.engine,
            engine_version(spec.tags_version),
            spec.engine_config,
            current.kind,
            spec.price_per_1000,
        )

    def settle(self, chunk: Chunk) -> None:
        """Commit a chunk that no worker holds, with all that its journal tells."""
        entries, previous = self._journal(chunk)
        rows = [
            row_for(self._context, chunk, index, image, self._outcome(entries.get(index, NOT_BEGUN)))
            for index, image in enumerate(self._plan.images(chunk))
        ]
        if previous:
            self._parts.keep_undo(chunk, undo_lines(rows, previous))
        if not self._parts.commit(chunk, rows):
            rows = list(self._parts.rows(chunk))  # its worker got as far as that
        self._board.close_chunk(chunk, Counts.of_rows(rows))
        _report_uploads(entries)

    def _journal(self, chunk: Chunk) -> tuple[dict[int, Entry], Undo]:
        """What Redis has not lost is the newest."""
        kept = Started(self._files, chunk).load()
        entries = {index: Entry(**value) for index, value in kept.entries.items()}
        undo = merged_undo(kept.undo, self._board.undo_values(chunk))
        return entries | self._board.journal(chunk), undo

    def _outcome(self, entry: Entry) -> Outcome:
        if entry.in_flight:
            entry = after_death(entry, deaths=0)
        outcome = Outcome.from_json(entry.result) if entry.result is not None else _cancelled(entry)
        if outcome.answer is not None and not outcome.writes:
            outcome = replace(outcome, writes=dict.fromkeys(self._sinks, NOT_WRITTEN))
        return replace(outcome, attempts=entry.attempts, calls=entry.calls, maybe_charged=entry.maybe_charged)


def _cancelled(entry: Entry) -> Outcome:
    paid = {} if entry.answer is None else entry.answer["results"]
    return Outcome(Status.CANCELLED, results=paid)


def _report_uploads(entries: dict[int, Entry]) -> None:
    for entry in entries.values():
        if entry.upload is not None:
            log.warning("upload_left_behind", handle=entry.upload, code="cancelled")
