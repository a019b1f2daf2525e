"""What comes in: read, kept, and told to whoever waits for it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime

import structlog

from tagmill.worker.errors import RunStoreUnavailableError
from tagmill.worker.models import moment
from tagmill.worker.store.base import Files, probe
from tagmill.worker.store.webhook_events import Event
from tagmill.worker.webhooks.inbox import Inbox
from tagmill.worker.webhooks.memory import Memory
from tagmill.worker.webhooks.reading import Redact, read_event
from tagmill.worker.webhooks.signature import Endpoint

PROVEN_SECONDS = 10.0  #: for which a run store that took a probe is believed in
CHECK_SECONDS = 5.0
REFUSALS_SECONDS = 60.0  #: between two complaints about signatures of an endpoint

log = structlog.get_logger()


class Receiver:
    def __init__(
        self,
        files: Files,
        endpoints: Mapping[str, Endpoint],
        memory: Memory,
        *,
        redact: Redact,
        stored: Callable[[Event], None],
        now: Callable[[], datetime],
        clock: Callable[[], float],
    ) -> None:
        self.endpoints = endpoints
        self.refusals = Refusals(clock)
        self._files, self._redact, self._now, self._clock = files, redact, now, clock
        self._inbox = Inbox(files, memory, stored=stored, now=now)
        self._proven_at = float("-inf")

    async def keep(self, endpoint: str, body: bytes) -> None:
        """Return once a signed body is durable; raise `RunStoreUnavailableError`."""
        try:
            await self._inbox.put(read_event(endpoint, moment(self._now()), body, self._redact))
        except RunStoreUnavailableError:
            self._proven_at = float("-inf")
            raise

    async def check(self) -> None:
        """Raise `RunStoreUnavailableError` or `ConfigError` for a run store that takes nothing."""
        if self._clock() - self._proven_at < PROVEN_SECONDS:
            return
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                await asyncio.to_thread(probe, self._files)
        except TimeoutError:
            raise RunStoreUnavailableError("the run store takes too long") from None
        self._proven_at = self._clock()


class Refusals:
    """A wrong secret is told of, not every attempt of a stranger."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._counts: Counter[str] = Counter()
        self._told_at: dict[str, float] = {}

    def count(self, endpoint: str) -> None:
        self._counts[endpoint] += 1
        now = self._clock()
        if now - self._told_at.get(endpoint, float("-inf")) >= REFUSALS_SECONDS:
            log.warning("webhooks_refused", endpoint=endpoint, since_last_told=self._counts.pop(endpoint))
            self._told_at[endpoint] = now
