"""What earlier runs wrote for an image, as their manifests tell."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import orjson

from tagmill.worker.models import ImageRef, Json, Place, S3Object
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
        row = await asyncio.to_thread(self._row, run_id, ref)
        tagging = tagging_of(row) if row is not None else None
        return Tagged(ref_of(row).target, tagging) if row is not None and tagging is not None else None

    def _row(self, run_id: str, ref: ImageRef) -> Json | None:
        last = self._found_at.get(run_id, BEFORE_ALL)
        for after in dict.fromkeys([last, BEFORE_ALL]):
            for place, row in self._rows(run_id, after):
                if row["id"] == ref.id and _is_where(ref_of(row), ref):
                    self._found_at[run_id] = (place[0], place[1] - 1)
                    return row
        return None

    def _rows(self, run_id: str, after: Place) -> Iterator[tuple[Place, Json]]:
        view = View(self._files, run_id, Passes(self._files, run_id).finished())
        return ((place, orjson.loads(line)) for place, line in view.placed(after))


def _is_where(earlier: ImageRef, now: ImageRef) -> bool:
    """Whether both were written to one place: a version behind the latest is one of its own."""
    one, other = earlier.source, now.source
    if isinstance(one, S3Object) and isinstance(other, S3Object):
        return one.version_id in {None, other.version_id} if other.is_earlier else not one.is_earlier
    return True
