"""One chunk's images to outcomes: lanes draw from one agenda, an image's failure is a value."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

import structlog

from tagmill.worker import retry
from tagmill.worker.admission import MAX_WAIT_SECONDS, Admission
from tagmill.worker.agenda import Agenda
from tagmill.worker.asking import Asking, Item
from tagmill.worker.collecting import Collecting
from tagmill.worker.crew import Crew
from tagmill.worker.equipment import Equipment
from tagmill.worker.errors import (
    AccessDeniedError,
    BudgetExhaustedError,
    CredentialsError,
    EngineUnreachableError,
    ItemError,
    PermanentError,
    RedisUnavailableError,
    RetryableError,
    RunError,
    ThrottledError,
    WriteBackSafetyError,
)
from tagmill.worker.models import Handle, ImageRef, Outcome, Status
from tagmill.worker.outcomes import ALREADY_TAGGED, QUARANTINED, WAITING, failed, failed_unexpectedly
from tagmill.worker.paid import PaidCalls
from tagmill.worker.placing import Placing
from tagmill.worker.rows import outcome_of
from tagmill.worker.state.journal import Journal
from tagmill.worker.state.limiter import PermitFarAway
from tagmill.worker.store.plan import Planned
from tagmill.worker.store.started import Undo
from tagmill.worker.waiting import NotNowError, Waiting

log = structlog.get_logger()


@dataclass(slots=True)
class Result:
    """What came of a chunk. `stopped_by` is the account's or the run's failure, never an image's."""

    outcomes: dict[int, Outcome] = field(default_factory=dict)  #: by index in the chunk
    park_seconds: float = 0.0  #: not to be published before, when not all have an outcome
    heard: int = 0  #: jobs of which webhooks had told when the chunk was taken
    previous: Undo = field(default_factory=dict)  #: what stood there before its writes, at the end
    throttled: int = 0
    inherited: frozenset[int] = frozenset()  #: what an earlier worker settled, by index
    stopped_by: RunError | None = None


class Pipeline:
    """One chunk. `settled` hears of every outcome as it comes."""

    def __init__(
        self,
        equipment: Equipment,
        journal: Journal,
        *,
        settled: Callable[[int, Outcome], None],
        give_up_at: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`give_up_at`: by `clock`, how long an absent Redis is waited for with paid results in hand.

        `now`: Unix seconds, for what outlasts this worker.
        """
        self._kit, self._journal, self._settled = equipment, journal, settled
        self._clock = clock
        self._waiting = Waiting(give_up_at, clock, sleep)
        self._persist, self._while_running = self._waiting.persist, self._waiting.while_running
        self._random = random.Random()  # noqa: S311 - jitter
        self._agenda: Agenda[Item] = Agenda([])
        self._crew: Crew | None = None  #: of those images that are no suspects
        self._held: list[tuple[Item, AccessDeniedError]] = []
        self._admission = Admission(equipment, self._waiting, clock, sleep)
        self.paid = PaidCalls()
        parts = (equipment, journal, self._admission, self._waiting)
        self._asking = Asking(*parts, self.paid, halt=self._halt, now=now)
        self._collecting = Collecting(*parts, sleep=sleep, now=now)
        self.result = Result()
        self._placing = Placing(equipment, journal, self._waiting.persist)

    # --- the chunk ----------------------------------------------------------------------------------------

    async def run(self, images: Sequence[Planned]) -> Result:
        """Settle what the journal has not settled; suspects of a death go first, each alone."""
        await self._persist(self._journal.load)
        suspects = set(await self._persist(self._journal.bury))
        self.paid.inherit(self._journal.calls())
        settled = (index for index in range(len(images)) if self._journal[index].result is not None)
        self.result.inherited = frozenset(settled)
        todo = [self._item(index, planned) for index, planned in enumerate(images)]
        waiting = self._journal.jobs().keys()
        try:
            await self._collect([item for item in todo if item.index in waiting])
            await self._work([item for item in todo if item.index in suspects], Crew(self._step, 1))
            self._crew = Crew(self._step, self._kit.lanes)
            others = [item for item in todo if item.index not in suspects | waiting]
            await self._work(others, self._crew)
            await self._settle_held()
        except BaseException:
            await self._abandon()
            raise
        self._wait_for_jobs(len(images))
        self.result.previous = self._journal.undo_values()
        return self.result

    async def _collect(self, items: Sequence[Item]) -> None:
        """Settle what has an answer by now of what was begun before."""
        if self._kit.jobs is not None:
            self.result.heard = await self._collecting.listen()
            await self._work(items, Crew(self._step, self._kit.lanes))

    def _wait_for_jobs(self, images: int) -> None:
        """Park until the first job is due, unless there is something to do before."""
        wait, waiting = self._collecting.wait_seconds(), len(self._journal.jobs())
        nothing_else = len(self.result.outcomes) + waiting == images
        if wait is not None and (nothing_else or wait < self.result.park_seconds):
            self.result.park_seconds = wait

    def stop(self, park_seconds: float = 0.0) -> None:
        """Take no new image; calls in flight finish, lanes that wait put their image back."""
        self.result.park_seconds = max(self.result.park_seconds, park_seconds)
        self._agenda.close()
        self._waiting.stop()

    async def write_again(self) -> None:
        """Put back what Redis lost of what this worker knows."""
        await self._journal.write_again()
        await self._collecting.register()

    def resize(self) -> None:
        """Go on with as many lanes as the equipment names now."""
        if self._crew is not None:
            self._crew.resize(self._kit.lanes)

    def wind_down(self) -> None:
        """Take no new image; a lane that has drawn a call uses it."""
        self._agenda.close()

    def _item(self, index: int, planned: Planned) -> Item:
        entry = self._journal[index]
        attempts = entry.attempts - entry.answered_attempts
        return Item(index, planned, attempts=attempts, failed_before=attempts > 0, known=attempts > 0)

    async def _abandon(self) -> None:
        """Calls were cut short, but nobody died of them: leave no intent that says so."""
        with contextlib.suppress(RedisUnavailableError):
            await self._journal.abandon()

    async def _work(self, items: Iterable[Item], crew: Crew) -> None:
        if not self._agenda.closed:
            self._agenda = Agenda(items, self._clock)
            await crew.work()

    async def _step(self) -> bool:
        try:
            return await self._work_on_next()
        except BaseException:
            self.stop()  # for lanes whose cancellation redis-py swallows
            raise

    async def _work_on_next(self) -> bool:
        if (item := await self._agenda.next()) is None:
            return False
        again_in = await self._attempt(item)
        if again_in is None:
            self._agenda.done()
        else:
            self._agenda.again(item, again_in)
        if (idle := self._agenda.idle_seconds()) > MAX_WAIT_SECONDS:
            self.stop(idle)
        return True

    # --- one image ----------------------------------------------------------------------------------------

    async def _attempt(self, item: Item) -> float | None:
        """Return None when nothing is left to do for the image now, else in how many seconds to try again."""
        try:
            return await self._settle(item)
        except NotNowError as later:
            return later.wait_seconds
        except PermitFarAway as permit:
            self.stop(permit.wait_seconds)
        except RunError as error:
            self._halt(error)
        return 0.0

    async def _settle(self, item: Item) -> float | None:
        try:
            if (outcome := await self._outcome(item)) is not None:
                await self._finish(item, outcome)
        except ItemError as error:
            return await self._failed(item, error)
        except (NotNowError, PermitFarAway, RunError):
            raise
        except Exception as error:
            log.exception("image_failed_unexpectedly", image=item.ref.id)
            await self._failed_unexpectedly(item, error)
        return None

    async def _outcome(self, item: Item) -> Outcome | None:
        """Return None when its answer is still to come."""
        job = self._journal[item.index].job
        if job is not None:
            return await self._collecting.outcome(item.index, job, item.ref.id)
        return await self._first_outcome(item)

    async def _first_outcome(self, item: Item) -> Outcome | None:
        entry = self._journal[item.index]
        if entry.result is not None:
            return Outcome.from_json(entry.result)
        if entry.deadly:
            return QUARANTINED
        if (row := item.planned.row) is not None and self._kit.kind.reuses(row):
            return outcome_of(row)
        ref = await self._found(item.ref)
        if await self._tagged_before(ref):
            return ALREADY_TAGGED
        if item.planned.duplicate_of is not None:
            return WAITING
        return await self._asking.outcome(item, ref)

    async def _found(self, ref: ImageRef) -> ImageRef:
        """Return a handle with the object that keeps its bytes: what is written there must be about them."""
        behind = self._kit.behind
        if behind is None or not isinstance(ref.source, Handle):
            return ref
        await self._admission.service_open()
        return await self._while_running(lambda: behind.find(ref))

    async def _tagged_before(self, ref: ImageRef) -> bool:
        """Whether paying for it would buy what stands there already. New content is always paid for."""
        kit, engine = self._kit, self._kit.tagger.engine
        if kit.force or ref.fresh or not kit.write_back:
            return False
        return await self._while_running(
            lambda: kit.write_back.marked(ref, engine.config_hash, kit.policy.hash, kit.run_id)
        )

    async def _finish(self, item: Item, outcome: Outcome) -> None:
        """Write tags back, journal, discard an upload, hand over the outcome with all that it has cost."""
        if outcome.answer is None and (paid := self._asking.so_far(item)) is not None:
            outcome = replace(outcome, results=paid.results)
        if self._placing.due(outcome):
            self._refuse_to_write()
            outcome = await self._placing.place(item.index, item.planned, outcome)
        if outcome.to_json() != self._journal[item.index].result:
            await self._persist(lambda: self._journal.settle(item.index, outcome.to_json()))
        upload = self._journal[item.index].upload
        await self._kit.tagger.clean_up(upload, self._asking.keep_upload(item.index))
        entry = self._journal[item.index]
        outcome = replace(
            outcome, attempts=entry.attempts, calls=entry.calls, maybe_charged=entry.maybe_charged
        )
        self.result.outcomes[item.index] = outcome
        self._settled(item.index, outcome)

    def _refuse_to_write(self) -> None:
        """What was in flight when a write did harm must not do more of it."""
        if isinstance(self.result.stopped_by, WriteBackSafetyError):
            raise self.result.stopped_by

    # --- failures -----------------------------------------------------------------------------------------

    async def _failed(self, item: Item, error: ItemError) -> float | None:
        if isinstance(error, ThrottledError):
            return await self._throttled(item, error)
        if isinstance(error, RetryableError):
            return await self._failed_for_now(item, error)
        if isinstance(error, AccessDeniedError):
            await self._denied(item, error)
            return None
        return await self._give_up(item, error)

    async def _throttled(self, item: Item, error: ThrottledError) -> float:
        """Slow the fleet down; the limiter says when to go on, and the image loses no attempt."""
        self.result.throttled += 1
        await self._count(item, error, attempts=0)
        await self._persist(lambda: self._kit.limiter.throttled(error.retry_after))
        now = await self._persist(self._kit.limiter.snapshot)
        self._admission.keep_quiet(now.blocked_seconds)
        return 0.0

    async def _failed_for_now(self, item: Item, error: RetryableError) -> float | None:
        """Try again unless the attempts are used up; while the breaker is open none is counted."""
        unreachable = isinstance(error, EngineUnreachableError)
        is_open = await self._persist(lambda: self._kit.breaker.failed(item.ref.id, unreachable))
        charged = 0 if is_open or unreachable else 1
        item.attempts += charged
        item.failed_before = True
        pause = retry.delay(error, max(item.attempts, 1), self._random)
        if pause is None and charged:
            return await self._give_up(item, error)
        await self._count(item, error, attempts=charged)
        return pause or 0.0

    async def _denied(self, item: Item, error: AccessDeniedError) -> None:
        """Hold the image until it is clear whether it is refused, or the account is."""
        await self._count(item, error, attempts=1)
        self._held.append((item, error))
        if item.known:
            return  # it was refused before the run was lifted from its pause: no news of the account
        distinct = await self._persist(lambda: self._kit.denials.denied(item.ref.id))
        calls = sum(outcome.calls for outcome in self.result.outcomes.values()) + len(self._held)
        if retry.is_account_failure(distinct, len(self._held), calls):
            self._refused(distinct, error)

    async def _settle_held(self) -> None:
        """The account is not refused, so these images are: unless nothing else is known of the account."""
        try:
            while self._held and not self._agenda.closed:
                await self._doubt_account()
                await self._work(await self._settle_refused(), Crew(self._step, self._kit.lanes))
        except RunError as error:
            self._halt(error)

    async def _settle_refused(self) -> list[Item]:
        """Return those that go on without what they were refused."""
        going_on = []
        while self._held and not self._agenda.closed:
            item, error = self._held.pop()
            if await self._asking.does_without(item, error):
                going_on.append(item)
            else:
                await self._finish(item, failed(error))
        return going_on

    async def _doubt_account(self) -> None:
        if self._agenda.closed or not self._held:
            return
        tagged = sum(outcome.status is Status.TAGGED for outcome in self.result.outcomes.values())
        denied = max(len(self._held), await self._persist(self._kit.denials.count))
        if retry.nothing_else(denied, tagged) and not await self._persist(self._kit.denials.vouched):
            self._refused(denied, self._held[-1][1])

    def _refused(self, images: int, error: AccessDeniedError) -> None:
        self._halt(CredentialsError(f"refused for {images} images: {error}"))

    async def _failed_unexpectedly(self, item: Item, error: Exception) -> None:
        if self._journal[item.index].in_flight:  # whether the call had left is not known
            await self._count(item, ItemError("", calls=1, maybe_charged=1), attempts=1)
        await self._finish(item, failed_unexpectedly(error))

    async def _give_up(self, item: Item, error: ItemError) -> float | None:
        never_asked = isinstance(error, PermanentError) and not error.calls
        await self._count(item, error, attempts=0 if never_asked else 1)
        if error.calls and await self._asking.does_without(item, error):
            return 0.0
        await self._finish(item, failed(error))
        return None

    async def _count(self, item: Item, error: ItemError, *, attempts: int) -> None:
        self.paid.note(error.calls, error.maybe_charged)
        await self._persist(
            lambda: self._journal.retry(
                item.index, calls=error.calls, maybe_charged=error.maybe_charged, attempts=attempts
            )
        )

    def _halt(self, error: RunError) -> None:
        """The account's or the run's failure ends the chunk. That of a write-back's safety goes first."""
        if self.result.stopped_by is None or isinstance(error, WriteBackSafetyError):
            self.result.stopped_by = error
        if isinstance(error, BudgetExhaustedError):
            self.wind_down()
        else:
            self.stop()
