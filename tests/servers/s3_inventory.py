"""Reports as S3 Inventory publishes them: the format of its user guide, its names, its checksums."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_plus

import pyarrow as pa
import pyarrow.orc as po
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

WRITTEN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
EDITION = "2026-11-24T01-00Z"
CSV_SCHEMA = "Bucket, Key, VersionId, IsLatest, IsDeleteMarker, Size, LastModifiedDate, ETag, StorageClass"
SUFFIXES = {"CSV": "csv.gz", "Parquet": "parquet", "ORC": "orc"}
COLUMNS = pa.schema(
    [
        pa.field("bucket", pa.string(), nullable=False),
        pa.field("key", pa.string(), nullable=False),
        pa.field("version_id", pa.string()),
        pa.field("is_latest", pa.bool_()),
        pa.field("is_delete_marker", pa.bool_()),
        pa.field("size", pa.int64()),
        pa.field("last_modified_date", pa.timestamp("ms")),
        pa.field("e_tag", pa.string()),
        pa.field("storage_class", pa.string()),
    ]
)


@dataclass(frozen=True)
class Line:
    """One version of one object; `version_id` of a bucket that keeps none is null."""

    bucket: str
    key: str
    version_id: str | None = None
    is_latest: bool | None = None
    is_delete_marker: bool | None = None
    size: int | None = 5
    last_modified_date: datetime = WRITTEN
    e_tag: str | None = "0" * 32
    storage_class: str | None = "STANDARD"


def publish(
    client: S3Client,
    where: str,
    source: str,
    lines: Sequence[Line],
    file_format: str = "CSV",
    *,
    files: int = 2,
    edition: str = EDITION,
    current_only: bool = False,
) -> str:
    """Write a report about the bucket `source` to the bucket `where`; return its address.

    `current_only`: its manifest names no columns that tell versions apart.
    """
    folder, listed = f"reports/{source}/all", []
    each = -(-len(lines) // files)
    for number, start in enumerate(range(0, len(lines), each)):
        key = f"{folder}/data/{edition}-{number}.{SUFFIXES[file_format]}"
        content = packed(lines[start : start + each], file_format)
        client.put_object(Bucket=where, Key=key, Body=content)
        listed.append({"key": key, "size": len(content), "MD5checksum": md5(content)})
    manifest = json.dumps(
        {
            "sourceBucket": source,
            "destinationBucket": f"arn:aws:s3:::{where}",
            "version": "2016-11-30",
            "creationTimestamp": "1795000000000",
            "fileFormat": file_format,
            "fileSchema": schema_of(file_format, current_only=current_only),
            "files": listed,
        }
    ).encode()
    name = f"{folder}/{edition}/manifest"
    client.put_object(Bucket=where, Key=f"{name}.json", Body=manifest)
    client.put_object(Bucket=where, Key=f"{name}.checksum", Body=md5(manifest).encode() + b"\n")
    return f"inventory+s3://{where}/{name}.json"


def schema_of(file_format: str, *, current_only: bool) -> str:
    """As a manifest describes the columns."""
    names = COLUMNS.names if file_format != "CSV" else CSV_SCHEMA.split(", ")
    if current_only:
        names = [name for name in names if "version" not in name.lower() and "latest" not in name.lower()]
    match file_format:
        case "Parquet":
            return f"message s3.inventory {{ {' '.join(f'optional binary {name};' for name in names)} }}"
        case "ORC":
            return f"struct<{','.join(f'{name}:string' for name in names)}>"
    return ", ".join(names)


def lines_of(client: S3Client, bucket: str) -> list[Line]:
    """What a report says of a bucket as it is."""
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    return [
        Line(
            bucket,
            item["Key"],
            size=item["Size"],
            last_modified_date=item["LastModified"],
            e_tag=item["ETag"].strip('"'),
            storage_class=item.get("StorageClass", "STANDARD"),
        )
        for page in pages
        for item in page.get("Contents", ())
    ]


def packed(lines: Iterable[Line], file_format: str) -> bytes:
    stream = io.BytesIO()
    if file_format == "CSV":
        with gzip.open(stream, "wt", newline="", encoding="ascii") as text:
            csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(map(_cells, lines))
        return stream.getvalue()
    table = pa.Table.from_pylist([_naive(asdict(line)) for line in lines], COLUMNS)
    if file_format == "Parquet":
        pq.write_table(table, stream, row_group_size=3)
    else:
        po.write_table(table, stream)
    return stream.getvalue()


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _cells(line: Line) -> list[str]:
    values = {**asdict(line), "key": quote_plus(line.key, safe="/"), "last_modified_date": _stamp(line)}
    return [
        "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
        for value in values.values()
    ]


def _stamp(line: Line) -> str:
    return f"{line.last_modified_date.astimezone(UTC):%Y-%m-%dT%H:%M:%S.000Z}"


def _naive(values: dict[str, Any]) -> dict[str, Any]:
    return {**values, "last_modified_date": values["last_modified_date"].astimezone(UTC).replace(tzinfo=None)}
