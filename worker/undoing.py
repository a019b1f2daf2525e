"""Takes back what a run wrote for an image, wherever it wrote."""

from __future__ import annotations

import functools

from tagmill.worker.history import History, tagging_of
from tagmill.worker.models import Json, Write, WriteStatus
from tagmill.worker.rows import PREVIOUS, UNDONE
from tagmill.worker.sinks.base import Tagged, Written
from tagmill.worker.store.plan import Planned
from tagmill.worker.writeback import WriteBack


class Undoing:
    def __init__(self, write_back: WriteBack, history: History) -> None:
        self._write_back, self._history = write_back, history

    async def undo(self, image: Planned) -> dict[str, Write]:
        """Return what each sink did, by its name; `written` says that it put back what stood there."""
        if image.row is None:
            return {}
        return await self._write_back.undo(image.ref, self._written(image, image.row), image.place)

    def _written(self, image: Planned, row: Json) -> dict[str, Written]:
        previous = row.get(PREVIOUS, {})
        earlier = functools.partial(self._earlier, image)
        return {
            sink: Written(row["run_id"], _standing(row, write), previous.get(sink), earlier, tagging_of(row))
            for sink, write in row["writes"].items()
            if write["status"] != WriteStatus.SKIPPED
        }

    async def _earlier(self, image: Planned, run_id: str) -> Tagged | None:
        return await self._history.tagged(run_id, image.ref)


def _standing(row: Json, write: Json) -> Json | None:
    """Return the write unless it was taken back: what stands there now is then no change of it."""
    return None if UNDONE in row["flags"] and write["status"] == WriteStatus.WRITTEN else write
