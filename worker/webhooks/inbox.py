"""Events become durable together: those that arrive within a few milliseconds share a file."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

from tagmill.worker.errors import RunStoreUnavailableError
from tagmill.worker.state.group_commit import GroupCommit
from tagmill.worker.store.base import Files
from tagmill.worker.store.quarantine import Quarantine, Quarantined
from tagmill.worker.store.webhook_events import Event, EventWriter
from tagmill.worker.webhooks.memory import Memory

WRITE_SECONDS = 20.0  #: senders wait 30 s for an answer


class Inbox:
    def __init__(
        self,
        files: Files,
        memory: Memory,
        *,
        stored: Callable[[Event], None],
        now: Callable[[], datetime],
        write_seconds: float = WRITE_SECONDS,
    ) -> None:
        """`stored` hears of every event that was not known before, once it is durable."""
        self._writer, self._quarantine = EventWriter(files), Quarantine(files)
        self._memory, self._stored, self._now = memory, stored, now
        self._write_seconds = write_seconds
        self._quarantined = (f"{self._writer.name}-{n:08d}" for n in itertools.count(1))
        self._commit = GroupCommit(self._write)

    async def put(self, received: Event | Quarantined) -> None:
        """Return once it is durable, now or before; raise `RunStoreUnavailableError`."""
        if isinstance(received, Event) and self._memory.knows(received):
            return
        await self._commit.put(received)

    async def _write(self, batch: Sequence[Event | Quarantined]) -> None:
        events = list(self._new(one for one in batch if isinstance(one, Event)))
        unclear = [one for one in batch if isinstance(one, Quarantined)]
        try:
            async with asyncio.timeout(self._write_seconds):
                await asyncio.to_thread(self._create, events, unclear)
        except TimeoutError:
            raise RunStoreUnavailableError("the run store takes too long") from None
        for event in events:
            self._memory.add(event)
            self._stored(event)

    def _create(self, events: Sequence[Event], unclear: Sequence[Quarantined]) -> None:
        now = self._now()
        if events:
            self._writer.write(events, now)
        if unclear:
            self._quarantine.add(next(self._quarantined), unclear, now)

    def _new(self, events: Iterable[Event]) -> Iterable[Event]:
        """Of an event that came twice at once, the first."""
        batch = Memory()
        for event in events:
            if not self._memory.knows(event) and not batch.knows(event):
                batch.add(event)
                yield event
