"""What is paid for one image: call by call, an intent before each and its answer journaled behind it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from tagmill.worker.admission import Admission
from tagmill.worker.budget import Permit
from tagmill.worker.engines.base import Locator
from tagmill.worker.equipment import Equipment
from tagmill.worker.errors import ItemError, RunError
from tagmill.worker.models import Answer, ImageRef, Outcome, Status
from tagmill.worker.paid import PaidCalls
from tagmill.worker.state.journal import Journal
from tagmill.worker.store.plan import Planned
from tagmill.worker.tagger import KeepUpload
from tagmill.worker.waiting import Waiting


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
    ) -> None:
        """`halt` hears of the account's or the run's failure before it is journaled."""
        self._kit, self._journal, self._admission, self._paid = kit, journal, admission, paid
        self._persist: Callable[[Callable[[], Awaitable[None]]], Awaitable[None]] = waiting.persist
        self._halt = halt
        self._answered = False

    async def outcome(self, item: Item, ref: ImageRef) -> Outcome:
        """Pay for what is not answered yet, and journal it before anything else happens to it."""
        entry = self._journal[item.index]
        answer = None if entry.answer is None else Answer.from_json(entry.answer)
        await self._admission.enter(again=item.failed_before)
        locator = await self._kit.tagger.locate(ref, entry.upload, self.keep_upload(item.index))
        while answer is None or not answer.complete:
            answer = await self._pay(item, locator, answer)
        outcome = _tagged(answer, locator, ref)
        await self._settle(item, outcome, answer.calls)
        return outcome

    async def does_without(self, item: Item, error: ItemError) -> bool:
        """Whether the image goes on without the call that failed: then that is journaled."""
        entry = self._journal[item.index]
        so_far = None if entry.answer is None else Answer.from_json(entry.answer)
        answer = self._kit.tagger.engine.without(so_far, error)
        if answer is None:
            return False
        await self._advance(item, answer)
        return True

    def keep_upload(self, index: int) -> KeepUpload:
        return lambda handle: self._persist(lambda: self._journal.note_upload(index, handle))

    async def _pay(self, item: Item, locator: Locator, so_far: Answer | None) -> Answer:
        """One call. An answer that is not complete is journaled; another one is the caller's to settle."""
        permit = await self._admission.permit()
        await self._persist(lambda: self._journal.intent(item.index))
        answer = await self._ask(item, locator, permit, so_far)
        if not answer.complete:
            await self._advance(item, answer)
            await self._good_news()
            await self._admission.enter(again=False)
        return answer

    async def _ask(self, item: Item, locator: Locator, permit: Permit, so_far: Answer | None) -> Answer:
        try:
            answer = await self._kit.tagger.ask(locator, so_far)
        except ItemError as error:
            if not error.calls:
                self._kit.budget.give_back(permit)
            raise
        except RunError as error:  # an answer, too: its image is no suspect
            self._halt(error)
            self._paid.note(1, 0)
            await self._persist(lambda: self._journal.retry(item.index, calls=1))
            raise
        self._paid.note(answer.calls, 0)
        return answer

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


def _tagged(answer: Answer, locator: Locator, ref: ImageRef) -> Outcome:
    return Outcome(
        Status.TAGGED,
        answer=answer,
        http_status=answer.http_status,
        latency_ms=answer.latency_ms,
        transfer=locator.transfer.value,
        tagged_at=datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        behind=ref.behind,
    )
