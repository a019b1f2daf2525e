"""What is paid for one image: call by call, an intent before each and its answer journaled behind it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from tagmill.worker.admission import Admission
from tagmill.worker.budget import Permit
from tagmill.worker.collecting import FIRST_POLL_SECONDS
from tagmill.worker.engines.base import Locator
from tagmill.worker.equipment import Equipment
from tagmill.worker.errors import AnswerLostError, ItemError, RunError
from tagmill.worker.models import Answer, ImageRef, Outcome, Pending
from tagmill.worker.outcomes import tagged
from tagmill.worker.paid import PaidCalls
from tagmill.worker.rows import unfinished
from tagmill.worker.state.entries import Job
from tagmill.worker.state.journal import Journal
from tagmill.worker.store.plan import Planned
from tagmill.worker.tagger import KeepUpload
from tagmill.worker.waiting import Waiting

log = structlog.get_logger()


@dataclass(slots=True)
class Item:
    """One image of the chunk."""

    index: int  #: in the chunk
    planned: Planned
    attempts: int = 0  #: failures of the moment that count against the image's next call
    failed_before: bool = False  #: the next call is a retry
    known: bool = False  #: an earlier worker began it

    @property
    def ref(self) -> ImageRef:
        return self.planned.ref


class Asking:
    """Of one chunk's lanes."""

    def __init__(
        self,
        kit: Equipment,
        journal: Journal,
        admission: Admission,
        waiting: Waiting,
        paid: PaidCalls,
        *,
        halt: Callable[[RunError], None],
        now: Callable[[], float] = time.time,
    ) -> None:
        """`halt` hears of the account's or the run's failure before it is journaled. `now`: Unix seconds."""
        self._kit, self._journal, self._admission, self._paid = kit, journal, admission, paid
        self._persist = waiting.persist
        self._halt, self._now = halt, now
        self._answered = False

    async def outcome(self, item: Item, ref: ImageRef) -> Outcome | None:
        """Pay for what is not answered yet, and journal it before anything else happens to it.

        Return None when the answer is to come from a workflow job.
        """
        answer, upload = self.so_far(item), self._journal[item.index].upload
        await self._admission.enter(again=item.failed_before)
        locator = await self._kit.tagger.locate(ref, upload, self.keep_upload(item.index))
        job = self._job(locator, ref)
        while answer is None or not answer.complete:
            paid = await self._pay(item, locator, answer, job)
            if isinstance(paid, Pending):
                return None
            answer = paid
        outcome = tagged(answer, locator.transfer.value, ref.behind)
        await self._settle(item, outcome, answer.calls)
        return outcome

    def _job(self, locator: Locator, ref: ImageRef) -> Job | None:
        """None: the engine answers at once."""
        if self._kit.jobs is None:
            return None
        return Job(locator.public, locator.transfer.value, self._now(), ref.behind)

    async def does_without(self, item: Item, error: ItemError) -> bool:
        """Whether the image goes on without the call that failed: then that is journaled."""
        answer = self._kit.tagger.engine.without(self.so_far(item), error)
        if answer is None:
            return False
        await self._advance(item, answer)
        return True

    def so_far(self, item: Item) -> Answer | None:
        """What is paid for and not all: here, or in an earlier pass."""
        entry, row = self._journal[item.index], item.planned.row
        if entry.answer is not None:
            return Answer.from_json(entry.answer)
        return None if row is None else unfinished(row)

    def keep_upload(self, index: int) -> KeepUpload:
        return lambda handle: self._persist(lambda: self._journal.note_upload(index, handle))

    async def _pay(
        self, item: Item, locator: Locator, so_far: Answer | None, job: Job | None
    ) -> Answer | Pending:
        """One call. An answer that is not complete is journaled; another one is the caller's to settle."""
        permit = await self._admission.permit()
        await self._persist(lambda: self._journal.intent(item.index, job))
        answer = await self._ask(item, locator, permit, so_far)
        if isinstance(answer, Pending):
            return answer
        if not answer.complete:
            await self._advance(item, answer)
            await self._good_news()
            await self._admission.enter(again=False)
        return answer

    async def _ask(
        self, item: Item, locator: Locator, permit: Permit, so_far: Answer | None
    ) -> Answer | Pending:
        try:
            answer = await self._kit.tagger.ask(locator, so_far)
        except AnswerLostError as error:
            return await self._lost(item, error)
        except ItemError as error:
            if not error.calls:
                self._kit.budget.give_back(permit)
            raise
        except RunError as error:  # an answer, too: its image is no suspect
            self._halt(error)
            self._paid.note(1, 0)
            await self._persist(lambda: self._journal.retry(item.index, calls=1))
            raise
        if isinstance(answer, Pending):
            return await self._begun(item, answer)
        self._paid.note(answer.calls, 0)
        return answer

    async def _begun(self, item: Item, pending: Pending) -> Pending:
        """The job that the call has started is journaled before anybody is told of it."""
        self._paid.note(1, 0)
        poll_at = self._now() + FIRST_POLL_SECONDS
        await self._persist(lambda: self._journal.begun(item.index, pending.job_id, calls=1, poll_at=poll_at))
        await self._listen_for(item.index)
        await self._good_news()
        return pending

    async def _lost(self, item: Item, error: AnswerLostError) -> Pending:
        """A job may have been started: it is waited for like one that was."""
        log.warning("workflow_start_lost", image=item.ref.id, error=str(error))
        self._paid.note(1, 1)
        await self._persist(lambda: self._journal.begun(item.index, None, calls=1, maybe_charged=1))
        await self._listen_for(item.index)
        await self._persist(lambda: self._kit.breaker.failed(item.ref.id, unreachable=False))
        return Pending()

    async def _listen_for(self, index: int) -> None:
        """Say who is to hear of the job."""
        job, jobs = self._journal[index].job, self._kit.jobs
        if job is not None and jobs is not None:
            await self._persist(lambda: jobs.register(job, self._journal.chunk, index))

    async def _advance(self, item: Item, answer: Answer) -> None:
        """The next call is a first one, with attempts of its own."""
        item.attempts, item.failed_before, calls = 0, False, answer.calls
        await self._persist(
            lambda: self._journal.advance(item.index, answer.to_json(), calls=calls, attempts=min(calls, 1))
        )

    async def _settle(self, item: Item, outcome: Outcome, calls: int) -> None:
        """`calls`: 0 when the last of them failed, and was counted then."""
        await self._persist(
            lambda: self._journal.settle(item.index, outcome.to_json(), calls=calls, attempts=min(calls, 1))
        )
        await self._good_news()

    async def _good_news(self) -> None:
        """The service answers, and the account is not refused."""
        await self._persist(self._kit.breaker.succeeded)
        if not self._answered:
            self._answered = True
            await self._persist(self._kit.denials.vouch)
