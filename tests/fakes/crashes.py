"""A worker's death at a chosen point: all that it does stops there, and what it had not written is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fakes.engine import FakeEngine
from fakes.limiter import FakeLimiter
from fakes.sink import FakeSink

from tagmill.worker.engines.base import Locator
from tagmill.worker.errors import RedisUnavailableError
from tagmill.worker.models import Answer, Chunk, ImageRef, Write
from tagmill.worker.sinks.base import Keep, Tagging
from tagmill.worker.state.entries import Job
from tagmill.worker.state.journal import Journal
from tagmill.worker.store.started import Started

#: In the order in which one uploaded and written-back image passes them.
POINTS = (
    "upload_kept",
    "permit",
    "intent",
    "answered",
    "journaled",
    "undo_kept",
    "copied",
    "outcome",
    "discarded",
    "upload_forgotten",
)


@dataclass
class Crash:
    """Death when `point` is passed for the `nth` time; `point` None: nobody dies."""

    point: str | None = None
    nth: int = 1
    passed: int = 0
    dead: asyncio.Event = field(default_factory=asyncio.Event)

    async def reach(self, point: str) -> None:
        """Never return from the chosen point, nor from any other one after it."""
        if point == self.point and not self.dead.is_set():
            self.passed += 1
            if self.passed == self.nth:
                self.dead.set()
        if self.dead.is_set():
            await asyncio.Event().wait()


@dataclass
class CrashingEngine(FakeEngine):
    """`asked` counts on over deaths: it is the service's own list of calls."""

    crash: Crash = field(default_factory=Crash)

    async def start(self, locator: Locator, so_far: Answer | None = None) -> Answer:
        answer = await super().start(locator, so_far)
        await self.crash.reach("answered")
        return answer

    async def discard(self, handle: str) -> None:
        await super().discard(handle)
        await self.crash.reach("discarded")


@dataclass
class CrashingSink(FakeSink):
    crash: Crash = field(default_factory=Crash)

    async def write(self, ref: ImageRef, tagging: Tagging, keep: Keep) -> Write:
        async def keep_or_die(previous: Mapping[str, Any]) -> None:
            await keep(previous)
            await self.crash.reach("undo_kept")

        write = await super().write(ref, tagging, keep_or_die)
        await self.crash.reach("copied")
        return write


class CrashingLimiter(FakeLimiter):
    crash = Crash()

    async def acquire(self, max_wait: float = 15.0) -> None:
        await super().acquire(max_wait)
        await self.crash.reach("permit")


class CrashingJournal(Journal):
    """Writes nothing once its worker is dead."""

    def __init__(self, redis: Any, keys: Any, chunk: Chunk, started: Started, crash: Crash) -> None:
        super().__init__(redis, keys, chunk, started)
        self._crash = crash

    async def intent(self, index: int, job: Job | None = None) -> None:
        await super().intent(index, job)
        await self._crash.reach("intent")

    async def settle(self, index: int, result: Mapping[str, Any], **numbers: int) -> None:
        await super().settle(index, result, **numbers)
        await self._crash.reach("journaled" if numbers else "outcome")

    async def advance(self, index: int, answer: Mapping[str, Any], **numbers: int) -> None:
        await super().advance(index, answer, **numbers)
        await self._crash.reach("advanced")

    async def note_upload(self, index: int, handle: str | None) -> None:
        await super().note_upload(index, handle)
        await self._crash.reach("upload_kept" if handle else "upload_forgotten")

    async def _write(self, fields: Sequence[Any]) -> None:
        if self._crash.dead.is_set():
            raise RedisUnavailableError("dead")
        await super()._write(fields)
