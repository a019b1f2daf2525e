"""An engine that fails image by image, and one whose answers wait to be let through."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from fakes.engine import FakeEngine

from tagmill.worker.engines.base import Locator
from tagmill.worker.models import Answer


@dataclass
class ScriptedEngine(FakeEngine):
    """`scripts`: by locator value, what its calls raise, first to last, before it is answered.

    None stands for a call that is answered.
    """

    scripts: dict[str, list[Exception | None]] = field(default_factory=dict)
    down: Callable[[int], Exception | None] = lambda _: None  #: by number of the call, from 1
    upload_failures: list[Exception] = field(default_factory=list)
    discard_failures: list[Exception] = field(default_factory=list)
    upload_calls: int = 0

    @property
    def calls(self) -> Counter[str]:
        """How often each image was asked for."""
        return Counter(locator.value for locator in self.asked)

    async def start(self, locator: Locator, so_far: Answer | None = None) -> Answer:
        script = self.scripts.get(locator.value)
        if (error := self.down(len(self.asked) + 1) or (script.pop(0) if script else None)) is not None:
            self.asked.append(locator)
            raise error
        return await super().start(locator, so_far)

    async def upload(self, content: bytes, content_type: str, filename: str) -> str:
        self.upload_calls += 1
        if self.upload_failures:
            raise self.upload_failures.pop(0)
        return await super().upload(content, content_type, filename)

    async def discard(self, handle: str) -> None:
        if self.discard_failures:
            raise self.discard_failures.pop(0)
        await super().discard(handle)


@dataclass
class GatedEngine(ScriptedEngine):
    """Calls arrive, and are answered once `gate` is set."""

    gate: asyncio.Event = field(default_factory=asyncio.Event)
    arrivals: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def start(self, locator: Locator, so_far: Answer | None = None) -> Answer:
        arrived = Locator(locator.transfer, locator.value)
        async with self.arrivals:
            self.waiting.append(arrived)
            self.arrivals.notify_all()
        await self.gate.wait()
        return await super().start(locator, so_far)

    waiting: list[Locator] = field(default_factory=list)

    async def in_flight(self, count: int) -> None:
        """Wait until so many calls have arrived."""
        async with self.arrivals:
            await self.arrivals.wait_for(lambda: len(self.waiting) >= count)
