"""A run's rows to a target, in one pass over them and in little memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import orjson

from tagmill.producer.export.columns import OF_IMAGES, OF_TAGS, exploded
from tagmill.producer.export.formats import Format, encode
from tagmill.producer.export.selection import Selection
from tagmill.producer.export.targets import Target
from tagmill.worker.models import Json

Item = TypeVar("Item")


@dataclass(slots=True)
class Exporting:
    """What is asked for, and what came of it once it is written."""

    format: Format
    selection: Selection
    explode: bool  #: a line for each tag, not for each image
    images: int = 0
    size: int = 0  #: bytes

    def write(self, lines: Iterable[bytes], target: Target) -> None:
        """`lines`: rows of a manifest, as JSON without line ends."""
        target.write(self._measured(self._blocks(lines)))

    def _blocks(self, lines: Iterable[bytes]) -> Iterator[bytes]:
        if self.explode:
            return encode(self.format, OF_TAGS, exploded(self._rows(lines), self.selection))
        if self.format is Format.JSONL:
            return (line + b"\n" for line in self._counted(self._fitting_lines(lines)))
        return encode(self.format, OF_IMAGES, self._rows(lines))

    def _rows(self, lines: Iterable[bytes]) -> Iterator[Json]:
        return self._counted(row for row in map(orjson.loads, lines) if self.selection.fits(row))

    def _fitting_lines(self, lines: Iterable[bytes]) -> Iterable[bytes]:
        """Without a filter they need no reading."""
        if self.selection == Selection():
            return lines
        return (line for line in lines if self.selection.fits(orjson.loads(line)))

    def _counted(self, items: Iterable[Item]) -> Iterator[Item]:
        for item in items:
            self.images += 1
            yield item

    def _measured(self, blocks: Iterable[bytes]) -> Iterator[bytes]:
        for block in blocks:
            self.size += len(block)
            yield block
