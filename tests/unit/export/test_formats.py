"""Rows in JSON Lines, CSV and Parquet: whatever a row says, a reader of the format gets it back."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import orjson
import pyarrow.parquet as pq
import pytest
from fakes.rows import ROWS, a_row
from hypothesis import given, settings
from hypothesis import strategies as st

from tagmill.producer.export import parquet
from tagmill.producer.export.columns import OF_IMAGES, OF_TAGS, Column, Kind, exploded
from tagmill.producer.export.formats import BLOCK_ROWS, Format, encode, format_for
from tagmill.producer.export.selection import Selection
from tagmill.worker.errors import ConfigError
from tagmill.worker.models import Json

LIBRARY = st.lists(ROWS, max_size=4)


def told(format_: Format, rows: Sequence[Json], columns: Sequence[Column] = OF_IMAGES) -> list[Json]:
    """Write the rows and read them with other people's code."""
    data = b"".join(encode(format_, columns, rows))
    match format_:
        case Format.JSONL:
            return [json.loads(line) for line in data.splitlines()]
        case Format.CSV:
            read = csv.DictReader(io.StringIO(data.decode(), newline=""))
            return [{name: cell.removeprefix("'") for name, cell in line.items()} for line in read]
        case Format.PARQUET:
            return list(pq.read_table(io.BytesIO(data)).to_pylist())


def as_csv(column: Column, value: Any) -> str:
    if value is None:
        return ""
    return orjson.dumps(value).decode() if column.kind is Kind.JSON else str(value)


def as_parquet(column: Column, value: Any) -> Any:
    if value is None:
        return None
    match column.kind:
        case Kind.JSON:
            return orjson.dumps(value).decode()
        case Kind.TIME:
            return datetime.fromisoformat(value)
        case _:
            return value


@given(LIBRARY)
def test_a_csv_reader_gets_every_cell_back(rows: list[Json]) -> None:
    assert told(Format.CSV, rows) == [
        {column.name: as_csv(column, column.value(row)) for column in OF_IMAGES} for row in rows
    ]


@given(LIBRARY)
@settings(max_examples=30)
def test_a_parquet_reader_gets_every_value_back_typed(rows: list[Json]) -> None:
    assert told(Format.PARQUET, rows) == [
        {column.name: as_parquet(column, column.value(row)) for column in OF_IMAGES} for row in rows
    ]


@given(LIBRARY)
def test_tags_are_exploded_alike_in_every_format(rows: list[Json]) -> None:
    lines = list(exploded(rows, Selection()))
    expected = [
        (row["id"], tag, confidence)
        for row in rows
        for tag, confidence in sorted(auto_of(row).items(), key=lambda item: (-item[1], item[0]))
    ]
    for format_ in (Format.JSONL, Format.CSV):
        found = told(format_, lines, OF_TAGS)
        assert [(line["id"], line["tag"], float(line["confidence"])) for line in found] == expected


def auto_of(row: Json) -> dict[str, float]:
    return row["tags"]["auto"] if row["tags"] else {}


def test_every_field_of_a_row_has_its_column() -> None:
    row = a_row()
    told_of = {*(column.name for column in OF_IMAGES), "error", "schema"}
    assert row.keys() - told_of == set()
    assert {name.partition("_")[0] for name in told_of - row.keys()} == {"user", "error"}


@pytest.mark.parametrize("start", list("=+-@'\t\r\n"))
def test_a_cell_is_no_formula(start: str) -> None:
    row = a_row(id=f'{start}HYPERLINK("x")')
    text = b"".join(encode(Format.CSV, OF_IMAGES[:1], [row])).decode()
    (_, (cell,)) = csv.reader(io.StringIO(text, newline=""))
    assert cell == f"'{row['id']}"


def test_what_needs_no_guard_has_none() -> None:
    row = a_row(id="a=b", tags={"auto": {"=1+1": 5}, "user": None})
    text = b"".join(encode(Format.CSV, OF_IMAGES[:3], [row])).decode()
    assert text == 'id,status,tags\r\na=b,tagged,"{""=1+1"":5}"\r\n'


def test_the_rows_of_a_large_manifest_come_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "GROUP_BYTES", 1)
    rows = [a_row(index=index) for index in range(2 * BLOCK_ROWS + 1)]
    for format_ in (Format.CSV, Format.PARQUET):
        assert len(list(encode(format_, OF_IMAGES, rows))) >= 3
        assert [int(line["index"]) for line in told(format_, rows)] == list(range(len(rows)))
    groups = pq.ParquetFile(io.BytesIO(b"".join(encode(Format.PARQUET, OF_IMAGES, rows)))).num_row_groups
    assert groups == 3


@pytest.mark.parametrize("format_", Format)
def test_nothing_is_a_file_that_can_be_read(format_: Format) -> None:
    assert told(format_, []) == []


def test_times_in_parquet_are_utc() -> None:
    (line,) = told(Format.PARQUET, [a_row(tagged_at="2026-11-22T01:02:03.456Z")])
    assert line["tagged_at"] == datetime(2026, 11, 22, 1, 2, 3, 456_000, tzinfo=UTC)


@pytest.mark.parametrize(
    ("wanted", "output", "chosen"),
    [
        (None, "-", Format.JSONL),
        (None, "a.CSV", Format.CSV),
        (None, "s3://bucket/a.parquet", Format.PARQUET),
        (None, "a.txt", Format.JSONL),
        ("csv", "a.parquet", Format.CSV),
    ],
)
def test_the_name_says_the_format_unless_it_is_asked_for(
    wanted: str | None, output: str, chosen: Format
) -> None:
    assert format_for(wanted, output) is chosen


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(ConfigError, match="--format xlsx: use one of jsonl, csv, parquet"):
        format_for("xlsx", "-")
