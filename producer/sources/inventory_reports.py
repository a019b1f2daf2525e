"""The reports of one configuration of S3 Inventory: a folder for each, named by the time that it is about."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from tagmill.producer.sources.inventory_manifest import CHECKSUM_NAME, MANIFEST_NAME, split_uri
from tagmill.producer.sources.s3_errors import translated
from tagmill.worker.errors import NotFoundError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

OLD = timedelta(hours=48)  #: a daily report of that age has no successor, though one was due
_TIME = "%Y-%m-%dT%H-%MZ/"
_EDITION = re.compile(r"\d{4}-\d\d-\d\dT\d\d-\d\dZ/")
_DATED = re.compile(rf"/({_EDITION.pattern}){re.escape(MANIFEST_NAME)}$")


def names_all(uri: str) -> bool:
    """Whether it is the folder that the reports are published to, and not one of them."""
    return uri.endswith("/")


def undated(uri: str) -> str:
    """Name the reports, not one of them: without the folder that the time names and the manifest in it."""
    return _DATED.sub("/", uri)


def report_age(uri: str, now: datetime) -> timedelta | None:
    """Zero by a clock that is behind; None: the address does not tell."""
    dated = _DATED.search(uri)
    published = _published(dated[1]) if dated else None
    return max(now - published, timedelta(0)) if published is not None else None


def _published(edition: str) -> datetime | None:
    try:
        return datetime.strptime(edition, _TIME).replace(tzinfo=UTC) if _EDITION.fullmatch(edition) else None
    except ValueError:  # no day of the calendar
        return None


def newest_report(client: S3Client, folder: str) -> str:
    """Return the address of the manifest of the newest report that is whole; S3 writes its checksum last.

    Raise `NotFoundError` or `ConfigError`.
    """
    bucket, prefix = split_uri(folder)
    with translated(bucket, started=False):
        for edition in sorted(_editions(client, bucket, prefix), reverse=True):
            checksum = f"{prefix}{edition}{CHECKSUM_NAME}"
            if client.list_objects_v2(Bucket=bucket, Prefix=checksum, MaxKeys=1).get("Contents"):
                return f"{folder}{edition}{MANIFEST_NAME}"
    raise NotFoundError(
        f"no whole report of an S3 Inventory in {folder}: name the folder of its configuration, "
        "…/source-bucket/config-id/"
    )


def _editions(client: S3Client, bucket: str, prefix: str) -> Iterator[str]:
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix, Delimiter="/")
    for page in pages:
        for folder in page.get("CommonPrefixes", ()):
            if _published(name := folder["Prefix"].removeprefix(prefix)) is not None:
                yield name
