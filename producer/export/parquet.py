"""Rows to Parquet, in row groups of bounded size. Needs pyarrow, which is an extra."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any

import orjson

from tagmill.producer.export.columns import Column, Kind
from tagmill.producer.export.formats import BLOCK_ROWS, batched, taken
from tagmill.worker.errors import ConfigError
from tagmill.worker.models import Json

try:
    import pyarrow as pa
    import pyarrow.parquet as pq
except ImportError:
    raise ConfigError("Parquet needs pyarrow: install tagmill[parquet]") from None

#: Few groups, because their descriptions are kept to the end, and each of little memory.
GROUP_BYTES = 1 << 25
_TYPES = {
    Kind.TEXT: pa.string(),
    Kind.INTEGER: pa.int64(),
    Kind.NUMBER: pa.float64(),
    Kind.TIME: pa.timestamp("ms", tz="UTC"),
    Kind.JSON: pa.string(),
}


def parquet_blocks(columns: Sequence[Column], rows: Iterable[Json]) -> Iterator[bytes]:
    schema = pa.schema([(column.name, _TYPES[column.kind]) for column in columns])
    written = io.BytesIO()  # Arrow itself counts how far it is
    with pq.ParquetWriter(written, schema, compression="zstd") as writer:
        for group in _groups(schema, columns, rows):
            writer.write_table(group)
            yield taken(written)
    yield taken(written)


def _groups(schema: pa.Schema, columns: Sequence[Column], rows: Iterable[Json]) -> Iterator[pa.Table]:
    batches: list[pa.RecordBatch] = []
    for some in batched(rows, BLOCK_ROWS):
        arrays = [pa.array([_cell(column, row) for row in some], _TYPES[column.kind]) for column in columns]
        batches.append(pa.RecordBatch.from_arrays(arrays, schema=schema))
        if sum(batch.nbytes for batch in batches) >= GROUP_BYTES:
            yield pa.Table.from_batches(batches)
            batches.clear()
    if batches:
        yield pa.Table.from_batches(batches)


def _cell(column: Column, row: Json) -> Any:
    value = column.value(row)
    match column.kind:
        case _ if value is None:
            return None
        case Kind.JSON:
            return orjson.dumps(value).decode()
        case Kind.TIME:
            return datetime.fromisoformat(value)
        case _:
            return value
