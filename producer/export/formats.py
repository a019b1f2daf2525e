"""Rows to bytes, block by block; of any manifest no more than some thousand rows are in memory."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from typing import Any

import orjson

from tagmill.producer.export.columns import Column, Kind
from tagmill.worker.errors import ConfigError
from tagmill.worker.models import Json

BLOCK_ROWS = 1_000
#: What a spreadsheet takes for a formula, and the apostrophe, so that taking one off gives any cell back.
_GUARDED = ("=", "+", "-", "@", "'", "\t", "\r", "\n")


class Format(StrEnum):
    JSONL = "jsonl"
    CSV = "csv"
    PARQUET = "parquet"


def format_for(wanted: str | None, output: str) -> Format:
    """Return what was asked for, else what the output's name says. Raise `ConfigError`."""
    if wanted is None:
        return next((known for known in Format if output.lower().endswith(f".{known}")), Format.JSONL)
    if wanted not in set(Format):
        raise ConfigError(f"--format {wanted}: use one of {', '.join(Format)}")
    return Format(wanted)


def encode(format_: Format, columns: Sequence[Column], rows: Iterable[Json]) -> Iterator[bytes]:
    """Raise `ConfigError` where Parquet is not installed."""
    match format_:
        case Format.JSONL:
            return jsonl_blocks(columns, rows)
        case Format.CSV:
            return csv_blocks(columns, rows)
        case Format.PARQUET:
            from tagmill.producer.export.parquet import parquet_blocks  # noqa: PLC0415 - an extra

            return parquet_blocks(columns, rows)


def jsonl_blocks(columns: Sequence[Column], rows: Iterable[Json]) -> Iterator[bytes]:
    for row in rows:
        yield orjson.dumps({column.name: column.value(row) for column in columns}) + b"\n"


def csv_blocks(columns: Sequence[Column], rows: Iterable[Json]) -> Iterator[bytes]:
    """RFC 4180, with a head; nothing is an empty cell."""
    block = io.BytesIO()
    writer = csv.writer(io.TextIOWrapper(block, "utf-8", newline="", write_through=True))
    writer.writerow(column.name for column in columns)
    for some in batched(rows, BLOCK_ROWS):
        writer.writerows([_cell(column, row) for column in columns] for row in some)
        yield taken(block)
    yield taken(block)


def batched(rows: Iterable[Json], size: int) -> Iterator[list[Json]]:
    source = iter(rows)
    return iter(lambda: list(itertools.islice(source, size)), [])


def taken(block: io.BytesIO) -> bytes:
    """Return what was written since the last time."""
    data = block.getvalue()
    block.seek(0)
    block.truncate()
    return data


def _cell(column: Column, row: Json) -> Any:
    value = column.value(row)
    if column.kind is Kind.JSON and value is not None:
        return orjson.dumps(value).decode()
    if isinstance(value, str) and value.startswith(_GUARDED):
        return f"'{value}"
    return value
