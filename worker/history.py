"""What earlier runs wrote for an image, as their manifests tell."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import orjson

from tagmill.worker.models import ImageRef, Json, Place
from tagmill.worker.rows import ref_of
from tagmill.worker.sinks.base import Tagged, Tagging
from tagmill.worker.store.base import Files
from tagmill.worker.store.passes import Passes
from tagmill.worker.store.view import BEFORE_ALL, View


def tagging_of(row: Json) -> Tagging | None:
    """What a row's write-backs said; None: it has no tags."""
    if row["tags"] is None:
        return None
    return Tagging(
        row["run_id"],
        row["engine"],
        row["engine_config"],
        row["policy"],
        row["tags"],
        row["tagged_at"],
        tuple(row["labels"]),
    )


class History:
    """Looks for one image after the other; cheapest when they are asked for in plan order."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._found_at: dict[str, Place] = {}  #: run -> where its last image was found

    async def tagged(self, run_id: str, ref: ImageRef) -> Tagged | None:
        """None: that run is gone, or did not tag the image."""
        row = await asyncio.to_thread(self._row, run_id, ref.id.encode())
        tagging = tagging_of(row) if row is not None else None
        return Tagged(ref_of(row).target, tagging) if row is not None and tagging is not None else None

    def _row(self, run_id: str, image_id: bytes) -> Json | None:
        last = self._found_at.get(run_id, BEFORE_ALL)
        for after in dict.fromkeys([last, BEFORE_ALL]):
            for place, row in self._rows(run_id, after):
                if row["id"].encode() == image_id:
                    self._found_at[run_id] = (place[0], place[1] - 1)
                    return row
        return None

    def _rows(self, run_id: str, after: Place) -> Iterator[tuple[Place, Json]]:
        view = View(self._files, run_id, Passes(self._files, run_id).finished())
        return ((place, orjson.loads(line)) for place, line in view.placed(after))
