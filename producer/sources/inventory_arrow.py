"""Inventory files in Parquet and ORC, a block of rows at a time. Needs pyarrow, which is an extra."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO

from tagmill.producer.sources.inventory_manifest import InventoryFormat, plain
from tagmill.producer.sources.inventory_rows import COLUMNS
from tagmill.worker.errors import ConfigError

try:
    import pyarrow as pa
    import pyarrow.orc as po
    import pyarrow.parquet as pq
except ImportError:
    raise ConfigError(
        "an inventory in Parquet or ORC needs pyarrow: install tagmill[parquet], or have it made as CSV"
    ) from None

BLOCK_ROWS = 4_000

Values = Mapping[str, Any]  #: by the plain name of the column


def _parquet(file: BinaryIO) -> Iterator[Values]:
    table = pq.ParquetFile(file, pre_buffer=False)
    for batch in table.iter_batches(BLOCK_ROWS, columns=_wanted(table.schema_arrow)):
        yield from _values(batch)


def _orc(file: BinaryIO) -> Iterator[Values]:
    table = po.ORCFile(file)
    for number in range(table.nstripes):
        stripe = table.read_stripe(number, columns=_wanted(table.schema))
        for start in range(0, stripe.num_rows, BLOCK_ROWS):
            yield from _values(stripe.slice(start, BLOCK_ROWS))


def _wanted(schema: pa.Schema) -> list[str]:
    return [name for name in schema.names if plain(name) in COLUMNS]


def _values(batch: pa.RecordBatch) -> Iterator[Values]:
    names = [plain(name) for name in batch.schema.names]
    columns = [column.to_pylist() for column in batch.columns]
    return (dict(zip(names, cells, strict=True)) for cells in zip(*columns, strict=True))


READERS: Mapping[InventoryFormat, Callable[[BinaryIO], Iterator[Values]]] = {
    InventoryFormat.PARQUET: _parquet,
    InventoryFormat.ORC: _orc,
}
