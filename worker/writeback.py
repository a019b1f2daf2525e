"""Tags to every sink of the run; a write that fails never costs another call."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import structlog

from tagmill.worker import retry
from tagmill.worker.canary import Canary, Change
from tagmill.worker.errors import ItemError, RunError, SinkConflictError
from tagmill.worker.models import ImageRef, Place, Write, WriteStatus
from tagmill.worker.sinks.base import Sink, Tagging, Written

KeepPrevious = Callable[[str, Mapping[str, Any]], Awaitable[None]]  #: (sink, our keys' former values)
T = TypeVar("T")
Sleep = Callable[[float], Awaitable[None]]

log = structlog.get_logger()


class WriteBack:
    """Conflicts are tried again here; only `RunError`s leave.

    What a handle stands for is the object behind it, where that is known.
    """

    def __init__(
        self, sinks: Sequence[Sink], sleep: Sleep = asyncio.sleep, canary: Canary | None = None
    ) -> None:
        self._sinks, self._sleep, self._canary = sinks, sleep, canary
        self._random = random.Random()  # noqa: S311 - jitter

    def __bool__(self) -> bool:
        return bool(self._sinks)

    async def write(
        self, ref: ImageRef, tagging: Tagging, keep: KeepPrevious, place: Place | None = None
    ) -> dict[str, Write]:
        """Return what each sink did, by its name."""

        def write(sink: Sink) -> Awaitable[Write]:
            return sink.write(ref.target, tagging, partial(keep, sink.name))

        return {sink.name: await self._change(sink, ref, place, write) for sink in self._sinks}

    async def undo(
        self, ref: ImageRef, written: Mapping[str, Written], place: Place | None = None
    ) -> dict[str, Write]:
        """Return what each sink undid, by its name; `written`: what the run left there, by sink.

        The last comes first: each finds the object as its own write left it.
        """

        def undo(sink: Sink) -> Awaitable[Write]:
            return sink.undo(ref.target, written[sink.name])

        sinks = [sink for sink in reversed(self._sinks) if sink.name in written]
        return {sink.name: await self._change(sink, ref, place, undo) for sink in sinks}

    async def marked(self, ref: ImageRef, engine_config: str, policy: str, run_id: str) -> bool:
        """Return whether every sink that has a place for it tells of an earlier run with these settings.

        Not if one cannot tell.
        """

        def marked(sink: Sink) -> Awaitable[bool | None]:
            return sink.marked(ref.target, engine_config, policy, run_id)

        told = False
        try:
            for sink in self._sinks:
                if (answer := await self._persevere(sink, marked)) is False:
                    return False
                told = told or answer is True
        except ItemError:
            return False
        return told

    async def _change(self, sink: Sink, ref: ImageRef, place: Place | None, change: Change) -> Write:
        if self._canary is not None:
            change = self._canary.guard(ref.target, place, change)
        try:
            return await self._persevere(sink, change)
        except ItemError as error:
            return Write(WriteStatus.FAILED, reason=f"{error.code}: {error}")
        except RunError:
            raise
        except Exception:
            log.exception("write_failed_unexpectedly", image=ref.id, sink=sink.name)
            return Write(WriteStatus.FAILED, reason="internal: unexpected error; see the worker's log")

    async def _persevere(self, sink: Sink, ask: Callable[[Sink], Awaitable[T]]) -> T:
        attempt = 0
        while True:
            attempt += 1
            try:
                return await ask(sink)
            except SinkConflictError as error:
                delay = retry.delay(error, attempt, self._random)
                if delay is None:
                    raise
                await self._sleep(delay)
