"""Tags to every sink of the run; a write that fails never costs another call."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import structlog

from tagmill.worker import retry
from tagmill.worker.errors import ItemError, RunError, SinkConflictError
from tagmill.worker.models import ImageRef, Write, WriteStatus
from tagmill.worker.sinks.base import Sink, Tagging

KeepPrevious = Callable[[str, Mapping[str, Any]], Awaitable[None]]  #: (sink, our keys' former values)
Sleep = Callable[[float], Awaitable[None]]

log = structlog.get_logger()


class WriteBack:
    def __init__(self, sinks: Sequence[Sink], sleep: Sleep = asyncio.sleep) -> None:
        self._sinks, self._sleep = sinks, sleep
        self._random = random.Random()  # noqa: S311 - jitter

    def __bool__(self) -> bool:
        return bool(self._sinks)

    async def write(self, ref: ImageRef, tagging: Tagging, keep: KeepPrevious) -> dict[str, Write]:
        """Return what each sink did, by its name; raise only `RunError`s."""
        return {sink.name: await self._write(sink, ref, tagging, keep) for sink in self._sinks}

    async def _write(self, sink: Sink, ref: ImageRef, tagging: Tagging, keep: KeepPrevious) -> Write:
        async def keep_for_sink(previous: Mapping[str, Any]) -> None:
            await keep(sink.name, previous)

        attempt = 0
        while True:
            attempt += 1
            try:
                return await sink.write(ref, tagging, keep_for_sink)
            except SinkConflictError as error:
                delay = retry.delay(error, attempt, self._random)
                if delay is None:
                    return _failed(error)
                await self._sleep(delay)
            except ItemError as error:
                return _failed(error)
            except RunError:
                raise
            except Exception:
                log.exception("write_failed_unexpectedly", image=ref.id, sink=sink.name)
                return Write(WriteStatus.FAILED, reason="internal: unexpected error; see the worker's log")


def _failed(error: ItemError) -> Write:
    return Write(WriteStatus.FAILED, reason=f"{error.code}: {error}")
