"""Which chunks to publish: the only publisher, and what recovers lost messages and dead workers."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from math import ceil

import structlog

from tagmill.worker.background import Background
from tagmill.worker.cancellation import Cancellation
from tagmill.worker.compaction import Compaction
from tagmill.worker.counts import Counts
from tagmill.worker.errors import RedisUnavailableError
from tagmill.worker.fleet_size import Use, useful_workers
from tagmill.worker.followers import plan_followers
from tagmill.worker.frontier import Frontier
from tagmill.worker.limits import overdue, time_limit
from tagmill.worker.models import Chunk
from tagmill.worker.pace import Pace, Sample
from tagmill.worker.state.board import Board, Place
from tagmill.worker.store.base import Files
from tagmill.worker.store.event_runs import EventLog, is_over
from tagmill.worker.store.grants import run_grants
from tagmill.worker.store.parts import Parts
from tagmill.worker.store.passes import Passes, PassKind, PassSpec
from tagmill.worker.store.plan import ShardHeader
from tagmill.worker.store.runs import Control, Runs, RunSpec, Verb
from tagmill.worker.summary import finished

LEAST_LEADER_SECONDS, LEADER_SECONDS = 5.0, 15.0  #: a leader silent for longer is replaced
GRACE_SECONDS = 5.0  #: from leaving the queue to taking the lease
MIN_WINDOW, MAX_WINDOW = 16, 512
WINDOW_PER_PROCESS = 3
RECOUNTS_PER_TICK = 50
PACE_SECONDS = 5.0  #: between two samples
RESTED_SECONDS = 4 * PACE_SECONDS  #: without one, after which the pace is measured anew
CANCELLED_PER_TICK = 100  #: chunks; a tick must be over before another process leads
SETTLERS = 4  #: threads that settle chunks: most of it is waiting for the run store
FINISH_SECONDS = 2.0  #: that a tick waits for the end of a pass
RENEWAL_SECONDS = 2.5
RUNS_SECONDS = 5.0  #: between two looks for new runs

log = structlog.get_logger()


class Refill:
    """One elected process ticks at a time; `only` names the run to serve, None serves every open one.

    `embedded`: without a fleet, those are the runs that events plan here.
    """

    def __init__(
        self,
        files: Files,
        board: Board,
        publish: Callable[[Chunk, str], None],
        *,
        only: str | None = None,
        embedded: bool = False,
        grace_seconds: float = GRACE_SECONDS,
        leader_seconds: float = LEADER_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._runs, self._board, self._publish, self._only = Runs(files), board, publish, only
        self._embedded = embedded
        self._files, self._grace_seconds, self._clock = files, grace_seconds, clock
        self._leader_seconds = leader_seconds
        self._token = secrets.token_hex(8)
        self._known: list[str] = [only] if only else []
        self._look_at = self._publish_at = self._cancel_at = self._size_at = float("-inf")
        self._complaints: dict[str, str] = {}  #: run -> what was said of it last
        self._passes: dict[str, OpenPass] = {}
        self._closed: set[str] = set()  #: runs without an open pass, until a new one is announced
        self._leading = False
        self._took = 0.0  #: seconds, the last tick

    def tick(self) -> bool:
        """Do what is due, if this process leads; return whether it does."""
        began = self._clock()
        leads = self._tick()
        self._took = self._clock() - began
        return leads

    def _tick(self) -> bool:
        forgotten = self._leading and not self._board.leads(self._token)
        # Who outlasted its own lease would take every open pass for another leader's by now, and begin anew.
        if not self._board.lead(self._token, max(self._leader_seconds, 2 * self._took)):
            self._leading = False
            return False
        if forgotten or not self._leading:
            self._drop_passes()  # another leader may have moved on since,
            self._closed.clear()  # and have heard of new passes
            self._cancel_at = self._clock() + RENEWAL_SECONDS  # had Redis lost leases, nobody might know
        self._leading = True
        self._reopen(self._board.take_reopened())
        if forgotten:  # Redis lost the leases, too: workers take theirs again within a pulse or two
            self._publish_at = self._clock() + RENEWAL_SECONDS
        queued = self._board.queued(self._grace_seconds)
        parked = self._board.parked()
        for run_id in self._open_runs():
            self._tick_run(run_id, queued | parked)
        if self._only is None and self._clock() >= self._size_at:
            self._note_useful_workers()
        return True

    def _note_useful_workers(self) -> None:
        now = self._clock()
        self._size_at = now + PACE_SECONDS
        uses = [use for open_pass in self._passes.values() if (use := open_pass.use(now)) is not None]
        self._board.note_useful_workers(useful_workers(len(self._board.workers()), uses))

    def _reopen(self, told: set[str]) -> None:
        self._closed -= told
        if self._only is None:
            self._known += sorted(told.difference(self._known))

    def resign(self) -> None:
        """Let another process lead at once."""
        self._drop_passes()
        self._board.resign(self._token)
        self._leading = False

    def _drop_passes(self) -> None:
        for open_pass in self._passes.values():
            open_pass.close()
        self._passes.clear()

    def _open_runs(self) -> list[str]:
        if self._only is None and self._clock() >= self._look_at:
            self._known = list(self._runs.ids())
            self._look_at = self._clock() + RUNS_SECONDS
        return [run_id for run_id in self._known if run_id not in self._closed]

    def _tick_run(self, run_id: str, unavailable: set[str]) -> None:
        try:
            open_pass = self._passes.get(run_id) or self._open(run_id)
            if open_pass is not None and open_pass.advance():
                del self._passes[run_id]  # the next look finds the next pass, or none
            elif open_pass is not None:
                self._serve(open_pass, unavailable)
            self._complaints.pop(run_id, None)
        except RedisUnavailableError:
            raise
        except Exception as error:
            if self._only:
                raise
            self._complain(run_id, error)

    def _complain(self, run_id: str, error: Exception) -> None:
        """Say what keeps a run from being served, not at every tick; the others go on."""
        complaint = f"{type(error).__name__}: {error}"
        if self._complaints.get(run_id) != complaint:
            log.warning("run_not_served", run_id=run_id, error=complaint)
        self._complaints[run_id] = complaint

    def _open(self, run_id: str) -> OpenPass | None:
        if self._only is None and self._runs.is_free(run_id):
            return None  # its list is kept, and it is not made yet, or never will be
        current = Passes(self._files, run_id).newest()
        if finished(self._files, run_id, current.number):
            self._board.forget(run_id, current.number)  # in case that its finisher could not
            self._closed.add(run_id)
            return None
        spec = self._runs.read(run_id)
        if self._only is None and not self._serves(spec):
            self._closed.add(run_id)  # its own servers work on it, or it waits for them
            return None
        return self._passes.setdefault(run_id, OpenPass(self._files, self._board, spec, current))

    def _serves(self, spec: RunSpec) -> bool:
        return spec.embedded == self._embedded and (spec.open_until is not None or not self._embedded)

    def _serve(self, open_pass: OpenPass, unavailable: set[str]) -> None:
        """Publish its chunks, or settle them where the pass is cancelled."""
        now = self._clock()
        match self._control(open_pass.spec).of(open_pass.number):
            case Verb.RESUME if now >= self._publish_at:
                self._publish_window(open_pass, unavailable)
                open_pass.note_pace(now)
            case Verb.CANCEL if now >= self._cancel_at:
                open_pass.cancel()

    def _control(self, spec: RunSpec) -> Control:
        """Whoever writes a control notes it at once; the files are asked when the note is out of date."""
        control = self._board.control(spec.run_id)
        if control is None:
            control = self._runs.control(spec.run_id)
            self._board.note_control(spec.run_id, control)
        if control.running and overdue(spec, control, now := datetime.now(UTC)):
            control = self._runs.pause(spec.run_id, time_limit(now), control)
            self._board.note_control(spec.run_id, control)
        return control

    def _publish_window(self, open_pass: OpenPass, unavailable: set[str]) -> None:
        size = max(WINDOW_PER_PROCESS * self._board.processes(), MIN_WINDOW) + open_pass.waiting()
        size = min(size, MAX_WINDOW)
        window = [chunk for chunk in open_pass.frontier.window(size) if chunk.id not in unavailable]
        leased = self._board.leased(window)
        for chunk in window:
            if chunk.id not in leased:
                self._board.note_published(chunk, open_pass.spec.lane)
                self._publish(chunk, open_pass.spec.lane)


def leader_seconds(lease_seconds: float) -> float:
    """Who waits less for a dead worker's chunks waits less for a dead leader, but not less than it rests."""
    return max(LEAST_LEADER_SECONDS, min(LEADER_SECONDS, lease_seconds))


class OpenPass:
    """A pass under way, as its refiller sees it."""

    def __init__(self, files: Files, board: Board, spec: RunSpec, current: PassSpec) -> None:
        self.spec, self.number, self._files = spec, current.number, files
        self._board, self._run_id, self._pass_no = board, spec.run_id, current.number
        self._compaction = Compaction(files, spec, current)
        self._parts = Parts(files, spec.run_id, current.number)
        self._grants = run_grants(files, spec.run_id)
        whole_plan = spec.deduplicates and current.kind is PassKind.TAG  # only then is known who waits
        self.frontier = Frontier(files, spec.run_id, current.number, whole_plan=whole_plan)
        self._cancellation = Cancellation(files, board, spec, current, self.frontier.plan)
        self._planned_here = current.kind is PassKind.FOLLOWERS  # nobody asked for it: nobody else plans it
        self._plan = partial(plan_followers, files, spec, current)
        self._planning: Background | None = None
        self._finishing: Background | None = None
        self._pace, self._pace_at = Pace(), float("-inf")
        self._account: str | None = None

    def close(self) -> None:
        """End what goes on beside it."""
        if self._planning is not None:
            self._planning.stop()

    def advance(self) -> bool:
        """Take in what was committed, compact whole shards; return whether the pass is finished now."""
        if self._planned_here:
            self._go_on_planning()
        if self.number == 0 and is_over(self.spec, datetime.now(UTC)) and not self.frontier.planned:
            self._end_planning()
        done = self._done()
        self.frontier.commit(done)
        self._recount(done)
        for header in self.frontier.whole_shards():
            self._close(
                header, sum(counts.throttled for place, counts in done.items() if place[0] == header.shard)
            )
        if not (self.frontier.complete() and self._finish()):
            return False
        self._board.forget(self._run_id, self._pass_no)
        log.info("pass_completed", run_id=self._run_id, number=self._pass_no)
        return True

    def _finish(self) -> bool:
        """Write index, state and views; those of a large library take longer than a tick may."""
        finishing, self._finishing = self._finishing or self._begin_to_finish(), None
        if finishing.wait(FINISH_SECONDS):
            return True
        self._finishing = finishing
        return False

    def _begin_to_finish(self) -> Background:
        drawn = self._board.drawn(self._grants.folder)
        drawn = self._grants.granted() if drawn is None else drawn
        entries = self.frontier.entries()
        finishing = Background(lambda _: self._compaction.finish(entries, drawn), "finish")
        finishing.start()
        return finishing

    def note_pace(self, now: float) -> None:
        """Note how far it is, for whoever looks once; `now`: by the refill's clock."""
        if now - self._pace_at < PACE_SECONDS:
            return
        counts, waits = self._board.counts(self._run_id, self._pass_no), self._board.waits(self._run_id)
        if counts is not None:
            if now - self._pace_at > RESTED_SECONDS:
                self._pace = self._board.pace(self._run_id, self._pass_no)
            self._pace_at = now
            self._account = waits.account
            self._pace.limit_to(waits.limit)
            self._pace.note(Sample(self._board.now(), counts.settled, waits.held_seconds, waits.lane_seconds))
            self._board.note_pace(self._run_id, self._pass_no, self._pace)

    def use(self, now: float) -> Use | None:
        """Return how it uses the rate; None: it rests, or nobody knows yet."""
        pace = self._pace
        if len(pace.samples) < 2 or now - self._pace_at > RESTED_SECONDS:  # noqa: PLR2004 - a span has two ends
            return None
        if self._account is None or pace.limit is None:
            return None
        return Use(self._account, pace.per_second, pace.limit, pace.held_share)

    def waiting(self) -> int:
        """Chunks that may wait for workflow jobs while others are begun: those of the time a job takes."""
        if self.spec.job_seconds is None or (chunk := next(iter(self.frontier.window(1)), None)) is None:
            return 0
        rate = self._board.waits(self._run_id).limit or self.spec.planned_rate
        return ceil(rate * self.spec.job_seconds / self.frontier.plan.header(chunk.shard).chunk_size)

    def cancel(self) -> None:
        """End planning, and settle chunks that no worker holds: it parks them, or its lease ends.

        A worker that takes one from now on hears at once that it is not to be worked on.
        """
        if not self._planned_here:  # its images have waited in vain, and each needs its row
            self._end_planning()
        window = self.frontier.window(MAX_WINDOW)
        leased = self._board.leased(window)
        free = [chunk for chunk in window if chunk.id not in leased][:CANCELLED_PER_TICK]
        with ThreadPoolExecutor(SETTLERS) as settlers:
            list(settlers.map(self._cancellation.settle, free))
        self.frontier.commit((chunk.shard, chunk.offset) for chunk in free)

    def _end_planning(self) -> None:
        if self.spec.open_until is None:
            self.frontier.plan.close()
        else:
            EventLog(self._files, self._run_id).seal()

    def _go_on_planning(self) -> None:
        """Begin, or begin again after a failure, which is raised."""
        failed = self._planning and self._planning.error
        if self._planning is None or failed:
            self._planning = Background(self._plan, "followers")
            self._planning.start()
        if failed:
            raise failed

    def _done(self) -> dict[Place, Counts]:
        """Committed chunks of open shards; who came late to a closed one must not be counted again."""
        done = self._board.done(self._run_id, self._pass_no)
        late = [place for place in done if place[0] in self.frontier.compacted]
        self._board.forget_done(self._run_id, self._pass_no, late)
        return {place: counts for place, counts in done.items() if place[0] not in self.frontier.compacted}

    def _close(self, header: ShardHeader, throttled: int) -> None:
        try:
            entry = self._compaction.compact(header, throttled)
        except FileNotFoundError:
            self._look_again(header.shard)
            return
        chunks = header.chunks(self._run_id, self._pass_no)
        self._board.close_shard(self._run_id, self._pass_no, header.shard, entry.counts, chunks)
        self.frontier.close(header.shard)

    def _look_again(self, shard: int) -> None:
        """Redis told of a part that is not there: it remembers an earlier run of this name."""
        told = [place for place in self._board.done(self._run_id, self._pass_no) if place[0] == shard]
        self._board.forget_done(self._run_id, self._pass_no, told)
        self.frontier.look_again(shard)

    def _recount(self, done: Mapping[Place, Counts]) -> None:
        """Put back what Redis lost of the live counts, a little at each tick."""
        chunks = [place for place in self.frontier.committed() if place not in done]
        for place in chunks[:RECOUNTS_PER_TICK]:
            self._recount_chunk(Chunk(self._run_id, self._pass_no, *place, count=0))
        shards = self._uncounted_shards()
        for shard in shards[:RECOUNTS_PER_TICK]:
            counts = self.frontier.entry(shard).counts
            self._board.close_shard(self._run_id, self._pass_no, shard, counts)
        whole = max(len(chunks), len(shards)) <= RECOUNTS_PER_TICK
        self._board.note_counted(self._run_id, self._pass_no, whole=whole)

    def _recount_chunk(self, chunk: Chunk) -> None:
        try:
            self._board.note_done(chunk, Counts.of_rows(self._parts.rows(chunk)))
        except FileNotFoundError:
            self._look_again(chunk.shard)

    def _uncounted_shards(self) -> list[int]:
        if self._board.closed(self._run_id, self._pass_no) >= len(self.frontier.compacted):
            return []
        return sorted(self.frontier.compacted - self._board.closed_shards(self._run_id, self._pass_no))
