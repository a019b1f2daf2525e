"""An earlier run's manifest, or a part of it such as `failures.jsonl`: its images once more."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from typing import Any, BinaryIO

import orjson

from tagmill.producer.sources.base import Cursor, Listed
from tagmill.producer.sources.lines import Line, Lines, Place
from tagmill.worker.models import SCHEMA, BadLine, ImageRef, Json, Source
from tagmill.worker.rows import ref_of


class ManifestList:
    """`open_input` gives the bytes of the manifest from its beginning; a cursor is a place in them."""

    def __init__(self, open_input: Callable[[], BinaryIO], name: str) -> None:
        self._open_input, self._name = open_input, name

    def describe(self) -> str:
        return f"{self._name} (manifest)"

    def list(self, after: Cursor) -> Iterator[Listed]:
        with closing(self._open_input()) as stream:
            lines = Lines(stream)
            lines.go_on_after(Place(after.get("line", 0), after.get("offset", 0)))
            for line in lines:
                cursor = {"line": lines.place.line, "offset": lines.place.offset}
                if line.content != b"":
                    yield Listed(self._ref(line), cursor)

    def _ref(self, line: Line) -> ImageRef:
        row = row_of(line.content)
        if row is None:
            return ImageRef(BadLine(self._name, line.number, "no row of a manifest"))
        try:
            return ref_of(row)
        except (KeyError, TypeError):
            return ImageRef(BadLine(self._name, line.number, "a row without a source that Tagmill knows"))


def row_of(line: bytes | None) -> Json | None:
    """Return the row of a manifest's line; None for anything else."""
    try:
        value = orjson.loads(line or b"")
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) and _is_row(value) else None


def _is_row(value: Mapping[str, Any]) -> bool:
    return value.get("schema") == SCHEMA and {"id", "source", "status", "flags"} <= value.keys()


def first_source(stream: BinaryIO) -> Source | None:
    """Return what the first line of a manifest names; None when it is no manifest."""
    row = row_of(next((line.content for line in Lines(stream) if line.content), None))
    return ref_of(row).source if row is not None else None
