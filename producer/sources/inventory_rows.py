"""The rows of an inventory's files, whatever their format. Memory is a block of them."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, BinaryIO
from urllib.parse import unquote_plus

from tagmill.producer.sources.inventory_manifest import InventoryFormat, InventoryManifest, plain

COLUMNS = frozenset(
    {
        *("bucket", "key", "versionid", "islatest", "isdeletemarker"),
        *("size", "lastmodifieddate", "etag", "storageclass"),
    }
)
_TRUTHS = {"true": True, "false": False}


@dataclass(frozen=True, slots=True)
class Row:
    """What an inventory says of one version; None where it has no such column or nothing in it."""

    bucket: str
    key: str
    version_id: str | None
    is_latest: bool
    is_delete_marker: bool
    size: int | None
    modified: datetime | None
    etag: str | None
    storage_class: str | None


#: Rows of a file, from an open one; raises ValueError or KeyError for what is no row.
Read = Callable[[BinaryIO], Iterator[Row]]


def reader(manifest: InventoryManifest) -> Read:
    """Raise `ConfigError` where the format needs a library that is not installed."""
    if manifest.format is InventoryFormat.CSV:
        names = [plain(name) for name in manifest.columns]
        return lambda file: (_from_csv(names, cells) for cells in _cells(file))
    from tagmill.producer.sources import inventory_arrow  # noqa: PLC0415 - needs an extra

    read = inventory_arrow.READERS[manifest.format]
    return lambda file: map(_from_columns, read(file))


def _cells(file: BinaryIO) -> Iterator[list[str]]:
    with gzip.open(file) as unpacked:
        yield from csv.reader(io.TextIOWrapper(unpacked, encoding="utf-8", newline=""), strict=True)


def _from_csv(names: list[str], cells: list[str]) -> Row:
    """Keys are encoded as in a form: a space is a plus, in CSV only."""
    values: dict[str, Any] = {name: cell or None for name, cell in zip(names, cells, strict=True)}
    values["key"] = unquote_plus(values["key"] or "", errors="strict")
    for name in ("islatest", "isdeletemarker"):
        values[name] = _TRUTHS[values[name].lower()] if values.get(name) else None
    if values.get("size") is not None:
        values["size"] = int(values["size"])
    if values.get("lastmodifieddate") is not None:
        values["lastmodifieddate"] = datetime.fromisoformat(values["lastmodifieddate"])
    return _from_columns(values)


def _from_columns(values: Mapping[str, Any]) -> Row:
    modified: datetime | None = values.get("lastmodifieddate")
    if modified is not None and modified.tzinfo is None:  # ORC's times have none
        modified = modified.replace(tzinfo=UTC)
    return Row(
        values["bucket"],
        values["key"],
        values.get("versionid") or None,
        values.get("islatest") is not False,
        bool(values.get("isdeletemarker")),
        values.get("size"),
        modified,
        (values.get("etag") or "").strip('"') or None,
        values.get("storageclass") or None,
    )
