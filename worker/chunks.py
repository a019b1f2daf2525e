"""The life of one chunk: lease, pipeline, commit or park."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime

import orjson
import structlog
from redis.asyncio import Redis

from tagmill.worker.counts import Counts
from tagmill.worker.equipment import Equipment
from tagmill.worker.errors import (
    BudgetExhaustedError,
    CredentialsError,
    EngineOutageError,
    QuotaExhaustedError,
    RedisUnavailableError,
    RunError,
    RunStoreUnavailableError,
    WriteBackSafetyError,
)
from tagmill.worker.limits import too_many_failures
from tagmill.worker.models import Chunk, Json, Outcome, Status
from tagmill.worker.paid import Calls
from tagmill.worker.pipeline import Pipeline
from tagmill.worker.rate import Rate
from tagmill.worker.rows import RowContext, row_for
from tagmill.worker.state.failures import Failures
from tagmill.worker.state.journal import Journal
from tagmill.worker.state.keys import Keys
from tagmill.worker.state.leases import Lease, Leases
from tagmill.worker.state.limiter import run_scope
from tagmill.worker.state.pulse import Pulse, Waits
from tagmill.worker.store.base import Files
from tagmill.worker.store.parts import Parts
from tagmill.worker.store.passes import PassKind
from tagmill.worker.store.plan import Plan, Planned
from tagmill.worker.store.runs import Control, Runs, RunSpec, Verb, effective
from tagmill.worker.store.started import Started
from tagmill.worker.store.undo import undo_lines

PULSE_SECONDS = 1.0
AFTER_DEADLINE_SECONDS = 120.0  #: how long paid results in hand wait for an absent Redis
LEASE_CERTAIN = 0.8  #: of its time, for which a renewed lease surely holds
STORE_PAUSE_SECONDS = 30.0  #: before a chunk that found no run store is tried again
#: Failures that only a person can mend.
PAUSING = (CredentialsError, QuotaExhaustedError, BudgetExhaustedError, WriteBackSafetyError)

log = structlog.get_logger()


@dataclasses.dataclass(frozen=True, slots=True)
class ChunkLimits:
    chunk_seconds: float
    lease_seconds: float
    outage_seconds: float  #: the API down for longer pauses the run
    holder: str = ""  #: whose leases they are, for those who look on


class ChunkRunner:
    """One process's way of working on the chunks of one run and pass."""

    def __init__(  # noqa: PLR0913 - its parts
        self,
        files: Files,
        redis: Redis,
        keys: Keys,
        equipment: Equipment,
        limits: ChunkLimits,
        *,
        spec: RunSpec,
        plan: Plan,
        shutting_down: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.files, self.redis, self.keys, self.equipment, self.limits = files, redis, keys, equipment, limits
        self.plan, self.shutting_down, self.clock = plan, shutting_down, clock
        self.spec, self._own_lanes = spec, equipment.lanes
        self.runs = Runs(files)
        self.parts = Parts(files, plan.run_id, plan.pass_no)
        self._leases = Leases(redis, keys, limits.lease_seconds, limits.holder)
        self.failures = Failures(redis, keys, plan.run_id, spec.failure_sample)
        engine = equipment.tagger.engine
        self.context = RowContext(
            plan.run_id,
            plan.pass_no,
            equipment.policy,
            engine.name,
            engine.version,
            engine.config_hash,
            equipment.kind,
            equipment.price_per_1000,
        )

    async def run(self, chunk: Chunk) -> str:
        """Return what became of the chunk: `committed`, `parked`, `lost`, `held` by another, or `paused`."""
        lease = await self._leases.take(chunk)
        if lease is None:
            return "held"
        try:
            return await self._run(chunk, lease)
        except RunStoreUnavailableError as error:
            log.warning("run_store_unavailable", chunk=chunk.id, error=str(error))
            await lease.park(STORE_PAUSE_SECONDS)
            return "parked"

    async def _run(self, chunk: Chunk, lease: Lease) -> str:
        if await asyncio.to_thread(self.parts.committed, chunk):
            await lease.commit(await self._counts_of_part(chunk))
            return "committed"
        control = await asyncio.to_thread(self.runs.control, chunk.run_id)
        if control.of(chunk.pass_no) is not Verb.RESUME:
            await lease.release()
            return "paused"
        self.obey(control)
        return await Work(self, chunk, lease, control).run()

    def obey(self, control: Control) -> None:
        """Take over what may be changed of a run while it goes on."""
        now = effective(self.spec, control)
        rate = Rate.parse(now.rate) if now.rate is not None else None
        self.equipment.limiter.cap(run_scope(now.run_id), rate)
        self.equipment.lanes = now.concurrency or self._own_lanes
        self.equipment.budget.heed(control)

    async def _counts_of_part(self, chunk: Chunk) -> bytes:
        rows = await asyncio.to_thread(self.parts.rows, chunk)
        return orjson.dumps(Counts.of_rows(rows).to_json())


class Work:
    """One chunk under one lease."""

    def __init__(self, runner: ChunkRunner, chunk: Chunk, lease: Lease, control: Control) -> None:
        self._runner, self._chunk, self._lease = runner, chunk, lease
        self._control = control  #: the newest one seen before anything stopped the chunk
        self._deadline = runner.clock() + runner.limits.chunk_seconds
        self._journal = Journal(runner.redis, runner.keys, chunk, Started(runner.files, chunk))
        self._pulse = Pulse(runner.redis, runner.keys, chunk)
        self._images: list[Planned] = []
        self._rows: dict[int, Json] = {}
        self._counts = Counts()
        self._tried: list[bool] = []  #: images that ended and are not counted yet: whether they failed
        self._lost = self._over = self._wiped = False
        self._renewed_at = runner.clock()
        self._held_seconds, self._looked_at = runner.equipment.limiter.held_seconds, runner.clock()
        self._pipeline = Pipeline(
            runner.equipment,
            self._journal,
            settled=self._settled,
            give_up_at=self._deadline + AFTER_DEADLINE_SECONDS,
            clock=runner.clock,
        )

    async def run(self) -> str:
        self._images = await asyncio.to_thread(self._runner.plan.images, self._chunk)
        async with self._watched():
            result = await self._pipeline.run(self._images)
        with contextlib.suppress(RedisUnavailableError):
            await self._pause_at_failures()
        self._counts.throttled = result.throttled
        ended = await self._end(len(self._images))
        log.info(
            "chunk_ended",
            chunk=self._chunk.id,
            ended=ended,
            tagged=self._counts.tagged,
            failed=self._counts.failed,
            calls=self._counts.calls,
            throttled=result.throttled,
        )
        return ended

    async def _end(self, planned: int) -> str:
        result = self._pipeline.result
        if len(result.outcomes) == planned:
            return await self._commit()
        if isinstance(result.stopped_by, PAUSING):
            await self._pause_run(result.stopped_by)
        if self._lost:
            await self._count_extra(self._pipeline.paid.unconfirmed)
            return "lost"
        await self._pulse.beat(self._progress(), self._waits())
        await self._journal.keep()
        if isinstance(result.stopped_by, RunStoreUnavailableError):
            await self._lease.park(STORE_PAUSE_SECONDS)
        else:
            await self._lease.park(result.park_seconds, heard=result.heard)
        return "parked"

    async def _commit(self) -> str:
        """First the undo values, then the part: whoever sees the part finds both."""
        rows = [self._rows[index] for index in sorted(self._rows)]
        if previous := self._pipeline.result.previous:
            lines = undo_lines(rows, previous)
            await asyncio.to_thread(self._runner.parts.keep_undo, self._chunk, lines)
        if not await asyncio.to_thread(self._runner.parts.commit, self._chunk, rows):
            # Whoever held no lease did not see our journal.
            await self._count_extra(
                self._pipeline.paid.unconfirmed if self._lost else self._pipeline.paid.here
            )
        await self._lease.commit(orjson.dumps(self._counts.to_json()))
        return "committed"

    async def _count_extra(self, paid: Calls) -> None:
        """Another worker had the chunk, too: no row of its part tells of these calls."""
        calls, maybe_charged = paid
        if calls:
            await asyncio.to_thread(self._runner.parts.count_extra, self._chunk, calls, maybe_charged)

    async def _pause_run(self, error: RunError) -> None:
        pause = Control(
            verb=Verb.PAUSE,
            reason=error.code,
            message=str(error),
            by="worker",
            at=datetime.now(UTC).isoformat(),
        )
        control = await asyncio.to_thread(self._runner.runs.pause, self._chunk.run_id, pause, self._control)
        await self._pulse.note_control(control)

    def _settled(self, index: int, outcome: Outcome) -> None:
        row = row_for(self._runner.context, self._chunk, index, self._images[index], outcome)
        self._rows[index] = row
        self._counts.add_row(row)
        if index not in self._pipeline.result.inherited and outcome.status is not Status.SKIPPED:
            self._tried.append(outcome.status is not Status.TAGGED)

    # --- every second -------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def _watched(self) -> AsyncIterator[None]:
        watch = asyncio.create_task(self._watch())
        try:
            yield
        finally:
            self._over = True  # redis-py over Python 3.11's `wait_for` may swallow a cancellation
            watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watch

    async def _watch(self) -> None:
        while not self._over:
            await asyncio.sleep(PULSE_SECONDS)
            try:
                await self._look()
            except (RedisUnavailableError, RunStoreUnavailableError):
                continue
            except Exception:
                log.exception("pulse_failed")

    async def _look(self) -> None:
        """Keep the lease, show progress, and stop when it is time."""
        if self._runner.shutting_down() or self._runner.clock() > self._deadline:
            self._pipeline.stop()
        await self._renew()
        await self._pause_in_outage()
        await self._pause_at_failures()
        self._heed(await self._newest(await self._pulse.beat(self._progress(), self._waits())))

    def _heed(self, control: Control) -> None:
        if control.n < self._control.n:
            return  # noted before the chunk began
        if control.of(self._chunk.pass_no) is not Verb.RESUME:
            if control.reason == BudgetExhaustedError.code:
                self._pipeline.wind_down()
            else:
                self._pipeline.stop()
        if self._pipeline.result.stopped_by is None:
            self._control = control
        self._runner.obey(control)
        self._pipeline.resize()

    async def _renew(self) -> None:
        asked_at = self._runner.clock()
        # A lease that cannot have run out is gone because Redis lost it, and the journal with it.
        certain = asked_at - self._renewed_at < LEASE_CERTAIN * self._runner.limits.lease_seconds
        if not await self._lease.renew():
            self._lose(journal_too=certain)
            return
        self._wiped = self._wiped or (certain and self._lease.had_vanished)
        if self._wiped:
            await self._pipeline.write_again()
            self._wiped = False
        self._pipeline.paid.confirm()
        self._renewed_at = asked_at

    def _lose(self, *, journal_too: bool) -> None:
        if journal_too and not self._lost:
            self._pipeline.paid.unconfirm()
        self._lost = True
        self._pipeline.stop()

    async def _pause_in_outage(self) -> None:
        """An API that stays down is for people to look at."""
        breaker, limits = self._runner.equipment.breaker, self._runner.limits
        if not breaker.seems_open:
            return
        since = (await breaker.snapshot()).open_since
        if since is not None and time.time() - since > limits.outage_seconds:
            minutes = int(limits.outage_seconds / 60)
            error = EngineOutageError(f"the tagging API has been failing for more than {minutes} minutes")
            await self._pause_run(error)
            self._pipeline.stop()

    async def _pause_at_failures(self) -> None:
        """A run that goes wrong is for people to look at. Images of later passes were chosen for failing."""
        tried, self._tried = self._tried, []
        if not tried or self._runner.equipment.kind is not PassKind.TAG:
            return
        last = await self._runner.failures.count(len(tried), sum(tried))
        if (error := too_many_failures(self._runner.spec, self._control, last)) is not None:
            await self._pause_run(error)
            self._pipeline.stop()

    def _progress(self) -> bytes:
        """Settled images, and every call so far, also those for images that are not settled."""
        calls, maybe_charged = self._journal.calls()
        so_far = {
            "calls": calls,
            "maybe_charged": maybe_charged,
            "throttled": self._pipeline.result.throttled,
        }
        return orjson.dumps(self._counts.to_json() | so_far)

    async def _newest(self, noted: bytes | None) -> Control:
        if noted is not None:
            return Control.from_json(orjson.loads(noted))
        control = await asyncio.to_thread(self._runner.runs.control, self._chunk.run_id)
        await self._pulse.note_control(control)
        return control

    def _waits(self) -> Waits:
        """Since the last look."""
        kit, now = self._runner.equipment, self._runner.clock()
        held, lanes = kit.limiter.held_seconds - self._held_seconds, kit.lanes * (now - self._looked_at)
        self._held_seconds, self._looked_at = kit.limiter.held_seconds, now
        return Waits(held, lanes, kit.limiter.per_second, kit.limiter.account)
