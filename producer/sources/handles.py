"""A list of Filestack handles: one a line, a CSV column or a JSONL field.

What is no handle is planned as a bad line, so that its failed row names it: no line stops the list.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator
from contextlib import closing
from enum import StrEnum
from itertools import islice
from typing import BinaryIO

import orjson

from tagmill.producer.sources.base import Cursor, Listed
from tagmill.producer.sources.lines import MAX_LINE_BYTES, Line, Lines, Place
from tagmill.worker.errors import ConfigError
from tagmill.worker.models import HANDLE, BadLine, Handle, ImageRef

DEFAULT_FIELD = "handle"
DELIMITERS = ",;\t"
MAX_ROW_LINES = 100  #: a quoted CSV cell that goes on for longer was never closed
UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")

_ALPHABET = f"({HANDLE.pattern})"
_HANDLE = re.compile(rf"(?:filestack:)?{_ALPHABET}")
_DELIVERY_URL = re.compile(rf"https?://cdn\.filestackcontent\.com/{_ALPHABET}(?:[?#].*)?")


class ListFormat(StrEnum):
    TXT = "txt"
    CSV = "csv"
    JSONL = "jsonl"
    MANIFEST = "manifest"  #: of an earlier run, or rows of it
    INVENTORY = "inventory"  #: manifest of a report of S3 Inventory; never said, its address tells


class _BadLineError(ValueError):
    """Its text is the row's reason and quotes nothing: a line may hold a signed URL."""


#: From the first line of a record, and those that follow it, to what should be a handle; None for a line that
#: says nothing. Raises `_BadLineError`. Afterwards the lines stand where the next record begins.
Reader = Callable[[Line, Lines], str | None]


class HandleList:
    """`open_input` gives the bytes of the list from its beginning; a cursor is a place in them."""

    def __init__(
        self,
        open_input: Callable[[], BinaryIO],
        name: str,
        list_format: ListFormat,
        field: str = DEFAULT_FIELD,
    ) -> None:
        self._open_input = open_input
        self._name = name
        self._format = list_format
        self._field = field

    def describe(self) -> str:
        return self._name if self._format is ListFormat.TXT else f"{self._name} ({self._field})"

    def check(self) -> None:
        """Raise `ConfigError` when no line of it could be understood."""
        next(self.list({}), None)

    def list(self, after: Cursor) -> Iterator[Listed]:
        with closing(self._open_input()) as stream:
            lines = Lines(stream)
            read = self._reader(lines)
            lines.go_on_after(Place(after.get("line", 0), after.get("offset", 0)))
            for first in lines:
                source = self._source(first, lines, read)
                if source:
                    yield Listed(ImageRef(source), {"line": lines.place.line, "offset": lines.place.offset})

    def _source(self, first: Line, lines: Lines, read: Reader) -> Handle | BadLine | None:
        try:
            text = read(first, lines)
            return None if text is None else Handle(parse_handle(text), first.number)
        except _BadLineError as error:
            return BadLine(self._name, first.number, str(error))

    def _reader(self, lines: Lines) -> Reader:
        if self._format is ListFormat.TXT:
            return _read_text
        if self._format is ListFormat.JSONL:
            return _json_reader(self._field)
        return _csv_reader(lines, self._name, self._field)


def parse_handle(text: str) -> str:
    """From a handle, an id of a manifest row or a delivery URL. Raise ValueError for anything else."""
    match = _HANDLE.fullmatch(text) or _DELIVERY_URL.fullmatch(text)
    if match is None:
        raise _BadLineError("not a Filestack handle")
    return match[1]


def _decode(line: Line) -> str:
    if line.content is None:
        raise _BadLineError(f"longer than {MAX_LINE_BYTES} bytes")
    if line.number == 1 and line.content.startswith(UTF16_MARKS):
        raise ConfigError("the list of handles is UTF-16: save it as UTF-8")
    try:
        return line.content.decode()
    except UnicodeDecodeError:
        raise _BadLineError("not UTF-8") from None


def _read_text(first: Line, _: Lines) -> str | None:
    text = _decode(first).strip()
    return None if not text or text.startswith("#") else text


def _json_reader(field: str) -> Reader:
    def read(first: Line, _: Lines) -> str | None:
        text = _decode(first)
        return _json_field(text, field) if text.strip() else None

    return read


def _json_field(text: str, field: str) -> str:
    try:
        record = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise _BadLineError("not JSON") from None
    if not isinstance(record, dict) or field not in record:
        raise _BadLineError(f"no field {field!r}")
    value = record[field]
    if not isinstance(value, str):
        raise _BadLineError(f"field {field!r} is no text")
    return value.strip()


def _csv_reader(lines: Lines, name: str, field: str) -> Reader:
    """Take the header from `lines`. Raise `ConfigError` when it does not name the column."""
    delimiter, columns = _read_header(lines, name)
    if field not in columns:
        raise ConfigError(f"{name} has no column {field!r}; its columns are {', '.join(map(repr, columns))}")
    index = columns.index(field)

    def read(first: Line, following: Lines) -> str | None:
        row = _read_row(first, following, delimiter)
        if not row:
            return None
        if len(row) <= index:
            raise _BadLineError(f"no column {field!r}")
        return row[index].strip()

    return read


def _read_header(lines: Lines, name: str) -> tuple[str, list[str]]:
    first = next(lines, None)
    if first is None:
        raise ConfigError(f"{name} is empty: its first line must name the columns")
    try:
        text = _decode(first)
        delimiter = max(DELIMITERS, key=text.count)
        row = _read_row(first, lines, delimiter)
    except _BadLineError as error:
        raise ConfigError(f"{name} must name its columns in the first line, which is {error}") from None
    return delimiter, [cell.strip() for cell in row]


def _read_row(first: Line, following: Lines, delimiter: str) -> list[str]:
    """A row goes on in the next line while a quote is open; if that comes to nothing, those are put back."""
    taken: list[Line] = []

    def texts() -> Iterator[str]:
        yield _decode(first) + "\n"
        for line in islice(following, MAX_ROW_LINES - 1):
            taken.append(line)
            yield _decode(line) + "\n"

    try:
        return next(csv.reader(texts(), delimiter=delimiter, strict=True))
    except (csv.Error, _BadLineError) as error:
        following.put_back(taken, behind=first)
        if isinstance(error, _BadLineError) and not taken:
            raise
        raise _BadLineError("not a CSV row") from None
