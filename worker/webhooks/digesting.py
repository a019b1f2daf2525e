"""What is done about events once they are kept: each is dealt with once, some time after it came in.

By then a run has said which workflow jobs are its own. It is done at least once, and twice changes nothing.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from tagmill.worker.complaints import Complaints
from tagmill.worker.errors import TaggingError
from tagmill.worker.state.jobs import Jobs
from tagmill.worker.state.leader import Leader
from tagmill.worker.store.base import Files
from tagmill.worker.store.deleted import mark_deleted
from tagmill.worker.store.digests import Digest, Digests
from tagmill.worker.store.webhook_events import DELETE, WORKFLOW, Cursor, Event, WebhookEvents
from tagmill.worker.webhooks.claims import Claims
from tagmill.worker.webhooks.foreign import ForeignResults
from tagmill.worker.webhooks.hints import hand_over
from tagmill.worker.webhooks.memory import MOST, Memory, marks

TICK_SECONDS = 5.0
MOST_AT_ONCE = 2_000  #: events
WAITS = "events_not_digested"  #: log event

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Due:
    """Events that are old enough, and where they end."""

    cursor: Cursor
    events: list[Event]


class Digester:
    def __init__(
        self,
        files: Files,
        received: Memory,
        foreign: ForeignResults,
        *,
        jobs: Jobs | None,
        leader: Leader,
        grace_seconds: float,
        now: Callable[[], datetime],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`received`: the receiver's memory, which is told of what others have received."""
        self._files, self._received, self._foreign, self._jobs = files, received, foreign, jobs
        self._leader, self._grace, self._now, self._sleep = (
            leader,
            timedelta(seconds=grace_seconds),
            now,
            sleep,
        )
        self._events, self._digests, self._claims = WebhookEvents(files), Digests(files, now()), Claims(files)
        self._digested, self._complaints = Memory(), Complaints()
        self._cursor: Cursor = {}

    async def run(self) -> None:
        """Go on for ever."""
        while True:
            try:
                more = await self.step()
                self._complaints.forget(WAITS)
            except TaggingError as error:
                self._complaints.say(WAITS, error)
                more = False
            except Exception:
                log.exception("digest_failed")
                more = False
            await self._sleep(0 if more else TICK_SECONDS)

    async def step(self) -> bool:
        """Deal with what is due, if this process leads; return whether there was anything."""
        for digest in await asyncio.to_thread(self._unread):
            self._take_in(digest)
            self._received.load(digest.marks)
        if not await self._leader.leads():
            return False
        due = await asyncio.to_thread(self._due)
        if due.cursor == self._cursor:
            return False
        new = list(self._new(due.events))
        own = [await self._hand_over(event) for event in new]
        strange = [event for event, is_own in zip(new, own, strict=True) if not is_own]
        await asyncio.to_thread(self._settle, due, new, strange)
        return True

    def _unread(self) -> list[Digest]:
        """At first no more than can be remembered: a week may hold a hundred times that."""
        return list(self._digests.read_on()) if self._cursor else self._digests.newest(MOST)

    def _take_in(self, digest: Digest) -> None:
        self._cursor = digest.cursor
        self._digested.load(digest.marks)

    def _due(self) -> Due:
        """Up to the end of a file: what follows it in time may still be to come."""
        cursor, events = self._cursor, list[Event]()
        for place, event in self._events.after(cursor, None, self._now() - self._grace):
            events.append(event)
            if place != cursor and len(events) >= MOST_AT_ONCE:
                return Due(place, events)
            cursor = place
        return Due(cursor, events)

    def _new(self, events: Sequence[Event]) -> list[Event]:
        batch, new = Memory(), list[Event]()
        for event in events:
            if not self._digested.knows(event) and not batch.knows(event):
                batch.add(event)
                new.append(event)
        return new

    async def _hand_over(self, event: Event) -> bool:
        """Whether somebody is known to wait for it, who is told once more."""
        return self._jobs is not None and event.action == WORKFLOW and await hand_over(self._jobs, event)

    def _settle(self, due: Due, new: Sequence[Event], strange: Sequence[Event]) -> None:
        mark_deleted(self._files, (str(event.handle) for event in new if event.action == DELETE))
        results = [event for event in strange if event.action == WORKFLOW]
        if results:
            self._claims.look()
            self._foreign.add(event for event in results if not self._claims.hold(event))
        found = [mark for event in new for mark in marks(event)]
        digest = Digest(due.cursor, found, Counter(event.action for event in new))
        if self._digests.add(digest, self._now()):
            self._take_in(digest)
