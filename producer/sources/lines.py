"""Lines of a byte stream with their places, so that reading can go on after any of them."""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

MAX_LINE_BYTES = 1 << 20
BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Place:
    """Between two lines."""

    line: int = 0  #: lines before it
    offset: int = 0  #: bytes before it


@dataclass(frozen=True, slots=True)
class Line:
    content: bytes | None  #: without its end; None when it is longer than `MAX_LINE_BYTES`
    after: Place

    @property
    def number(self) -> int:
        """From 1."""
        return self.after.line


class Lines(Iterator[Line]):
    """Lines of a stream that stands at its beginning. Memory is one line; lines can be put back."""

    def __init__(self, stream: BinaryIO) -> None:
        self.place = Place()  #: after the last line that was given and not put back
        self._stream = stream
        self._read_to = Place()
        self._waiting: deque[Line] = deque()

    def __next__(self) -> Line:
        line = self._waiting.popleft() if self._waiting else self._read()
        self.place = line.after
        return line

    def put_back(self, lines: list[Line], *, behind: Line) -> None:
        """Give `lines`, which followed `behind`, once more."""
        self._waiting.extendleft(reversed(lines))
        self.place = behind.after

    def go_on_after(self, place: Place) -> None:
        """Seek where the stream can, otherwise read up to there; a place already behind changes nothing."""
        if place.offset <= self._read_to.offset:
            return
        if self._stream.seekable():
            self._stream.seek(place.offset)
        else:
            _discard(self._stream, place.offset - self._read_to.offset)
        self.place = self._read_to = place

    def _read(self) -> Line:
        content = self._stream.readline(MAX_LINE_BYTES)
        if not content:
            raise StopIteration
        rest = 0 if content.endswith(b"\n") else _finish_line(self._stream)
        before = self._read_to
        self._read_to = Place(before.line + 1, before.offset + len(content) + rest)
        if rest:
            return Line(None, self._read_to)
        return Line(_bare(content if before.offset else content.removeprefix(BOM)), self._read_to)


def _finish_line(stream: BinaryIO) -> int:
    """Read the rest of a line, keeping nothing; return its length."""
    length = 0
    while piece := stream.readline(MAX_LINE_BYTES):
        length += len(piece)
        if piece.endswith(b"\n"):
            break
    return length


def _bare(content: bytes) -> bytes:
    return content.removesuffix(b"\n").removesuffix(b"\r")


def _discard(stream: BinaryIO, length: int) -> None:
    while length > 0 and (piece := stream.read(min(length, io.DEFAULT_BUFFER_SIZE))):
        length -= len(piece)
