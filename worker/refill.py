"""Which chunks to publish: the only publisher, and what recovers lost messages and dead workers."""

from __future__ import annotations

import secrets
from collections.abc import Callable

import structlog

from tagmill.worker.compaction import Compaction
from tagmill.worker.counts import Counts
from tagmill.worker.errors import TaggingError
from tagmill.worker.frontier import Frontier
from tagmill.worker.models import Chunk
from tagmill.worker.state.board import Board
from tagmill.worker.store.base import Files
from tagmill.worker.store.parts import Parts
from tagmill.worker.store.runs import Control, Runs, RunSpec

LEADER_SECONDS = 15.0  #: a leader silent for longer is replaced
GRACE_SECONDS = 5.0  #: from leaving the queue to taking the lease
MIN_WINDOW, MAX_WINDOW = 16, 512
WINDOW_PER_PROCESS = 3
RECOUNTS_PER_TICK = 50

log = structlog.get_logger()


class Refill:
    """One elected process ticks at a time; `only` names the run to serve, None serves every open one."""

    def __init__(
        self,
        files: Files,
        board: Board,
        publish: Callable[[Chunk], None],
        *,
        only: str | None = None,
    ) -> None:
        self._runs, self._board, self._publish, self._only = Runs(files), board, publish, only
        self._files = files
        self._token = secrets.token_hex(8)
        self._passes: dict[str, OpenPass] = {}
        self._finished: set[str] = set()
        self._leading = False

    def tick(self) -> bool:
        """Do what is due, if this process leads; return whether it does."""
        if not self._board.lead(self._token, LEADER_SECONDS):
            self._leading = False
            return False
        if not self._leading:
            self._passes.clear()  # another leader may have moved on since
            self._leading = True
        queued = self._board.queued(GRACE_SECONDS)
        parked = self._board.parked()
        for run_id in self._open_runs():
            self._tick_run(run_id, queued | parked)
        return True

    def resign(self) -> None:
        """Let another process lead at once."""
        self._board.resign(self._token)
        self._leading = False

    def _open_runs(self) -> list[str]:
        known = [self._only] if self._only else list(self._runs.ids())
        return [run_id for run_id in known if run_id not in self._finished]

    def _tick_run(self, run_id: str, unavailable: set[str]) -> None:
        try:
            open_pass = self._passes.get(run_id) or self._open(run_id)
            if open_pass is not None and open_pass.advance():
                self._finished.add(run_id)
                del self._passes[run_id]
            elif open_pass is not None and self._control(run_id).running:
                self._publish_window(open_pass, unavailable)
        except TaggingError as error:
            if self._only:
                raise
            log.warning("run_not_served", run_id=run_id, code=error.code, error=str(error))

    def _open(self, run_id: str) -> OpenPass | None:
        spec = self._runs.read(run_id)
        if spec.embedded and self._only is None:
            self._finished.add(run_id)  # its own servers work on it, or it waits for them
            return None
        open_pass = OpenPass(self._files, self._board, spec, pass_no=0)
        if open_pass.finished():
            self._finished.add(run_id)
            return None
        self._passes[run_id] = open_pass
        return open_pass

    def _control(self, run_id: str) -> Control:
        control = self._runs.control(run_id)
        self._board.note_control(run_id, control)
        return control

    def _publish_window(self, open_pass: OpenPass, unavailable: set[str]) -> None:
        size = min(max(WINDOW_PER_PROCESS * self._board.processes(), MIN_WINDOW), MAX_WINDOW)
        window = [chunk for chunk in open_pass.frontier.window(size) if chunk.id not in unavailable]
        leased = self._board.leased(window)
        for chunk in window:
            if chunk.id not in leased:
                self._board.note_published(chunk)
                self._publish(chunk)


class OpenPass:
    """A pass under way, as its refiller sees it."""

    def __init__(self, files: Files, board: Board, spec: RunSpec, pass_no: int) -> None:
        self._board, self._run_id, self._pass_no = board, spec.run_id, pass_no
        self._compaction = Compaction(files, spec, pass_no)
        self._parts = Parts(files, spec.run_id, pass_no)
        self.frontier = Frontier(files, spec.run_id, pass_no)

    def finished(self) -> bool:
        return self._compaction.finished()

    def advance(self) -> bool:
        """Take in what was committed, compact whole shards; return whether the pass is finished now."""
        done = self._board.done(self._run_id, self._pass_no)
        self.frontier.commit(done)
        self._recount(done)
        for header in self.frontier.whole_shards():
            throttled = sum(counts.throttled for place, counts in done.items() if place[0] == header.shard)
            entry = self._compaction.compact(header, throttled)
            self._board.close_shard(self._run_id, self._pass_no, header, entry.counts)
            self.frontier.close(header.shard)
        if not self.frontier.complete():
            return False
        self._compaction.finish(self.frontier.entries())
        self._board.forget(self._run_id, self._pass_no)
        log.info("run_completed", run_id=self._run_id)
        return True

    def _recount(self, done: dict[tuple[int, int], Counts]) -> None:
        """Put back what Redis lost of the live counts, a little at each tick."""
        lost = [
            chunk for chunk in self.frontier.committed_chunks() if (chunk.shard, chunk.offset) not in done
        ]
        for chunk in lost[:RECOUNTS_PER_TICK]:
            self._board.note_done(chunk, Counts.of_rows(self._parts.rows(chunk)))
        known = self._board.compacted_shards(self._run_id, self._pass_no)
        lost_shards = sorted(self.frontier.compacted - known)
        for shard in lost_shards[:RECOUNTS_PER_TICK]:
            self._board.note_compacted(self._run_id, self._pass_no, shard, self.frontier.entry(shard).counts)
        whole = len(lost) <= RECOUNTS_PER_TICK and len(lost_shards) <= RECOUNTS_PER_TICK
        self._board.note_counted(self._run_id, self._pass_no, whole=whole)
