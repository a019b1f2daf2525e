"""What S3 Inventory says of a report: the bucket it is about, its columns, its files and checksums."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import orjson
from botocore.exceptions import ClientError

from tagmill.producer.sources.s3_errors import Doing, translated
from tagmill.worker.errors import ConfigError, NotFoundError

if TYPE_CHECKING:
    from botocore.response import StreamingBody
    from mypy_boto3_s3 import S3Client

INVENTORY_SCHEME = "inventory+s3://"
MANIFEST_NAME, CHECKSUM_NAME = "manifest.json", "manifest.checksum"
READ = Doing("read", "s3:GetObject")
MOST_BYTES = 64 << 20  #: of a manifest: some 300,000 files
_MISSING = frozenset({"NoSuchKey", "404"})


class InventoryFormat(StrEnum):
    CSV = "CSV"
    PARQUET = "Parquet"
    ORC = "ORC"


@dataclass(frozen=True, slots=True)
class InventoryFile:
    key: str
    md5: str  #: hex


@dataclass(frozen=True, slots=True)
class InventoryManifest:
    bucket: str  #: that it is about
    format: InventoryFormat
    columns: tuple[str, ...]  #: of a CSV; the other formats name their own
    files: tuple[InventoryFile, ...]
    lists_versions: bool  #: whether it says which is the latest of several

    @classmethod
    def parse(cls, content: bytes, name: str) -> InventoryManifest:
        """Raise `ConfigError`, with `name` in it, for anything but a manifest of S3 Inventory."""
        try:
            value: Mapping[str, Any] = orjson.loads(content)
            files = tuple(InventoryFile(str(one["key"]), str(one["MD5checksum"])) for one in value["files"])
            schema = str(value["fileSchema"])
            columns = tuple(part.strip() for part in schema.split(","))
            names = set(map(plain, re.findall(r"\w+", schema)))
            return cls(
                str(value["sourceBucket"]),
                InventoryFormat(value["fileFormat"]),
                columns,
                files,
                lists_versions={"versionid", "islatest"} <= names,
            )
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
            raise ConfigError(f"{name} is no manifest of an S3 Inventory in CSV, Parquet or ORC") from None


def plain(name: str) -> str:
    """`IsLatest` in CSV is `is_latest` in the other formats."""
    return name.replace("_", "").lower()


def split_uri(uri: str) -> tuple[str, str]:
    """Return bucket and key of what `inventory+s3://…` or `s3://…` names."""
    bucket, _, key = uri.partition("://")[2].partition("/")
    return bucket, key


def fetch_manifest(client: S3Client, uri: str) -> bytes:
    """Raise `NotFoundError` or `ConfigError`, also when the checksum that lies beside it is another."""
    bucket, key = split_uri(uri)
    content = _read(client, bucket, key, "no S3 Inventory there")
    beside = key.removesuffix(MANIFEST_NAME) + CHECKSUM_NAME
    said = _read(client, bucket, beside, "S3 writes it last, so this inventory is not whole yet")
    if hashlib.md5(content, usedforsecurity=False).hexdigest() != said.decode(errors="replace").strip():
        raise ConfigError(f"{uri} is not what its manifest.checksum says: nothing was planned from it")
    return content


def open_object(client: S3Client, bucket: str, key: str) -> StreamingBody | None:
    """Return None where there is none."""
    try:
        return client.get_object(Bucket=bucket, Key=key)["Body"]
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") in _MISSING:
            return None
        raise


def _read(client: S3Client, bucket: str, key: str, without: str) -> bytes:
    with translated(bucket, started=False, doing=READ):
        body = open_object(client, bucket, key)
        if body is None:
            raise NotFoundError(f"no object s3://{bucket}/{key}: {without}")
        content = body.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise ConfigError(f"s3://{bucket}/{key} is no manifest of an S3 Inventory: it is too large")
    return content
