"""One name for several sinks, when it depends on where the image lies which one is meant."""

from __future__ import annotations

from collections.abc import Mapping

from tagmill.worker.models import ImageRef, Source, Write
from tagmill.worker.sinks.base import Keep, Sink, Tagging, Written, skipped


class SinkByPlace:
    def __init__(self, name: str, sinks: Mapping[type[Source], Sink]) -> None:
        self.name = name
        self._sinks = sinks

    async def write(self, ref: ImageRef, tagging: Tagging, keep: Keep) -> Write:
        sink = self._sinks.get(type(ref.source))
        return await sink.write(ref, tagging, keep) if sink else skipped("no_place")

    async def undo(self, ref: ImageRef, written: Written) -> Write:
        sink = self._sinks.get(type(ref.source))
        return await sink.undo(ref, written) if sink else skipped("no_place")

    async def marked(self, ref: ImageRef, engine_config: str, policy: str, run_id: str) -> bool | None:
        sink = self._sinks.get(type(ref.source))
        return sink is not None and await sink.marked(ref, engine_config, policy, run_id)

    async def aclose(self) -> None:
        for sink in self._sinks.values():
            await sink.aclose()
