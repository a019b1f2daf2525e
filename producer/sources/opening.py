"""From a run's frozen source to the source itself."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, BinaryIO

import structlog

from tagmill.producer.sources.base import Source
from tagmill.producer.sources.folder import Folder
from tagmill.producer.sources.handles import HandleList, ListFormat
from tagmill.producer.sources.inventory_manifest import InventoryManifest, fetch_manifest
from tagmill.producer.sources.inventory_reports import OLD, names_all, newest_report, report_age
from tagmill.producer.sources.manifest import ManifestList
from tagmill.producer.sources.s3_inventory import S3Inventory
from tagmill.producer.sources.s3_listing import S3Listing
from tagmill.producer.sources.s3_versions import S3Versions
from tagmill.producer.sources.spec import STDIN, Input, Kind, SourceSpec
from tagmill.worker.errors import ConfigError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

log = structlog.get_logger()


def open_source(
    spec: SourceSpec,
    *,
    s3_client: Callable[[], S3Client],
    open_input: Callable[[str], BinaryIO],
    list_workers: int = 1,
) -> Source:
    """Nothing is read before the first item; `open_input` gives what is under the run's `input/` by name."""
    if spec.input is not None:
        return _open_list(spec, spec.input, s3_client, open_input)
    if spec.kind is Kind.S3 and spec.all_versions:
        return S3Versions(s3_client, spec.bucket, spec.prefix, spec.filters)
    if spec.kind is Kind.S3:
        return S3Listing(s3_client, spec.bucket, spec.prefix, spec.filters, list_workers=list_workers)
    if spec.kind is Kind.FOLDER:
        return Folder(spec.path, spec.filters)
    raise ValueError("a list without its copy")


def _open_list(
    spec: SourceSpec, copy: Input, s3_client: Callable[[], S3Client], open_input: Callable[[str], BinaryIO]
) -> Source:
    def opened() -> BinaryIO:
        return open_input(copy.name)

    if copy.format is ListFormat.INVENTORY:
        return S3Inventory(s3_client, spec.uri, opened, spec.filters, all_versions=spec.all_versions)
    if copy.format is ListFormat.MANIFEST:
        return ManifestList(opened, copy.name)
    return HandleList(opened, copy.name, copy.format, copy.field)


def located(
    spec: SourceSpec,
    s3_client: Callable[[], S3Client],
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> SourceSpec:
    """Find which report of an inventory is meant, and which bucket it is about.

    Raise `NotFoundError` or `ConfigError`.
    """
    if not spec.is_inventory:
        return spec
    uri = _newest(spec.uri, s3_client(), clock()) if names_all(spec.uri) else spec.uri
    manifest = InventoryManifest.parse(fetch_manifest(s3_client(), uri), uri)
    if spec.all_versions and not manifest.lists_versions:
        raise ConfigError(
            f"{uri} lists current versions only, without VersionId and IsLatest: configure the inventory"
            ' with IncludedObjectVersions "All", or leave out --all-versions'
        )
    return dataclasses.replace(spec, uri=uri, of_bucket=manifest.bucket)


def _newest(folder: str, client: S3Client, now: datetime) -> str:
    uri = newest_report(client, folder)
    age = report_age(uri, now)
    assert age is not None  # noqa: S101 - it was found by its time
    hours = round(age / timedelta(hours=1))
    if age > OLD:
        log.warning("inventory_report_old", report=uri, age_hours=hours)
    else:
        log.info("inventory_report_taken", report=uri, age_hours=hours)
    return uri


def open_original(spec: SourceSpec, stdin: BinaryIO, s3_client: Callable[[], S3Client]) -> BinaryIO | None:
    """What has to be copied to `input/` under `spec.input.name` when the run is created; None: nothing."""
    if spec.input is None:
        return None
    if spec.is_inventory:
        return io.BytesIO(fetch_manifest(s3_client(), spec.uri))
    return stdin if spec.uri == STDIN else open(spec.path, "rb")
